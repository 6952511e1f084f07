"""The words of a mail can be seen, whatever of its look is dropped."""

import re

import pytest

from parsers.text.html import sanitise

DARK, LIGHT = "#212629", "#ffffff"


def get_style(html: str, tag: str = "p") -> dict[str, str]:
    """Return the style of the only element of a kind in sanitised HTML."""
    [style] = re.findall(rf'<{tag}(?: [^>]*?style="([^"]*)"[^>]*| [^>]*|)>', sanitise(html))
    pairs = (part.partition(":") for part in style.split(";") if part)
    return {name.strip(): value.strip() for name, _, value in pairs}


@pytest.mark.parametrize(
    "html",
    [
        '<p style="color:#fff">kept</p>',
        '<p style="color: White !important">kept</p>',
        '<p style="color:rgb(255, 255, 250)">kept</p>',
        '<p style="color:hsl(0, 0%, 99%)">kept</p>',
        '<p style="color:rgba(0, 0, 0, 0.02)">kept</p>',
        '<p style="color:#fff;background:url(night.png)">kept</p>',
        '<p class="night" style="color:#fff">kept</p><style>.night{background:#000}</style>',
        '<form style="background:#000"><p style="color:#fff">kept</p></form>',
        '<body style="background:url(night.png);color:#fff"><p style="color:#fff">kept</p>',
        '<p style="background:black; color:#eee; background:white">kept</p>',
    ],
)
def test_words_without_contrast_become_dark(html: str) -> None:
    assert get_style(html)["color"] == DARK


@pytest.mark.parametrize(
    "html",
    [
        '<p style="background:#036">kept</p>',
        '<p style="background:#036 url(x.png) no-repeat">kept</p>',
        '<p style="background-color:navy;color:windowtext">kept</p>',
        '<p bgcolor="000033">kept</p>',
        '<p style="background:black;color:#222">kept</p>',
    ],
)
def test_words_on_a_dark_background_become_light(html: str) -> None:
    assert get_style(html)["color"] == LIGHT
    assert get_style(html)["background-color"] != "none"


@pytest.mark.parametrize(
    ("html", "color"),
    [
        ('<p style="color:#999">kept</p>', "#999999"),
        ('<p style="color:red">kept</p>', "#ff0000"),
        ('<body bgcolor=black text=white><p style="color:#fff">kept</p>', "#ffffff"),
        ('<body style="background:#1f1f1f"><p style="color:#eee">kept</p>', "#eeeeee"),
        ('<table><tr bgcolor="#003366"><td><p style="color:#fff">kept', "#ffffff"),
        ('<div style="background:rgba(0,0,0,.9)"><p style="color:#fff">kept</p>', "#ffffff"),
    ],
)
def test_colors_that_can_be_seen_stay(html: str, color: str) -> None:
    assert get_style(html)["color"] == color


def test_the_background_of_the_body_survives_with_its_color() -> None:
    safe = sanitise('<body style="background:#1f1f1f;color:#fff">kept</body>')
    assert safe == '<div style="background-color:#1f1f1f;color:#ffffff">kept</div>'


def test_a_link_without_a_color_is_seen_on_a_dark_page() -> None:
    page = '<body style="background:#000"><a href="https://clinic.example">kept</a>'
    assert get_style(page, "a")["color"] == LIGHT


def test_a_font_of_the_old_kind_is_seen() -> None:
    assert get_style("<font color=ffffff>kept</font>", "font")["color"] == DARK


def test_other_styles_stay() -> None:
    assert (
        sanitise('<p style="font-weight:bold">kept</p>') == '<p style="font-weight:bold">kept</p>'
    )


def test_a_style_that_is_endless_is_dropped() -> None:
    assert sanitise(f'<p style="color:#{"f" * 10_000}">kept</p>') == "<p>kept</p>"


@pytest.mark.parametrize(
    "style",
    [
        *(f"{name}:{bracket * 1500}" for name in ("width", "color") for bracket in "([{"),
        f"width:{'calc(' * 700}",
        f"color:{'rgb(' * 900}",
        "color:currentcolor;background:inherit",
        "color:rgb(1e999, nan, -5);background:rgba(1, 2, 3, 1e400)",
        "color:lab(50% 40 59.5);background:oklch(40% 0.268 34)",
        "color:color(display-p3 1 0 0)",
        "color:hsl(1e400 50% 50%)",
        "color",
        ":;:;!important",
    ],
)
def test_a_style_that_means_no_color_we_know_is_left_out(style: str) -> None:
    assert "kept" in sanitise(f'<p style="{style}">kept</p>')


@pytest.mark.parametrize("value", ["currentColor", "#", "inherit", "", "12 34"])
def test_old_attributes_that_are_no_colors_are_left_out(value: str) -> None:
    safe = sanitise(f'<table bgcolor="{value}"><tr><td><font color="{value}">kept</font>')
    assert "kept" in safe
    assert "#" not in re.sub(r'(?:bg)?color="[^"]*"', "", safe)


def test_words_that_are_transparent_are_seen() -> None:
    assert get_style('<font color="transparent">kept</font>', "font")["color"] == DARK
