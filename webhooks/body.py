"""What the webhook itself needs of a body.

Which form it is, and its HandshakeKey, which is never stored.
"""

import json
import re
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from parsers.formstack import submission as formstack_submission
from parsers.formstack.submission import Envelope
from parsers.item import ParseError

HANDSHAKE_KEY = "secret"  # as the parser calls it
_MEMBER = re.compile(
    r'"((?:[^"\\]++|\\.)*+)"(\s*+:\s*+)?+', re.DOTALL
)  # a string, and whether it names something
_TO_THE_END = re.compile(r"[^,}]*")


@dataclass(frozen=True, slots=True)
class Body:
    """A body as the door sees it, once it is known to be signed.

    `unreadable` says why it cannot be read, or "".
    """

    envelope: Envelope = field(repr=False)
    unreadable_reason: str

    @property
    def reference(self) -> str:
        """The submission's own name at Formstack, "FormID/UniqueID".

        "" where the body does not say both.
        """
        form, submission = self.envelope.form, self.envelope.submission
        return f"{form}/{submission}" if form and submission else ""


def parse_body(raw: bytes, content_type: str) -> Body:
    """Return what a body says of itself; one parse, whatever is asked of it afterwards."""
    try:
        said = formstack_submission.find_envelope(formstack_submission.parse_fields(raw))
    except ParseError as error:
        return Body(Envelope(), str(error))
    try:
        formstack_submission.check_content_type(raw, content_type)
    except ParseError as error:
        return Body(said, str(error))
    return Body(said, "")


def remove_handshake(raw: bytes) -> bytes:
    """The body with its HandshakeKey taken out, every other byte as it was.

    Also where it cannot be read.
    """
    if formstack_submission.is_json(raw):
        return _json_without(raw)
    return b"&".join(pair for pair in raw.split(b"&") if not _is_secret(pair))


def _is_secret(pair: bytes) -> bool:
    name = pair.partition(b"=")[0].decode("utf-8", errors="replace")
    return formstack_submission.find_field(unquote_plus(name)) == HANDSHAKE_KEY


def _json_without(raw: bytes) -> bytes:
    encoding: str = json.detect_encoding(raw)
    if encoding in {"utf-8", "utf-8-sig"}:
        encoding = "latin-1"  # a letter a byte, whatever they are
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        encoding, text = "latin-1", raw.decode("latin-1")
    return _cut(text).encode(encoding)


def _cut(text: str) -> str:
    """JSON with the value of each HandshakeKey made empty, whatever it is made of."""
    kept, at = [], 0
    while (member := _MEMBER.search(text, at)) is not None:
        kept.append(text[at : member.end()])
        at = member.end()
        if member[2] and formstack_submission.find_field(_unescaped(member[1])) == HANDSHAKE_KEY:
            kept.append('""')
            at = _end_of_value(text, at)
    return "".join((*kept, text[at:]))


def _unescaped(letters: str) -> str:
    try:
        return str(json.loads(f'"{letters}"', strict=False))
    except ValueError:
        return letters


def _end_of_value(text: str, at: int) -> int:
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, at)[1]
    except (
        ValueError,
        RecursionError,
    ):  # it is not JSON: the secret must go, whatever goes with it
        cut = _TO_THE_END.match(text, at)
        return cut.end() if cut else len(text)
