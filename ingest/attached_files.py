"""Read files that came attached to a message: messages within them, and exports of rows."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.column_mapping.apply import MAPPING_NEEDED
from ingest.intake import Arrival, Intake, Transport
from ingest.parser_options import load_parser_options
from ingest.processing import parser_pool
from ingest.replay.reprocess import UnreadableError, hide_parser_errors
from parsers.item import Format, InboundItem
from parsers.text.filenames import is_workbook
from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.filing.attachments import AttachmentReader
from workflow.models.core import Message, StoredAttachment
from workflow.tickets.actions import Actor, Command, require_right

ROWS_FILED = "rows filed"  # the action in the audit log
MAX_SHOWN = 10  # rows that a preview shows
MAX_DEPTH = 5  # of messages within messages


@dataclass(frozen=True)
class RowsPreview:
    """What becomes of the rows of an attached workbook."""

    name: str
    rows: int
    rejected: int = 0  # rows that nothing can be made of
    shown: Sequence[InboundItem] = ()  # the first rows
    mapping_reason: str = ""  # why a person has to say which column is what, "" if nobody has to


def read_message(context: AppContext, number: int, path: Sequence[int] = ()) -> InboundItem:
    """Return the message in an attachment.

    `path` leads on to a message attached to it: the position of the file in each message. Raises
    LookupError where there is no such attachment or file, UnreadableError where it is no message.
    """
    if len(path) > MAX_DEPTH:
        raise LookupError(path)
    name, content = _load(context, number)
    for position in (*path, None):
        item = _parse_message(content)
        if position is None:
            return item
        if not 0 <= position < len(item.attachments):
            raise LookupError(position)
        name, content = item.attachments[position].name, item.attachments[position].content
    raise AssertionError(name)


def _parse_message(content: bytes) -> InboundItem:
    with hide_parser_errors():
        [item] = parser_pool.parse(Format.MAIL, content)
    assert isinstance(item, InboundItem)  # a mail is always an item
    return item


def find_workbook(context: AppContext, ticket: int, number: int = 0) -> int:
    """Return the number of a workbook attached to a ticket; 0 asks for the newest.

    Raises LookupError where there is none.
    """
    files = (
        select(StoredAttachment.id, StoredAttachment.name)
        .join(Message, Message.id == StoredAttachment.message_id)
        .where(Message.ticket_id == ticket)
        .order_by(StoredAttachment.id.desc())
    )
    with context.store.read_only() as session:
        found = [row.id for row in session.execute(files) if is_workbook(row.name)]
    if not found or number not in {0, *found}:
        raise LookupError(number)
    return number or found[0]


def preview_rows(context: AppContext, number: int) -> RowsPreview:
    """Return what would become of the rows of an attached workbook; nothing is stored.

    Raises LookupError where there is no such attachment, UnreadableError with the reason where
    nothing can be made of it.
    """
    name, content = _load(context, number)
    options = load_parser_options(context, Format.SECURE_MESSAGE)
    try:
        with hide_parser_errors():
            results = parser_pool.parse(Format.SECURE_MESSAGE, content, options)
    except UnreadableError as error:
        if not str(error).startswith(MAPPING_NEEDED):
            raise
        return RowsPreview(name, 0, mapping_reason=str(error))
    items = [result for result in results if isinstance(result, InboundItem)]
    return RowsPreview(name, len(items), len(results) - len(items), items[:MAX_SHOWN])


def file_rows(context: AppContext, number: int, *, actor: Actor) -> int:
    """Store an attached workbook as an export of secure messages; return the delivery's id.

    Its rows become tickets as those of a file in the watched folder do; a workbook that has come
    before is not filed again. Raises LookupError, UnreadableError, NotPermitted.
    """
    require_right(actor, Command.right)
    preview_rows(context, number)  # so that nothing unreadable is stored
    name, content = _load(context, number)
    arrival = Arrival(
        transport=Transport.CONSOLE,
        format=Format.SECURE_MESSAGE,
        raw=content,
        envelope={"name": name, "attachment": number},
    )
    delivery = Intake(context).accept(arrival)
    with context.store.transaction() as session:
        file = session.get_one(StoredAttachment, number)
        audit.record(
            session,
            ROWS_FILED,
            by=actor.name,
            cause=f"attachment {number}",
            now=context.clock(),
            ticket=session.get_one(Message, file.message_id).ticket_id,
            delivery=delivery,
        )
    return delivery


def _load(context: AppContext, number: int) -> tuple[str, bytes]:
    """Return name and bytes of an attachment. Raises LookupError where there is none."""
    with context.store.read_only() as session:
        file = _get_file(session, number)
        return file.name, AttachmentReader(context.blob_store, session).read(file)


def _get_file(session: Session, number: int) -> StoredAttachment:
    file = session.get(StoredAttachment, number)
    if file is None:
        raise LookupError(number)
    return file
