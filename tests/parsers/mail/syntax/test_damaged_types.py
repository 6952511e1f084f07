"""Text in parts whose Content-Type is damaged or unknown: it is shown, and files stay files."""

import pytest

from parsers.item import InboundItem
from parsers.mail import message

WORDS = "The remittance for March is missing."
# Ways to write a type wrong. None of them is a type of RFC 2045, or none that anybody registered.
DAMAGED = [
    "text\\plain; charset=utf-8",
    "text/plain, charset=utf-8",
    "text/plain,charset=utf-8",
    "text/;charset=utf-8",
    "/plain",
    "charset=utf-8",
    'charset="us-ascii"; format=fixed',
    "=?us-ascii?Q?text/plain?=",
    "=?utf-8?b?dGV4dC9wbGFpbg==?=; charset",
    "text plain",
    "plain",
    "text//plain",
    "(text) text/plain",
    "text/x-note-of-a-phone",
    "text/unknown",
]


def read(header: str, body: str) -> InboundItem:
    raw = f"From: kim@clinic.example\nSubject: Remittance\nMIME-Version: 1.0\n{header}\n\n{body}\n"
    [item] = message.parse(raw.encode())
    return item


def read_part(header: str, body: str, *more: str) -> InboundItem:
    parts = "".join(f"--cut\n{part}\n" for part in (*more, f"{header}\n\n{body}"))
    return read("Content-Type: multipart/mixed; boundary=cut", f"{parts}--cut--")


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
@pytest.mark.parametrize("value", DAMAGED)
def test_text_of_a_damaged_type_is_shown(value: str, name: str) -> None:
    for item in (read(f"{name}: {value}", WORDS), read_part(f"{name}: {value}", WORDS)):
        assert (item.text, item.reply_text, item.attachments) == (WORDS, WORDS, ())
        assert "no text" not in item.caveats


@pytest.mark.parametrize(
    "value", ["text/html5; charset=utf-8", "text\\html", "text/html, charset=utf-8", "text/p"]
)
def test_markup_of_a_damaged_type_is_laid_out(value: str) -> None:
    assert read(f"Content-Type: {value}", f"<html><p>{WORDS}</p></html>").text == WORDS


def test_the_charset_of_a_damaged_type_is_used() -> None:
    raw = (
        b"From: kim@clinic.example\nSubject: x\nContent-Type:"
        b" charset=iso-8859-5\n\n\xbf\xe0\xd8\xd2\xd5\xe2"
    )
    assert message.parse(raw)[0].text == "Привет"


@pytest.mark.parametrize("value", ["application/octet-stream", "txt/plain", "note/x"])
def test_bytes_that_are_text_are_shown_where_nothing_else_is(value: str) -> None:
    alone = read_part(f"Content-Type: {value}", WORDS)
    assert (alone.text, len(alone.attachments)) == (WORDS, 1)
    beside = read_part(f"Content-Type: {value}", WORDS, "Content-Type: text/plain\n\nSee below.")
    assert (beside.text, len(beside.attachments)) == ("See below.", 1)


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: text\\plain; name=list.txt",
        "Content-Type: charset=utf-8\nContent-Disposition: attachment",
        "Content-Type: text/plain,\nContent-Disposition: inline; filename=list.txt",
        "Content-Type: text/csv",
        "Content-Type: text/calendar",
        "Content-Type: application/json",
    ],
)
def test_a_file_stays_a_file(header: str) -> None:
    item = read_part(header, "a,b", "Content-Type: text/plain\n\nSee the file.")
    assert (item.text, len(item.attachments)) == ("See the file.", 1)


def test_bytes_that_are_no_text_are_not_shown() -> None:
    item = read_part("Content-Type: text\\plain", "\x00\x01\x02PNG")
    assert (item.text, [file.content for file in item.attachments]) == ("", [b"\x00\x01\x02PNG"])
