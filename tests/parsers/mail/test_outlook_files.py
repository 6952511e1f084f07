"""Outlook's .msg files are read as the mails they are."""

import random
import time
from datetime import UTC, datetime

import pytest

from parsers.item import InboundItem
from parsers.mail import message, outlook_file
from tests.parsers.mail.outlook_files import Storage, build_file, build_message

SUBJECT, TEXT, HEADERS, HTML = 0x0037, 0x1000, 0x007D, 0x1013
SENDER_NAME, SENDER_SMTP, SENDER_ADDRESS = 0x0C1A, 0x5D01, 0x0C1F
SENT_AT = datetime(2026, 11, 30, 14, 5, tzinfo=UTC)
PDF = b"%PDF-1.4\n" + bytes(range(256)) * 40
PROPERTIES = {
    SUBJECT: "Claim 4711 – denied",
    TEXT: "Please look at claim 4711.\r\nGrüße",
    SENDER_NAME: 'Ann "Annie" Lee',
    SENDER_SMTP: "ann@clinic.example",
}


def read(storage: Storage) -> InboundItem:
    [item] = message.parse(build_file(storage))
    return item


@pytest.mark.parametrize("codepage", [0, 1252])
def test_a_message_that_was_saved_is_read(codepage: int) -> None:
    item = read(
        build_message(
            PROPERTIES,
            codepage=codepage,
            sent_at=SENT_AT,
            recipients=[
                (1, "Support", "support@pmb.example"),
                (2, "Müller, Jo", "jo@clinic.example"),
                (3, "Hidden", "hidden@clinic.example"),
            ],
            files=[("eob.pdf", "application/pdf", PDF), ("note.txt", "", b"short")],
        )
    )
    assert (item.subject, item.text) == (PROPERTIES[SUBJECT], "Please look at claim 4711.\nGrüße")
    assert (item.sender.name, item.sender.email) == ("Ann Annie Lee", "ann@clinic.example")
    assert item.sent_at == SENT_AT
    assert [(one.name, one.email) for one in (*item.to, *item.cc)] == [
        ("Support", "support@pmb.example"),
        ("Müller, Jo", "jo@clinic.example"),
    ]
    assert [(file.name, file.mime, file.content) for file in item.attachments] == [
        ("eob.pdf", "application/pdf", PDF),
        ("note.txt", "application/octet-stream", b"short"),
    ]
    assert {file.span for file in item.attachments} == {None}  # of the mail we made of it


def test_its_own_header_is_the_better_source() -> None:
    head = (
        "Received: from mx.example\r\nFrom: Ann <ann@practice.example>\r\nMessage-ID: <m1@x>\r\n"
        "Subject: Claim\r\n 4711\r\nContent-Type: multipart/mixed; boundary=old\r\n"
        "Content-Transfer-Encoding: base64\r\nMIME-Version: 1.0\r\n\r\n"
    )
    item = read(build_message({**PROPERTIES, HEADERS: head}, sent_at=SENT_AT))
    assert (item.sender.email, item.message_id) == ("ann@practice.example", "<m1@x>")
    assert (item.subject, item.sent_at) == ("Claim 4711", SENT_AT)
    assert item.text == "Please look at claim 4711.\nGrüße"


@pytest.mark.parametrize("text", ["", "Please look."])
def test_html_is_read_in_its_codepage(text: str) -> None:
    properties = {SUBJECT: "x", TEXT: text} if text else {SUBJECT: "x"}
    item = read(build_message(properties, html="<p>Grüße</p>".encode("cp1252"), codepage=1252))
    assert "Grüße" in item.html
    assert (text or "Grüße") in item.text


def test_a_message_within_it_is_a_message_with_its_own_files() -> None:
    inner = build_message(
        {SUBJECT: "inner", TEXT: "Inner words"},
        files=[("in.pdf", "application/pdf", PDF)],
        sent_at=SENT_AT,
        head=24,
    )
    item = read(build_message({SUBJECT: "outer", TEXT: "see it"}, files=[("inner", "", inner)]))
    [attached] = item.attachments
    assert (attached.name, attached.mime) == ("inner.eml", "message/rfc822")
    [item] = message.parse(attached.content)
    assert (item.text, item.sent_at) == ("Inner words", SENT_AT)
    assert [file.content for file in item.attachments] == [PDF]


def test_senders_that_only_exchange_knows_have_a_name_alone() -> None:
    properties = {SUBJECT: "x", TEXT: "y", SENDER_NAME: "Ann", SENDER_ADDRESS: "/o=Org/cn=ann"}
    item = read(build_message(properties))
    assert (item.sender.name, item.sender.email) == ("Ann", "")


def test_nothing_in_a_property_begins_another_field() -> None:
    evil = "x\r\nFrom: boss@desk.example\r\n\r\nother text"
    item = read(build_message({**PROPERTIES, SUBJECT: evil, SENDER_NAME: evil}))
    assert (item.sender.email, item.text[:6]) == ("ann@clinic.example", "Please")
    assert "other text" in item.subject


def test_other_compound_files_are_no_messages() -> None:
    raw = build_file({"Workbook": b"x" * 5000, "\x05SummaryInformation": b"y"})
    assert outlook_file.is_outlook_file(raw)
    assert outlook_file.to_mail(raw) is None
    assert outlook_file.to_mail(b"From: a@b\r\n\r\nx") is None


def test_messages_in_messages_are_bounded() -> None:
    storage = build_message({SUBJECT: "0", TEXT: "innermost"}, head=24)
    for depth in range(1, 12):
        head = 32 if depth == 11 else 24
        storage = build_message(
            {SUBJECT: str(depth), TEXT: "x"}, files=[("m", "", storage)], head=head
        )
    assert read(storage).subject == "11"


def test_damage_ends_in_an_item() -> None:
    raw = build_file(build_message(PROPERTIES, files=[("a.pdf", "application/pdf", PDF)]))
    chance = random.Random(7)  # noqa: S311  # no secret
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(chance.randrange(1, 20)):
            damaged[chance.randrange(8, len(raw))] = chance.randrange(256)
        [item] = message.parse(bytes(damaged))
        assert isinstance(item, InboundItem)
    for end in range(8, len(raw), 97):
        assert len(message.parse(raw[:end])) == 1


def test_streams_that_share_their_place_are_not_read_again_and_again() -> None:
    shared = bytes(1_000_000)
    files = [(f"{n}.bin", "application/octet-stream", shared) for n in range(100)]
    mail = outlook_file.to_mail(build_file(build_message(PROPERTIES, files=files)))
    assert mail is not None
    assert len(mail) < 4 * len(shared)


def test_a_chain_of_entries_without_end_is_no_message() -> None:
    entries = {f"__x{n:06d}": b"" for n in range(3000)}
    raw = build_file({**build_message(PROPERTIES), **entries})
    assert outlook_file.to_mail(raw) is None
    assert len(message.parse(raw)) == 1


def test_many_messages_in_messages_take_little_time() -> None:
    storage = build_message({SUBJECT: "0", TEXT: "innermost"}, head=24)
    for head in (24, 24, 32):
        storage = build_message(
            {SUBJECT: "x"}, files=[(f"{n}", "", storage) for n in range(15)], head=head
        )
    before = time.process_time()
    assert read(storage).subject == "x"
    assert time.process_time() - before < 20  # it took minutes


@pytest.mark.parametrize("media_type", ["multipart/mixed", "Multipart/Alternative"])
def test_a_file_with_the_type_of_a_multipart_stays_a_file(media_type: str) -> None:
    item = read(build_message(PROPERTIES, files=[("a.bin", media_type, b"bytes of a file")]))
    assert [file.content for file in item.attachments] == [b"bytes of a file"]
    assert "bytes of a file" not in item.text
