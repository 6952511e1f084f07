"""winmail.dat: the files and text in it come out, and no damaged one costs more than its bytes."""

import base64
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.item import InboundItem
from parsers.mail import message, tnef

PDF = b"%PDF-1.4\n" + bytes(range(256))
STRING, UNICODE, BINARY, OBJECT, LONG = 0x1E, 0x1F, 0x0102, 0x0D, 0x03


def build_attribute(level: int, name: int, data: bytes, kind: int = 6) -> bytes:
    checksum = struct.pack("<H", sum(data) & 0xFFFF)
    return struct.pack("<BHHI", level, name, kind, len(data)) + data + checksum


def build_value(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data + b"\0" * (-len(data) % 4)


def build_variable(tag: int, kind: int, *data: bytes) -> bytes:
    return struct.pack("<HHI", kind, tag, len(data)) + b"".join(map(build_value, data))


def build_properties(*given: bytes) -> bytes:
    return struct.pack("<I", len(given)) + b"".join(given)


def build_named_property() -> bytes:
    """A property by GUID and number, as every Outlook mail has dozens of."""
    return struct.pack("<HH", LONG, 0x8001) + bytes(16) + struct.pack("<III", 0, 0x8552, 7)


def build_textually_named_property() -> bytes:
    name = "x-note\0".encode("utf-16-le")
    tag = struct.pack("<HH", STRING, 0x8002) + bytes(16) + struct.pack("<I", 1) + build_value(name)
    return tag + struct.pack("<I", 1) + build_value(b"hidden\0")


def file(title: bytes, content: bytes, *properties: bytes) -> bytes:
    parts = [
        build_attribute(2, 0x9002, bytes(14)),
        build_attribute(2, 0x8010, title + b"\0", 1),
        build_attribute(2, 0x800F, content),
    ]
    return b"".join(parts) + (
        build_attribute(2, 0x9005, build_properties(*properties)) if properties else b""
    )


def build_winmail(*attributes: bytes, codepage: int = 1252) -> bytes:
    page = build_attribute(1, 0x9007, struct.pack("<II", codepage, 0))
    version = build_attribute(1, 0x9006, struct.pack("<I", 0x10000), 8)
    return struct.pack("<IH", 0x223E9F78, 1) + version + page + b"".join(attributes)


def read(content: bytes, text: str = "") -> InboundItem:
    head = (
        "From: jane@clinic.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/mixed;"
        " boundary=zz\n\n"
    )
    text_part = f"--zz\nContent-Type: text/plain\n\n{text}\n" if text else ""
    part = (
        "--zz\nContent-Type: application/ms-tnef; name=winmail.dat\nContent-Transfer-Encoding:"
        " base64\n\n"
    )
    raw = head + text_part + part + base64.encodebytes(content).decode() + "--zz--\n"
    [item] = message.parse(raw.encode())
    return item


def test_files_come_out_beside_the_original() -> None:
    long_name = build_variable(0x3707, UNICODE, "Überweisung März 2025.pdf\0".encode("utf-16-le"))
    content = build_winmail(
        file(
            b"BERWEI~1.PDF",
            PDF,
            build_named_property(),
            build_textually_named_property(),
            long_name,
        )
    )
    item = read(content, "See the file.")
    assert [(a.name, a.content) for a in item.attachments] == [
        ("winmail.dat", content),
        ("Überweisung März 2025.pdf", PDF),
    ]
    assert (item.text, item.caveats) == ("See the file.", ())


def test_the_text_is_taken_from_it_where_the_mail_has_none() -> None:
    item = read(build_winmail(build_attribute(1, 0x800C, "Grüße\0".encode("cp1252"), 2)))
    assert item.text == "Grüße"


def test_text_that_stands_in_the_mail_too_is_shown_once() -> None:
    item = read(
        build_winmail(
            build_attribute(1, 0x800C, "Grüße\0".encode("cp1252"), 2), file(b"a.pdf", PDF)
        ),
        "Grüße",
    )
    assert item.text == "Grüße"
    assert [a.name for a in item.attachments] == ["winmail.dat", "a.pdf"]


def test_text_as_a_property_and_in_html() -> None:
    page = struct.pack("<HHI", LONG, 0x3FDE, 65001)
    html = build_variable(0x1013, BINARY, "<p>Grüße</p>".encode())
    assert (
        read(build_winmail(build_attribute(1, 0x9003, build_properties(page, html)))).text
        == "Grüße"
    )
    plain = build_variable(0x1000, UNICODE, "Привет\0".encode("utf-16-le"))
    assert read(build_winmail(build_attribute(1, 0x9003, build_properties(plain)))).text == "Привет"


def test_names_are_in_the_stated_code_page() -> None:
    opened = tnef.parse(build_winmail(file("счёт.pdf".encode("cp1251"), PDF), codepage=1251))
    assert opened is not None
    assert opened.files == [("счёт.pdf", PDF)]


def test_several_values_and_odd_sizes_are_passed_over() -> None:
    several = struct.pack("<HHI", 0x101E, 0x3A58, 2) + build_value(b"abc\0") + build_value(b"d\0")
    shorts = struct.pack("<HHI", 0x1002, 0x3A59, 3) + bytes(8)
    short = struct.pack("<HH", 0x02, 0x3A5A) + bytes(4)
    data = build_variable(0x3701, OBJECT, bytes.fromhex("0703020000000000c000000000000046") + PDF)
    opened = tnef.parse(build_winmail(file(b"a.bin", b"", several, shorts, short, data)))
    assert opened is not None
    assert opened.files == [("a.bin", PDF)]


def test_of_one_cut_off_what_is_there_is_kept() -> None:
    whole = build_winmail(file(b"first.pdf", PDF), file(b"second.pdf", PDF))
    container = tnef.parse(whole[:-100])
    assert container is not None
    assert container.files[0] == ("first.pdf", PDF)
    assert container.files[1][0] == "second.pdf"
    assert PDF.startswith(container.files[1][1])


@pytest.mark.parametrize(
    "attributes",
    [
        build_attribute(1, 0x9003, struct.pack("<IHHI", 0xFFFFFFFF, LONG, 0x17, 1)),
        build_attribute(1, 0x9003, struct.pack("<IHHI", 1, 0x1002, 0x17, 0xFFFFFFFF)),
        build_attribute(1, 0x9003, struct.pack("<IHHI", 1, 0x101E, 0x17, 0xFFFFFFFF)),
        build_attribute(1, 0x9003, struct.pack("<IHHII", 1, STRING, 0x17, 1, 0xFFFFFFFF)),
        build_attribute(1, 0x9004, struct.pack("<I", 0xFFFFFFFF)),
        build_attribute(1, 0x8000, b"") * 200_000,
        build_attribute(2, 0x9002, b"") * 200_000,
        build_attribute(
            1, 0x9003, build_properties(*[build_variable(0x17, STRING, b"")] * 100_000)
        ),
    ],
)
def test_stated_sizes_are_not_believed(attributes: bytes) -> None:
    started = time.process_time()
    assert tnef.parse(build_winmail(attributes)) == tnef.TnefContent()
    assert time.process_time() - started < 4


WHOLE = build_winmail(
    build_attribute(1, 0x800C, b"text\0", 2),
    build_attribute(
        1,
        0x9003,
        build_properties(
            build_named_property(),
            build_textually_named_property(),
            build_variable(0x1013, BINARY, b"<p>x"),
        ),
    ),
    file(b"a.pdf", PDF, build_variable(0x3707, UNICODE, "a.pdf".encode("utf-16-le"))),
)


@settings(deadline=None, max_examples=80)
@given(st.integers(0, len(WHOLE)), st.integers(0, 12), st.binary(max_size=12))
def test_a_mutated_one_is_opened_as_far_as_it_goes(start: int, length: int, patch: bytes) -> None:
    opened = tnef.parse(WHOLE[:start] + patch + WHOLE[start + length :])
    for text in (opened.plain, opened.html, *(name for name, _ in opened.files)) if opened else ():
        assert "\0" not in text
        text.encode()
