"""Words of HTML that a browser would not show: in damaged tags, media and attributes."""

import pytest

from parsers.mail import message
from parsers.text import html as text_html

WORDS = "Account 52 was refused"


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize(
    "tag", ["<a href={q}https://x.example>", "<p id=a class={q}b>", "<font color={q}red >"]
)
@pytest.mark.parametrize("behind", ["", "<p id={q}c{q}>More</p>"])
def test_words_behind_a_quote_that_is_never_closed_are_shown(
    quote: str, tag: str, behind: str
) -> None:
    html = f"<p>Good day</p>{tag}see</a> <p>{WORDS}</p>{behind}".replace("{q}", quote)
    raw = f"From: kim@clinic.example\nSubject: x\nContent-Type: text/html\n\n{html}\n"
    [item] = message.parse(raw.encode())
    assert WORDS in item.text
    assert WORDS in item.reply_text
    assert item.caveats == ("HTML damaged: the words between its tags are shown",)


@pytest.mark.parametrize(
    "tag", ["video", "audio", "object", "applet", "noscript", "canvas", "math", "svg"]
)
def test_words_in_what_cannot_be_played_are_shown(tag: str) -> None:
    assert WORDS in text_html.html_to_text(f"<p>Good day</p><{tag}>{WORDS}</{tag}>")


@pytest.mark.parametrize(
    "html",
    [f'<img alt="{WORDS}">', f'<input value="{WORDS}">', f"<title>{WORDS}</title><body></body>"],
)
def test_attributes_of_a_page_without_text_are_shown(html: str) -> None:
    assert text_html.html_to_text(html) == WORDS
    assert text_html.html_to_text(f"<p>Good day</p>{html.replace('title', 'style')}") == "Good day"


def test_whole_quotes_hide_nothing() -> None:
    html = f"<p title='a > b' class=\"c\">{WORDS}</p><p title=Kim's>today</p>"
    assert text_html.html_to_text(html) == f"{WORDS}\n\ntoday"
    assert not text_html.has_hidden_words(html)
