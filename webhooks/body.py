"""Webhook bodies: find the form and its HandshakeKey, and remove that key before storing."""

import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from parsers.formstack import submission as formstack_submission
from parsers.formstack.field_labels import find_field
from parsers.formstack.submission import Envelope
from parsers.item import ParseError

HANDSHAKE_KEY = "secret"  # the parser's name of the field
# a JSON string, and whether it is a name
_MEMBER = re.compile(r'"((?:[^"\\]++|\\.)*+)"(\s*+:\s*+)?+', re.DOTALL)
_TO_THE_END = re.compile(r"[^,}]*")


@dataclass(frozen=True, slots=True)
class Body:
    """A signed body: form, submission and handshake keys.

    `unreadable_reason` says why it cannot be parsed, or "".
    """

    envelope: Envelope = field(repr=False)
    unreadable_reason: str

    @property
    def reference(self) -> str:
        """Return the submission's id at Formstack, "FormID/UniqueID".

        "" where the body lacks either.
        """
        form, submission = self.envelope.form, self.envelope.submission
        return f"{form}/{submission}" if form and submission else ""


def parse_body(raw: bytes, content_type: str) -> Body:
    """Parse a body once for everything asked of it later; never raises."""
    try:
        envelope = formstack_submission.find_envelope(formstack_submission.parse_fields(raw))
    except ParseError as error:
        return Body(Envelope(), str(error))
    try:
        formstack_submission.check_content_type(raw, content_type)
    except ParseError as error:
        return Body(envelope, str(error))
    return Body(envelope, "")


def remove_handshake(raw: bytes) -> bytes:
    """Return the body without its HandshakeKey, every other byte as it was.

    Works also for a body that cannot be parsed.
    """
    if formstack_submission.is_json(raw):
        return _remove_from_json(raw)
    return b"&".join(pair for pair in raw.split(b"&") if not _is_secret(pair))


def _is_secret(pair: bytes) -> bool:
    """Return whether a form field is the HandshakeKey."""
    name = pair.partition(b"=")[0].decode("utf-8", errors="replace")
    return find_field(unquote_plus(name)) == HANDSHAKE_KEY


def _remove_from_json(raw: bytes) -> bytes:
    """Return a JSON body with its HandshakeKey emptied."""
    encoding: str = json.detect_encoding(raw)
    if encoding in {"utf-8", "utf-8-sig"}:
        encoding = "latin-1"  # one character a byte, whatever they are
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "latin-1", raw.decode("latin-1")
    return _empty_secrets(text).encode(encoding)


def _empty_secrets(text: str) -> str:
    """Return JSON text with the value of each HandshakeKey emptied, whatever type it has."""
    pieces, at = [], 0
    while (member := _MEMBER.search(text, at)) is not None:
        pieces.append(text[at : member.end()])
        at = member.end()
        if member[2] and find_field(_unescape(member[1])) == HANDSHAKE_KEY:
            pieces.append('""')
            at = _end_of_value(text, at)
    return "".join((*pieces, text[at:]))


def _unescape(text: str) -> str:
    """Return a JSON string's text; as it is when it cannot be decoded."""
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def _end_of_value(text: str, at: int) -> int:
    """Return the position after a JSON value."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, at)[1]
    except (ValueError, RecursionError):
        # not JSON: the secret must go, even if more goes with it
        cut = _TO_THE_END.match(text, at)
        return cut.end() if cut else len(text)
