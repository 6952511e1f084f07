"""HTML that is too complex to lay out: its words are shown in bounded time, with a caveat."""

import time

import pytest

from parsers.mail import message
from parsers.text import html as text_html
from parsers.text import html_bounds

SIZE = 1_000_000
HEAD = b"From: jane@clinic.example\nSubject: x\nContent-Type: text/html\n\n"


def repeat_piece(piece: str) -> str:
    return piece * (SIZE // len(piece))


def build_attributes(count: int) -> str:
    return " ".join(f"a{n}=b" for n in range(count))


FEW_FONTS = "".join(f"<font size={n}>" for n in range(80))
FONTS = "".join(f"<font size={n}>" for n in range(300))
COSTLY = {
    "depth": "<div>" * 40_000 + "claim" + "</div>" * 40_000,
    "depth in capitals": repeat_piece("<DIV>") + "claim",
    "depth hidden by ends of nothing": repeat_piece("<div></x>") + "claim",
    "depth hidden by ends out of reach": repeat_piece("<div><table><td></div>") + "claim",
    "lists in lists": repeat_piece("<ul><li>") + "claim",
    "quotes in quotes": repeat_piece("<blockquote>") + "claim",
    "tables in tables": repeat_piece("<table><tr><td>") + "claim",
    "cells in a drawing": "<svg>" + repeat_piece("<td>") + "</svg>claim",
    "attributes": f"<p {build_attributes(80_000)}>claim",
    "attributes without values": f"<p {'ab ' * 300_000}>claim",
    "attributes of many bodies": "".join(f"<body a{n}=1>" for n in range(60_000)) + "claim",
    "attributes of many elements": f"<p {build_attributes(100)}>x" * 1_000 + "claim",
    "formats that each paragraph repeats": f"<p>{FONTS}</p>" + "<p>x</p>" * 20_000 + "claim",
    "many elements": repeat_piece("<i>x</i>") + "claim",
    "many images": repeat_piece("<img src=x>") + "claim",
    "one long line": repeat_piece("a <b>b</b> ") + "claim",
    "entities": repeat_piece("&amp;") + "claim",
    "comments never closed": repeat_piece("<!--") + "claim",
    "styles never closed": repeat_piece("<style>") + "claim",
    "tags never closed": repeat_piece("<p a='") + "claim",
    "styles whose end is never closed": repeat_piece("<style>x</style") + ">claim",
    "quotes after quotes": repeat_piece("<blockquote type=cite>a</blockquote>") + "claim",
}


@pytest.mark.parametrize("what", COSTLY)
def test_costly_html_is_text_in_bounded_time(what: str) -> None:
    started = time.process_time()
    [item] = message.parse(HEAD + COSTLY[what].encode())
    assert time.process_time() - started < 4
    words = item.text + "".join(a.content.decode() for a in item.attachments)
    assert "claim" in words
    assert "no text" not in item.caveats


@pytest.mark.parametrize(
    "what", ["depth", "attributes", "formats that each paragraph repeats", "lists in lists"]
)
def test_costly_html_is_shown_with_a_caveat_and_made_safe_in_bounded_time(what: str) -> None:
    [item] = message.parse(HEAD + COSTLY[what].encode())
    assert any("too complex" in caveat for caveat in item.caveats)
    started = time.process_time()
    assert "claim" in text_html.sanitise(COSTLY[what])
    assert time.process_time() - started < 4


@pytest.mark.parametrize(
    "html",
    [
        "<div>" * 400 + "claim" + "</div>" * 400,
        "<p>claim" * 20_000,
        "<table>" + "<tr><td>1<td><b>claim</b>" * 10_000 + "</table>",
        f'<img src="data:image/png;base64,{"A" * 500_000}">claim',
        f'<p style="{"color: red; " * 500}">claim',
        "<p><b>claim</b> <i>x</i></p>" * 10_000,
    ],
)
def test_what_people_send_is_laid_out(html: str) -> None:
    assert not text_html.is_beyond_bounds(html)
    assert "claim" in text_html.html_to_text(html)


def test_text_between_tags_keeps_lines_and_words_and_drops_what_is_not_shown() -> None:
    html = (
        "<style>p {}</style><!-- no --><p>Claim"
        " <b>12</b>34&nbsp;is\nopen.</p><script>x()</script><tr><td>a<td>b</tr>"
    )
    assert html_bounds.extract_text(html) == "Claim 1234\xa0is open.\na b"


@pytest.mark.parametrize(
    "hides", ["<!-- ", "<style>", "<title>", "<script>", "<template>", "<svg>", "<xmp>", "<object>"]
)
def test_what_an_element_never_closed_would_swallow_is_shown(hides: str) -> None:
    shown = text_html.html_to_text(f"<p>The claim</p>{hides}<p>was denied.</p>")
    assert "The claim" in shown
    assert "was denied." in shown


def test_what_a_closed_element_hides_stays_hidden() -> None:
    assert (
        text_html.html_to_text(
            "<p>The claim</p><!-- x --><style>y</style><svg/><svg><title>z</title></svg>"
        )
        == "The claim"
    )


PAGES = {
    "long": ("<p>x<i>y</i>" * 20_000, 40),
    "small, with formats that each paragraph repeats": (f"<p>{FEW_FONTS}</p>" + "<p>x" * 150, 800),
    "just deep enough": ("<div>" * 900 + "<p>x" * 9_000, 40),
}


@pytest.mark.parametrize("what", PAGES)
def test_many_costly_parts_cost_no_more_than_one(what: str) -> None:
    page, count = PAGES[what]
    parts = "".join(
        f"--b\nContent-Type: text/html\n\n<p>claim {n}</p>{page}\n" for n in range(count)
    )
    started = time.process_time()
    head = "From: jane@clinic.example\nContent-Type: multipart/mixed; boundary=b\n\n"
    [item] = message.parse(f"{head}{parts}".encode())
    assert time.process_time() - started < 5
    files = [item.text, *(a.content.decode() for a in item.attachments)]
    assert all(any(f"claim {n}" in content for content in files) for n in range(count))
