"""What a message says and what it carries: its parts sorted into text and files."""

import re
from dataclasses import dataclass, field

from parsers import charsets, headers, mime, names, text, tnef, transfer
from parsers.item import Attachment
from parsers.mime import Part

MAX_TEXT = 1_000_000  # characters of a text that are shown; all of it is in the original
MAX_TEXT_BYTES = 4_000_000  # longer texts are files
SMALLEST_PART = 5  # bytes; a multipart without parts and with less than this is empty
MAX_ATTACHMENTS = 1000
META_BYTES = 2048  # where an HTML page names its charset (HTML §13.2.3.2 says within 1024)

# Types that are the text of a message -> in which of its forms.
TEXTS = {
    "": "plain",
    "plain/text": "plain",
    "text": "plain",
    "text/enriched": "enriched",
    "text/html": "html",
    "text/markdown": "plain",
    "text/plain": "plain",
    "text/richtext": "enriched",
    "text/x-markdown": "plain",
}
ENCRYPTED = frozenset({"multipart/encrypted", "application/pgp-encrypted"})
TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})

_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_MARKUP = re.compile(r"\s*(?:<!doctype html|<html|<head|<body)\b", re.IGNORECASE)
_ENRICHED = re.compile(r"<param>.{0,200}?</param>|(?<!<)</?\w{1,60}>", re.DOTALL)
_STUB = re.compile(
    r"(?:html|multi-?part|mime).{0,80}(?:view|read|display|client|support|program|reader)"
    r"|(?:view|read|display|support).{0,80}\bhtml\b|no plain.?text",
    re.IGNORECASE | re.DOTALL,
)
STUB_LENGTH = 400


@dataclass(slots=True)
class Segment:
    """One stretch of a message's text in one or both of its forms."""

    plain: str | None = None
    html: str | None = None
    spare: bool = False  # out of winmail.dat: counts only where the mail itself says nothing

    @property
    def best(self) -> str:
        """The form to show as text: the plain one, unless it is blank or only says that there is another."""
        if self.html is None:
            return self.plain or ""
        plain = (self.plain or "").strip()
        if not plain or (len(plain) < STUB_LENGTH and _STUB.search(plain)):
            return text.from_html(self.html) or plain
        return self.plain or ""


@dataclass(slots=True)
class Body:
    """The texts and files of a message, in its order."""

    segments: list[Segment] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What the ticket shows."""
        return "\n\n".join(filter(str.strip, (segment.best.strip("\n") for segment in self.segments)))[:MAX_TEXT]

    @property
    def has_plain(self) -> bool:
        """Whether some of the text came as plain text that says something."""
        return any(segment.plain is not None and segment.best == segment.plain for segment in self.segments)

    @property
    def plain(self) -> str:
        """The text/plain alternative of the whole, "" where there is none."""
        if all(segment.plain is None for segment in self.segments):
            return ""
        return "\n\n".join(s.plain if s.plain is not None else text.from_html(s.html or "") for s in self.segments)

    @property
    def html(self) -> str:
        """The HTML alternative of the whole, "" where there is none; not safe to show."""
        if all(segment.html is None for segment in self.segments):
            return ""
        return "\n".join(s.html if s.html is not None else text.to_html(s.plain or "") for s in self.segments)


def read(root: Part) -> Body:
    """Sort the parts of a message."""
    body = Body()
    found = _collect(root, body, alone=not root.children)
    own = [segment for segment in found if not segment.spare]
    body.segments = own if any(segment.best.strip() for segment in own) else found
    return body


def _collect(part: Part, body: Body, *, alone: bool = False) -> list[Segment]:
    """Text of a part, its files added to the body's."""
    if part.mime in ENCRYPTED:
        body.caveats.append("encrypted: cannot be read here")
    if part.mime == "multipart/alternative" and part.children:
        return _alternative(part, body)
    if part.children:
        return [segment for child in part.children for segment in _collect(child, body)]
    kind = "plain" if alone and part.mime.startswith("multipart/") else TEXTS.get(part.mime)
    disposition, parameters = part.disposition
    named = parameters.get("filename") or part.parameters.get("name")
    if part.mime.startswith("multipart/") and part.size < SMALLEST_PART:
        return []
    if kind is None or (disposition == "attachment") or (named and not alone):
        return _attach(part, body)
    if part.size > MAX_TEXT_BYTES:
        body.caveats.append("a text too long to show: attached")
        return _attach(part, body)
    return _text(part, body, kind)


def _alternative(part: Part, body: Body) -> list[Segment]:
    """The forms of one text (RFC 2046 §5.1.4) as one segment; what is no text among them is a file."""
    segments = [segment for child in part.children for segment in _collect(child, body)]
    plain = [segment.plain for segment in segments if segment.plain is not None]
    html = [segment.html for segment in segments if segment.html is not None]
    if not segments:
        return []
    return [Segment("\n\n".join(plain) if plain else None, "\n".join(html) if html else None)]


def _text(part: Part, body: Body, kind: str) -> list[Segment]:
    content = part.content
    if kind == "plain" and b"begin" in content:
        content, files = transfer.uu_files(content)
        for file in files:
            _add(body, file.content, headers.decode_words(file.name), "application/octet-stream")
    if kind == "html":
        return [Segment(html=_html_text(part, content))]
    decoded = text.lines(charsets.decode(content, mime.charset(part)))
    if part.mime == "" and _MARKUP.match(decoded):
        return [Segment(html=decoded)]
    if kind == "enriched":
        decoded = _ENRICHED.sub("", decoded).replace("<<", "<")
    if part.parameters.get("format", "").lower() == "flowed":
        decoded = text.unflow(decoded, delete_space=part.parameters.get("delsp", "").lower() == "yes")
    if decoded.lstrip().startswith("-----BEGIN PGP MESSAGE-----"):
        body.caveats.append("encrypted: cannot be read here")
    return [Segment(plain=decoded)]


def _html_text(part: Part, content: bytes) -> str:
    label = mime.charset(part)
    if not label:
        meta = _META.search(content[:META_BYTES])
        label = meta[1].decode("ascii", "replace") if meta else ""
        if charsets.codec(label).startswith(("utf-16", "utf-32")):
            label = ""  # the page could not have been read so far if it were true
    return text.lines(charsets.decode(content, label))


def _attach(part: Part, body: Body) -> list[Segment]:
    """Keep a part as a file; winmail.dat is opened, its own files and text are added."""
    disposition, parameters = part.disposition
    content = part.content
    content_id = headers.one_line(part.fields.text("content-id")).strip("<> ")
    name = names.safe(parameters.get("filename") or part.parameters.get("name") or "")
    kind = part.mime if "/" in part.mime else "application/octet-stream"
    if not name and kind == "message/rfc822":
        subject = headers.split(content).fields.text("subject")
        name = names.safe(re.sub(r"[/\\:]", "_", subject) + ".eml") if subject else ""
    inline = disposition == "inline" or (bool(content_id) and disposition != "attachment")
    _add(body, content, name, kind, inline=inline, content_id=content_id)
    if kind in TNEF or name.lower() == "winmail.dat":
        return _opened_tnef(content, body)
    return []


def _opened_tnef(content: bytes, body: Body) -> list[Segment]:
    opened = tnef.read(content)
    if opened is None or not (opened.files or opened.plain or opened.html):
        body.caveats.append("winmail.dat cannot be opened")
        return []
    for name, data in opened.files:
        _add(body, data, name, "application/octet-stream")
    if not (opened.plain or opened.html):
        return []
    return [Segment(opened.plain or None, opened.html or None, spare=True)]


def _add(body: Body, content: bytes, name: str, kind: str, *, inline: bool = False, content_id: str = "") -> None:
    if len(body.attachments) >= MAX_ATTACHMENTS:
        body.caveats.append(f"more than {MAX_ATTACHMENTS} attachments: the rest is in the original")
        return
    shown = names.safe(name) or names.made_up(kind, len(body.attachments) + 1)
    body.attachments.append(Attachment(shown, kind, content, inline=inline, content_id=content_id))
