"""Header fields as they were sent.

Found, unfolded, decoded (RFC 5322 §2.2, RFC 2047, RFC 2231), however broken.
"""

import binascii
import re
from dataclasses import dataclass
from functools import cache, partial

from parsers.text import charsets

MAX_BLOCK = (
    1_048_576  # bytes of a header block that are read; the rest stays in the stored original
)
MAX_FIELDS = 2000
MAX_VALUE = 131_072  # bytes of one field; longer ones are cut
MAX_PARAMETERS = 64
MAX_PARAMETER_BYTES = 20_000

# A block of `Word: text` lines is a header only if it names one of these: people write "Note: ..."
# too.
KNOWN_FIELDS = frozenset(
    str.split(
        "from to cc bcc subject date message-id received return-path reply-to sender mime-version"
        " content-type content-transfer-encoding content-disposition content-id content-description"
        " in-reply-to references delivered-to envelope-to x-original-to dkim-signature x-mailer"
        " user-agent precedence auto-submitted list-id list-unsubscribe errors-to organization"
        " importance x-priority thread-index thread-topic resent-from resent- date resent-to"
        " authentication-results arc-seal apparently-to status x-uidl",
    ),
)
_FIELD = re.compile(rb"([!-9;-~]{1,2000})[ \t]*:[ \t]*(.*)", re.DOTALL)
_STRANGE_FIELD = re.compile(
    rb"(?=[^\s:]{0,80}[^\x00-\x7f])[^\s:]{1,80}[ \t]*:"
)  # `Invalìd-Field: x`
_LINE = re.compile(rb"[^\r\n]*(?:\r\r\n|\r\n|\n|\r|\Z)")
_EMPTY_LINE = re.compile(rb"\n\r?\n")
_MBOX = re.compile(rb">?From [^\r\n]*\r?\n")
_KNOWN_FIELD = re.compile(
    rb"^(?:" + b"|".join(name.encode() for name in sorted(KNOWN_FIELDS)) + rb")[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
_TRANSPORT = re.compile(
    rb"(?:return-path|received|delivered-to|message-id|mime-version)[ \t]*:", re.IGNORECASE
)
_WORD = re.compile(rb"=\?([^?\s]{1,80})\?([bBqQ])\?(.*?)\?=", re.DOTALL)
_CUT_WORD = re.compile(rb"=\?([^?\s]{1,80})\?([bBqQ])\?([^?\s]*)\??\Z")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_BLANKS = re.compile(r"\s+")
_ID = re.compile(r"<([^<>\s]{1,900})>")
_PARAMETER = re.compile(
    rb"""([^\s=;"]{1,80})\s*=\s*(?:"(.*?)"(?=\s*(?:;|\Z)|\s+[\w*-]+=)|"([^"]*)"|"([^"]*)\Z|([^;]*))""",
    re.DOTALL,
)
_SPACED = frozenset(
    {"name", "filename"}
)  # parameters whose unquoted values people write with blanks in them


class Fields:
    """The fields of one header block in their order.

    Names in lower case, values unfolded and else as sent.
    """

    def __init__(self, items: list[tuple[str, bytes]]) -> None:
        self.items = items
        self._index: dict[str, list[bytes]] = {}
        self._parameters: dict[str, tuple[str, dict[str, str]]] = {}
        for name, value in items:
            self._index.setdefault(name, []).append(value)

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def find_all(self, name: str) -> list[bytes]:
        """Return all values of a field, top first."""
        return self._index.get(name, [])

    def find_first(self, name: str) -> bytes:
        """Return the first value that is not blank, or b""."""
        return next((value for value in self.find_all(name) if value.strip()), b"")

    def find_text(self, name: str, hint: str = "") -> str:
        """Return the first value decoded to one line, or ""."""
        return to_one_line(decode_words(self.find_first(name), hint))

    def find_parameters(self, name: str) -> tuple[str, dict[str, str]]:
        """Return a field's value in lower case, and its parameters.

        Split once, however often it is asked for.
        """
        found = self._parameters.get(name)
        if found is None:
            found = self._parameters[name] = parse_parameters(self.find_first(name))
        return found


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """A header block and where the body behind it begins."""

    fields: Fields
    body_start: int
    is_cut: bool = False  # a bound was hit: some of it was not read


def parse_header(raw: bytes, start: int = 0) -> HeaderBlock:
    """Find the header block of a message or part that begins at `start`.

    A block that is none leaves all as body.
    """
    begin = _first_field(raw, start)
    last_known = cache(partial(_last_known, raw, begin))  # only headers that are broken ask
    items: list[tuple[str, bytes]] = []
    position, size = begin, len(raw)
    while position < size:
        if len(items) >= MAX_FIELDS or position - begin > MAX_BLOCK:
            return HeaderBlock(Fields(items), _blank_line(raw, position), is_cut=True)
        # the pattern matches everywhere
        end = _LINE.match(raw, position).end()  # type: ignore[union-attr]
        line = raw[position:end].rstrip(b"\r\n")
        if not line.strip() and (not line or position > last_known()):
            position = end
            break
        if not _take(line, items) and (not items or position > last_known()):
            break
        position = end
    if not any(name in KNOWN_FIELDS or name.startswith(("x-", "content-")) for name, _ in items):
        return HeaderBlock(Fields([]), start)
    return HeaderBlock(Fields(items), position)


def _first_field(raw: bytes, start: int) -> int:
    """Position of the first field: behind a byte order mark, blank lines, mbox lines, a title."""
    if raw.startswith(b"\xef\xbb\xbf", start):
        start += 3
    while raw[start : start + 1] in {b"\r", b"\n"}:
        start += 1
    while mbox := _MBOX.match(raw, start):
        start = mbox.end()
    line = _LINE.match(raw, start)
    if line is not None and _FIELD.match(line[0]) is None and _TRANSPORT.match(raw, line.end()):
        return line.end()
    return start


def _last_known(raw: bytes, begin: int) -> int:
    """Position of the last field that mail knows before the first empty line.

    Lines up to there belong to the header even if they have neither a name nor the blank of a
    folded line.
    """
    last = begin - 1
    for found in _KNOWN_FIELD.finditer(raw, begin, min(_blank_line(raw, begin), begin + MAX_BLOCK)):
        last = found.start()
    return last


def _take(line: bytes, items: list[tuple[str, bytes]]) -> bool:
    """Add one line to the fields; False where it is neither a field nor a folded line."""
    folded = line[:1] in {b" ", b"\t"}
    field = None if folded else _FIELD.match(line)
    if field is not None:
        items.append(
            (field[1].decode("ascii", "replace").lower(), field[2].strip(b" \t")[:MAX_VALUE])
        )
    elif not folded and _STRANGE_FIELD.match(line):
        return False  # a field with a name no field may have: no part of the value above
    elif items:
        name, value = items[-1]
        if len(value) < MAX_VALUE:
            items[-1] = (name, (value + b" " + line.strip(b" \t"))[:MAX_VALUE])
    return folded or field is not None


def _blank_line(raw: bytes, position: int) -> int:
    """Position behind the next empty line, or the end."""
    found = _EMPTY_LINE.search(raw, position)
    return found.end() if found is not None else len(raw)


def to_one_line(text: str) -> str:
    """Text as one line.

    Line ends and other controls become blanks, runs of blanks one, the ends are bare.
    """
    return _BLANKS.sub(" ", _CONTROLS.sub(" ", text)).strip()


def decode_words(value: bytes, hint: str = "") -> str:
    """Unfolded bytes of a field as text.

    Encoded words wherever they stand, and bytes no standard allows (RFC 2047).

    Words are decoded once; neighbours of one charset are joined before, as characters are often
    split between them.
    """
    last = value.rfind(b"?=") + 2
    if last < 2 or b"=?" not in value:  # noqa: PLR2004 - rfind found nothing
        return _tail(value, hint)
    pieces: list[tuple[str, bytes]] = []
    position = 0
    for word in _WORD.finditer(value, 0, last):
        gap = value[position : word.start()]
        if gap.strip() or not pieces or not pieces[-1][0]:
            pieces.append(("", gap))
        label, content = word[1].decode("ascii", "replace"), _decoded_word(word[2], word[3])
        if pieces and pieces[-1][0].lower() == label.lower():
            pieces[-1] = (label, pieces[-1][1] + content)
        else:
            pieces.append((label, content))
        position = word.end()
    text = "".join(
        charsets.decode(content, label, "" if label else hint) for label, content in pieces
    )
    return text + _tail(value[position:], hint)


def _tail(value: bytes, hint: str) -> str:
    """Text without whole encoded words; one that was cut off at its end is decoded too."""
    word = _CUT_WORD.search(value, max(0, len(value) - 2000)) if b"=?" in value else None
    if word is None:
        return charsets.decode(value, "", hint)
    content = charsets.decode(_decoded_word(word[2], word[3]), word[1].decode("ascii", "replace"))
    return charsets.decode(value[: word.start()], "", hint) + content


def _decoded_word(encoding: bytes, content: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(content.replace(b"_", b" "))
    return decode_base64(content)


def decode_base64(data: bytes) -> bytes:
    """Decode base64, leniently.

    Other characters are skipped, missing padding is added (RFC 2045 §6.8).
    """
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        return _padded(data)


def _padded(data: bytes) -> bytes:
    bare = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    bare = bare[: len(bare) - (len(bare) % 4 == 1)]
    return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4))


def find_message_ids(value: bytes) -> tuple[str, ...]:
    """Well-formed message ids of a field, in order, with angle brackets (RFC 5322 §3.6.4)."""
    text = charsets.decode(value.replace(b"\t", b" "))
    return tuple(f"<{found}>" for found in _ID.findall(text))


def parse_parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """Split `type/subtype; name=value`.

    Value in lower case, parameters decoded (RFC 2045, RFC 2231).

    Where a parameter stands in the place of the value, the value is "".
    """
    head = re.match(rb"\s*\"?((?![\w-]{1,40}=)[^\s;\"]*)", value[:MAX_PARAMETER_BYTES])
    if head is None:
        head = re.match(rb"()", value)
    assert head is not None  # the pattern matches the empty string
    raw: dict[str, bytes] = {}
    position, rest = head.end(), value[:MAX_PARAMETER_BYTES]
    for _ in range(MAX_PARAMETERS):
        while position < len(rest) and rest[position] in b"; \t\r\n":
            position += 1
        found = _PARAMETER.match(rest, position)
        if found is None:
            position = rest.find(b";", position)
            if position < 0:
                break
            continue
        position = found.end()
        name = found[1].decode("ascii", "replace").lower()
        raw.setdefault(name, _parameter_value(name, found))
    return head[1].decode("ascii", "replace").lower(), _joined(raw)


def _parameter_value(name: str, found: re.Match[bytes]) -> bytes:
    quoted = next((group for group in found.group(2, 3, 4) if group is not None), None)
    if quoted is not None:
        return re.sub(rb"\\([\"\\])", rb"\1", quoted)
    bare = found[5].strip()
    return bare if name.split("*", maxsplit=1)[0] in _SPACED else (bare.split() or [b""])[0]


def _joined(raw: dict[str, bytes]) -> dict[str, str]:
    """Parameters with their RFC 2231 continuations put together.

    The extended form wins over the plain one.
    """
    plain: dict[str, str] = {}
    sections: dict[str, list[tuple[int, bool, bytes]]] = {}
    for name, value in raw.items():
        base, star, rest = name.partition("*")
        if not star:
            plain[base] = _parameter_text(value)
            continue
        number = rest.rstrip("*")
        sections.setdefault(base, []).append(
            (int(number) if number.isdecimal() else 0, name.endswith("*"), value)
        )
    return plain | {base: _extended(parts) for base, parts in sections.items()}


def _parameter_text(value: bytes) -> str:
    """A plain value: encoded words stand in it although RFC 2047 forbids them.

    And percent forms without their star.
    """
    extended = re.fullmatch(rb"([\w-]{2,40})'[\w-]*'(.*%[0-9A-Fa-f]{2}.*)", value)
    if extended is not None and charsets.find_codec(extended[1].decode("ascii", "replace")):
        return charsets.decode(_unpercent(extended[2]), extended[1].decode("ascii"))
    return decode_words(value)


def _extended(parts: list[tuple[int, bool, bytes]]) -> str:
    label, content = "", b""
    for number, encoded, section in sorted(parts, key=lambda part: part[0]):
        value = section
        if encoded and number == 0 and value.count(b"'") >= 2:  # noqa: PLR2004 - charset'language'value
            charset, _, value = value.split(b"'", 2)
            label = charset.decode("ascii", "replace")
        content += _unpercent(value) if encoded else value
    return charsets.decode(content, label) if b"=?" not in content else decode_words(content)


def _unpercent(value: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda found: bytes.fromhex(found[1].decode()), value)
