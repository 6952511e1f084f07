"""Text and files of a message, sorted out of its parts.

No word of a message is lost here. Each text part is in `Body.text`, or is named among the
attachments. Of the forms of one text in a multipart/alternative the plain one is shown, and this is
all that may be left out:

* a form all of whose words, whatever their order, stand in the forms that are shown
  (`words.find_words_only_in`);
* markup, links and pictures of the HTML form: the ticket shows that form too, on request;
* sentences of a plain form that only ask the reader to look at the HTML form.

Where the plain form lacks words of the HTML form, the lines they stand in are added below it,
folded; where it lacks more than half of them, it is another text and both are shown.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

from parsers.item import Attachment, Span
from parsers.mail import calendar, pgp, smime, tnef
from parsers.mail.syntax import headers, mime, transfer_encoding
from parsers.mail.syntax.headers import Fields
from parsers.mail.syntax.mime import Part
from parsers.text import charsets, filenames, html_bounds, words
from parsers.text import html as text_html

MAX_TEXT = 1_000_000  # characters of text that are shown; a longer text is attached too, whole
# Bytes of all text parts together that are read to be shown; what lies beyond is attached. It holds
# the million characters in any language, and keeps a mail of 32 MiB of HTML under five seconds.
MAX_TEXT_BYTES = 2_500_000
# Enough for every part that is a file, and every file that stood in a text.
MAX_ATTACHMENTS = mime.MAX_PARTS + transfer_encoding.MAX_UU_FILES + 100
# Parts of HTML in one mail that are laid out; of more, the words between the tags are shown.
MAX_PAGES = 20
WHOLE_NAME = "whole-text.txt"
UNREADABLE = "some characters cannot be read: each is shown as \ufffd"
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
# Kinds of text that are files, whatever they are called; any other is shown (RFC 2046 §4.1.4: as
# text/plain).
FILES_OF_TEXT = frozenset(
    str.split(
        "text/calendar text/x-calendar text/x-vcalendar text/csv text/tab-separated-values"
        " text/vcard text/x-vcard text/directory text/css text/javascript text/xml text/rtf"
        " text/rfc822-headers text/x-amp-html text/watch-html text/x-diff text/x-patch text/x-log"
        " text/x-python text/x-sh text/x-c",
    ),
)
# The registered top-level types (RFC 6838 §4.2) but text.
TYPES = frozenset(
    str.split(
        "application audio chemical example font haptics image message model multipart video"
    ),
)
OCTETS = "application/octet-stream"
SAMPLE = 65_536  # bytes that show whether a content is text
ENCRYPTED = frozenset({"multipart/encrypted", "application/pgp-encrypted"})
SEALED = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})  # S/MIME in one block
# Blocks of S/MIME in one mail that are opened: more than three are never around one another
# (RFC 2634 §1.1), and each is a message to be taken apart again.
MAX_OPENED = 3
MAX_CALENDARS = 10  # calendar parts of one mail that are read
SMIME_CAVEAT = "signed (S/MIME): the signature is not verified"
PGP_CAVEAT = "signed (PGP): the signature is not verified"
TNEF = frozenset({"application/ms-tnef", "application/vnd.ms-tnef"})

_WELL_FORMED = re.compile(r"[\w!#$%&'*+.^`{|}~-]+/[\w!#$%&'*+.^`{|}~-]+", re.ASCII)  # RFC 2045 §5.1
_NO_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_META = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]{2,40})", re.IGNORECASE)
_MARKUP = re.compile(r"\s*(?:<!doctype html|<html|<head|<body)\b", re.IGNORECASE)
_ENRICHED = re.compile(r"<param>.{0,200}?</param>|(?<!<)</?\w{1,60}>", re.DOTALL)
_STUB = re.compile(
    r"(?:html|multi-?part|mime).{0,80}(?:view|read|display|client|support|program|reader)"
    r"|(?:view|read|display|support).{0,80}\bhtml\b|no plain.?text",
    re.IGNORECASE | re.DOTALL,
)
STUB_LENGTH = 400
# What mail programs write outside of the parts, for readers that know no MIME (RFC 2046 §5.1.1).
_PREAMBLE = re.compile(
    r"\bmime\b|multi-?part|mehrteilig|multipartes|open-?pgp|s/mime"
    r"|(?:mail|news)[- ]?(?:reader|client|program|software|user agent|agent)"
    r"|not (?:be )?(?:legible|understand)|this format",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
MAX_PREAMBLE = 1000  # characters; what is longer is somebody's text


class Segment:
    """A stretch of a message's text in one or both of its forms, None for a form it lacks."""

    def __init__(
        self,
        plain: str | None = None,
        html: str | None = None,
        *,
        is_fallback: bool = False,
        is_laid_out: bool = True,
        armour: str = "",
    ) -> None:
        self.plain = plain
        self.html = html
        # Text out of winmail.dat: it counts only where the mail itself has no words.
        self.is_fallback = is_fallback
        # Whether the HTML is shown as it looks, or as the words between its tags.
        self.is_laid_out = is_laid_out
        # Lines of a PGP signature, which are folded away.
        self.armour = armour

    @cached_property
    def html_text(self) -> str:
        """The HTML form as text."""
        if not self.html:
            return ""
        self.is_laid_out = self.is_laid_out and not text_html.is_beyond_bounds(self.html)
        return text_html.lay_out(self.html) if self.is_laid_out else text_html.strip_tags(self.html)

    @cached_property
    def is_stub(self) -> bool:
        """True where the plain form is blank or only points to another one."""
        plain = (self.plain or "").strip()
        return not plain or (len(plain) < STUB_LENGTH and _STUB.search(plain) is not None)

    @cached_property
    def uses_html(self) -> bool:
        """True where the HTML form is the one that is shown."""
        return self.html is not None and self.is_stub and bool(self.html_text.strip())

    @cached_property
    def shown_text(self) -> str:
        """Text that is shown of this stretch: one form, and the other if that is another text."""
        plain = self.plain or ""
        if self.html is None:
            return plain
        if self.uses_html:
            rest = _remove_stubs(plain)
            has_more = words.find_words_only_in(rest, self.html_text)
            return f"{self.html_text}\n\n{plain}" if has_more else self.html_text
        if self._is_another_text:
            return f"{plain}\n\n{self.html_text}"
        return plain

    @cached_property
    def folded_lines(self) -> str:
        """Lines of the HTML form with words that the shown form lacks."""
        if self.html is None or self.uses_html or self._is_another_text or not self._missing:
            return ""
        return words.find_lines_with(self._missing, self.html_text)

    @cached_property
    def _missing(self) -> frozenset[str]:
        html, plain = self.html or "", self.plain or ""
        if html_bounds.is_extract_complete(html):
            # Mostly no word is missing, by one of two fast readings: then no page is laid out.
            for words_of in (text_html.strip_tags, html_bounds.find_all_words):
                if not words.find_words_only_in(words_of(html), plain):
                    return frozenset()
        return words.find_words_only_in(self.html_text, plain)

    @property
    def _is_another_text(self) -> bool:
        return bool(self._missing) and 2 * len(self._missing) > len(
            words.split_words(self.html_text)
        )


def _remove_stubs(plain: str) -> str:
    """Return plain text without the sentences that only point to the HTML form."""
    return "\n".join(
        sentence for sentence in _SENTENCE_END.split(plain) if not _STUB.search(sentence)
    )


@dataclass
class Body:
    """The texts and files of a message, in its order, while its parts are sorted and after."""

    source: bytes = field(repr=False)  # the message
    segments: list[Segment] = field(default_factory=list)
    texts_before: list[str] = field(default_factory=list)  # texts that stood before the first part
    # Texts that stood outside of all parts elsewhere.
    texts_behind: list[str] = field(default_factory=list)
    attachments: list[Attachment] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    uu_file_count: int = 0  # files that stood uuencoded in texts
    html_part_count: int = 0  # parts of HTML
    text_bytes: int = 0  # of text parts, encoded
    calendars: list[calendar.CalendarText] = field(default_factory=list)
    calendar_count: int = 0  # calendar parts that were read
    opened_count: int = 0  # blocks of S/MIME that were opened
    has_sealed_block: bool = False  # one that cannot be read is among the files

    @cached_property
    def text(self) -> str:
        """Text that the ticket shows, folded or not."""
        pieces = [
            piece
            for segment in self.segments
            for piece in (segment.shown_text, segment.folded_lines, segment.armour)
        ]
        return join_texts([*self.texts_before, *pieces, *self.texts_behind])

    @cached_property
    def main_text(self) -> str:
        """The text of the parts alone, without lines that are folded in any case."""
        return join_texts([segment.shown_text for segment in self.segments])

    @property
    def has_plain(self) -> bool:
        """True where some of the shown text came as plain text."""
        return any(segment.plain is not None and not segment.uses_html for segment in self.segments)

    @property
    def plain(self) -> str:
        """The text/plain alternative of the whole, "" where there is none."""
        if all(segment.plain is None for segment in self.segments):
            return ""
        return "\n\n".join(s.plain if s.plain is not None else s.html_text for s in self.segments)

    @property
    def html(self) -> str:
        """The HTML alternative of the whole, "" where there is none; not safe to show."""
        if all(segment.html is None for segment in self.segments):
            return ""
        return "\n".join(
            s.html if s.html is not None else text_html.text_to_html(s.plain or "")
            for s in self.segments
        )


def join_texts(pieces: Iterable[str]) -> str:
    """Join texts by blank lines, without those that are blank."""
    return "\n\n".join(filter(str.strip, (piece.strip("\n") for piece in pieces)))


def parse_body(tree: mime.MessageTree) -> Body:
    """Sort the parts of a message into text and files.

    Of a text of more than MAX_TEXT characters the beginning is the body's text, and all of it an
    attachment.
    """
    body = Body(tree.source)
    segments = _collect(tree.root, body, is_alone=not tree.root.children)
    own = [segment for segment in segments if not segment.is_fallback]
    body.segments = own if _has_text(own) else segments
    _add_calendars(body)
    _add_strays(body, tree)
    whole = body.text
    body.caveats += _list_html_caveats(body.segments)
    if "\ufffd" in whole:
        body.caveats.append(UNREADABLE)
    if len(whole) > MAX_TEXT:
        _attach_whole(body, whole)
        body.text = whole[:MAX_TEXT]
    return body


def _has_text(segments: list[Segment]) -> bool:
    return any(segment.shown_text.strip() for segment in segments)


def _add_calendars(body: Body) -> None:
    """Add calendar parts as text: all where the mail has no words, else notes that it lacks."""
    has_text = _has_text(body.segments)
    shown = join_texts(
        piece for segment in body.segments for piece in (segment.shown_text, segment.folded_lines)
    )
    for entry in dict.fromkeys(body.calendars):
        if not has_text or words.find_words_only_in(entry.note, shown):
            body.segments = [*body.segments, Segment(plain=entry.text)]
            shown = f"{shown}\n{entry.text}"


def _add_strays(body: Body, tree: mime.MessageTree) -> None:
    """Add the texts that stand outside of the parts, as far as the parts lack their words."""
    before, behind = _collect_texts(tree.preamble, body), _collect_texts(tree.strays, body)
    if not _has_text(body.segments):
        if before or behind:
            body.caveats.append(
                "no part of the mail has text: what stands outside of them is shown"
            )
        body.texts_before = _remove_repeated(before, body)
        body.texts_behind = _remove_repeated(behind, body)
        return
    body.texts_before = _remove_repeated(_remove_preambles(before), body)
    body.texts_behind = _remove_repeated(_remove_preambles(behind), body)
    if body.texts_before or body.texts_behind:
        body.caveats.append("text outside the parts of the mail is shown too")


def _remove_preambles(pieces: list[str]) -> list[str]:
    return [piece for piece in pieces if not _is_preamble(piece)]


def _list_html_caveats(segments: list[Segment]) -> list[str]:
    """Return caveats on HTML that is not shown as it was meant to look.

    To be called when the segments' texts have been made: only then is known how each was.
    """
    caveats = []
    if not all(segment.is_laid_out for segment in segments):
        caveats.append("HTML too complex to lay out: its words are shown without it")
    laid_out = [segment.html or "" for segment in segments if segment.is_laid_out]
    if any(map(text_html.has_hidden_words, laid_out)):
        caveats.append("HTML damaged: the words between its tags are shown")
    return caveats


def _collect_texts(parts: tuple[Part, ...], body: Body) -> list[str]:
    """Return the texts of parts that stand outside of the others; attach the files among them."""
    segments = [segment for part in parts for segment in _collect(part, body)]
    return [segment.shown_text for segment in segments if words.split_words(segment.shown_text)]


def _remove_repeated(pieces: list[str], body: Body) -> list[str]:
    """Return the pieces with words that the parts themselves lack."""
    return [piece for piece in pieces if words.find_words_only_in(piece, body.main_text)]


def _is_preamble(piece: str) -> bool:
    """Return whether a text only explains that the message is in MIME format."""
    sentences = [
        sentence for sentence in _SENTENCE_END.split(piece.strip()) if words.split_words(sentence)
    ]
    return len(piece) < MAX_PREAMBLE and all(_PREAMBLE.search(sentence) for sentence in sentences)


def _attach_whole(body: Body, whole: str) -> None:
    """Attach a text that is longer than what is shown of it."""
    body.caveats.append(f"a text too long to show: all of it is attached as {WHOLE_NAME}")
    _add_file(body, whole.encode("utf-8", "replace"), WHOLE_NAME, "text/plain")


def _collect(part: Part, body: Body, *, is_alone: bool = False) -> list[Segment]:
    """Return the text of a part and add its files to the body's.

    `is_alone` says that the part is the whole message.
    """
    if part.mime in ENCRYPTED:
        body.caveats.append("encrypted: cannot be read here")
    if part.mime == "multipart/alternative" and part.children:
        return _collect_alternative(part, body)
    if part.children:
        return [segment for child in part.children for segment in _collect(child, body)]
    return _collect_leaf(part, body, is_alone=is_alone)


def _collect_leaf(part: Part, body: Body, *, is_alone: bool) -> list[Segment]:
    is_undivided = part.mime.startswith("multipart")
    if is_undivided and not part.content.strip():
        return []
    form = "plain" if is_alone and is_undivided else _find_form(part)
    disposition, _ = part.disposition
    is_named_file = _find_name(part) != "" and not is_alone
    if form is None or disposition == "attachment" or is_named_file:
        return _collect_file(part, body)
    return _collect_text(part, body, form)


def _find_name(part: Part) -> str:
    _, parameters = part.disposition
    return parameters.get("filename") or part.parameters.get("name") or ""


def _find_form(part: Part) -> str | None:
    """Return the form of text that a part is by its type, None where it is no text.

    A type that cannot be read counts only where nothing calls the part a file.
    """
    form = TEXTS.get(part.mime)
    disposition, _ = part.disposition
    if form is None and disposition != "attachment" and not _find_name(part):
        return _find_form_of_damaged_type(part)
    return form


def _collect_file(part: Part, body: Body) -> list[Segment]:
    """Attach a part; return the text of a winmail.dat, or one that may be all the mail has."""
    content, span = _decode(part, body)
    segments = _attach(part, body, content, span)
    name = _find_name(part).lower()
    if part.mime in calendar.TYPES or name.endswith(".ics"):
        _read_calendar(part, body, content)
    elif part.mime in SEALED or (part.mime == OCTETS and name.endswith(".p7m")):
        segments += _open_sealed(part, body, content)
    if segments or _find_name(part):
        return segments
    return _collect_fallback(part, body)


def _decode(part: Part, body: Body) -> tuple[bytes, Span | None]:
    """Decode a part, and say where it lies in the message; None within a block that was opened."""
    content, span = part.decode()
    return content, span if part.source is body.source else None


def _read_calendar(part: Part, body: Body, content: bytes) -> None:
    body.calendar_count += 1
    if body.calendar_count > MAX_CALENDARS:
        return
    method = part.parameters.get("method", "")
    entry = calendar.parse(content, mime.find_charset(part), method)
    if entry is not None:
        body.calendars.append(entry)


def _open_sealed(part: Part, body: Body, block: bytes) -> list[Segment]:
    """Return the text of an S/MIME block that is only signed, and add its files."""
    is_opened = body.opened_count < MAX_OPENED
    signed = smime.find_signed_content(block) if is_opened else None
    if signed is None:
        if part.mime in SEALED or smime.looks_like_block(block):
            body.has_sealed_block = True
        return []
    body.opened_count += 1
    body.caveats.append(SMIME_CAVEAT)
    if signed.is_cut:
        body.caveats.append("the signed block is cut off: its beginning is shown")
    return _collect_signed(_find_name(part), body, signed.content)


def _collect_signed(name: str, body: Body, content: bytes) -> list[Segment]:
    """Return the text of what was signed: a MIME entity, else a file, else text alone."""
    fields = headers.parse_header(content).fields
    if not any(key.startswith("content-") or key == "mime-version" for key, _ in fields.items):
        # `contract.pdf.p7m` is a file that was signed, and no mail.
        file_name = re.sub(r"\.p7m$", "", name, flags=re.IGNORECASE)
        if "." in file_name or _NO_TEXT.search(content[:SAMPLE]):
            _add_file(body, content, file_name, OCTETS)
            return []
        return _collect(Part(Fields([]), "", {}, content, 0, len(content)), body, is_alone=True)
    tree = mime.parse(content)
    if tree.root.mime == "message/rfc822":  # with its header protected too (RFC 8551 §3.1)
        tree = mime.parse(tree.root.content)
    body.caveats += tree.caveats
    texts = _remove_preambles(_collect_texts(tree.preamble, body))
    segments = [Segment(plain=text) for text in texts]
    segments += _collect(tree.root, body, is_alone=not tree.root.children)
    texts = _remove_preambles(_collect_texts(tree.strays, body))
    return [*segments, *(Segment(plain=text) for text in texts)]


def _collect_text(part: Part, body: Body, form: str) -> list[Segment]:
    """Return the text of a part, cut where the mail has too much of it, and attached then."""
    bytes_left = MAX_TEXT_BYTES - body.text_bytes
    body.text_bytes += part.size
    content, span = _decode(part, body) if part.size > bytes_left else (part.content, None)
    if part.size > bytes_left:
        body.caveats.append(
            "a text too long to show: its beginning is shown, all of it is attached"
        )
        _attach(part, body, content, span)
    return _make_segments(part, body, form, content[:bytes_left]) if bytes_left > 0 else []


def _find_form_of_damaged_type(part: Part) -> str | None:
    """Return the form of the text in a part whose type cannot be read, None where it is no text.

    What cannot be read as a type is text/plain (RFC 2045 §5.2), as is an unknown kind of text.
    """
    is_text = part.mime.startswith("text/") and part.mime not in FILES_OF_TEXT
    return _find_form_of_content(part) if is_text or not _has_valid_type(part) else None


def _collect_fallback(part: Part, body: Body) -> list[Segment]:
    """Return the text of an attached part that may be the only text of the mail, else nothing.

    Such a part has no name, and its type is none that is registered, or says only that it is some
    bytes.
    """
    is_registered = part.mime.partition("/")[0] in TYPES and part.mime != OCTETS
    if is_registered or part.mime in FILES_OF_TEXT:
        return []
    form = _find_form_of_content(part)
    if form is None or part.size > MAX_TEXT_BYTES - body.text_bytes:
        return []
    body.text_bytes += part.size
    segments = _make_segments(part, body, form, part.content)
    for segment in segments:
        segment.is_fallback = True
    return segments


def _find_form_of_content(part: Part) -> str | None:
    """Return the form of text that the bytes of a part have, None where they are no text."""
    content = part.content
    if not content.strip() or _NO_TEXT.search(content[:SAMPLE]):
        return None
    beginning = content[:META_BYTES].decode("ascii", "replace")
    return "html" if "html" in part.mime or _MARKUP.match(beginning) else "plain"


def _has_valid_type(part: Part) -> bool:
    return _WELL_FORMED.fullmatch(part.mime) is not None


def _collect_alternative(part: Part, body: Body) -> list[Segment]:
    """Return the forms of one text (RFC 2046 §5.1.4) as one segment, [] where none is text.

    What is no text among them is a file.
    """
    segments = [segment for child in part.children for segment in _collect(child, body)]
    if not segments:
        return []
    html = [segment.html for segment in segments if segment.html is not None]
    return [
        Segment(
            plain=_join_plain_forms(segments),
            html="\n".join(html) if html else None,
            is_laid_out=all(segment.is_laid_out for segment in segments),
        )
    ]


def _join_plain_forms(segments: list[Segment]) -> str | None:
    """Return the plain forms of one text as one, None where there is none.

    A form all of whose words others have is left out (text/enriched beside text/plain).
    """
    forms: list[str] = []
    for segment in segments:
        plain = segment.plain
        if plain is not None and (not forms or words.find_words_only_in(plain, "\n".join(forms))):
            forms.append(plain)
    return "\n\n".join(forms) if forms else None


def _make_segments(part: Part, body: Body, form: str, content: bytes) -> list[Segment]:
    """Return the text of a part as it is shown; files that stand in it are attached.

    `content` is only the beginning of the part where that is too long.
    """
    if form == "html":
        return [_make_page(_decode_html(part, content), body)]
    if form == "plain":
        content = _attach_uu_files(content, body)
    text = text_html.normalize_line_ends(charsets.decode(content, mime.find_charset(part)))
    if part.mime == "" and _MARKUP.match(text):
        return [_make_page(text, body)]
    if form == "enriched":
        text = _ENRICHED.sub("", text).replace("<<", "<")
    if part.parameters.get("format", "").lower() == "flowed":
        delete_space = part.parameters.get("delsp", "").lower() == "yes"
        text = text_html.unflow(text, delete_space=delete_space)
    if text.lstrip().startswith("-----BEGIN PGP MESSAGE-----"):
        body.caveats.append("encrypted: cannot be read here")
    text, armour = pgp.split_armour(text)
    if armour:
        body.caveats.append(PGP_CAVEAT)
    return [Segment(plain=text, armour=armour)]


def _attach_uu_files(content: bytes, body: Body) -> bytes:
    """Attach the uuencoded files of a text and return the text without them."""
    files_left = transfer_encoding.MAX_UU_FILES - body.uu_file_count
    if b"begin" not in content or files_left <= 0:
        return content
    content, files = transfer_encoding.extract_uu_files(content, files_left)
    body.uu_file_count += len(files)
    for file in files:
        _add_file(body, file.content, headers.decode_words(file.name), OCTETS)
    return content


def _make_page(html: str, body: Body) -> Segment:
    """Return HTML as a stretch of text; of too many pages the last ones are not laid out."""
    body.html_part_count += 1
    return Segment(html=html, is_laid_out=body.html_part_count <= MAX_PAGES)


def _decode_html(part: Part, content: bytes) -> str:
    """Return HTML as text, by the charset of its part or the one it names itself."""
    label = mime.find_charset(part)
    if not label:
        meta = _META.search(content[:META_BYTES])
        label = meta[1].decode("ascii", "replace") if meta else ""
        if charsets.find_codec(label).startswith(("utf-16", "utf-32")):
            label = ""  # the page could not have been read so far if it were true
    return text_html.normalize_line_ends(charsets.decode(content, label))


def _attach(part: Part, body: Body, content: bytes, span: Span | None) -> list[Segment]:
    """Keep a part as a file, and return the text of a winmail.dat, whose files are added too."""
    disposition, _ = part.disposition
    content_id = headers.to_one_line(part.fields.find_text("content-id")).strip("<> ")
    mime_type = part.mime if _has_valid_type(part) else OCTETS
    name = _find_file_name(part, mime_type, content)
    inline = disposition == "inline" or (bool(content_id) and disposition != "attachment")
    _add_file(body, content, name, mime_type, inline=inline, content_id=content_id, span=span)
    if mime_type in TNEF or name.lower() == "winmail.dat":
        return _open_tnef(content, body)
    return []


def _find_file_name(part: Part, mime_type: str, content: bytes) -> str:
    """Return the name a part gives itself, or the subject of an attached message, else ""."""
    name = filenames.make_safe(_find_name(part))
    if name or mime_type != "message/rfc822":
        return name
    subject = headers.parse_header(content).fields.find_text("subject")
    return filenames.make_safe(re.sub(r"[/\\:]", "_", subject) + ".eml") if subject else ""


def _open_tnef(content: bytes, body: Body) -> list[Segment]:
    """Return the text of a winmail.dat, and add its files."""
    winmail = tnef.parse(content)
    if winmail is None or not (winmail.files or winmail.plain or winmail.html):
        body.caveats.append("winmail.dat cannot be opened")
        return []
    for name, data in winmail.files:
        _add_file(body, data, name, OCTETS)
    if not (winmail.plain or winmail.html):
        return []
    return [Segment(winmail.plain or None, winmail.html or None, is_fallback=True)]


def _add_file(
    body: Body,
    content: bytes,
    name: str,
    kind: str,
    *,
    inline: bool = False,
    content_id: str = "",
    span: Span | None = None,
) -> None:
    if len(body.attachments) >= MAX_ATTACHMENTS:
        body.caveats.append(f"more than {MAX_ATTACHMENTS} attachments: the rest is in the original")
        return
    name = filenames.make_safe(name) or filenames.make_name(kind, len(body.attachments) + 1)
    body.attachments.append(Attachment(name, kind, content, inline, content_id, span))
