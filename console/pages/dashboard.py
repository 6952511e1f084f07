"""The dashboard: each figure as a chart, a table and a CSV file."""

from flask import Blueprint, Response, abort, render_template, request

from console.pages import charts
from console.web.filters import build_csv_response
from console.web.request import get_session, get_time_zone, now, requires
from workflow.permissions import Right
from workflow.tickets import statistics
from workflow.tickets.statistics import FIGURES, Figure

pages = Blueprint("dashboard", __name__)
PERIODS = (7, 30, 90, 365)
DEFAULT_PERIOD = 30


@pages.get("/dashboard")
@requires(Right.READ)
def dashboard() -> str:
    """Every figure of the last so many days."""
    found = [_figure(name) for name in FIGURES]
    oldest = statistics.list_oldest(get_session())
    return render_template(
        "dashboard.html", figures=found, oldest=oldest, days=_days(), choices=PERIODS
    )


@pages.get("/dashboard/<name>.svg")
@requires(Right.READ)
def chart(name: str) -> Response:
    """A figure drawn."""
    answer = Response(charts.render_chart(_figure(name)), mimetype="image/svg+xml")
    # Opened by itself it may do nothing but look as it does; in a page it is an image.
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    return answer


@pages.get("/dashboard/<name>.csv")
@requires(Right.READ)
def table(name: str) -> Response:
    """A figure's numbers, for a spreadsheet."""
    figure = _figure(name)
    lines = [
        list(figure.heads),
        *(["" if v is None else str(v) for v in row] for row in figure.rows),
    ]
    return build_csv_response(f"{name}-{_days()}-days", lines)


def _days() -> int:
    said = request.args.get("days", str(DEFAULT_PERIOD))
    return int(said) if said in {str(d) for d in PERIODS} else DEFAULT_PERIOD


def _figure(name: str) -> Figure:
    if name not in FIGURES:
        abort(404)
    return FIGURES[name](get_session(), statistics.make_window(now(), get_time_zone(), _days()))
