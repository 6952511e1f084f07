"""Workbooks of every kind, made by the programs that make them.

Openpyxl, LibreOffice, msoffcrypto.
"""

import hashlib
import io
import re
import shutil
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import msoffcrypto.format.ooxml
import olefile
import openpyxl
import pytest
from msoffcrypto.method.rc4 import DocumentRC4

from parsers.options import DEFAULT_OPTIONS, Options
from parsers.spreadsheets.cell_values import Value
from parsers.spreadsheets.formats import binary_records
from parsers.spreadsheets.reader import find_tables

LIBREOFFICE = shutil.which("soffice")
needs_libreoffice = pytest.mark.skipif(
    LIBREOFFICE is None, reason="no LibreOffice: apt-get install libreoffice-calc-nogui"
)
SHARED_TYPE = (
    b'<Override PartName="/xl/sharedStrings.xml" '
    b'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/>'
)
Edit = Callable[[openpyxl.Workbook], object]
Change = Callable[[bytes], bytes | None]


def build_book(*rows: list[object], edit: Edit | None = None) -> bytes:
    workbook = openpyxl.Workbook()
    for row in rows:
        workbook.worksheets[0].append(row)
    if edit:
        edit(workbook)
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def build_book_with_shared_texts(*headers: list[str]) -> bytes:
    """Return a workbook whose texts are in a part of their own, as Excel saves it.

    There is a sheet for each of these first rows. openpyxl writes texts into their cells, so the
    parts are changed here.
    """
    raw = build_book(*([headers[0]] if headers else []))
    if headers[1:]:
        raw = build_book(
            headers[0],
            edit=lambda made: [made.create_sheet().append(header) for header in headers[1:]],
        )
    texts: list[bytes] = []

    def share(part: bytes) -> bytes:
        def number(found: re.Match[bytes]) -> bytes:
            texts.append(found[2])
            return b'<c%s t="s"><v>%d</v></c>' % (found[1], len(texts) - 1)

        return re.sub(rb'<c([^>]*) t="inlineStr"><is><t>([^<]*)</t></is></c>', number, part)

    for count in range(1, len(headers) + 1):
        raw = rewrite_part(raw, f"xl/worksheets/sheet{count}.xml", share)
    items = b"".join(b"<si><t>%s</t></si>" % text for text in texts)
    main = b"http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    raw = add_part(raw, "xl/sharedStrings.xml", b'<sst xmlns="%s">%s</sst>' % (main, items))
    raw = rewrite_part(
        raw, "[Content_Types].xml", lambda old: old.replace(b"</Types>", SHARED_TYPE + b"</Types>")
    )
    link = f'<Relationship Id="shared" Type="{RELATED}/sharedStrings" Target="sharedStrings.xml"/>'
    return rewrite_part(
        raw,
        "xl/_rels/workbook.xml.rels",
        lambda old: old.replace(b"</Relationships>", link.encode() + b"</Relationships>"),
    )


def add_part(raw: bytes, part: str, content: bytes) -> bytes:
    """Return the zip with one part more."""
    out = io.BytesIO(raw)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_DEFLATED) as made:
        made.writestr(part, content)
    return out.getvalue()


def build_hoarding_book(*header: str) -> bytes:
    """Return a workbook of four megabytes that takes two hundred to open.

    It counts to a million and a half.
    """
    more = b"".join(b"<si><t>%d</t></si>" % n for n in range(1_500_000))
    new_parts = rewrite_part(
        build_book_with_shared_texts([*header]),
        "xl/sharedStrings.xml",
        lambda old: old.replace(b"</sst>", more + b"</sst>"),
    )
    assert len(new_parts) < 5_000_000
    return new_parts


def rewrite_part(raw: bytes, part: str, change: Change) -> bytes:
    """Return the zip with one part changed, or left out where `change` returns None."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(raw)) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            content = change(old.read(name)) if name == part else old.read(name)
            if content is not None:
                new.writestr(name, content)
    return out.getvalue()


def save_as(kind: str, raw: bytes, folder: Path) -> bytes:
    """Return a workbook as LibreOffice saves it in another format."""
    (folder / "made.xlsx").write_bytes(raw)
    home = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    out = folder / "out"
    command = [
        LIBREOFFICE or "soffice",
        "--headless",
        home,
        "--convert-to",
        kind,
        "--outdir",
        str(out),
        "made.xlsx",
    ]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=180)
    return next(out.glob("made.*")).read_bytes()


def lock_workbook(raw: bytes, password: str) -> bytes:
    """The workbook as Excel saves it with a password (ECMA-376 agile encryption)."""
    out = io.BytesIO()
    msoffcrypto.format.ooxml.OOXMLFile(io.BytesIO(raw)).encrypt(password, out)
    return out.getvalue()


def lock_old_workbook(raw: bytes, password: str) -> bytes:
    """Write an .xls whose records are encrypted.

    RC4, MS-XLS §2.2.10; the record of who saved it is the one on the lock.
    """
    container = io.BytesIO(raw)
    with olefile.OleFileIO(container, write_mode=True) as file:
        stream = bytearray(file.openstream("Workbook").read())
        at = stream.index(b"\x5c\x00\x70\x00")
        salt, verifier = bytes(range(16)), bytes(range(16, 32))
        proof = DocumentRC4.decrypt(
            password,
            salt,
            io.BytesIO(verifier + hashlib.md5(verifier).digest()),  # noqa: S324
        ).read()
        clear = bytearray(stream)
        clear[at : at + 2] = b"\x2f\x00"
        clear[at + 4 : at + 58] = struct.pack("<HHH", 1, 1, 1) + salt + proof
        out = bytearray(DocumentRC4.decrypt(password, salt, io.BytesIO(bytes(stream)), 1024).read())
        for kind, start, end in binary_records.iter_records(bytes(clear), 0):
            plain = end if kind in {0x809, 0x2F, 0xE1} else start + 4 if kind == 0x85 else start
            out[start - 4 : plain] = clear[start - 4 : plain]
        file.write_stream("Workbook", bytes(out))
    return container.getvalue()


def read(raw: bytes, options: Options = DEFAULT_OPTIONS, table: int = 0) -> list[dict[int, Value]]:
    """The values of a table, row by row."""
    found, _ = find_tables(raw, options)
    return [
        {at: found[table].cells.read_value(cell) for at, cell in row.cells.items()}
        for row in found[table].rows()
    ]


def read_texts(raw: bytes, options: Options = DEFAULT_OPTIONS, table: int = 0) -> list[list[str]]:
    """Return the texts of a table, row by row, blank ones left out."""
    return [[value.text for value in row.values()] for row in read(raw, options, table)]


# -- .xlsb, which nothing we have can write ----


def record(kind: int, data: bytes = b"") -> bytes:
    head = bytes([kind]) if kind < 0x80 else bytes([kind & 0x7F | 0x80, kind >> 7])
    size, count = b"", len(data)
    while True:
        size += bytes([count & 0x7F | (0x80 if count > 0x7F else 0)])
        count >>= 7
        if not count:
            return head + size + data


def encode_wide(text: str) -> bytes:
    return struct.pack("<I", len(text)) + text.encode("utf-16-le")


def build_cell(kind: int, column: int, data: bytes, style: int = 0) -> bytes:
    return record(kind, struct.pack("<II", column, style) + data)


def build_row(number: int, *cells: bytes, hidden: bool = False) -> bytes:
    return record(
        0, struct.pack("<IIHBBBI", number, 0, 300, 0, 0x10 if hidden else 0, 0, 0)
    ) + b"".join(cells)


TYPE = "application/vnd.ms-excel"
RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGED = "http://schemas.openxmlformats.org/package/2006"


def build_relationships(**to: str) -> str:
    inner = "".join(
        f'<Relationship Id="{key}" Type="{RELATED}/{key[:-1]}" Target="{at}"/>'
        for key, at in to.items()
    )
    return f'<Relationships xmlns="{PACKAGED}/relationships">{inner}</Relationships>'


def build_xlsb(
    rows: bytes,
    strings: list[str],
    formats: list[str],
    *,
    after: bytes = b"",
    states: tuple[int, ...] = (0,),
    sheet_rels: str = "",
) -> bytes:
    """A binary workbook whose first sheet has these rows; style n+1 has the n-th format."""
    names = [f"Sheet{number + 1}" for number in range(len(states))]
    sheets = b"".join(
        record(
            156, struct.pack("<II", state, at + 1) + encode_wide("worksheet1") + encode_wide(name)
        )
        for at, (name, state) in enumerate(zip(names, states, strict=True))
    )
    codes = b"".join(
        record(44, struct.pack("<H", 164 + at) + encode_wide(code))
        for at, code in enumerate(formats)
    )
    xfs = b"".join(
        record(47, struct.pack("<HH12x", 0, code)) for code in (0, *range(164, 164 + len(formats)))
    )
    parts = {
        "[Content_Types].xml": (
            f'<Types xmlns="{PACKAGED}/content-types"><Default Extension="bin" '
            f'ContentType="{TYPE}.sheet.binary.macroEnabled.main"/></Types>'
        ),
        "_rels/.rels": build_relationships(officeDocument1="xl/workbook.bin"),
        "xl/_rels/workbook.bin.rels": build_relationships(
            worksheet1="worksheets/sheet1.bin",
            sharedStrings1="sharedStrings.bin",
            styles1="styles.bin",
        ),
        "xl/workbook.bin": (
            record(131)
            + record(153, struct.pack("<II", 0, 0))
            + record(143)
            + sheets
            + record(144)
            + record(132)
        ),
        "xl/styles.bin": (
            record(278)
            + record(615, struct.pack("<I", len(formats)))
            + codes
            + record(616)
            + record(617, struct.pack("<I", len(formats) + 1))
            + xfs
            + record(618)
            + record(279)
        ),
        "xl/sharedStrings.bin": (
            record(159, struct.pack("<II", len(strings), len(strings)))
            + b"".join(record(19, b"\0" + encode_wide(text)) for text in strings)
            + record(160)
        ),
        "xl/worksheets/sheet1.bin": (
            record(129)
            + record(148, struct.pack("<IIII", 0, 9, 0, 9))
            + record(145)
            + rows
            + record(146)
            + after
            + record(130)
        ),
    }
    if sheet_rels:
        parts["xl/worksheets/_rels/sheet1.bin.rels"] = sheet_rels
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return out.getvalue()
