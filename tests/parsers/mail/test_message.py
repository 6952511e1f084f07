"""Mail: every fixture is parsed into its item, and no input breaks the parser."""

import base64
import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from console.cli.parse import build_mail_line
from parsers.item import Address, InboundItem, ParseError
from parsers.mail import message
from parsers.mail.syntax import transfer_encoding

FIXTURES = sorted(Path(__file__).parents[1].joinpath("fixtures", "mail").glob("*.eml"))
BREAKERS = [b"\n\n", b"\r", b'"', b"--", b"=?", b"\0", b": ", b"(("]
WHOLE = [path.read_bytes() for path in FIXTURES]


def read(raw: bytes | str) -> InboundItem:
    [item] = message.parse(raw.encode() if isinstance(raw, str) else raw)
    return item


def parse_with_field(field: str, body: str = "Body.") -> InboundItem:
    return read(f"From: jane@clinic.example\nSubject: x\n{field}\n\n{body}\n")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_fixture_is_read_as_its_item_says(path: Path) -> None:
    line = build_mail_line(path.name, read(path.read_bytes()))
    del line["file"]
    assert line == json.loads(path.with_suffix("").with_suffix(".item.json").read_text("utf-8"))


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_the_place_of_a_file_gives_the_same_bytes(path: Path) -> None:
    raw = path.read_bytes()
    for file in read(raw).attachments:
        assert file.span is None or file.span.decode(raw) == file.content


def test_only_files_that_take_more_than_plain_decoding_have_no_place() -> None:
    files = [(path.stem, file) for path in FIXTURES for file in read(path.read_bytes()).attachments]
    without = [stem for stem, file in files if file.span is None]
    assert without == ["uuencode-in-text", "winmail"]
    assert len(files) > 30


def test_there_are_fixtures() -> None:
    assert len(FIXTURES) > 25


@pytest.mark.parametrize("raw", [b"", b"\r\n \r\n"])
def test_only_an_empty_message_is_refused(raw: bytes) -> None:
    with pytest.raises(ParseError):
        message.parse(raw)


@pytest.mark.parametrize(
    "raw",
    [b"\x00", b"\xff\xfe\xfd", b"=?", b"--\n--\n", b"From:", b"Content-Type: multipart/mixed"],
)
def test_an_odd_blob_is_an_item_that_names_what_is_missing(raw: bytes) -> None:
    assert "no sender address" in read(raw).caveats


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("Message-ID: <a@b>", "a@b"),
        ("Message-ID: <>", ""),
        ("Message-ID:  ", ""),
        ("Message-ID: a@b", ""),
        ("Message-ID: <a b@c>", ""),
        ("Message-ID: <first@b>\nMessage-ID: <second@b>", "first@b"),
    ],
)
def test_only_a_well_formed_message_id_is_an_identity(field: str, found: str) -> None:
    item = parse_with_field(field)
    assert (item.external_id, item.message_id) == (found, f"<{found}>" if found else "")


@pytest.mark.parametrize(
    ("date", "instant"),
    [
        ("Tue, 01 Jul 2025 10:00:00 -0500", datetime(2025, 7, 1, 15, tzinfo=UTC)),
        ("1 Jul 25 10:00:00 GMT", datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("1 Jul 2025 10:00:00 -0000", datetime(2025, 7, 1, 10, tzinfo=UTC)),
        ("Tue, 1 Jul 2025 (one (two)) 10:00 EDT", datetime(2025, 7, 1, 14, tzinfo=UTC)),
        ("Sat, 31 Dec 2016 23:59:60 +0000", datetime(2017, 1, 1, tzinfo=UTC)),
        ("Tue 01 Jul 2025 10:00:00 +0900", datetime(2025, 7, 1, 1, tzinfo=UTC)),
        ("Tue, 31 Feb 2025 10:00:00 +0000", None),
        ("Tue, 01 Jul 10000 10:00:00 +0000", None),
        ("Tue, 01 Jul 2025 10:00:00", None),
        ("yesterday", None),
        (f"Tue, 01 Jul {'9' * 5000} 10:00:00 +0000", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", None),
    ],
)
def test_the_date_is_the_senders_claim_or_none(date: str, instant: datetime | None) -> None:
    assert parse_with_field(f"Date: {date}").sent_at == instant


@pytest.mark.parametrize(
    ("written", "people"),
    [
        ('"Doe, Jane" <jane@x.example>', [("Doe, Jane", "jane@x.example")]),
        (
            "jane@x.example, bob@x.example;ann@x.example",
            [("", f"{n}@x.example") for n in ("jane", "bob", "ann")],
        ),
        ("Jane jane@x.example", [("Jane", "jane@x.example")]),
        ("Jane [mailto:jane@x.example]", [("Jane", "jane@x.example")]),
        ("<@relay,@other:jane@x.example>", [("", "jane@x.example")]),
        ('"unclosed <jane@x.example>', [('"unclosed', "jane@x.example")]),
        ("=?utf-8?Q?J=C3=B6rg_=3Cj=40x=2Eexample=3E?=", [("Jörg", "j@x.example")]),
        ('"two words"@x.example', [("", '"two words"@x.example')]),
        ("undisclosed-recipients:;", []),
        ("Jane <jane@x.example", [("Jane", "jane@x.example")]),
        ("=?iso-8859-1?Q?M=FCnz,=20Ann?= <ann@x.example>", [("Münz, Ann", "ann@x.example")]),
        ("Münz, Ann <ann@x.example>", [("Münz, Ann", "ann@x.example")]),
        (
            "Doe, Jane <jane@x.example>, Bob <bob@x.example>",
            [("Doe, Jane", "jane@x.example"), ("Bob", "bob@x.example")],
        ),
        ("a@x.example, Bob <bob@x.example>", [("", "a@x.example"), ("Bob", "bob@x.example")]),
    ],
)
def test_addresses_as_people_write_them(written: str, people: list[tuple[str, str]]) -> None:
    assert list(parse_with_field(f"To: {written}").to) == [Address(*person) for person in people]


@pytest.mark.parametrize("name", ["Invalìd-Field", "Größe", "X-\xa0Y"])
def test_a_line_that_is_no_field_stays_out_of_the_field_above(name: str) -> None:
    raw = f"From: jane@clinic.example\nSubject: Claim 12\n{name}: x\nMessage-ID: <a@b>\n\nBody.\n"
    item = read(raw.encode("latin-1"))
    assert (item.subject, item.message_id, item.text) == ("Claim 12", "<a@b>", "Body.")


def test_controls_never_reach_a_subject_or_a_name() -> None:
    item = read(
        "From: =?utf-8?Q?A=00=0D=0AB?= <a@b.example>\nSubject: =?utf-8?B?YQ0KQmNjOiB4AA==?=\n\nx"
    )
    assert (item.sender.name, item.subject) == ("A B", "a Bcc: x")


@pytest.mark.parametrize(
    "charset", ["bz2", "hex", "idna", "undefined", "rot13", "unicode_escape", "utf-16", "x" * 5000]
)
def test_a_charset_that_is_none_never_decides(charset: str) -> None:
    raw = f"From: a@b.example\nContent-Type: text/plain; charset={charset}\n\ncafé \\u003c".encode()
    assert read(raw).text == "café \\u003c"


def test_a_customers_boundary_in_another_mail_is_no_boundary() -> None:
    inner = b"Content-Type: multipart/mixed; boundary=in\n\n--in\n\nsecret\n--in--\n"
    raw = (
        b"From: a@b.example\nContent-Type: multipart/mixed; boundary=out\n\n--out\n\nmine\n--out\n"
    )
    item = read(raw + b"Content-Type: message/rfc822\n\n" + inner + b"--out--\n")
    assert (item.text, item.attachments[0].content) == ("mine", inner.rstrip(b"\n"))


def test_our_number_in_a_part_is_not_believed() -> None:
    parts = "--z\nContent-Piece: 7\n\none\n--z\n\ntwo\n--z--\n"
    assert parse_with_field("Content-Type: multipart/mixed; boundary=z", parts).text == "one\n\ntwo"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        (
            "depth",
            b"".join(
                b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i)
                for i in range(900)
            ),
        ),
        ("parts", b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 20_000),
        ("header", b"".join(b"X-%d: 1\n" % i for i in range(50_000)) + b"\nx"),
        ("parameters", b"Content-Type: text/plain" + b";" * 300_000 + b"\n\nx"),
        ("words", b"Subject: " + b"=?a?q?" * 20_000 + b"\n\nx"),
        ("comments", b"From: " + b"(" * 50_000 + b"\n\nx"),
        ("recipients", b"To: " + b"a@b.example, " * 20_000 + b"\n\nx"),
        (
            "announcements",
            b"From: a@b.example\n\n" + b"On 1.1.2025 10:00 a@b.example wrote\n" * 5_000,
        ),
        ("dashes", b"From: a@b.example\n\n" + b"-" * 300_000),
        ("quotes", b"From: a@b.example\n\n" + b"> x\ny\n" * 50_000),
        ("tags", b"Content-Type: text/html\n\n" + b"<div><b>" * 50_000),
        ("blockquotes", b"Content-Type: text/html\n\n" + b"<blockquote>x" * 20_000),
        ("blanks", b"Content-Transfer-Encoding: quoted-printable\n\nx" + b" " * 300_000 + b"x"),
        ("uuencode", b"From: a@b.example\n\n" + b"begin 644 x\n" * 20_000),
    ],
)
def test_hostile_input_is_read_in_bounded_time(name: str, raw: bytes) -> None:
    started = time.process_time()
    assert isinstance(read(b"Subject: " + name.encode() + b"\n" + raw), InboundItem)
    assert time.process_time() - started < 4


def test_what_is_beyond_a_bound_is_named() -> None:
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (i, i) for i in range(200)
    )
    assert any("nested too deep" in caveat for caveat in read(deep + b"\nx").caveats)
    many = b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * 1500
    assert any("parts" in caveat for caveat in read(many).caveats)


def check(item: InboundItem) -> None:
    """What holds for any message: text every database takes, names every file system takes."""
    for text in (
        item.text,
        item.plain,
        item.html,
        item.reply_text,
        item.subject,
        item.sender.name,
        item.external_id,
    ):
        assert "\0" not in text
        text.encode()
    assert item.subject.isprintable() or not any(c < " " for c in item.subject)
    for attachment in item.attachments:
        assert attachment.name
        assert not set(attachment.name) & set("/\\\r\n\0")


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=600))
@example(b"Content-Type: message/rfc822\n\n")
def test_any_bytes_are_an_item_or_refused(raw: bytes) -> None:
    try:
        items = message.parse(raw)
    except ParseError:
        assert not raw.strip()
    else:
        check(items[0])


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(WHOLE), st.data())
def test_a_mutated_message_is_an_item(raw: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 60)))
    patch = data.draw(
        st.one_of(
            st.binary(max_size=12),
            st.sampled_from([b"\n\n", b"\r", b'"', b"--", b"=?", b"\0", b": ", b"(("]),
        )
    )
    changed = raw[:start] + patch + raw[end:]
    if changed.strip():
        check(read(changed))


@pytest.mark.parametrize(
    "content", [b"\x78\x9f\x3e\x22", b"\x78\x9f\x3e\x22\x01\x00" + b"\x01" * 90, b"no TNEF"]
)
def test_a_broken_winmail_is_kept_and_named(content: bytes) -> None:
    raw = b"From: a@b.example\nContent-Type: application/ms-tnef; name=winmail.dat\n\n" + content
    item = read(raw)
    assert item.attachments[0].content == content
    assert "winmail.dat cannot be opened" in item.caveats


def test_large_base64_is_decoded_without_a_copy_of_it() -> None:
    content = bytes(range(256)) * 4000
    encoded_content = base64.encodebytes(content).replace(b"\n", b"\r\n")
    header = (
        b"From: a@b.example\r\nContent-Type: application/pdf;"
        b" name=a.pdf\r\nContent-Transfer-Encoding: BASE64\r\n"
    )
    raw = header + b"\r\n" + encoded_content
    assert read(raw).attachments[0].content == content
    assert read(raw.rstrip(b"=\r\n")).attachments[0].content == content


def test_a_lists_footer_behind_large_base64_is_no_base64() -> None:
    content = bytes(range(256)) * 300  # without padding: only the footer shows where it ends
    encoded_content = base64.encodebytes(content)
    header = (
        b"From: a@b.example\nContent-Type: image/png; name=a.png\nContent-Transfer-Encoding:"
        b" base64\n\n"
    )
    attachment = read(
        header + encoded_content + b"_______________________________________________\nOur list\n"
    ).attachments[0]
    assert (
        attachment.content
        == content + b"\n_______________________________________________\nOur list\n"
    )


@settings(deadline=None, max_examples=100)
@given(
    st.binary(min_size=1, max_size=900),
    st.integers(1, 90),
    st.sampled_from([b"", b" ", b"\xff", b"\r", b"=", b"A", b"AB"]),
    st.integers(0, 100_000),
    st.sampled_from([b"\r\n", b"\n", b""]),
)
def test_base64_is_decoded_alike_where_it_lies_and_apart(
    piece: bytes, times: int, noise: bytes, at: int, end: bytes
) -> None:
    encoded = base64.encodebytes(piece * times).replace(b"\n", end)
    damaged = encoded[:at] + noise + encoded[at:]
    whole = transfer_encoding.decode_span(b"#" + damaged + b"#", 1, len(damaged) + 1, "base64")
    assert whole == transfer_encoding.decode(damaged, "base64")
    if not noise:
        assert whole == piece * times


def test_parts_of_a_digest_are_messages_unless_they_say_else() -> None:
    head = "From: a@b.example\nContent-Type: multipart/digest; boundary=z\n\n"
    inner = "Subject: inside\n\nText.\n"
    item = read(f"{head}--z\n\n{inner}--z\nContent-Type: text/plain\n\nShown.\n--z--\n")
    assert [a.mime for a in item.attachments] == ["message/rfc822"]
    assert item.text == "Shown."


def test_of_two_dates_the_first_counts() -> None:
    item = parse_with_field(
        "Date: Tue, 01 Jul 2025 10:00:00 +0000\nDate: Wed, 02 Jul 2025 10:00:00 +0000"
    )
    assert item.sent_at == datetime(2025, 7, 1, 10, tzinfo=UTC)
