"""How the pages write: moments in the viewer's zone, sizes, ages; and what every template knows."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from flask import Flask, Response, g
from markupsafe import Markup, escape

from console.exports import csv_bytes
from console.web.menu import menu
from console.web.request import allowed, house, now, zone
from parsers.item import Format
from workflow.permissions import Right
from workflow.process import QUEUE

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
DETAILS = {  # what stands in a message beside its text, by what it came as
    Format.FORMSTACK: "What the form says",
    Format.SECURE_MESSAGE: "What the message's row says",
    Format.PHONE: "What was written down",
}
SOON = timedelta(hours=12)  # what is due within them is to be done today


def attach(app: Flask) -> None:
    """Teach the templates our words."""
    shown = {"moment": moment, "day": day, "age": age, "due": due, "size": size}
    shown |= {"from_iso": from_iso, "details_title": details_title}
    app.jinja_env.filters |= shown
    app.jinja_env.globals |= {"allowed": allowed, "Right": Right, "QUEUE": QUEUE, "menu": menu}
    app.context_processor(
        lambda: {"me": g.get("staff"), "idle_minutes": house().settings.idle_minutes}
    )


def from_iso(text: str | None) -> datetime | None:
    """The moment of one of our JSON shapes."""
    return datetime.fromisoformat(text) if text else None


def moment(at: datetime | None) -> Markup:
    """`25 Nov 2026, 08:49 EST`, in the viewer's zone, with the exact moment for machines."""
    if at is None:
        return Markup("–")
    local = at.astimezone(zone())
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(), f"{local:%-d %b %Y, %H:%M %Z}"
    )


def day(at: datetime | None) -> str:
    """`25 Nov 2026`: no order of digits to be mistaken."""
    return f"{at.astimezone(zone()):%-d %b %Y}" if at else "–"


def age(at: datetime | None) -> Markup:
    """`3 h ago`, or `in 2 d`; the moment itself when pointed at."""
    if at is None:
        return Markup("–")
    passed = now() - at
    words = span(abs(passed))
    said = f"{words} ago" if passed >= timedelta() else f"in {words}"
    said = "just now" if abs(passed) < MINUTE else said
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        at.isoformat(), escape(f"{at.astimezone(zone()):%-d %b %Y, %H:%M %Z}"), said
    )


def due(at: datetime | None) -> Markup:
    """`due in 5 h` or `1 d overdue`, in a colour that says the same."""
    if at is None:
        return Markup("–")
    left = at - now()
    colour = "danger" if left <= timedelta() else "warning" if left < SOON else "secondary"
    words = f"{span(-left)} overdue" if left <= timedelta() else f"due in {span(left)}"
    return Markup('<time class="badge text-bg-{}" datetime="{}" title="{}">{}</time>').format(
        colour, at.isoformat(), f"{at.astimezone(zone()):%-d %b %Y, %H:%M %Z}", words
    )


def span(length: timedelta) -> str:
    """`5 min`, `3 h`, `12 d`: as exact as anybody needs."""
    if length < HOUR:
        return f"{length // MINUTE} min"
    return f"{length // HOUR} h" if length < 2 * DAY else f"{length // DAY} d"


def details_title(came_as: str) -> str:
    """Return what the table of a message's details is called."""
    return next(
        (words for known, words in DETAILS.items() if known == came_as), "What else it says"
    )


def csv_file(name: str, lines: Iterable[Sequence[str]]) -> Response:
    """The lines as a file for a spreadsheet."""
    answer = Response(b"".join(csv_bytes(lines)), mimetype="text/csv")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


def size(count: int) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KB", "MB"):
        if count < 1000 or unit == "MB":  # noqa: PLR2004  # as file managers count
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count = count / 1000  # type: ignore[assignment]
    raise AssertionError
