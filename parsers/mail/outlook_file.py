"""Reader of .msg files, in which Outlook saves a message (MS-OXMSG).

Our own on olefile: extract-msg has a licence that ours cannot take in, and python-oxmsg reads no
attached message and gives up at the first property that is missing.
"""

import re
import struct
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from io import BytesIO

import olefile

from parsers.mail import tnef
from parsers.mail.syntax import headers
from parsers.text import charsets, filenames

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
MAX_BYTES = 60_000_000
MAX_FILES = 200  # of a message
MAX_RECIPIENTS = 500
MAX_DEPTH = 4  # of messages within messages
MAX_STORAGES = 3000  # messages, files and recipients of a .msg in all
MAX_READ = 2  # bytes read of a .msg for each byte it has: streams that share their place cost more
OCTETS = "application/octet-stream"

# Properties (MS-OXPROPS), as the names of their streams have them.
SUBJECT, TEXT, HTML, HEADERS, SENT_AT = 0x0037, 0x1000, 0x1013, 0x007D, 0x0039
SENDER_NAME, SENDER_SMTP, SENDER_ADDRESS = 0x0C1A, 0x5D01, 0x0C1F
NAME, SMTP_ADDRESS, ADDRESS, RECIPIENT_TYPE = 0x3001, 0x39FE, 0x3003, 0x0C15
LONG_NAME, SHORT_NAME, MIME, CONTENT_ID, DATA = 0x3707, 0x3704, 0x370E, 0x3712, 0x3701
CODEPAGE, MESSAGE_CODEPAGE = 0x3FDE, 0x3FFD
_RECIPIENT_FIELDS = {1: "To", 2: "Cc"}  # by type; blind copies are nobody's to show

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)
_PROPERTY = struct.Struct("<HHIQ")  # type, tag, flags, value
# Bytes before the properties of a fixed length, by what has them (MS-OXMSG §2.4).
_TOP_HEAD, _MESSAGE_HEAD, _PART_HEAD = 32, 24, 8
# Fields of a stored header that tell how the message was encoded; it is encoded anew.
_ENCODING_FIELDS = re.compile(r"content-|mime-version$|lines$", re.IGNORECASE)
_MEDIA_TYPE = re.compile(r"[a-z]+/[\w.+-]+", re.IGNORECASE)
# What olefile lets out for a damaged file.
_DAMAGE_ERRORS = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    RecursionError,
    struct.error,
)


def is_outlook_file(raw: bytes) -> bool:
    """Return whether bytes are a compound file, as each .msg is."""
    return raw.startswith(SIGNATURE)


def to_mail(raw: bytes) -> bytes | None:
    """Return the message in a .msg as one of RFC 5322; None where there is none to be read.

    What is missing or damaged is left out. Attached messages are attached as such.
    """
    if not is_outlook_file(raw) or len(raw) > MAX_BYTES:
        return None
    try:
        with olefile.OleFileIO(BytesIO(raw)) as file:
            top = _Storage(_Container(file, MAX_READ * len(raw)), (), _TOP_HEAD)
            return _build_mail(top, MAX_DEPTH) if top.is_message() else None
    except _DAMAGE_ERRORS:
        return None


class _Container:
    """A .msg that is read, and how much of it may still be."""

    def __init__(self, file: olefile.OleFileIO, most_bytes: int) -> None:
        self._file = file
        self._bytes_left = most_bytes
        self._storages_left = MAX_STORAGES
        # Once for all storages: to list a directory again for each would take quadratic time.
        self._names: dict[tuple[str, ...], list[str]] = {}
        for *path, name in file.listdir(streams=False, storages=True):
            self._names.setdefault(tuple(path), []).append(name)

    def list_storages(self, path: tuple[str, ...], prefix: str, most: int) -> list[str]:
        """Return the names of the storages at a path that begin with a prefix in lower case."""
        found = (n for n in self._names.get(path, ()) if n.lower().startswith(prefix))
        names = sorted(set(found))[: min(most, self._storages_left)]
        self._storages_left -= len(names)
        return names

    def is_storage(self, path: tuple[str, ...]) -> bool:
        """Return whether there is a storage at a path."""
        return bool(self._file.get_type(list(path)) == olefile.STGTY_STORAGE)

    def read(self, path: tuple[str, ...]) -> bytes:
        """Return a stream; b"" where there is none, or too much has been read already."""
        place = list(path)
        if self._file.get_type(place) != olefile.STGTY_STREAM:
            return b""
        size = self._file.get_size(place)
        if size > self._bytes_left:
            return b""
        self._bytes_left -= size
        with self._file.openstream(place) as stream:
            content: bytes = stream.read()
        return content


class _Storage:
    """A message, a recipient or a file within a .msg: its properties, each a stream."""

    def __init__(self, file: _Container, path: tuple[str, ...], head: int = _PART_HEAD) -> None:
        self._file = file
        self._path = path
        content = self._read("__properties_version1.0")[head:]
        content = content[: len(content) // _PROPERTY.size * _PROPERTY.size]
        self._fixed: dict[int, int] = {
            tag: value for _, tag, _, value in _PROPERTY.iter_unpack(content)
        }
        codepage = self._fixed.get(CODEPAGE) or self._fixed.get(MESSAGE_CODEPAGE)
        self.codepage = f"cp{codepage & 0xFFFF}" if codepage else ""

    def is_message(self) -> bool:
        """Return whether it has a property of a message: other compound files have none."""
        return any(self.find_text(tag) for tag in (SUBJECT, TEXT, HEADERS)) or bool(
            self.find_bytes(HTML)
        )

    def find_text(self, tag: int) -> str:
        """Return a property that is a text, "" if it is missing."""
        content = self._read(f"__substg1.0_{tag:04X}001F")
        if content:
            return charsets.clean(content.decode("utf-16-le", "replace").rstrip("\0"))
        return tnef.decode_text(self._read(f"__substg1.0_{tag:04X}001E"), self.codepage)

    def find_bytes(self, tag: int) -> bytes:
        """Return a property that is bytes, b"" if it is missing."""
        return self._read(f"__substg1.0_{tag:04X}0102")

    def find_number(self, tag: int) -> int:
        """Return a property that is a number or a time, 0 if it is missing."""
        return self._fixed.get(tag, 0)

    def list_storages(self, kind: str, most: int) -> list["_Storage"]:
        """Return the storages of a kind in it: `recip` or `attach`."""
        names = self._file.list_storages(self._path, f"__{kind}_version1.0_#", most)
        return [_Storage(self._file, (*self._path, name)) for name in names]

    def find_message(self) -> "_Storage | None":
        """Return the message that an attachment is, None if it is a file."""
        path = (*self._path, f"__substg1.0_{DATA:04X}000D")
        if not self._file.is_storage(path):
            return None
        message = _Storage(self._file, path, _MESSAGE_HEAD)
        return message if message.is_message() else None

    def _read(self, name: str) -> bytes:
        return self._file.read((*self._path, name))


def _build_mail(message: _Storage, depth: int) -> bytes:
    """Return a message as a mail; `depth` is how many more may be nested in it."""
    mail = EmailMessage(policy=SMTP)
    text, html = message.find_text(TEXT), _find_html(message)
    mail.set_content(charsets.clean(text), charset="utf-8", cte="base64")
    if html:
        if text.strip():
            mail.add_alternative(html, subtype="html", charset="utf-8", cte="base64")
        else:
            mail.set_content(html, subtype="html", charset="utf-8", cte="base64")
    for file in message.list_storages("attach", MAX_FILES):
        _attach(mail, file, depth)
    head = "".join(f"{name}: {_flatten(value)}\r\n" for name, value in _list_fields(message))
    return head.encode("utf-8", "replace") + mail.as_bytes()


def _attach(mail: EmailMessage, file: _Storage, depth: int) -> None:
    name = filenames.make_safe(
        next(filter(None, map(file.find_text, (LONG_NAME, NAME, SHORT_NAME))), "")
    )
    attached = file.find_message()
    if attached is not None and depth > 0:
        content, media_type = _build_mail(attached, depth - 1), "message/rfc822"
        name = name if name.lower().endswith(".eml") else f"{name or 'message'}.eml"
    else:
        content, media_type = file.find_bytes(DATA), file.find_text(MIME)
    # A file called multipart would be taken apart, and its text for the message's.
    if not _MEDIA_TYPE.fullmatch(media_type) or media_type.lower().startswith("multipart/"):
        media_type = OCTETS
    content_id = file.find_text(CONTENT_ID).strip()
    main, _, sub = media_type.lower().partition("/")
    mail.add_attachment(
        content,
        maintype=main,
        subtype=sub,
        filename=name or None,
        cid=f"<{_flatten(content_id)}>" if content_id else None,
        disposition="inline" if content_id else "attachment",
    )


def _find_html(message: _Storage) -> str:
    content = message.find_bytes(HTML)
    return charsets.decode(content, message.codepage) if content else message.find_text(HTML)


def _list_fields(message: _Storage) -> list[tuple[str, str]]:
    """Return the fields of the header that came with a message, else those its properties give."""
    stored = headers.parse_header(message.find_text(HEADERS).encode()).fields
    fields = [
        (name, value.decode("utf-8", "replace"))
        for name, value in stored.items
        if not _ENCODING_FIELDS.match(name)
    ]
    known = {name for name, _ in fields}
    return [*fields, *(pair for pair in _make_fields(message) if pair[0].lower() not in known)]


def _make_fields(message: _Storage) -> list[tuple[str, str]]:
    """Return the fields of a header that the properties of a message give."""
    sender = message.find_text(SENDER_SMTP) or message.find_text(SENDER_ADDRESS)
    fields = [("From", _format_address(message.find_text(SENDER_NAME), sender))]
    people: dict[str, list[str]] = {"To": [], "Cc": []}
    for recipient in message.list_storages("recip", MAX_RECIPIENTS):
        field = _RECIPIENT_FIELDS.get(recipient.find_number(RECIPIENT_TYPE) & 0xF)
        address = recipient.find_text(SMTP_ADDRESS) or recipient.find_text(ADDRESS)
        if field:
            people[field].append(_format_address(recipient.find_text(NAME), address))
    fields += [(name, ", ".join(filter(None, found))) for name, found in people.items()]
    fields.append(("Subject", message.find_text(SUBJECT)))
    if sent_at := message.find_number(SENT_AT):
        moment = _EPOCH + timedelta(microseconds=sent_at // 10)
        fields.append(("Date", format_datetime(moment)))
    return [(name, value) for name, value in fields if value]


def _format_address(name: str, address: str) -> str:
    """Return a person for a header, "" for nobody.

    An address that only Exchange knows (`/o=…`) is left out.
    """
    if "@" not in address:
        return f"{_quote(name)} <>" if name else ""
    return f"{_quote(name)} <{address}>" if name else address


def _quote(name: str) -> str:
    return '"' + name.replace("\\", "").replace('"', "") + '"'


def _flatten(value: str) -> str:
    """Return a value on one line: nothing in it begins another field."""
    return " ".join(re.split(r"[\r\n\0]+\s*", value)).strip()
