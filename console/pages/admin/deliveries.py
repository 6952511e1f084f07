"""Pages of the deliveries: list them, view one, read it again after a preview, dismiss it."""

import codecs
import hashlib
import json
from io import BytesIO
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    flash,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from console.pages.tickets.files import SANDBOX_POLICY
from console.presenters import deliveries, replay
from console.web.filters import build_csv_response
from console.web.request import (
    get_context,
    get_session,
    get_staff,
    is_allowed,
    now,
    requires,
)
from ingest.folder.rejected_rows import list_rejected_rows, render_workbook
from ingest.replay import reprocess, retry
from ingest.replay.reprocess import UnreadableError
from ingest.replay.retry import enqueue_replays
from parsers.item import Format
from workflow.audit import record as audit
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed
from workflow.models.states import DeliveryState
from workflow.permissions import Right

MAX_LISTED, MAX_EXPORTED = 100, 10_000
MAX_PREVIEWS = 10  # deliveries shown at once: each is parsed while the page waits
MAX_TEXT_LENGTH = 200_000  # characters of an original on a page
MAX_UTF8_BYTES = 4  # of one character
MAX_LINES = 200  # of items and filings on a page
MAX_REASON_LENGTH = 500
# File endings of originals. Other formats keep "bin": the file's own name may hold anything.
SUFFIXES = {
    Format.MAIL: "eml",
    Format.FORMSTACK: "txt",
    Format.PHONE: "txt",
}
CSV_COLUMNS = (
    "id",
    "received_at",
    "age_seconds",
    "transport",
    "format",
    "size",
    "state",
    "reason",
    "attempts",
    "items",
)
XLSX_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
MAPPING_NEEDED_REASON = "mapping needed"  # its beginning, where headings are unknown
Data = dict[str, Any]

pages = Blueprint("deliveries", __name__)


@pages.get("/operations/deliveries")
@requires(Right.AUDIT)
def list_deliveries() -> str:
    """List the deliveries of a state, `failed` by default."""
    return _render_list()


@pages.get("/operations/deliveries.csv")
@requires(Right.AUDIT)
def download_list() -> Response:
    """Send the list as CSV."""
    state = _get_state()
    rows = deliveries.list_deliveries(get_session(), state, MAX_EXPORTED, now())
    lines = [[str(row[column]) for column in CSV_COLUMNS] for row in rows]
    return build_csv_response(f"deliveries-{state}", [[*CSV_COLUMNS], *lines])


@pages.get("/operations/deliveries/<int:number>")
@requires(Right.AUDIT)
def show_delivery(number: int) -> str:
    """Show a delivery's receipts and what each item became; never its content."""
    delivery = deliveries.find_delivery(get_session(), number, now()) or abort(404)
    return render_template(
        "operations/delivery.html",
        delivery=delivery,
        receipts=delivery["receipts"][:MAX_LINES],
        filings=delivery["filings"][:MAX_LINES],
        more_filings=len(delivery["filings"][MAX_LINES:]),
        needs_mapping=needs_column_mapping(delivery),
    )


@pages.get("/operations/deliveries/<int:number>/raw")
@requires(Right.LEAD)
def show_original(number: int) -> str | tuple[str, int]:
    """Show the original as text, where it is text. The audit log records the access."""
    format_, content = _read_original(number, cause="raw view")
    delivery = deliveries.find_delivery(get_session(), number, now()) or abort(404)
    max_bytes = MAX_UTF8_BYTES * MAX_TEXT_LENGTH
    text = _make_printable(content[:max_bytes])
    return render_template(
        "operations/raw.html",
        delivery=delivery,
        envelope=_describe_envelope(delivery["envelope"]),
        format=format_,
        text=text and text[:MAX_TEXT_LENGTH],
        is_cut=len(content) > max_bytes or len(text or "") > MAX_TEXT_LENGTH,
    )


@pages.get("/operations/deliveries/<int:number>/original")
@requires(Right.LEAD)
def download_original(number: int) -> Response:
    """Send the original as a file to save, never to open. The audit log records the access."""
    format_, content = _read_original(number, cause="download")
    name = f"delivery-{number}.{SUFFIXES.get(format_, 'bin')}"
    return _send_file(content, "application/octet-stream", name)


@pages.get("/operations/deliveries/<int:number>/rejected.xlsx")
@requires(Right.LEAD)
def download_rejected_rows(number: int) -> Response:
    """Send the rejected rows as a workbook that can be corrected and dropped again.

    404 for a delivery without rejected rows. The audit log records the access.
    """
    try:
        rows = list_rejected_rows(get_context(), number) or abort(404)
    except (LookupError, UnreadableError):
        abort(404)
    _record_access(number, "rejected rows")
    return _send_file(render_workbook(rows), XLSX_TYPE, f"rejected-{number}.xlsx")


@pages.post("/operations/deliveries/look")
@requires(Right.LEAD)
def preview_replay() -> AnyResponse | str:
    """Show what reading the selected deliveries again would change, without changing anything.

    The audit log records the access.
    """
    numbers = _get_selected_ids()
    if not numbers:
        return _ask_to_select()
    return _render_preview(numbers)


@pages.post("/operations/deliveries/replay")
@requires(Right.LEAD)
def read_again() -> AnyResponse | tuple[str, int]:
    """Read the selected deliveries again: one now, several in the background.

    409 and a new preview when one would no longer change what was shown.
    """
    numbers = _get_selected_ids()
    if not numbers:
        return _ask_to_select()
    # In the background: the page would wait for the parser of each.
    if len(numbers) > 1:
        count = enqueue_replays(get_context(), numbers, by=get_staff().name)
        flash(f"{count} deliveries are being read again.", "success")
        return redirect(url_for("deliveries.list_deliveries"))
    return _read_one_again(numbers[0])


@pages.post("/operations/deliveries/dismiss")
@requires(Right.LEAD)
def dismiss() -> AnyResponse | tuple[str, int]:
    """Dismiss the selected deliveries for a reason; they stay stored.

    422 and the form as it was filled in without a reason, or when one has not failed.
    """
    numbers, reason = _get_selected_ids(), request.form.get("reason", "").strip()
    if not numbers:
        return _ask_to_select()
    if not reason or len(reason) > MAX_REASON_LENGTH:
        error = "Give a reason for dismissing, in one line without patient data."
        return _render_list(error=error, selected_ids=numbers), 422
    try:
        retry.dismiss(get_context(), numbers, reason, by=get_staff().name)
    except ActionNotAllowed as error:
        return _render_list(error=str(error), selected_ids=numbers), 422
    flash(
        f"{_count(numbers)} dismissed. To undo this, open it in the list of dismissed deliveries"
        " and read it again.",
        "success",
    )
    return redirect(url_for("deliveries.list_deliveries"))


def _render_list(error: str = "", selected_ids: list[int] | None = None) -> str:
    state = _get_state()
    rows = deliveries.list_deliveries(get_session(), state, MAX_LISTED, now())
    return render_template(
        "operations/deliveries.html",
        deliveries=rows,
        more=deliveries.count_deliveries(get_session(), state) - len(rows),
        state=state,
        states=list(DeliveryState),
        error=error,
        selected_ids=selected_ids or [],
        reason=request.form.get("reason", ""),
        may_select=is_allowed(Right.LEAD) and state == DeliveryState.FAILED,
        needs_mapping=needs_column_mapping,
    )


def _get_state() -> str:
    state = request.args.get("state", "")
    return state if state in set(DeliveryState) else DeliveryState.FAILED


def _get_selected_ids() -> list[int]:
    """Return the selected numbers, or those of all failed deliveries."""
    if request.form.get("all"):
        return deliveries.list_failed_ids(get_session())
    return sorted({number for text in request.form.getlist("id") if (number := parse_id(text))})


def _ask_to_select() -> AnyResponse:
    flash("Select at least one delivery.", "error")
    return redirect(url_for("deliveries.list_deliveries"))


def _render_preview(numbers: list[int]) -> str:
    previews = [_preview(number) for number in numbers[:MAX_PREVIEWS]]
    max_items = MAX_LINES // len(previews)
    return render_template(
        "operations/replay.html",
        # Each with the items that are shown, and how many are not.
        previews=[(p, p["items"][:max_items], len(p["items"][max_items:])) for p in previews],
        numbers=numbers,
        count=len(numbers),
        left=len(numbers) - len(previews),
        show=replay,
        preview_digest=_hash_preview(previews[0]),
        all_failed=bool(request.form.get("all")),
        has_changes=any(map(_would_change, previews)),
    )


def _preview(number: int) -> Data:
    """Return what reading a delivery again would change. The audit log records the access."""
    state, _ = deliveries.find_state(get_session(), number) or abort(404)
    _record_access(number, "replay preview")
    return replay.present_preview(get_context(), number, state)


def _record_access(number: int, cause: str) -> None:
    """Record in the audit log that a person got what a customer sent (45 CFR 164.312(b))."""
    with get_context().store.transaction() as session:
        audit.record(
            session,
            reprocess.ORIGINAL_READ,
            by=get_staff().name,
            cause=cause,
            now=now(),
            delivery=number,
        )


def _would_change(preview: Data) -> bool:
    """Return whether reading again would do anything.

    True for every delivery that is not processed: reading again is what gives it a new state.
    """
    return preview["state"] != DeliveryState.PROCESSED or bool(preview.get("changes"))


def _hash_preview(preview: Data) -> str:
    """Return a digest of a preview: only what was shown may then be done."""
    # Sorted keys: equal previews give equal digests, in whichever order their keys were added.
    return hashlib.sha256(json.dumps(preview, sort_keys=True, default=str).encode()).hexdigest()


def _read_one_again(number: int) -> AnyResponse | tuple[str, int]:
    state, filing_count = deliveries.find_state(get_session(), number) or abort(404)
    if state is DeliveryState.PROCESSED:
        return _apply_preview(number)
    delivery = retry.replay(get_context(), number, by=get_staff().name) or abort(404)
    # A session of its own: the request's has the state before the replay.
    with get_context().store.read_only() as session:
        result = replay.present_result(delivery, deliveries.list_ticket_ids(session, number))
    hint = ""
    if filing_count and result["read"]:
        hint = " Items that were read before may now be different: open the preview."
    flash(
        f"Delivery {number}: {replay.describe_delivery(result)}.{hint}",
        "success" if result["read"] else "error",
    )
    return redirect(url_for("deliveries.show_delivery", number=number))


def _apply_preview(number: int) -> AnyResponse | tuple[str, int]:
    """Apply the changes of a processed delivery; 409 and the preview when it has changed."""
    preview = replay.present_preview(get_context(), number, DeliveryState.PROCESSED)
    if _hash_preview(preview) != request.form.get("seen"):
        return _render_preview([number]), 409
    if preview["read"]:
        comparison = reprocess.preview_replay(get_context(), number)
        outcome = reprocess.apply_replay(get_context(), comparison, by=get_staff().name)
        result = replay.present_comparison(outcome, is_applied=True)
        flash(f"Delivery {number}: {replay.describe_delivery(result)}.", "success")
    return redirect(url_for("deliveries.show_delivery", number=number))


def _read_original(number: int, *, cause: str) -> tuple[Format, bytes]:
    """Return format and bytes of an original; aborts with 404 where it is missing or damaged."""
    try:
        return reprocess.read_original_for_person(
            get_context(), number, by=get_staff().name, cause=cause
        )
    except (LookupError, UnreadableError):
        abort(404)


def _send_file(content: bytes, media_type: str, name: str) -> Response:
    """Send what customers sent as a file that no browser opens or caches."""
    response = send_file(BytesIO(content), media_type, as_attachment=True, download_name=name)
    response.headers["Content-Security-Policy"] = SANDBOX_POLICY
    response.headers["Cache-Control"] = "no-store"
    return response


def _describe_envelope(envelope: Data) -> list[tuple[str, str]]:
    """Return name and text of what the channel handed over beside the bytes; lists as one text."""
    return [
        (name, ", ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in envelope.items()
    ]


def _make_printable(content: bytes) -> str | None:
    """Return the bytes as text, control characters replaced; None where they are not text."""
    if b"\0" in content:
        return None
    text = _decode(content).replace("\r\n", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)


def _decode(content: bytes) -> str:
    try:
        # The incremental decoder leaves out a character that was cut at the end.
        return codecs.getincrementaldecoder("utf-8")().decode(content)
    except UnicodeDecodeError:
        return content.decode("latin-1")


def needs_column_mapping(delivery: Data) -> bool:
    """Return whether a delivery failed because nobody knows what its workbook's columns mean."""
    return bool(
        delivery["state"] == DeliveryState.FAILED
        and delivery["format"] == Format.SECURE_MESSAGE
        and delivery["reason"].startswith(MAPPING_NEEDED_REASON)
    )


def _count(numbers: list[int]) -> str:
    return f"Delivery {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} deliveries"
