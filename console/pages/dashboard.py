"""The dashboard: each figure as a chart, a table and a CSV file."""

from flask import Blueprint, Response, abort, render_template, request

from console.pages import charts
from console.web.filters import csv_file
from console.web.request import db, needs, now, zone
from workflow.permissions import Right
from workflow.tickets import statistics
from workflow.tickets.statistics import FIGURES, Figure

pages = Blueprint("dashboard", __name__)
DAYS = (7, 30, 90, 365)
USUAL = 30


@pages.get("/dashboard")
@needs(Right.READ)
def dashboard() -> str:
    """Every figure of the last so many days."""
    found = [_figure(name) for name in FIGURES]
    oldest = statistics.oldest(db())
    return render_template(
        "dashboard.html", figures=found, oldest=oldest, days=_days(), choices=DAYS
    )


@pages.get("/dashboard/<name>.svg")
@needs(Right.READ)
def chart(name: str) -> Response:
    """A figure drawn."""
    answer = Response(charts.svg(_figure(name)), mimetype="image/svg+xml")
    # Opened by itself it may do nothing but look as it does; in a page it is an image.
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    return answer


@pages.get("/dashboard/<name>.csv")
@needs(Right.READ)
def table(name: str) -> Response:
    """A figure's numbers, for a spreadsheet."""
    figure = _figure(name)
    lines = [
        list(figure.heads),
        *(["" if v is None else str(v) for v in row] for row in figure.rows),
    ]
    return csv_file(f"{name}-{_days()}-days", lines)


def _days() -> int:
    said = request.args.get("days", str(USUAL))
    return int(said) if said in {str(d) for d in DAYS} else USUAL


def _figure(name: str) -> Figure:
    if name not in FIGURES:
        abort(404)
    return FIGURES[name](db(), statistics.window(now(), zone(), _days()))
