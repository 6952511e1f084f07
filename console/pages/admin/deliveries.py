"""What came in and could not be read.

Looked at, read again with the difference shown first, or dismissed.
"""

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
MAX_PREVIEWED = 10  # deliveries of which is shown what would come of them
MAX_TEXT_LENGTH = 200_000  # characters of an original on a page
MAX_LINES = 200  # of items and filings on a page
MAX_REASON_LENGTH = 500
SUFFIXES = {
    Format.MAIL: "eml",
    Format.FORMSTACK: "txt",
    Format.PHONE: "txt",
}  # others: what the file was called
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
MAPPING_NEEDED = "mapping needed"  # how the reason of a workbook begins whose headings nobody knows
Data = dict[str, Any]

pages = Blueprint("deliveries", __name__)


@pages.get("/operations/deliveries")
@requires(Right.AUDIT)
def listed() -> str:
    """Deliveries in a state, the failed ones unless another is asked for."""
    return _list()


@pages.get("/operations/deliveries.csv")
@requires(Right.AUDIT)
def table() -> Response:
    """The same for a spreadsheet."""
    state = _state()
    lines = [
        [*CSV_COLUMNS],
        *(
            [str(one[h]) for h in CSV_COLUMNS]
            for one in deliveries.list_deliveries(get_session(), state, MAX_EXPORTED, now())
        ),
    ]
    return build_csv_response(f"deliveries-{state}", lines)


@pages.get("/operations/deliveries/<int:number>")
@requires(Right.AUDIT)
def one(number: int) -> str:
    """Return how a delivery came, how often, and what has become of each item; not what it says."""
    found = deliveries.find_delivery(get_session(), number, now()) or abort(404)
    return render_template(
        "operations/delivery.html", found=found, most=MAX_LINES, asks=needs_column_mapping(found)
    )


@pages.get("/operations/deliveries/<int:number>/raw")
@requires(Right.LEAD)
def raw(number: int) -> str | tuple[str, int]:
    """The original, as text where it is text. That it was opened is on record."""
    form, content = _original(number, cause="raw view")
    found = deliveries.find_delivery(get_session(), number, now()) or abort(404)
    text = _text(content[: 4 * MAX_TEXT_LENGTH])
    return render_template(
        "operations/raw.html",
        found=found,
        form=form,
        text=text and text[:MAX_TEXT_LENGTH],
        cut=len(content) > 4 * MAX_TEXT_LENGTH or len(text or "") > MAX_TEXT_LENGTH,
    )


@pages.get("/operations/deliveries/<int:number>/original")
@requires(Right.LEAD)
def original(number: int) -> Response:
    """The original as a file to be saved, never opened in the browser.

    That it was opened is on record.
    """
    form, content = _original(number, cause="download")
    name = f"delivery-{number}.{SUFFIXES.get(form, 'bin')}"
    answer = send_file(
        BytesIO(content), "application/octet-stream", as_attachment=True, download_name=name
    )
    answer.headers["Content-Security-Policy"], answer.headers["Cache-Control"] = (
        SANDBOX_POLICY,
        "no-store",
    )
    return answer


@pages.get("/operations/deliveries/<int:number>/rejected.xlsx")
@requires(Right.LEAD)
def rejected(number: int) -> Response:
    """The rows that were rejected, to be mended and dropped again.

    That they were taken is on record.
    """
    try:
        rows = list_rejected_rows(get_context(), number) or abort(404)
    except (LookupError, UnreadableError):
        abort(404)
    _looked(number, "rejected rows")
    answer = send_file(
        BytesIO(render_workbook(rows)),
        XLSX_TYPE,
        as_attachment=True,
        download_name=f"rejected-{number}.xlsx",
    )
    answer.headers["Content-Security-Policy"], answer.headers["Cache-Control"] = (
        SANDBOX_POLICY,
        "no-store",
    )
    return answer


@pages.post("/operations/deliveries/look")
@requires(Right.LEAD)
def look() -> AnyResponse | str:
    """What would come of reading the chosen ones again.

    Nothing is changed, and that it was shown is on record.
    """
    numbers = _chosen()
    if not numbers:
        return _nothing_chosen()
    return _show(numbers)


@pages.post("/operations/deliveries/replay")
@requires(Right.LEAD)
def again() -> AnyResponse | tuple[str, int]:
    """Read the chosen ones again.

    409 and what would come of it now, where that is not what was shown any more.
    """
    numbers = _chosen()
    if not numbers:
        return _nothing_chosen()
    if len(numbers) > 1:
        count = enqueue_replays(get_context(), numbers, by=get_staff().name)
        flash(f"{count} deliveries are being read again.", "success")
        return redirect(url_for("deliveries.listed"))
    return _again(numbers[0])


@pages.post("/operations/deliveries/dismiss")
@requires(Right.LEAD)
def dismiss() -> AnyResponse | tuple[str, int]:
    """Say that nothing is to come of the chosen ones; they stay stored.

    422 with what was typed when that cannot be.
    """
    numbers, reason = _chosen(), request.form.get("reason", "").strip()
    if not numbers:
        return _nothing_chosen()
    if not reason or len(reason) > MAX_REASON_LENGTH:
        return (
            _list(
                fault="Say why nothing is to come of it, in a line without patient data.",
                ticked=numbers,
            ),
            422,
        )
    try:
        retry.dismiss(get_context(), numbers, reason, by=get_staff().name)
    except ActionNotAllowed as missing:
        return _list(fault=str(missing), ticked=numbers), 422
    flash(
        f"{_count(numbers)} dismissed. To take it back, open it among the dismissed ones and read"
        " it again.",
        "success",
    )
    return redirect(url_for("deliveries.listed"))


def _list(fault: str = "", ticked: list[int] | None = None) -> str:
    state = _state()
    found = deliveries.list_deliveries(get_session(), state, MAX_LISTED, now())
    more = deliveries.count_deliveries(get_session(), state) - len(found)
    return render_template(
        "operations/deliveries.html",
        found=found,
        more=more,
        state=state,
        states=list(DeliveryState),
        fault=fault,
        ticked=ticked or [],
        reason=request.form.get("reason", ""),
        choosing=is_allowed(Right.LEAD) and state == "failed",
        asks=needs_column_mapping,
    )


def _state() -> str:
    said = request.args.get("state", "")
    return said if said in set(DeliveryState) else DeliveryState.FAILED


def _chosen() -> list[int]:
    """The numbers that were ticked, or every failed one."""
    if request.form.get("all"):
        return deliveries.list_failed_ids(get_session())
    return sorted({number for said in request.form.getlist("id") if (number := parse_id(said))})


def _nothing_chosen() -> AnyResponse:
    flash("Tick at least one delivery.", "error")
    return redirect(url_for("deliveries.listed"))


def _show(numbers: list[int]) -> str:
    tried = [_tried(number) for number in numbers[:MAX_PREVIEWED]]
    return render_template(
        "operations/replay.html",
        tried=tried,
        numbers=numbers,
        left=len(numbers) - len(tried),
        show=replay,
        seen=_seen(tried[0]),
        every=bool(request.form.get("all")),
        most=MAX_LINES,
        changing=any(map(_changes, tried)),
    )


def _tried(number: int) -> Data:
    standing = deliveries.find_state(get_session(), number) or abort(404)
    _looked(number, "replay preview")
    return replay.present_preview(get_context(), number, standing[0])


def _looked(number: int, cause: str) -> None:
    """Put on record who has had what a customer sent."""
    with get_context().store.transaction() as session:
        audit.record(
            session,
            reprocess.ORIGINAL_READ,
            by=get_staff().name,
            cause=cause,
            now=now(),
            delivery=number,
        )


def _changes(tried: Data) -> bool:
    """Whether doing it would do anything.

    One that cannot be read today is read again all the same, and says so.
    """
    return tried["state"] != DeliveryState.PROCESSED or bool(tried.get("changes"))


def _seen(tried: Data) -> str:
    """Return what was shown, as a digest: what is done has to be that."""
    return hashlib.sha256(json.dumps(tried, sort_keys=True, default=str).encode()).hexdigest()


def _again(number: int) -> AnyResponse | tuple[str, int]:
    state, filed = deliveries.find_state(get_session(), number) or abort(404)
    by, here = get_staff().name, url_for("deliveries.one", number=number)
    if state is not DeliveryState.PROCESSED:
        done = retry.replay(get_context(), number, by=by) or abort(404)
        with (
            get_context().store.read_only() as session
        ):  # the request's own has seen it as it was before
            told = replay.present_replayed(done, deliveries.list_ticket_ids(session, number))
        more = (
            " Items read before may read otherwise now: look at what would change."
            if filed and told["read"]
            else ""
        )
        flash(
            f"Delivery {number}: {replay.describe_delivery(told)}.{more}",
            "success" if told["read"] else "error",
        )
        return redirect(here)
    tried = replay.present_preview(get_context(), number, state)
    if _seen(tried) != request.form.get("seen"):
        return _show([number]), 409
    if tried["read"]:
        told = replay.present_comparison(
            reprocess.apply_replay(
                get_context(), reprocess.preview_replay(get_context(), number), by=by
            ),
            applied=True,
        )
        flash(f"Delivery {number}: {replay.describe_delivery(told)}.", "success")
    return redirect(here)


def _original(number: int, *, cause: str) -> tuple[Format, bytes]:
    try:
        return reprocess.read_original_for_person(
            get_context(), number, by=get_staff().name, cause=cause
        )
    except (LookupError, UnreadableError):
        abort(404)


def _text(content: bytes) -> str | None:
    """The bytes as text with control characters made visible; None where they are no text."""
    if b"\0" in content:
        return None
    return "".join(
        c if c.isprintable() or c in "\n\t" else "�"
        for c in _decoded(content).replace("\r\n", "\n")
    )


def _decoded(content: bytes) -> str:
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(
            content
        )  # leaves out a character cut at the end
    except UnicodeDecodeError:
        return content.decode("latin-1")


def needs_column_mapping(found: Data) -> bool:
    """Return whether a delivery is a workbook of which nobody knows what its columns mean."""
    failed = found["state"] == DeliveryState.FAILED
    return bool(
        failed
        and found["format"] == Format.SECURE_MESSAGE
        and found["reason"].startswith(MAPPING_NEEDED)
    )


def _count(numbers: list[int]) -> str:
    return f"Delivery {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} deliveries"
