"""Pages of attached files that are more than files: messages, and workbooks with exported rows."""

from flask import Blueprint, Response, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.files import record_attachment_access, send_to_save
from console.web.request import get_actor, get_context, requires
from ingest import attached_files
from ingest.replay.reprocess import UnreadableError
from parsers.item import InboundItem
from parsers.mail import forwarded
from workflow.database.ids import parse_id
from workflow.permissions import Right

pages = Blueprint("attached", __name__)


@pages.get("/attachments/<int:number>/message")
@requires(Right.READ)
def show_message(number: int) -> str | AnyResponse:
    """Show the message in an attachment; `in` leads on to a message attached to it, each a level.

    404 where there is none; a file that is no message leads back to its ticket, which says why.
    """
    ticket = record_attachment_access(number)
    path = _get_path()
    try:
        item = attached_files.read_message(get_context(), number, path)
    except LookupError:
        abort(404)
    except UnreadableError as error:
        flash(f"The file cannot be read as a message: {error}.", "error")
        return redirect(url_for("ticket.show", number=ticket))
    nested = {
        position
        for position, file in enumerate(item.attachments)
        if forwarded.is_message(file.name, file.mime) and len(path) < attached_files.MAX_DEPTH
    }
    return render_template(
        "ticket/attached_message.html",
        number=number,
        ticket=ticket,
        item=item,
        path=path,
        nested=nested,
    )


@pages.get("/attachments/<int:number>/message/files/<int:position>")
@requires(Right.READ)
def download_file(number: int, position: int) -> Response:
    """Send a file of an attached message as one to save, whatever it is."""
    record_attachment_access(number)
    file = _read_message(number).attachments[position : position + 1] or abort(404)
    return send_to_save(file[0].content, file[0].name)


@pages.get("/attachments/<int:number>/rows")
@requires(Right.WORK)
def show_rows(number: int) -> str | AnyResponse:
    """Show what becomes of the rows of an attached workbook, before anything does."""
    ticket = record_attachment_access(number)
    try:
        preview = attached_files.preview_rows(get_context(), number)
    except UnreadableError as error:
        flash(f"No tickets can be made of its rows: {error}.", "error")
        return redirect(url_for("ticket.show", number=ticket))
    return render_template(
        "ticket/attached_rows.html", number=number, ticket=ticket, preview=preview
    )


@pages.post("/attachments/<int:number>/rows")
@requires(Right.WORK)
def file_rows(number: int) -> AnyResponse:
    """Make tickets of the rows of an attached workbook."""
    ticket = record_attachment_access(number)
    try:
        delivery = attached_files.file_rows(get_context(), number, actor=get_actor())
    except UnreadableError as error:
        flash(f"No tickets can be made of its rows: {error}.", "error")
    else:
        flash(f"The rows are stored as delivery {delivery} and become tickets now.", "success")
    return redirect(url_for("ticket.show", number=ticket))


def _read_message(number: int) -> InboundItem:
    try:
        return attached_files.read_message(get_context(), number, _get_path())
    except (LookupError, UnreadableError):
        abort(404)


def _get_path() -> list[int]:
    """Return the positions of the messages that lead to the one to show."""
    return [parse_id(text) or 0 for text in request.args.getlist("in")]
