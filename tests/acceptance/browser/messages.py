"""Mails, forms and exports as the bytes that customers' programs make, and pictures for them."""

import json
import struct
import zlib
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from itertools import count

from tests.support.workbooks import build_book

SUPPORT = "support@localhost"
HEADINGS: list[object] = [
    "Message ID",
    "Date Received",
    "Practice Name",
    "From",
    "From Email",
    "Subject",
    "Message",
]
PDF = b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"
_numbers = count(1)


def make_mail(
    sender: tuple[str, str],
    subject: str,
    text: str,
    html: str = "",
    files: tuple[tuple[str, str, bytes], ...] = (),
    to: str = SUPPORT,
    precedence: str = "",
) -> bytes:
    """A mail to the desk; `files` are (name, type, content)."""
    message = EmailMessage(policy=SMTP)
    local, _, domain = sender[1].partition("@")
    message["From"] = Address(sender[0], local, domain)
    message["To"] = to
    message["Subject"] = subject
    message["Message-ID"] = f"<b{next(_numbers)}@{domain}>"
    if precedence:
        message["Precedence"] = precedence
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    for name, kind, content in files:
        maintype, _, subtype = kind.partition("/")
        message.add_attachment(content, maintype=maintype, subtype=subtype, filename=name)
    return bytes(message)


def make_form(
    practice: str, sender: tuple[str, str], subject: str, text: str, **more: str
) -> bytes:
    """A submission as Formstack's webhook posts it."""
    first, _, last = sender[0].partition(" ")
    fields = {
        "FormID": "6606394",
        "UniqueID": str(1_500_878_955 + next(_numbers)),
        "Practice Name": practice,
        "Name": {"first": first, "last": last},
        "Email": sender[1],
        "Subject": subject,
        "Message": text,
        **more,
    }
    return json.dumps(fields).encode()


def make_workbook(*rows: tuple[str, str, str, str, str]) -> bytes:
    """A secure-message export; a row is (practice, name, address, subject, text)."""
    lines: list[list[object]] = [[f"SM-{next(_numbers)}", "2026-03-02 09:30", *row] for row in rows]
    return build_book(HEADINGS, *lines)


def make_png(width: int = 320, height: int = 120) -> bytes:
    """A picture: grey lines on white, as of a scanned page."""
    lines = (
        b"\0" + (b"\x99" if y % 16 < 5 and 12 < y < height - 12 else b"\xff") * width
        for y in range(height)
    )
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")
    chunks = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
