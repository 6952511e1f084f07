"""Pages of the dashboard: each figure as a chart, a table and a CSV file."""

import sys
from xml.etree import ElementTree as ET  # only writes what we drew ourselves

import pygal
from flask import Blueprint, Response, abort, render_template, request
from pygal.style import Style

from console.web.filters import build_csv_response
from console.web.request import get_session, get_time_zone, now, requires
from workflow.permissions import Right
from workflow.tickets import statistics
from workflow.tickets.statistics import FIGURES, Figure

# On import pygal adds a finder for its plugins to sys.meta_path. It has no find_spec, which Python
# 3.12 insists on, and we have no plugins.
sys.meta_path[:] = [
    finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)
]

PERIODS = (7, 30, 90, 365)  # days
DEFAULT_PERIOD = 30
# Okabe and Ito's colours, which colour-blind people can tell apart; they also have enough contrast
# on the dark page.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
MAX_LABELS = 12  # below the chart; more would overlap
MAX_LEVEL_LABELS = 5  # more are turned by 30 degrees
TABLE_ONLY = {"answers", "tickets"}  # columns of counts beside a mean or a time

pages = Blueprint("dashboard", __name__)


@pages.get("/dashboard")
@requires(Right.READ)
def show_dashboard() -> str:
    """Show every figure of the chosen period."""
    return render_template(
        "dashboard.html",
        figures=[_compute_figure(name) for name in FIGURES],
        oldest=statistics.list_oldest(get_session()),
        days=_get_period(),
        periods=PERIODS,
    )


@pages.get("/dashboard/<name>.svg")
@requires(Right.READ)
def show_chart(name: str) -> Response:
    """Send a figure as an SVG image."""
    response = Response(render_chart(_compute_figure(name)), mimetype="image/svg+xml")
    # Opened as a page of its own, the SVG may use its styles and nothing else.
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    )
    return response


@pages.get("/dashboard/<name>.csv")
@requires(Right.READ)
def download_table(name: str) -> Response:
    """Send a figure's table as CSV; a missing value is an empty cell."""
    figure = _compute_figure(name)
    rows = [["" if value is None else str(value) for value in row] for row in figure.rows]
    return build_csv_response(f"{name}-{_get_period()}-days", [list(figure.heads), *rows])


def render_chart(figure: Figure) -> bytes:
    """Return the chart of a figure as SVG: bars, stacked where the columns add up."""
    chart_class = pygal.StackedBar if figure.is_stacked else pygal.Bar
    columns = _select_columns(figure)
    labels = [str(row[0]) for row in figure.rows]
    chart = chart_class(
        style=_build_style(),
        width=720,
        height=320,
        js=(),
        show_legend=len(columns) > 1,
        legend_at_bottom=True,
        x_label_rotation=30 if len(labels) > MAX_LEVEL_LABELS else 0,
        y_title=figure.unit,
        min_scale=3,
        max_scale=8,
        no_data_text="nothing yet",
        disable_xml_declaration=False,
        include_x_axis=True,
        pretty_print=False,
        truncate_legend=-1,
        truncate_label=24,
        order_min=0,
    )
    chart.x_labels = labels
    chart.x_labels_major_every = max(1, len(labels) // MAX_LABELS)
    chart.show_minor_x_labels = len(labels) <= MAX_LABELS
    for column in columns:
        chart.add(figure.heads[column], [row[column] for row in figure.rows])
    root = chart.render_tree()
    _remove_scripts(root)
    return bytes(ET.tostring(root, encoding="utf-8"))


def _remove_scripts(root: ET.Element) -> None:
    """Remove the scripts of pygal's tooltips: our content policy forbids them anyway."""
    for parent in list(root.iter()):
        for script in [child for child in parent if child.tag == "script"]:
            parent.remove(script)


def _select_columns(figure: Figure) -> list[int]:
    """Return the indexes of the columns that are drawn; the first column has the labels."""
    return [
        index
        for index, head in enumerate(figure.heads)
        if index and (figure.is_stacked or head not in TABLE_ONLY)
    ]


def _build_style() -> Style:
    return Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#212529",
        foreground_strong="#212529",
        foreground_subtle="#adb5bd",
        colors=COLORS,
        font_family="sans-serif",
        label_font_size=12,
        major_label_font_size=12,
        legend_font_size=13,
        title_font_size=14,
        value_font_size=12,
        transition="0s",
        opacity="1",
        opacity_hover="1",
    )


def _get_period() -> int:
    """Return the number of days the address asks for, or the default for any other value."""
    text = request.args.get("days", "")
    return int(text) if text in {str(days) for days in PERIODS} else DEFAULT_PERIOD


def _compute_figure(name: str) -> Figure:
    if name not in FIGURES:
        abort(404)
    window = statistics.make_window(now(), get_time_zone(), _get_period())
    return FIGURES[name](get_session(), window)
