"""Save the column mapping a person chose, and replay the deliveries that waited for it."""

from sqlalchemy import select

from ingest.column_mapping.propose import SheetProposal
from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.replay.reprocess import UnreadableError, hide_parser_errors, read_original
from ingest.replay.retry import replay
from parsers.item import Format
from parsers.options import Options
from parsers.secure_message import headings
from parsers.secure_message.preview import TablePreview
from workflow.context import AppContext
from workflow.filing.column_profiles import SavedProfile, save_profile
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState

MAPPING_NEEDED = "mapping needed"  # the start of the parser's reason


def read_preview(context: AppContext, raw: bytes) -> list[TablePreview]:
    """Return the first rows of each sheet of a workbook, read in a parser process.

    Raises UnreadableError, whose text says why.
    """
    return _read_preview(raw, load_parser_options(context, Format.SECURE_MESSAGE))


def _read_preview(raw: bytes, parser_options: Options) -> list[TablePreview]:
    """Return the first rows of each sheet. Raises UnreadableError."""
    with hide_parser_errors():
        return parser_pool.read_previews(raw, parser_options)


def save_mapping(context: AppContext, sheet: SheetProposal, name: str, *, by: str) -> None:
    """Save what is shown of a sheet as a profile for exactly its headings.

    Raises ProfileConflictError when the name or the headings belong to another profile, ValueError
    while a required column is missing.
    """
    if sheet.missing:
        raise ValueError(f"no column for {' nor for '.join(sheet.missing)}")
    profile = sheet.to_profile(name)
    saved_profile = SavedProfile(
        name=name,
        fingerprint=profile.fingerprint,
        columns=[list(pair) for pair in profile.columns],
        date_order=profile.date_order,
        time_zone=profile.time_zone,
        defaults=[list(pair) for pair in profile.defaults],
        saved_by=by,
    )
    with context.store.transaction() as session:
        save_profile(session, saved_profile, now=context.clock())


def replay_waiting(context: AppContext, fingerprint: str, *, by: str) -> list[Delivery]:
    """Replay the failed deliveries that need a mapping of these headings.

    Returns each delivery as it is afterwards, oldest first.
    """
    return [
        delivery
        for number in list_waiting(context, fingerprint)
        if (delivery := replay(context, number, by=by)) is not None
    ]


def list_waiting(context: AppContext, fingerprint: str) -> list[int]:
    """Return the failed deliveries that need a mapping of exactly these headings.

    Their ids, oldest first.
    """
    failed = (Delivery.state == DeliveryState.FAILED, Delivery.format == Format.SECURE_MESSAGE)
    query = (
        select(Delivery.id)
        .where(*failed, Delivery.reason.startswith(MAPPING_NEEDED))
        .order_by(Delivery.id)
    )
    with context.store.read_only() as session:
        numbers = list(session.scalars(query))
    parser_options = load_parser_options(context, Format.SECURE_MESSAGE)
    return [
        number for number in numbers if _has_headings(context, number, fingerprint, parser_options)
    ]


def _has_headings(
    context: AppContext, number: int, fingerprint: str, parser_options: Options
) -> bool:
    """Return whether a sheet of the delivery has these headings; False when it cannot be read."""
    try:
        previews = _read_preview(read_original(context, number)[1], parser_options)
    except UnreadableError:
        return False
    return any(
        fingerprint in headings.fingerprint_rows([row for _, row in rows]) for _, rows in previews
    )
