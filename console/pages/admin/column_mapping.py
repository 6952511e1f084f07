"""What the columns of a workbook mean.

Shown with its first rows, said by a person, kept as a profile, taken back.
"""

from zoneinfo import available_timezones

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.pages.account import COMMON
from console.pages.admin.deliveries import asks_for_mapping
from console.presenters import column_mapping, deliveries
from console.web.request import db, house, needs, now, staff
from ingest.column_mapping import apply, propose
from ingest.column_mapping.propose import NONE_OF_OURS, Column, Said, Sheet
from ingest.parser_options import options, told
from ingest.replay import reprocess
from ingest.replay.reprocess import UnreadableError
from parsers.item import Format
from parsers.secure_message.columns import FIELDS, WORDS
from parsers.secure_message.preview import Top
from workflow.errors import Missing
from workflow.filing import column_profiles as kept
from workflow.filing.column_profiles import TakenError
from workflow.models.states import DeliveryState
from workflow.permissions import Right
from workflow.settings.settings import known_zone

ORDERS = {"mdy": "month/day/year", "dmy": "day/month/year", "ymd": "year/month/day"}
LONGEST_NAME = 100

pages = Blueprint("mapping", __name__)


@pages.get("/operations/deliveries/<int:number>/map")
@needs(Right.LEAD)
def ask(number: int) -> str:
    """The first rows of a sheet, and for each column what it may be.

    That they were shown is on record.

    404 for all but failed deliveries that ask for it; to the delivery, which says why, where its
    sheets do not open.
    """
    return _page(number, _opened(number))


@pages.post("/operations/deliveries/<int:number>/map")
@needs(Right.LEAD)
def answer(number: int) -> AnyResponse | str | tuple[str, int]:
    """Show the sheet as it would be read with what was said.

    Or keep that, and read what waited for it.

    422 with what was said where it cannot be kept.
    """
    read = _opened(number)
    if "save" not in request.form:
        return _page(number, read)
    try:
        name = _name()
        sheet = _sheet(read, _read(read, Said(heading_row=_heading_row())))
        apply.keep(house(), sheet, name, by=staff().name)
    except (Missing, ValueError) as fault:  # TakenError is one: the words are for staff
        return _page(number, read, fault=str(fault)), 422
    replayed = apply.read_waiting_for(house(), sheet.fingerprint, by=staff().name)
    done = sum(one.state is DeliveryState.PROCESSED for one in replayed)
    flash(
        f"Saved as {name}. It holds for every file with these headings. Deliveries read with it:"
        f" {done}.",
        "success",
    )
    return redirect(url_for("deliveries.one", number=number))


@pages.get("/operations/profiles")
@needs(Right.AUDIT)
def profiles() -> str:
    """Return how the workbooks of which source are meant."""
    found = column_mapping.listed(kept.saved(db()), told(house().settings))
    return render_template("operations/profiles.html", found=found, word=column_mapping.word)


@pages.post("/operations/profiles/forget")
@needs(Right.LEAD)
def forget() -> AnyResponse:
    """Take a saved profile back; what was read by it stays as it is."""
    name = request.form.get("name", "")
    with house().store.transaction() as session:
        found = kept.forget(session, name, by=staff().name, now=now())
    flash(
        f"{name} is forgotten." if found else "There is no such saved profile.",
        "success" if found else "error",
    )
    return redirect(url_for("mapping.profiles"))


def _opened(number: int) -> list[Top]:
    """The first rows of its sheets. Where they cannot be had, the page of the delivery says why."""
    found = deliveries.one(db(), number, now())
    if found is None or not asks_for_mapping(found):
        abort(404)
    try:
        content = reprocess.shown_to(house(), number, by=staff().name, cause="map")[1]
        if read := apply.opened(house(), content):
            return read
        fault = "no visible sheet of the file has anything in it"
    except UnreadableError as error:
        fault = str(error)
    flash(f"Its columns cannot be shown: {fault}.", "error")
    return abort(redirect(url_for("deliveries.one", number=number)))


def _page(number: int, read: list[Top], fault: str = "") -> str:
    try:
        found = _read(read, Said(heading_row=_heading_row()))
    except Missing as missing:
        found, fault = _read(read, Said()), fault or str(missing)
    nth = _nth(found)
    try:
        shown = _sheet(read, found)
    except Missing as missing:
        shown, fault = found[nth], fault or str(missing)
    fields = [(name, WORDS.get(name, name)) for name in FIELDS]
    return render_template(
        "operations/map.html",
        number=number,
        sheet=shown,
        chosen=_chosen(found[nth]),
        why=_why(found[nth]),
        sheets=found,
        nth=nth,
        fields=fields,
        orders=ORDERS,
        zones=[*COMMON, *sorted(available_timezones() - set(COMMON))],
        fault=fault,
        typed=request.form,
        heading_row=_heading_row(),
        word=column_mapping.word,
    )


def _sheet(read: list[Top], plain: list[Sheet]) -> Sheet:
    """The sheet as it would be read with what was said. Raises Missing for what cannot be."""
    nth = _nth(plain)
    chosen = _chosen(plain[nth])
    changed = {
        c.heading: chosen[c.letter] or NONE_OF_OURS
        for c in plain[nth].columns
        if chosen[c.letter] != c.ours
    }
    company = request.form.get("company", "").strip()
    said = Said(
        columns=changed,
        heading_row=_heading_row(),
        defaults=(("company", company),) if company else (),
        date_order=request.form.get("order") if request.form.get("order") in ORDERS else None,
        time_zone=_zone(),
    )
    return _read(read, said)[nth]


def _read(read: list[Top], said: Said) -> list[Sheet]:
    try:
        return propose.sheets(read, options(house(), Format.SECURE_MESSAGE), said)
    except LookupError as error:
        raise Missing(f"The sheet has no {error.args[0]} in its first rows.") from None


def _chosen(sheet: Sheet) -> dict[str, str]:
    """Return what each column is, by its letter: as was said, or else as it is known or guessed."""
    return {c.letter: _said(c) for c in sheet.columns}


def _why(sheet: Sheet) -> dict[str, str]:
    """Return how that is known, by its letter.

    A guess of ours is told from what a person has said.
    """
    found = {}
    for c in sheet.columns:
        said, usual = _said(c), c.ours or c.perhaps
        guessed = "a guess: check it" if c.perhaps and not c.ours else ""
        found[c.letter] = "as you say" if said != usual else c.why or guessed or "–"
    return found


def _said(column: Column) -> str:
    said = request.form.get(f"column-{column.letter}")
    return said if said == "" or said in FIELDS else column.ours or column.perhaps


def _nth(found: list[Sheet]) -> int:
    """Return which sheet is meant: the one that was said, else the first that cannot be read."""
    said = request.values.get("sheet", -1, type=int)
    usual = next((n for n, sheet in enumerate(found) if sheet.missing), 0)
    return said if 0 <= said < len(found) else usual


def _heading_row() -> int:
    return max(0, min(request.values.get("row", 0, type=int), 10**6))


def _zone() -> str | None:
    try:
        return known_zone(request.form.get("zone", "")) or None
    except ValueError:
        raise Missing("There is no such time zone.") from None


def _name() -> str:
    name = " ".join(request.form.get("name", "").split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise Missing(
            f"Give it a name of one to {LONGEST_NAME} characters, as that of the place the files"
            " come from."
        )
    return name


assert issubclass(TakenError, ValueError)
