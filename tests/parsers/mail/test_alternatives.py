"""Forms of one text: each word is shown once, and none is dropped for another form."""

import pytest

from parsers.item import InboundItem
from parsers.mail import message
from parsers.text import html as text_html
from parsers.text import words
from parsers.text.html import lay_out


def read(*forms: tuple[str, str]) -> InboundItem:
    parts = "".join(f"--b\nContent-Type: {mime}; charset=utf-8\n\n{text}\n" for mime, text in forms)
    head = (
        "From: Jane Doe <jane@clinic.example>\nSubject: x\nContent-Type: multipart/alternative;"
        " boundary=b\n\n"
    )
    [item] = message.parse(f"{head}{parts}--b--\n".encode())
    return item


def test_a_form_of_the_same_words_is_left_out() -> None:
    text = "Please call me back about claim 12."
    html = "<p>Please <b>call me</b> back</p><p>about claim&nbsp;12.</p>"
    enriched = "<bold>Please</bold> call me back about claim 12."
    item = read(("text/plain", text), ("text/enriched", enriched), ("text/html", html))
    assert (item.text, item.reply_text, item.plain, item.html) == (text, text, text, html)


def test_a_form_of_other_words_is_shown_too() -> None:
    item = read(
        ("text/plain", "See below."), ("text/enriched", "<bold>Claim 12</bold> was denied.")
    )
    assert item.text == "See below.\n\nClaim 12 was denied."


def test_lines_that_only_the_html_has_are_folded_below() -> None:
    plain = "Please call me back about claim 12, it was denied."
    html = f"<p>{plain}</p><p>Our new fax: 555 0199</p>"
    item = read(("text/plain", plain), ("text/html", html))
    assert item.text == f"{plain}\n\nOur new fax: 555 0199"
    assert item.reply_text == plain


def test_a_style_sheet_alone_has_no_page_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_html, "lay_out", lambda _: pytest.fail("it was laid out"))
    plain = "Please call me back about claim 12."
    html = f"<html><head><style>p {{margin: 0}}</style></head><!-- Outlook --><p>{plain}</p></html>"
    assert read(("text/plain", plain), ("text/html", html)).text == plain


@pytest.mark.parametrize("element", ["textarea", "xmp", "title><p", "svg"])
@pytest.mark.parametrize(
    "mark", ["<style>{}</style>", "<!--{}-->", '<img alt="<style>">{}</style>']
)
def test_words_that_only_look_hidden_are_shown(element: str, mark: str) -> None:
    fax = mark.format("Our new fax: 555 0199")
    plain = "Please call me back about claim 12, it was denied."
    html = f"<p>{plain}</p><{element}>{fax}</{element}>"
    shown = lay_out(html)
    item = read(("text/plain", plain), ("text/html", html))
    assert words.split_words(shown) <= words.split_words(item.text)


def test_html_with_another_text_is_shown() -> None:
    item = read(
        ("text/plain", "Bitte die andere Ansicht nutzen."),
        ("text/html", "<p>Claim 12 was denied.</p>"),
    )
    assert "Claim 12 was denied." in item.reply_text
    assert "Bitte die andere Ansicht nutzen." in item.reply_text


@pytest.mark.parametrize(
    ("plain", "shown"),
    [
        ("Your mail program does not support HTML.", "Claim 12 was denied."),
        (
            "Your mail program does not support HTML. Fax us at 555 0199.",
            "Claim 12 was denied.\n\nYour mail program does not support HTML. Fax us at 555 0199.",
        ),
    ],
)
def test_a_form_that_points_to_the_html_is_dropped_unless_it_has_more_words(
    plain: str, shown: str
) -> None:
    assert read(("text/plain", plain), ("text/html", "<p>Claim 12 was denied.</p>")).text == shown


def test_a_text_too_long_to_show_is_attached_whole() -> None:
    long = "claim " * 200_000 + "last"
    [item] = message.parse(f"From: jane@clinic.example\nSubject: x\n\n{long}\n".encode())
    assert len(item.text) == 1_000_000
    assert [a.name for a in item.attachments] == ["whole-text.txt"]
    assert item.attachments[0].content.decode().endswith(" last\n") or item.attachments[
        0
    ].content.endswith(b" last")
    assert any("too long" in caveat for caveat in item.caveats)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zahlung für März", "zahlung\nFÜR *märz*!"),
        ("请问索赔何时到账", "请问索赔\n何时到账"),
        ("don\u2019t", "don't"),
        ("re\u00adsubmit", "resubmit"),
        ("\ufb01le", "file"),
    ],
)
def test_words_are_the_same_whatever_their_layout(one: str, other: str) -> None:
    assert words.split_words(one) == words.split_words(other)
