"""Words in containers: opaque S/MIME, calendar parts and text signed by PGP in the clear."""

import base64
import subprocess
import time
from pathlib import Path

import pytest

from parsers.item import InboundItem
from parsers.mail import message, smime

SIGNED = "signed (S/MIME): the signature is not verified"
SEALED = "in one sealed block: cannot be read here"
WORDS = "Please resend the April remittance."
ENTITY = f"Content-Type: text/plain; charset=utf-8\r\n\r\n{WORDS}\r\n"
WITH_FILE = (
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n"
    f"--in\r\nContent-Type: text/html\r\n\r\n<p>{WORDS}</p>\r\n"
    "--in\r\nContent-Type: application/pdf; name=eob.pdf\r\n\r\nPDF\r\n--in--\r\n"
)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a key and its certificate, made for these tests."""
    folder = tmp_path_factory.mktemp("smime")
    request = (
        "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=Ann"
    )
    subprocess.run(["openssl", *request.split()], cwd=folder, check=True, capture_output=True)
    return folder


def run_cms(key: Path, arguments: str, content: bytes) -> bytes:
    command = ["openssl", "cms", *arguments.split()]
    return subprocess.run(command, cwd=key, input=content, check=True, capture_output=True).stdout


def sign(key: Path, content: str | bytes, *options: str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    arguments = "-sign -nodetach -binary -outform DER -signer cert.pem -inkey key.pem"
    return run_cms(key, " ".join([arguments, *options]), data)


def read(header: str, body: bytes) -> InboundItem:
    head = f"From: ann@clinic.example\r\nSubject: x\r\n{header}\r\n\r\n"
    [item] = message.parse(head.encode() + body)
    return item


def read_block(block: bytes, kind: str = "application/pkcs7-mime; name=smime.p7m") -> InboundItem:
    header = f"Content-Type: {kind}\r\nContent-Transfer-Encoding: base64"
    return read(header, base64.encodebytes(block))


@pytest.mark.parametrize("options", [[], ["-stream"], ["-stream", "-nocerts"], ["-noattr"]])
@pytest.mark.parametrize(
    "kind",
    [
        "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m",
        "application/x-pkcs7-mime",
        "application/pkcs7-mime; smime-type=enveloped-data; name=gross.p7m",
        "application/octet-stream; name=smime.p7m",
    ],
)
@pytest.mark.parametrize("entity", [ENTITY, WITH_FILE, WORDS])
def test_a_signed_block_is_read(key: Path, entity: str, kind: str, options: list[str]) -> None:
    item = read_block(sign(key, entity, *options), kind)
    assert (item.text.strip(), item.reply_text.strip()) == (WORDS, WORDS)
    assert item.caveats == (SIGNED,)
    names = [attachment.name for attachment in item.attachments]
    assert names[0].endswith(".p7m")
    assert names[1:] == (["eob.pdf"] if entity == WITH_FILE else [])


def test_a_signed_block_in_other_encodings_is_read(key: Path) -> None:
    block = sign(key, ENTITY)
    kind = "Content-Type: application/pkcs7-mime"
    armoured = b"-----BEGIN CMS-----\n" + base64.encodebytes(block) + b"-----END CMS-----\n"
    bodies = [block, base64.encodebytes(block), armoured]
    items = [read(f"{kind}\r\nContent-Transfer-Encoding: binary", body) for body in bodies]
    assert [item.text.strip() for item in items] == [WORDS] * 3


def test_long_content_in_many_pieces_is_read_whole(key: Path) -> None:
    lines = "".join(f"claim {number}\r\n" for number in range(20_000))
    item = read_block(sign(key, f"Content-Type: text/plain\r\n\r\n{lines}", "-stream"))
    assert item.text.split() == lines.split()


def test_a_block_that_is_cut_off_shows_its_beginning(key: Path) -> None:
    lines = "".join(f"claim {number}\r\n" for number in range(5000))
    block = sign(key, f"Content-Type: text/plain\r\n\r\n{lines}")
    item = read_block(block[: len(lines) // 2])
    assert "claim 1000" in item.text
    assert "the signed block is cut off: its beginning is shown" in item.caveats


def test_encrypted_data_stays_sealed(key: Path) -> None:
    for option in ("", "-stream "):
        block = run_cms(key, f"-encrypt -aes256 -outform DER {option}cert.pem", ENTITY.encode())
        item = read_block(block, "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m")
        assert item.text == ""
        assert SEALED in item.caveats
        assert SIGNED not in item.caveats


def test_a_block_in_a_block_is_read_and_many_are_bounded(key: Path) -> None:
    for depth in range(1, 6):
        entity = ENTITY.encode()
        for _ in range(depth):
            block = sign(key, entity)
            entity = b"Content-Type: application/pkcs7-mime\r\n"
            entity += b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(block)
        item = read("MIME-Version: 1.0\r\n" + entity.decode().split("\r\n\r\n")[0], entity[72:])
        assert (WORDS in item.text, SEALED in item.caveats) == (depth <= 3, depth > 3)


def test_a_signed_file_is_a_file(key: Path) -> None:
    item = read_block(sign(key, b"%PDF-1.7\x00\x01"), "application/pkcs7-mime; name=order.pdf.p7m")
    assert [a.name for a in item.attachments] == ["order.pdf.p7m", "order.pdf"]
    assert item.attachments[1].content == b"%PDF-1.7\x00\x01"


def test_only_files_of_the_mail_itself_are_places_in_it(key: Path) -> None:
    """The places of a block's files are places in the opened block."""
    item = read_block(sign(key, WITH_FILE))
    assert [file.span is None for file in item.attachments] == [False, True]


def test_hostile_blocks_end_soon(key: Path) -> None:
    block = sign(key, ENTITY, "-stream")
    cuts = [block[:end] for end in range(0, len(block), 7)]
    flips = [block[:i] + bytes([block[i] ^ 0xFF]) + block[i + 1 :] for i in range(120)]
    start = time.perf_counter()
    beginning = block[: block.index(b"\x24\x80") + 2]
    hostile = [b"\x30\x80" * 1_000_000, beginning + b"\x04\x00" * 1_000_000]
    hostile += [beginning + b"\x24\x80" * 1_000_000, b"\x30\x84\xff\xff\xff\xff" * 100_000]
    for data in [*cuts, *flips, *hostile]:
        smime.find_signed_content(data)
        smime.looks_like_block(data)
    assert time.perf_counter() - start < 5


NOTE = "I am away, please mail the list; thanks, Ann"
EVENT = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\n{method}BEGIN:VTIMEZONE\r\nTZID:Zone\r\n"
    "COMMENT:zone words\r\n"
    "END:VTIMEZONE\r\nBEGIN:VEVENT\r\nSUMMARY:Review\\, part 2\r\n"
    'DTSTART;TZID="America/New_York":20270105T090000\r\n'
    'DTEND;TZID="America/New_York":20270105T100000\r\nLOCATION:Room 4\r\n'
    'ATTENDEE;CN="Vale: Ann";PARTSTAT={answer}:mailto:ann@clinic.example\r\n{note}'
    "BEGIN:VALARM\r\nDESCRIPTION:Reminder\r\nEND:VALARM\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
NOTES = {
    "description": "DESCRIPTION:I am away\\, please mail\r\n  the list\\; thanks\\,\\nAnn\r\n",
    "comment": "COMMENT;LANGUAGE=en:I am away\\, please mail the list\\; thanks\\, Ann\r\n",
    "html": "X-ALT-DESC;FMTTYPE=text/html:<p>I am away\\, please mail the list\\; thanks\\, Ann"
    "</p>\r\n",
    "vcalendar": "DESCRIPTION;ENCODING=QUOTED-PRINTABLE:I am away, please=20mail=\r\n the"
    " list; thanks, Ann\r\n",
}


def make_event(method: str, note: str = "", answer: str = "NEEDS-ACTION") -> str:
    return EVENT.format(method=f"METHOD:{method}\r\n", note=note, answer=answer)


def read_parts(*parts: str) -> InboundItem:
    body = "".join(f"--zz\r\n{part}\r\n" for part in parts) + "--zz--\r\n"
    return read("MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=zz", body.encode())


@pytest.mark.parametrize("note", NOTES)
@pytest.mark.parametrize(
    ("method", "title"),
    [("REQUEST", "Invitation"), ("CANCEL", "Cancelled"), ("PUBLISH", "Calendar entry")],
)
@pytest.mark.parametrize(
    "kind", ["text/calendar; name=a.ics", "application/ics", "application/octet-stream; name=a.ics"]
)
def test_a_calendar_part_alone_is_the_text(kind: str, method: str, title: str, note: str) -> None:
    item = read_parts(f"Content-Type: {kind}\r\n\r\n{make_event(method, NOTES[note])}")
    head = f"{title}: Review, part 2\nTime: 2027-01-05 09:00 to 10:00 America/New_York\n"
    assert item.text.startswith(f"{head}Place: Room 4\n\n")
    assert " ".join(item.text.split("\n\n", 1)[1].split()) == NOTE
    assert item.reply_text == item.text
    assert len(item.attachments) == 1
    assert "no text" not in item.caveats


@pytest.mark.parametrize(
    ("answer", "words"),
    [("ACCEPTED", "accepted"), ("DECLINED", "declined"), ("TENTATIVE", "accepted tentatively")],
)
def test_an_answer_says_who_answered_how(answer: str, words: str) -> None:
    event = make_event("REPLY", answer=answer)
    item = read("Content-Type: text/calendar; method=REPLY", event.encode())
    assert item.text.startswith("Answer to an invitation: Review, part 2\n")
    assert f"Answer: Vale: Ann {words}" in item.text


def test_beside_words_only_a_note_that_they_lack_is_shown() -> None:
    calendar = f"Content-Type: text/calendar\r\n\r\n{make_event('CANCEL', NOTES['comment'])}"
    lacking = read_parts("Content-Type: text/plain\r\n\r\nSee below.", calendar, calendar)
    assert lacking.text.startswith("See below.\n\nCancelled: Review, part 2\n")
    assert lacking.text.count(NOTE) == 1
    repeated = read_parts(f"Content-Type: text/plain\r\n\r\nHello. {NOTE}", calendar)
    assert repeated.text == f"Hello. {NOTE}"
    without = f"Content-Type: text/calendar\r\n\r\n{make_event('CANCEL')}"
    assert read_parts("Content-Type: text/plain\r\n\r\nSee.", without).text == "See."


@pytest.mark.parametrize("headers", ["Hash: SHA256\n", "", "Hash: SHA512\nCharset: UTF-8\n"])
@pytest.mark.parametrize("version", ["", "Version: GnuPG v2\nComment: https://example.com\n"])
def test_text_signed_in_the_clear_shows_its_words(headers: str, version: str) -> None:
    text = (
        f"Hello,\n-----BEGIN PGP SIGNED MESSAGE-----\n{headers}\n{WORDS}\n- - one\n- -----two\n"
        f"-----BEGIN PGP SIGNATURE-----\n{version}\niQEzBAEBCAAdFiEE{'A' * 48}\n=abcd\n"
        "-----END PGP SIGNATURE-----\nSent later."
    )
    item = read("Content-Type: text/plain", text.encode())
    assert item.reply_text == f"Hello,\n{WORDS}\n- one\n-----two\nSent later."
    assert "BEGIN PGP SIGNATURE" in item.text  # folded
    assert item.caveats == ("signed (PGP): the signature is not verified",)


def test_a_signature_without_its_end_takes_no_words() -> None:
    text = (
        f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA1\n\n{WORDS}\n"
        "-----BEGIN PGP SIGNATURE-----\nthanks\nAnn"
    )
    item = read("Content-Type: text/plain", text.encode())
    assert all(word in item.text for word in (WORDS, "thanks", "Ann"))
