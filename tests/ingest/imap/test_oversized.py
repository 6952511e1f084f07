"""Mails of a mailbox over the size limit: text and the files that fit are on the ticket.

A real Dovecot, behind a proxy where its answers are spoiled.
"""

import base64

import pytest
from sqlalchemy import select

from ingest.intake import Arrival, Intake, Transport
from parsers.item import Format
from tests.support.dovecot import ALL, PASSWORD, Dovecot
from tests.support.imap_proxy import Proxy
from tests.support.imap_reader import (
    FLAG,
    NO,
    Reader,
    list_subjects,
    make_raw_mail,
    make_spoiler,
    until,
)
from workflow.context import AppContext
from workflow.models.core import Delivery, Message, StoredAttachment, Ticket
from workflow.settings.settings import Mailbox


@pytest.fixture
def box(proxy: Proxy, user: str) -> Mailbox:
    return Mailbox(host=ALL, port=proxy.port, tls=False, user=user, password=PASSWORD, since="all")


PDF = b"%PDF" + bytes(range(256)) * 400


def encode_base64(raw: bytes) -> bytes:
    return base64.encodebytes(raw).replace(b"\n", b"\r\n")


def build_multipart_mail(*parts: bytes, kind: str = "mixed", more: str = "") -> bytes:
    head = (
        "From: Ann <ann@practice.example>\r\nTo: desk\r\nSubject: scans\r\nMessage-ID:"
        f" <1@p.example>\r\n{more}"
    )
    body = b"".join(b"--cut\r\n" + part + b"\r\n" for part in parts) + b"--cut--\r\n"
    return (
        f"{head}MIME-Version: 1.0\r\nContent-Type: multipart/{kind}; boundary=cut\r\n\r\n".encode()
        + body
    )


def make_text_part(words: str, kind: str = "plain") -> bytes:
    return f"Content-Type: text/{kind}; charset=utf-8\r\n\r\n{words}\r\n".encode()


BASE64 = b"Content-Transfer-Encoding: base64\r\n\r\n"


def make_attachment(name: str, raw: bytes, mime: str = "application/pdf") -> bytes:
    head = f'Content-Type: {mime}\r\nContent-Disposition: attachment; filename="{name}"\r\n'
    return head.encode() + BASE64 + encode_base64(raw)


LIMIT = 20_000
ALTERNATIVE = (
    b"Content-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\n"
    + make_text_part("plain words")
    + b"--in\r\n"
    + make_text_part("<p>plain <b>words</b></p>", "html")
    + b"--in--\r\n"
)
LARGE = {
    "text in front": (
        build_multipart_mail(make_text_part("plain words"), make_attachment("big.pdf", PDF)),
        ["big.pdf"],
        [],
    ),
    "text behind": (
        build_multipart_mail(make_attachment("big.pdf", PDF), make_text_part("plain words")),
        ["big.pdf"],
        [],
    ),
    "a small file too": (
        build_multipart_mail(
            make_attachment("big.pdf", PDF),
            make_text_part("plain words"),
            make_attachment("small.pdf", b"%PDF small"),
        ),
        ["big.pdf"],
        ["small.pdf"],
    ),
    "alternatives": (
        build_multipart_mail(ALTERNATIVE, make_attachment("big.pdf", PDF)),
        ["big.pdf"],
        [],
    ),
    "an encoded name": (
        build_multipart_mail(
            make_text_part("plain words"), make_attachment("=?utf-8?q?Bef=C3=BCnde.pdf?=", PDF)
        ),
        ["Befünde.pdf"],
        [],
    ),
    "no name": (
        build_multipart_mail(
            make_text_part("plain words"),
            b"Content-Type: image/png\r\n" + BASE64 + encode_base64(PDF),
        ),
        [".png"],
        [],
    ),
    "a forwarded mail": (
        build_multipart_mail(
            make_text_part("plain words"),
            b"Content-Type: message/rfc822\r\n\r\n"
            + build_multipart_mail(make_attachment("in.pdf", PDF)),
        ),
        [".eml"],
        [],
    ),
}


@pytest.fixture
def small_context(context: AppContext) -> AppContext:
    settings = context.settings.model_copy(update={"mail_limit": LIMIT})
    return AppContext(
        settings, context.store, context.sealer, context.blob_store, context.signer, context.clock
    )


def load_ticket(context: AppContext) -> tuple[Ticket, Message, list[str]]:
    with context.store.read_only() as session:
        ticket, message = (
            session.scalars(select(Ticket)).one(),
            session.scalars(select(Message)).one(),
        )
        return ticket, message, sorted(session.scalars(select(StoredAttachment.name)))


@pytest.mark.parametrize(("raw", "missing", "kept_files"), LARGE.values(), ids=LARGE)
def test_of_a_mail_over_the_limit_the_words_and_what_fits_are_on_the_ticket(
    server: Dovecot,
    user: str,
    box: Mailbox,
    small_context: AppContext,
    raw: bytes,
    missing: list[str],
    kept_files: list[str],
) -> None:
    server.deliver(user, raw)
    reader = Reader(small_context, box)
    with reader.run():
        until(lambda: list_subjects(small_context) == ["scans"], 20)
    ticket, message, files = load_ticket(small_context)
    assert message.text.strip() == "plain words"
    assert files == kept_files
    (caveat,) = [caveat for caveat in ticket.caveats if "larger than" in caveat]
    assert caveat in message.caveats
    assert f"{len(raw) / 1024:.0f} KiB" in caveat
    assert "the limit is 20 KiB" in caveat
    assert all(name in caveat for name in missing)
    assert f"{box.user}@{box.host}/INBOX" in caveat
    assert server.read_flags(user) == {1: {FLAG}}, "the mail stays"
    with small_context.store.read_only() as session:
        delivery = session.scalars(select(Delivery)).one()
    assert delivery.size <= LIMIT + 2000


def test_a_long_text_is_cut_at_the_limit_and_says_so(
    server: Dovecot, user: str, box: Mailbox, small_context: AppContext
) -> None:
    server.deliver(user, make_raw_mail("scans", "the first words " + "x" * 3 * LIMIT))
    with Reader(small_context, box).run():
        until(lambda: list_subjects(small_context) == ["scans"], 20)
    ticket, message, _ = load_ticket(small_context)
    assert message.text.startswith("the first words")
    assert "the rest of the text" in str(ticket.caveats)


def test_a_mail_that_is_one_file_opens_a_ticket_that_names_it(
    server: Dovecot, user: str, box: Mailbox, small_context: AppContext
) -> None:
    head = b"From: Ann <ann@practice.example>\r\nSubject: scans\r\nMIME-Version: 1.0\r\n"
    server.deliver(user, head + make_attachment("big.pdf", PDF))
    with Reader(small_context, box).run():
        until(lambda: list_subjects(small_context) == ["scans"], 20)
    ticket, _, files = load_ticket(small_context)
    assert "missing here: " in str(ticket.caveats)
    assert ".pdf (" in str(ticket.caveats)
    assert files == []


def nest_multiparts(levels: int) -> bytes:
    head, tail = b"", b""
    for level in range(levels):
        head += f"Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n".encode()
        tail = f"\r\n--b{level}--\r\n".encode() + tail
    return (
        b"Subject: scans\r\nMIME-Version: 1.0\r\n"
        + head
        + make_text_part("plain words")
        + encode_base64(PDF)
        + tail
    )


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        (LARGE["text in front"][0], NO),
        (LARGE["text in front"][0], b"* 1 FETCH (UID 1 BODYSTRUCTURE NIL)\r\n{tag} OK done\r\n"),
        (
            LARGE["text in front"][0],
            b"* 1 FETCH (UID 1 BODYSTRUCTURE (((NIL))))\r\n{tag} OK done\r\n",
        ),
        (
            LARGE["text in front"][0],
            b'* 1 FETCH (UID 1 BODYSTRUCTURE ("TEXT"))\r\n{tag} OK done\r\n',
        ),
        (nest_multiparts(60), None),
    ],
    ids=["refused", "nil", "odd", "short", "deep"],
)
def test_where_the_parts_cannot_be_listed_the_beginning_is_taken(
    server: Dovecot,
    user: str,
    proxy: Proxy,
    box: Mailbox,
    small_context: AppContext,
    raw: bytes,
    answer: bytes | None,
) -> None:
    if answer:
        proxy.spoil = make_spoiler(answer, what=b"BODYSTRUCTURE")
    server.deliver(user, raw)
    with Reader(small_context, box).run():
        until(lambda: list_subjects(small_context) == ["scans"], 20)
    ticket, message, _ = load_ticket(small_context)
    assert "plain words" in message.text
    assert "only its beginning was taken" in str(ticket.caveats)


def test_a_mail_of_an_earlier_version_of_which_only_the_header_came_says_so(
    context: AppContext,
) -> None:
    raw = b"From: Ann <ann@practice.example>\r\nSubject: scans\r\n\r\n"
    Intake(context).accept(
        Arrival(
            transport=Transport.IMAP,
            format=Format.MAIL,
            raw=raw,
            envelope={"oversized": 60_000_000},
        )
    )
    list_subjects(context)
    ticket, _, _ = load_ticket(context)
    assert "only its header was taken" in str(ticket.caveats)
