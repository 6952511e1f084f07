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

from console.pages.tickets.files import SANDBOX
from console.presenters import deliveries, replay, show_replay
from console.web.filters import csv_file
from console.web.request import allowed, db, house, needs, now, number_of, staff
from ingest.folder.rejected_rows import rejected_rows, workbook
from ingest.replay import reprocess, retry
from ingest.replay.replay_many import replay_soon
from ingest.replay.reprocess import UnreadableError
from parsers.item import Format
from workflow.audit import record as audit
from workflow.errors import Missing
from workflow.models.states import DeliveryState
from workflow.permissions import Right

LISTED, EXPORTED = 100, 10_000
MOST_TRIED = 10  # deliveries of which is shown what would come of them
MOST_TEXT = 200_000  # characters of an original on a page
MOST_LINES = 200  # of items and filings on a page
LONGEST_REASON = 500
SUFFIXES = {
    Format.MAIL: "eml",
    Format.FORMSTACK: "txt",
    Format.PHONE: "txt",
}  # others: what the file was called
HEADS = (
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
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ASKING = "mapping needed"  # how the reason of a workbook begins whose headings nobody knows
Data = dict[str, Any]

pages = Blueprint("deliveries", __name__)


@pages.get("/operations/deliveries")
@needs(Right.AUDIT)
def listed() -> str:
    """Deliveries in a state, the failed ones unless another is asked for."""
    return _list()


@pages.get("/operations/deliveries.csv")
@needs(Right.AUDIT)
def table() -> Response:
    """The same for a spreadsheet."""
    state = _state()
    lines = [
        [*HEADS],
        *([str(one[h]) for h in HEADS] for one in deliveries.listed(db(), state, EXPORTED, now())),
    ]
    return csv_file(f"deliveries-{state}", lines)


@pages.get("/operations/deliveries/<int:number>")
@needs(Right.AUDIT)
def one(number: int) -> str:
    """Return how a delivery came, how often, and what has become of each item; not what it says."""
    found = deliveries.one(db(), number, now()) or abort(404)
    return render_template(
        "operations/delivery.html", found=found, most=MOST_LINES, asks=asks_for_mapping(found)
    )


@pages.get("/operations/deliveries/<int:number>/raw")
@needs(Right.LEAD)
def raw(number: int) -> str | tuple[str, int]:
    """The original, as text where it is text. That it was opened is on record."""
    form, content = _original(number, cause="raw view")
    found = deliveries.one(db(), number, now()) or abort(404)
    text = _text(content[: 4 * MOST_TEXT])
    return render_template(
        "operations/raw.html",
        found=found,
        form=form,
        text=text and text[:MOST_TEXT],
        cut=len(content) > 4 * MOST_TEXT or len(text or "") > MOST_TEXT,
    )


@pages.get("/operations/deliveries/<int:number>/original")
@needs(Right.LEAD)
def original(number: int) -> Response:
    """The original as a file to be saved, never opened in the browser.

    That it was opened is on record.
    """
    form, content = _original(number, cause="download")
    name = f"delivery-{number}.{SUFFIXES.get(form, 'bin')}"
    answer = send_file(
        BytesIO(content), "application/octet-stream", as_attachment=True, download_name=name
    )
    answer.headers["Content-Security-Policy"], answer.headers["Cache-Control"] = SANDBOX, "no-store"
    return answer


@pages.get("/operations/deliveries/<int:number>/rejected.xlsx")
@needs(Right.LEAD)
def rejected(number: int) -> Response:
    """The rows that were rejected, to be mended and dropped again.

    That they were taken is on record.
    """
    try:
        rows = rejected_rows(house(), number) or abort(404)
    except (LookupError, UnreadableError):
        abort(404)
    _looked(number, "rejected rows")
    answer = send_file(
        BytesIO(workbook(rows)), EXCEL, as_attachment=True, download_name=f"rejected-{number}.xlsx"
    )
    answer.headers["Content-Security-Policy"], answer.headers["Cache-Control"] = SANDBOX, "no-store"
    return answer


@pages.post("/operations/deliveries/look")
@needs(Right.LEAD)
def look() -> AnyResponse | str:
    """What would come of reading the chosen ones again.

    Nothing is changed, and that it was shown is on record.
    """
    numbers = _chosen()
    if not numbers:
        return _nothing_chosen()
    return _show(numbers)


@pages.post("/operations/deliveries/replay")
@needs(Right.LEAD)
def again() -> AnyResponse | tuple[str, int]:
    """Read the chosen ones again.

    409 and what would come of it now, where that is not what was shown any more.
    """
    numbers = _chosen()
    if not numbers:
        return _nothing_chosen()
    if len(numbers) > 1:
        count = replay_soon(house(), numbers, by=staff().name)
        flash(f"{count} deliveries are being read again.", "success")
        return redirect(url_for("deliveries.listed"))
    return _again(numbers[0])


@pages.post("/operations/deliveries/dismiss")
@needs(Right.LEAD)
def dismiss() -> AnyResponse | tuple[str, int]:
    """Say that nothing is to come of the chosen ones; they stay stored.

    422 with what was typed when that cannot be.
    """
    numbers, reason = _chosen(), request.form.get("reason", "").strip()
    if not numbers:
        return _nothing_chosen()
    if not reason or len(reason) > LONGEST_REASON:
        return (
            _list(
                fault="Say why nothing is to come of it, in a line without patient data.",
                ticked=numbers,
            ),
            422,
        )
    try:
        retry.dismiss(house(), numbers, reason, by=staff().name)
    except Missing as missing:
        return _list(fault=str(missing), ticked=numbers), 422
    flash(
        f"{_count(numbers)} dismissed. To take it back, open it among the dismissed ones and read"
        " it again.",
        "success",
    )
    return redirect(url_for("deliveries.listed"))


def _list(fault: str = "", ticked: list[int] | None = None) -> str:
    state = _state()
    found = deliveries.listed(db(), state, LISTED, now())
    more = deliveries.counted(db(), state) - len(found)
    return render_template(
        "operations/deliveries.html",
        found=found,
        more=more,
        state=state,
        states=list(DeliveryState),
        fault=fault,
        ticked=ticked or [],
        reason=request.form.get("reason", ""),
        choosing=allowed(Right.LEAD) and state == "failed",
        asks=asks_for_mapping,
    )


def _state() -> str:
    said = request.args.get("state", "")
    return said if said in set(DeliveryState) else DeliveryState.FAILED


def _chosen() -> list[int]:
    """The numbers that were ticked, or every failed one."""
    if request.form.get("all"):
        return deliveries.failed(db())
    return sorted({number for said in request.form.getlist("id") if (number := number_of(said))})


def _nothing_chosen() -> AnyResponse:
    flash("Tick at least one delivery.", "error")
    return redirect(url_for("deliveries.listed"))


def _show(numbers: list[int]) -> str:
    tried = [_tried(number) for number in numbers[:MOST_TRIED]]
    return render_template(
        "operations/replay.html",
        tried=tried,
        numbers=numbers,
        left=len(numbers) - len(tried),
        show=show_replay,
        seen=_seen(tried[0]),
        every=bool(request.form.get("all")),
        most=MOST_LINES,
        changing=any(map(_changes, tried)),
    )


def _tried(number: int) -> Data:
    standing = deliveries.standing(db(), number) or abort(404)
    _looked(number, "replay preview")
    return replay.tried(house(), number, standing[0])


def _looked(number: int, cause: str) -> None:
    """Put on record who has had what a customer sent."""
    with house().store.transaction() as session:
        audit.record(
            session, reprocess.LOOKED, by=staff().name, cause=cause, now=now(), delivery=number
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
    state, filed = deliveries.standing(db(), number) or abort(404)
    by, here = staff().name, url_for("deliveries.one", number=number)
    if state is not DeliveryState.PROCESSED:
        done = retry.replay(house(), number, by=by) or abort(404)
        with house().store.reading() as session:  # the request's own has seen it as it was before
            told = replay.of_replay(done, deliveries.tickets(session, number))
        more = (
            " Items read before may read otherwise now: look at what would change."
            if filed and told["read"]
            else ""
        )
        flash(
            f"Delivery {number}: {show_replay.headline(told)}.{more}",
            "success" if told["read"] else "error",
        )
        return redirect(here)
    tried = replay.tried(house(), number, state)
    if _seen(tried) != request.form.get("seen"):
        return _show([number]), 409
    if tried["read"]:
        told = replay.of_reread(
            reprocess.apply(house(), reprocess.preview(house(), number), by=by), applied=True
        )
        flash(f"Delivery {number}: {show_replay.headline(told)}.", "success")
    return redirect(here)


def _original(number: int, *, cause: str) -> tuple[Format, bytes]:
    try:
        return reprocess.shown_to(house(), number, by=staff().name, cause=cause)
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


def asks_for_mapping(found: Data) -> bool:
    """Return whether a delivery is a workbook of which nobody knows what its columns mean."""
    failed = found["state"] == DeliveryState.FAILED
    return bool(
        failed and found["format"] == Format.SECURE_MESSAGE and found["reason"].startswith(ASKING)
    )


def _count(numbers: list[int]) -> str:
    return f"Delivery {numbers[0]}" if len(numbers) == 1 else f"{len(numbers)} deliveries"
