"""Figures drawn as SVG, on the server, by pygal."""

import sys
from xml.etree import ElementTree as ET  # it writes what we drew ourselves

import pygal
from pygal.style import Style

from workflow.tickets.statistics import Figure

# pygal leaves a finder for its plugins behind, of a kind that importlib no longer knows how to ask.
# We have no plugins.
sys.meta_path[:] = [
    finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)
]

# Okabe and Ito's colours: told apart by those who see colours otherwise; on white and on the dark
# page alike.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_MOST_LABELS, _FEW = 12, 5


def render_chart(figure: Figure) -> bytes:
    """The chart of a figure: bars, stacked where its columns add up.

    The table beside it says the same in numbers.
    """
    kind = pygal.StackedBar if figure.stacked else pygal.Bar
    chart = kind(
        style=_style(),
        width=720,
        height=320,
        js=(),
        show_legend=len(_series(figure)) > 1,
        legend_at_bottom=True,
        x_label_rotation=30 if len(figure.rows) > _FEW else 0,
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
    labels = [str(row[0]) for row in figure.rows]
    chart.x_labels = labels
    chart.x_labels_major_every = max(1, len(labels) // _MOST_LABELS)
    chart.show_minor_x_labels = len(labels) <= _MOST_LABELS
    for column in _series(figure):
        chart.add(figure.heads[column], [row[column] for row in figure.rows])
    root = chart.render_tree()
    for parent in list(root.iter()):
        for script in [
            child for child in parent if child.tag == "script"
        ]:  # its tooltips: a browser refuses them here
            parent.remove(script)
    return bytes(ET.tostring(root, encoding="utf-8"))


def _series(figure: Figure) -> list[int]:
    """The columns that are drawn: counts beside a mean or a time are for the table."""
    of_other_unit = {"answers", "tickets"}
    return [
        n
        for n, head in enumerate(figure.heads)
        if n and (figure.stacked or head not in of_other_unit)
    ]


def _style() -> Style:
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
