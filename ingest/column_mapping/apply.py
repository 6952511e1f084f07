"""What a person says of a workbook's columns is kept.

And the deliveries that waited for it are read.
"""

from sqlalchemy import select

from ingest.column_mapping.propose import SheetProposal
from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.replay.reprocess import UnreadableError, hide_parser_errors, read_original
from ingest.replay.retry import replay
from parsers.item import Format
from parsers.options import Options
from parsers.secure_message import columns
from parsers.secure_message.preview import TablePreview
from workflow.context import AppContext
from workflow.filing.column_profiles import SavedProfile, save_profile
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState

_ASKING = "mapping needed"  # how the parser's reason begins


def read_preview(context: AppContext, raw: bytes) -> list[TablePreview]:
    """The first rows of a workbook, read where a hostile one harms nobody.

    Raises UnreadableError, which says why.
    """
    return _opened(raw, load_parser_options(context, Format.SECURE_MESSAGE))


def _opened(raw: bytes, told: Options) -> list[TablePreview]:
    with hide_parser_errors():
        return parser_pool.read_previews(raw, told)


def save_mapping(context: AppContext, sheet: SheetProposal, name: str, *, by: str) -> None:
    """Save what is shown of a sheet as a profile for its headings.

    Raises ProfileConflictError when the name or the headings are another profile's, ValueError while
    something is missing.
    """
    if sheet.missing:
        raise ValueError(f"no column for {' nor for '.join(sheet.missing)}")
    meant = sheet.to_profile(name)
    given = SavedProfile(
        name=name,
        fingerprint=meant.fingerprint,
        columns=[list(pair) for pair in meant.columns],
        date_order=meant.date_order,
        time_zone=meant.time_zone,
        defaults=[list(pair) for pair in meant.defaults],
        saved_by=by,
    )
    with context.store.transaction() as session:
        save_profile(session, given, now=context.clock())


def replay_waiting(context: AppContext, fingerprint: str, *, by: str) -> list[Delivery]:
    """Read the failed deliveries that asked for a mapping of these headings.

    Each as it is afterwards.
    """
    return [
        done
        for number in list_waiting(context, fingerprint)
        if (done := replay(context, number, by=by)) is not None
    ]


def list_waiting(context: AppContext, fingerprint: str) -> list[int]:
    """Failed deliveries that ask for a mapping of these very headings, oldest first."""
    mine = (Delivery.state == DeliveryState.FAILED, Delivery.format == Format.SECURE_MESSAGE)
    query = (
        select(Delivery.id).where(*mine, Delivery.reason.startswith(_ASKING)).order_by(Delivery.id)
    )
    with context.store.read_only() as session:
        numbers = list(session.scalars(query))
    told = load_parser_options(context, Format.SECURE_MESSAGE)
    return [number for number in numbers if _has(context, number, fingerprint, told)]


def _has(context: AppContext, number: int, fingerprint: str, told: Options) -> bool:
    try:
        read = _opened(read_original(context, number)[1], told)
    except UnreadableError:
        return False
    return any(
        fingerprint in columns.fingerprint_rows([row for _, row in rows]) for _, rows in read
    )
