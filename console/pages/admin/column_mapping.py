"""Pages where a person maps the columns of a workbook to fields, and of the saved profiles."""

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
from parsers.secure_message.headings import FIELD_LABELS, HEADINGS_BY_FIELD
from parsers.secure_message.preview import TablePreview
from workflow.errors import ActionNotAllowed
from workflow.filing import column_profiles
from workflow.models.states import DeliveryState
from workflow.permissions import Right
from workflow.settings.settings import validate_time_zone

DATE_ORDERS = {"mdy": "month/day/year", "dmy": "day/month/year", "ymd": "year/month/day"}
MAX_NAME_LENGTH = 100
MAX_ROW = 1_000_000  # more than Excel has

pages = Blueprint("mapping", __name__)


@pages.get("/operations/deliveries/<int:number>/map")
@requires(Right.LEAD)
def show_mapping(number: int) -> str:
    """Show the first rows of a sheet, and for each column the field it is taken for.

    404 for every delivery but a failed one that needs a mapping. A sheet that cannot be opened
    leads to the delivery's page with the reason. The audit log records the access.
    """
    return _render_page(number, _read_preview(number))


@pages.post("/operations/deliveries/<int:number>/map")
@requires(Right.LEAD)
def save_mapping(number: int) -> AnyResponse | str | tuple[str, int]:
    """Save the mapping and read the deliveries that wait for it; without `save`, preview it.

    422 and the form as it was filled in when the mapping cannot be saved.
    """
    tables = _read_preview(number)
    if "save" not in request.form:
        return _render_page(number, tables)
    try:
        name = _parse_name()
        proposals = _propose(tables, MappingChoices(heading_row=_get_heading_row()))
        sheet = _apply_choices(tables, proposals)
        apply.save_mapping(get_context(), sheet, name, by=get_staff().name)
    except (ActionNotAllowed, ValueError) as error:  # ProfileConflictError is a ValueError
        return _render_page(number, tables, error=str(error)), 422
    deliveries_read = apply.replay_waiting(get_context(), sheet.fingerprint, by=get_staff().name)
    count = sum(delivery.state is DeliveryState.PROCESSED for delivery in deliveries_read)
    flash(
        f"Saved as {name}. It is used for every file with these headings. Deliveries read with it:"
        f" {count}.",
        "success",
    )
    return redirect(url_for("deliveries.show_delivery", number=number))


@pages.get("/operations/profiles")
@requires(Right.AUDIT)
def list_profiles() -> str:
    """List the saved profiles and those of the settings."""
    profiles = column_mapping.present_profiles(
        column_profiles.list_profiles(get_session()),
        list_configured_profiles(get_context().settings),
    )
    return render_template(
        "operations/profiles.html", profiles=profiles, describe_field=column_mapping.describe_field
    )


@pages.post("/operations/profiles/forget")
@requires(Right.LEAD)
def delete_profile() -> AnyResponse:
    """Delete a saved profile; deliveries that were read with it stay as they are."""
    name = request.form.get("name", "")
    with get_context().store.transaction() as session:
        existed = column_profiles.delete_profile(session, name, by=get_staff().name, now=now())
    flash(
        f"{name} is deleted." if existed else "There is no such saved profile.",
        "success" if existed else "error",
    )
    return redirect(url_for("mapping.list_profiles"))


def _read_preview(number: int) -> list[TablePreview]:
    """Return the first rows of each sheet, at least one sheet.

    Aborts with 404, or with a redirect to the delivery's page, which then shows why.
    """
    delivery = deliveries.find_delivery(get_session(), number, now())
    if delivery is None or not needs_column_mapping(delivery):
        abort(404)
    try:
        _, content = reprocess.read_original_for_person(
            get_context(), number, by=get_staff().name, cause="map"
        )
        if tables := apply.read_preview(get_context(), content):
            return tables
        reason = "no visible sheet of the file has any content"
    except UnreadableError as error:
        reason = str(error)
    flash(f"Its columns cannot be shown: {reason}.", "error")
    return abort(redirect(url_for("deliveries.show_delivery", number=number)))


def _render_page(number: int, tables: list[TablePreview], error: str = "") -> str:
    """Return the page with the sheet as the form's choices would have it read.

    Where a choice is not possible the page shows the sheet without it, and why.
    """
    try:
        proposals = _propose(tables, MappingChoices(heading_row=_get_heading_row()))
    except ActionNotAllowed as not_possible:
        proposals, error = _propose(tables, MappingChoices()), error or str(not_possible)
    index = _get_sheet_index(proposals)
    try:
        sheet = _apply_choices(tables, proposals)
    except ActionNotAllowed as not_possible:
        sheet, error = proposals[index], error or str(not_possible)
    return render_template(
        "operations/map.html",
        number=number,
        sheet=sheet,
        chosen={c.name: _get_field(c) for c in proposals[index].columns},
        reasons={c.name: _describe_reason(c) for c in proposals[index].columns},
        sheets=proposals,
        sheet_index=index,
        fields=[(name, FIELD_LABELS.get(name, name)) for name in HEADINGS_BY_FIELD],
        orders=DATE_ORDERS,
        zones=[*COMMON_TIME_ZONES, *sorted(available_timezones() - set(COMMON_TIME_ZONES))],
        error=error,
        company=request.form.get("company", dict(sheet.defaults).get("company", "")),
        profile_name=request.form.get("name", sheet.profile.name if sheet.profile else ""),
        heading_row=_get_heading_row(),
        describe_field=column_mapping.describe_field,
    )


def _apply_choices(tables: list[TablePreview], proposals: list[SheetProposal]) -> SheetProposal:
    """Return the chosen sheet as the form's choices would have it read.

    Raises ActionNotAllowed for choices that are not possible.
    """
    index = _get_sheet_index(proposals)
    changed_fields = {
        column.heading: _get_field(column) or IGNORE
        for column in proposals[index].columns
        if _get_field(column) != column.field_name
    }
    company = request.form.get("company", "").strip()
    order = request.form.get("order")
    choices = MappingChoices(
        columns=changed_fields,
        heading_row=_get_heading_row(),
        defaults=(("company", company),) if company else (),
        date_order=order if order in DATE_ORDERS else None,
        time_zone=_parse_time_zone(),
    )
    return _propose(tables, choices)[index]


def _propose(tables: list[TablePreview], choices: MappingChoices) -> list[SheetProposal]:
    """Return how each sheet would be read. Raises ActionNotAllowed for a heading it has not."""
    options = load_parser_options(get_context(), Format.SECURE_MESSAGE)
    try:
        return propose.propose_sheets(tables, options, choices)
    except LookupError as error:
        raise ActionNotAllowed(f"The sheet has no {error.args[0]} in its first rows.") from None


def _get_field(column: ColumnProposal) -> str:
    """Return the field chosen for a column, else the known or guessed one; "" for none."""
    field = request.form.get(f"column-{column.name}")
    if field == "" or field in HEADINGS_BY_FIELD:
        return field
    return column.field_name or column.guess


def _describe_reason(column: ColumnProposal) -> str:
    """Return why a column is taken for its field: a person's choice, a known heading, a guess."""
    if _get_field(column) != (column.field_name or column.guess):
        return "as you say"
    if column.reason:
        return column.reason
    return "a guess: check it" if column.guess and not column.field_name else "–"


def _get_sheet_index(proposals: list[SheetProposal]) -> int:
    """Return the index of the chosen sheet, else of the first that cannot be read."""
    index = request.values.get("sheet", -1, type=int)
    if 0 <= index < len(proposals):
        return index
    return next((n for n, sheet in enumerate(proposals) if sheet.missing), 0)


def _get_heading_row() -> int:
    """Return the chosen header row as Excel counts rows; 0 to find it automatically."""
    return max(0, min(request.values.get("row", 0, type=int), MAX_ROW))


def _parse_time_zone() -> str | None:
    try:
        return validate_time_zone(request.form.get("zone", "")) or None
    except ValueError:
        raise ActionNotAllowed("There is no such time zone.") from None


def _parse_name() -> str:
    """Return the profile's name. Raises ActionNotAllowed for one that is no name."""
    name = " ".join(request.form.get("name", "").split())
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise ActionNotAllowed(
            f"Give it a name of one to {MAX_NAME_LENGTH} characters, such as the name of the"
            " practice or program the files come from."
        )
    return name
