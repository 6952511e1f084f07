"""What a person says of a workbook's columns is kept.

And the deliveries that waited for it are read.
"""

from sqlalchemy import select

from ingest.column_mapping.propose import Sheet
from ingest.parser_options import options
from ingest.processing import parser_pool
from ingest.replay.reprocess import UnreadableError, in_our_words, original
from ingest.replay.retry import replay
from parsers.item import Format
from parsers.options import Options
from parsers.secure_message import columns
from parsers.secure_message.preview import Top
from workflow.context import House
from workflow.filing.column_profiles import SavedProfile, save
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState

_ASKING = "mapping needed"  # how the parser's reason begins


def opened(house: House, raw: bytes) -> list[Top]:
    """The first rows of a workbook, read where a hostile one harms nobody.

    Raises UnreadableError, which says why.
    """
    return _opened(raw, options(house, Format.SECURE_MESSAGE))


def _opened(raw: bytes, told: Options) -> list[Top]:
    with in_our_words():
        return parser_pool.top(raw, told)


def keep(house: House, sheet: Sheet, name: str, *, by: str) -> None:
    """Save what is shown of a sheet as a profile for its headings.

    Raises TakenError when the name or the headings are another profile's, ValueError while
    something is missing.
    """
    if sheet.missing:
        raise ValueError(f"no column for {' nor for '.join(sheet.missing)}")
    meant = sheet.meant(name)
    given = SavedProfile(
        name=name,
        fingerprint=meant.fingerprint,
        columns=[list(pair) for pair in meant.columns],
        date_order=meant.date_order,
        time_zone=meant.time_zone,
        defaults=[list(pair) for pair in meant.defaults],
        saved_by=by,
    )
    with house.store.transaction() as session:
        save(session, given, now=house.clock())


def read_waiting_for(house: House, fingerprint: str, *, by: str) -> list[Delivery]:
    """Read the failed deliveries that asked for a mapping of these headings.

    Each as it is afterwards.
    """
    return [
        done
        for number in waiting(house, fingerprint)
        if (done := replay(house, number, by=by)) is not None
    ]


def waiting(house: House, fingerprint: str) -> list[int]:
    """Failed deliveries that ask for a mapping of these very headings, oldest first."""
    mine = (Delivery.state == DeliveryState.FAILED, Delivery.format == Format.SECURE_MESSAGE)
    query = (
        select(Delivery.id).where(*mine, Delivery.reason.startswith(_ASKING)).order_by(Delivery.id)
    )
    with house.store.reading() as session:
        numbers = list(session.scalars(query))
    told = options(house, Format.SECURE_MESSAGE)
    return [number for number in numbers if _has(house, number, fingerprint, told)]


def _has(house: House, number: int, fingerprint: str, told: Options) -> bool:
    try:
        read = _opened(original(house, number)[1], told)
    except UnreadableError:
        return False
    return any(fingerprint in columns.fingerprints([row for _, row in rows]) for _, rows in read)
