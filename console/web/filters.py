"""Template filters: times in the viewer's time zone, ages, sizes; and the globals of templates."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from flask import Flask, Response, g, session
from markupsafe import Markup, escape

from console.presenters.csv_text import encode_csv
from console.presenters.tickets.links import link_text
from console.web.auth_sessions import SAVED_FORMS_KEY
from console.web.menu import OPERATIONS_MENU, get_menu
from console.web.request import get_context, get_time_zone, is_allowed, now
from parsers.item import Format
from workflow.customers.directory import describe_company
from workflow.models.states import OutboxState, Status
from workflow.permissions import Right
from workflow.process import QUEUE_NAME

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DETAILS_TITLES = {  # the heading above a message's details, by its format
    Format.MAIL: "Links",
    Format.FORMSTACK: "Fields of the form",
    Format.SECURE_MESSAGE: "Other columns of the row",
    Format.PHONE: "Details of the call",
}
DIRECTIONS = {  # of a message: its label, its icon (Bootstrap's), and what its sender did
    "in": ("From the customer", "envelope", "wrote"),
    "out": ("Our mail", "send", "was sent a mail"),
    "note": ("Internal note", "sticky", "note"),
}
# Bootstrap's names of colours.
ALERT_STYLES = {"error": "danger", "success": "success"}  # by category of a flashed message
STATUS_STYLES = {Status.OPEN: "primary", Status.COMPLETED: "success"}
MAIL_STYLES = {
    OutboxState.SENT: "success",
    OutboxState.WAITING: "info",
    OutboxState.REFUSED: "danger",
    OutboxState.BOUNCED: "danger",
}
DUE_SOON = timedelta(hours=12)  # due within this time is shown as a warning


def register_filters(app: Flask) -> None:
    """Register filters and globals in the template environment."""
    template_filters = {
        "moment": format_moment,
        "day": format_day,
        "age": format_age,
        "due": format_due,
        "size": format_size,
        "link_text": link_text,
    }
    template_filters["company_name"] = describe_company
    template_filters |= {"from_iso": parse_iso, "details_title": get_details_title}
    template_filters |= {
        "direction_label": lambda direction: DIRECTIONS[direction][0],
        "direction_icon": lambda direction: DIRECTIONS[direction][1],
        "direction_verb": lambda direction: DIRECTIONS[direction][2],
        "alert_style": lambda category: ALERT_STYLES.get(category, "info"),
        "status_style": lambda status: STATUS_STYLES.get(status, "secondary"),
        "mail_style": lambda state: MAIL_STYLES.get(state, "secondary"),
    }
    app.jinja_env.filters |= template_filters
    app.jinja_env.globals |= {
        "allowed": is_allowed,
        "Right": Right,
        "QUEUE": QUEUE_NAME,
        "menu": get_menu,
        "operations_menu": OPERATIONS_MENU,
    }
    app.context_processor(_build_page_variables)


def _build_page_variables() -> dict[str, object]:
    """Return the variables that the layout of every page shows."""
    me = g.get("staff")
    return {
        "me": me,
        "idle_minutes": get_context().settings.idle_minutes,
        "has_saved_forms": me is not None and SAVED_FORMS_KEY in session,
    }


def parse_iso(text: str | None) -> datetime | None:
    """Return the time of an ISO text of our JSON; None for none."""
    return datetime.fromisoformat(text) if text else None


def format_moment(at: datetime | None) -> Markup:
    """Return `25 Nov 2026, 08:49 EST` in the viewer's time zone, as a `<time>` element."""
    if at is None:
        return Markup("–")
    local = at.astimezone(get_time_zone())
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(), f"{local:%-d %b %Y, %H:%M %Z}"
    )


def format_day(at: datetime | None) -> str:
    """Return `25 Nov 2026`: digits alone could be read in the wrong order."""
    return f"{at.astimezone(get_time_zone()):%-d %b %Y}" if at else "–"


def format_age(at: datetime | None) -> Markup:
    """Return `3 h ago` or `in 2 d`; the tooltip has the exact time."""
    if at is None:
        return Markup("–")
    passed = now() - at
    words = format_span(abs(passed))
    text = f"{words} ago" if passed >= timedelta() else f"in {words}"
    text = "just now" if abs(passed) < MINUTE else text
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), escape(f"{at.astimezone(get_time_zone()):%-d %b %Y, %H:%M %Z}"), text
    )


def format_due(at: datetime | None) -> Markup:
    """Return `due in 5 h` or `1 d overdue`, in a matching colour."""
    if at is None:
        return Markup("–")
    remaining = at - now()
    if remaining <= timedelta():
        colour, words = "danger", f"{format_span(-remaining)} overdue"
    else:
        colour = "warning" if remaining < DUE_SOON else "secondary"
        words = f"due in {format_span(remaining)}"
    return Markup('<time class="badge text-bg-{}" datetime="{}" title="{}">{}</time>').format(
        colour, at.isoformat(), f"{at.astimezone(get_time_zone()):%-d %b %Y, %H:%M %Z}", words
    )


def format_span(length: timedelta) -> str:
    """Return `5 min`, `3 h`, `12 d`: in one unit."""
    if length < HOUR:
        return f"{length // MINUTE} min"
    return f"{length // HOUR} h" if length < 2 * DAY else f"{length // DAY} d"


def get_details_title(came_as: str) -> str:
    """Return the heading above a message's details, by its format."""
    return next((words for known, words in DETAILS_TITLES.items() if known == came_as), "Details")


def build_csv_response(name: str, lines: Iterable[Sequence[str]]) -> Response:
    """Return the rows as a CSV download."""
    answer = Response(b"".join(encode_csv(lines)), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def format_size(count: int) -> str:
    """Return bytes as `1.5 KB`."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000 or unit == "MB":  # noqa: PLR2004  # as file managers count
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    raise AssertionError
