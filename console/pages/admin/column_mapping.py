"""What the columns of a workbook mean.

Shown with its first rows, said by a person, kept as a profile, taken back.
"""

from zoneinfo import available_timezones

from flask import Blueprint, abort, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.pages.account import COMMON_TIME_ZONES
from console.pages.admin.deliveries import needs_column_mapping
from console.presenters import column_mapping, deliveries
from console.web.request import get_context, get_session, get_staff, now, requires
from ingest.column_mapping import apply, propose
from ingest.column_mapping.propose import IGNORE, ColumnProposal, MappingChoices, SheetProposal
from ingest.parser_options import list_configured_profiles, load_parser_options
from ingest.replay import reprocess
from ingest.replay.reprocess import UnreadableError
from parsers.item import Format
from parsers.secure_message.columns import FIELD_LABELS, HEADINGS_BY_FIELD
from parsers.secure_message.preview import TablePreview
from workflow.errors import ActionNotAllowed
from workflow.filing import column_profiles as kept
from workflow.filing.column_profiles import ProfileConflictError
from workflow.models.states import DeliveryState
from workflow.permissions import Right
from workflow.settings.settings import validate_time_zone

DATE_ORDERS = {"mdy": "month/day/year", "dmy": "day/month/year", "ymd": "year/month/day"}
MAX_NAME_LENGTH = 100

pages = Blueprint("mapping", __name__)


@pages.get("/operations/deliveries/<int:number>/map")
@requires(Right.LEAD)
def ask(number: int) -> str:
    """The first rows of a sheet, and for each column what it may be.

    That they were shown is on record.

    404 for all but failed deliveries that ask for it; to the delivery, which says why, where its
    sheets do not open.
    """
    return _page(number, _opened(number))


@pages.post("/operations/deliveries/<int:number>/map")
@requires(Right.LEAD)
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
        sheet = _sheet(read, _read(read, MappingChoices(heading_row=_heading_row())))
        apply.save_mapping(get_context(), sheet, name, by=get_staff().name)
    except (
        ActionNotAllowed,
        ValueError,
    ) as fault:  # ProfileConflictError is one: the words are for staff
        return _page(number, read, fault=str(fault)), 422
    replayed = apply.replay_waiting(get_context(), sheet.fingerprint, by=get_staff().name)
    done = sum(one.state is DeliveryState.PROCESSED for one in replayed)
    flash(
        f"Saved as {name}. It holds for every file with these headings. Deliveries read with it:"
        f" {done}.",
        "success",
    )
    return redirect(url_for("deliveries.one", number=number))


@pages.get("/operations/profiles")
@requires(Right.AUDIT)
def profiles() -> str:
    """Return how the workbooks of which source are meant."""
    found = column_mapping.present_profiles(
        kept.list_profiles(get_session()), list_configured_profiles(get_context().settings)
    )
    return render_template(
        "operations/profiles.html", found=found, word=column_mapping.describe_field
    )


@pages.post("/operations/profiles/forget")
@requires(Right.LEAD)
def forget() -> AnyResponse:
    """Take a saved profile back; what was read by it stays as it is."""
    name = request.form.get("name", "")
    with get_context().store.transaction() as session:
        found = kept.delete_profile(session, name, by=get_staff().name, now=now())
    flash(
        f"{name} is forgotten." if found else "There is no such saved profile.",
        "success" if found else "error",
    )
    return redirect(url_for("mapping.profiles"))


def _opened(number: int) -> list[TablePreview]:
    """The first rows of its sheets. Where they cannot be had, the page of the delivery says why."""
    found = deliveries.find_delivery(get_session(), number, now())
    if found is None or not needs_column_mapping(found):
        abort(404)
    try:
        content = reprocess.read_original_for_person(
            get_context(), number, by=get_staff().name, cause="map"
        )[1]
        if read := apply.read_preview(get_context(), content):
            return read
        fault = "no visible sheet of the file has anything in it"
    except UnreadableError as error:
        fault = str(error)
    flash(f"Its columns cannot be shown: {fault}.", "error")
    return abort(redirect(url_for("deliveries.one", number=number)))


def _page(number: int, read: list[TablePreview], fault: str = "") -> str:
    try:
        found = _read(read, MappingChoices(heading_row=_heading_row()))
    except ActionNotAllowed as missing:
        found, fault = _read(read, MappingChoices()), fault or str(missing)
    nth = _nth(found)
    try:
        shown = _sheet(read, found)
    except ActionNotAllowed as missing:
        shown, fault = found[nth], fault or str(missing)
    fields = [(name, FIELD_LABELS.get(name, name)) for name in HEADINGS_BY_FIELD]
    return render_template(
        "operations/map.html",
        number=number,
        sheet=shown,
        chosen=_chosen(found[nth]),
        why=_why(found[nth]),
        sheets=found,
        nth=nth,
        fields=fields,
        orders=DATE_ORDERS,
        zones=[*COMMON_TIME_ZONES, *sorted(available_timezones() - set(COMMON_TIME_ZONES))],
        fault=fault,
        typed=request.form,
        heading_row=_heading_row(),
        word=column_mapping.describe_field,
    )


def _sheet(read: list[TablePreview], plain: list[SheetProposal]) -> SheetProposal:
    """The sheet as it would be read with what was said. Raises ActionNotAllowed for what cannot be."""
    nth = _nth(plain)
    chosen = _chosen(plain[nth])
    changed = {
        c.heading: chosen[c.letter] or IGNORE
        for c in plain[nth].columns
        if chosen[c.letter] != c.field_name
    }
    company = request.form.get("company", "").strip()
    said = MappingChoices(
        columns=changed,
        heading_row=_heading_row(),
        defaults=(("company", company),) if company else (),
        date_order=request.form.get("order") if request.form.get("order") in DATE_ORDERS else None,
        time_zone=_zone(),
    )
    return _read(read, said)[nth]


def _read(read: list[TablePreview], said: MappingChoices) -> list[SheetProposal]:
    try:
        return propose.propose_sheets(
            read, load_parser_options(get_context(), Format.SECURE_MESSAGE), said
        )
    except LookupError as error:
        raise ActionNotAllowed(f"The sheet has no {error.args[0]} in its first rows.") from None


def _chosen(sheet: SheetProposal) -> dict[str, str]:
    """Return what each column is, by its letter: as was said, or else as it is known or guessed."""
    return {c.letter: _said(c) for c in sheet.columns}


def _why(sheet: SheetProposal) -> dict[str, str]:
    """Return how that is known, by its letter.

    A guess of ours is told from what a person has said.
    """
    found = {}
    for c in sheet.columns:
        said, usual = _said(c), c.field_name or c.guess
        guessed = "a guess: check it" if c.guess and not c.field_name else ""
        found[c.letter] = "as you say" if said != usual else c.reason or guessed or "–"
    return found


def _said(column: ColumnProposal) -> str:
    said = request.form.get(f"column-{column.letter}")
    return said if said == "" or said in HEADINGS_BY_FIELD else column.field_name or column.guess


def _nth(found: list[SheetProposal]) -> int:
    """Return which sheet is meant: the one that was said, else the first that cannot be read."""
    said = request.values.get("sheet", -1, type=int)
    usual = next((n for n, sheet in enumerate(found) if sheet.missing), 0)
    return said if 0 <= said < len(found) else usual


def _heading_row() -> int:
    return max(0, min(request.values.get("row", 0, type=int), 10**6))


def _zone() -> str | None:
    try:
        return validate_time_zone(request.form.get("zone", "")) or None
    except ValueError:
        raise ActionNotAllowed("There is no such time zone.") from None


def _name() -> str:
    name = " ".join(request.form.get("name", "").split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ActionNotAllowed(
            f"Give it a name of one to {MAX_NAME_LENGTH} characters, as that of the place the files"
            " come from."
        )
    return name


assert issubclass(ProfileConflictError, ValueError)
