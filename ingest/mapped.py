"""What a person says of a workbook's columns is kept, and the deliveries that waited for it are read."""

from sqlalchemy import select

from ingest.mapping import Sheet, first_rows
from ingest.options import options
from ingest.replay import replay
from ingest.rereading import UnreadableError, original
from parsers import headings
from parsers.item import Format, ParseError
from parsers.options import Options
from parsers.tables import tables
from workflow.house import House
from workflow.models import Delivery
from workflow.profiles import SavedProfile, save
from workflow.states import DeliveryState

_ASKING = "mapping needed"  # how the parser's reason begins


def keep(house: House, sheet: Sheet, name: str, *, by: str) -> None:
    """Save what is shown of a sheet as a profile for its headings.

    Raises TakenError when the name or the headings are another profile's, ValueError while something is missing.
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
    """Read the failed deliveries that asked for a mapping of these headings; each as it is afterwards."""
    return [done for number in waiting(house, fingerprint) if (done := replay(house, number, by=by)) is not None]


def waiting(house: House, fingerprint: str) -> list[int]:
    """Failed deliveries that ask for a mapping of these very headings, oldest first."""
    mine = (Delivery.state == DeliveryState.FAILED, Delivery.format == Format.SECURE_MESSAGE)
    query = select(Delivery.id).where(*mine, Delivery.reason.startswith(_ASKING)).order_by(Delivery.id)
    with house.store.reading() as session:
        numbers = list(session.scalars(query))
    told = options(house, Format.SECURE_MESSAGE)
    return [number for number in numbers if _has(house, number, fingerprint, told)]


def _has(house: House, number: int, fingerprint: str, told: Options) -> bool:
    try:
        read, _ = tables(original(house, number)[1], told)
        return any(fingerprint in headings.fingerprints([row for _, row in first_rows(one)]) for one in read)
    except (ParseError, UnreadableError):
        return False
