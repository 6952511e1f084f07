"""Messages attached to a mail: files in any case, and its text where it has none of its own."""

import pytest

from parsers.item import InboundItem
from parsers.mail import message
from parsers.mail.message import ATTACHED_TEXT
from tests.parsers.mail.outlook_files import build_file, build_message

INNER = (
    "From: Bob <bob@clinic.example>\r\nTo: jo@clinic.example\r\nSubject: claim %d\r\n"
    "Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\nInner words %d\r\n"
    "--inner\r\nContent-Type: application/pdf; name=eob.pdf\r\n\r\n%%PDF\r\n--inner--\r\n"
)
TYPE = "Content-Type: message/rfc822\r\n"


def read(kind: str, *parts: str) -> InboundItem:
    body = "".join(f"--outer\r\n{part}\r\n" for part in parts)
    head = f"From: ann@clinic.example\r\nSubject: x\r\nContent-Type: {kind}; boundary=outer\r\n\r\n"
    [item] = message.parse(f"{head}{body}--outer--\r\n".encode())
    return item


@pytest.mark.parametrize(
    ("kind", "head"),
    [("multipart/mixed", TYPE), ("multipart/digest", ""), ("multipart/digest", TYPE)],
)
def test_messages_alone_are_the_text(kind: str, head: str) -> None:
    item = read(kind, *(f"{head}\r\n{INNER % (n, n)}" for n in (1, 2)))
    assert item.caveats == (ATTACHED_TEXT,)
    assert [file.name for file in item.attachments] == ["claim 1.eml", "claim 2.eml"]
    assert item.text == item.reply_text
    assert item.text.split("\n")[:7] == [
        "---------- Attached message ----------",
        "From: Bob <bob@clinic.example>",
        "To: jo@clinic.example",
        "Date: Mon, 30 Nov 2026 10:00:00 +0000",
        "Subject: claim 1",
        "Files: eob.pdf",
        "",
    ]
    assert item.text.index("Inner words 1") < item.text.index("Inner words 2")
    [inner] = message.parse(item.attachments[1].content)
    assert [file.name for file in inner.attachments] == ["eob.pdf"]


@pytest.mark.parametrize("kind", ["multipart/mixed", "multipart/digest"])
def test_words_of_its_own_are_the_text(kind: str) -> None:
    own = "Content-Type: text/plain\r\n\r\nSee these"
    item = read(kind, own, f"{TYPE}\r\n{INNER % (1, 1)}")
    assert (item.text, item.caveats) == ("See these", ())
    assert [file.name for file in item.attachments] == ["claim 1.eml"]


def test_a_mail_that_is_a_message_shows_it() -> None:
    [item] = message.parse(f"From: a@x.example\r\n{TYPE}\r\n{INNER % (1, 1)}".encode())
    assert "Inner words 1" in item.text


def test_an_attached_message_of_outlook_is_shown() -> None:
    raw = build_file(build_message({0x0037: "saved", 0x1000: "Outlook's words"}))
    head = b"From: a@x.example\r\nSubject: x\r\nContent-Type: application/octet-stream; name=a.msg"
    [item] = message.parse(head + b"\r\nContent-Transfer-Encoding: binary\r\n\r\n" + raw)
    assert "Outlook's words" in item.text


def test_messages_in_messages_are_bounded() -> None:
    raw = "From: a@x.example\r\n\r\ninnermost"
    for _ in range(12):
        raw = f"From: a@x.example\r\n{TYPE}\r\n{raw}"
    [item] = message.parse(raw.encode())
    assert item.text.count("Attached message") == 3
    assert "innermost" not in item.text


def test_a_bounce_shows_no_message_of_ours() -> None:
    report = "Content-Type: message/delivery-status\r\n\r\nAction: failed\r\n"
    item = read(
        "multipart/report; report-type=delivery-status", report, f"{TYPE}\r\n{INNER % (1, 1)}"
    )
    assert item.is_bounce
    assert "Inner words" not in item.text
