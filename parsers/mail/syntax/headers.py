"""Parser of header fields, however broken they are (RFC 5322 §2.2, RFC 2047, RFC 2231)."""

import binascii
import re
from dataclasses import dataclass
from functools import cache, partial

from parsers.text import charsets

# Bytes of a header block that are read; the rest stays in the stored original.
MAX_BLOCK = 1_048_576
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
        " importance x-priority thread-index thread-topic resent-from resent-date resent-to"
        " authentication-results arc-seal apparently-to status x-uidl",
    ),
)
_FIELD = re.compile(rb"([!-9;-~]{1,2000})[ \t]*:[ \t]*(.*)", re.DOTALL)
_STRANGE_FIELD = re.compile(rb"(?=[^\s:]{0,80}[^\x00-\x7f])[^\s:]{1,80}[ \t]*:")  # `Invalìd-Field:`
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
    rb'([^\s=;"]{1,80})\s*=\s*'
    rb"(?:"
    rb'"(.*?)"(?=\s*(?:;|\Z)|\s+[\w*-]+=)'  # quoted, up to the end or the next parameter
    rb'|"([^"]*)"'
    rb'|"([^"]*)\Z'  # the closing quote was cut off
    rb"|([^;]*)"
    rb")",
    re.DOTALL,
)
# Parameters whose unquoted values people write with blanks in them.
_VALUES_WITH_BLANKS = frozenset({"name", "filename"})


class Fields:
    """The fields of one header block in their order.

    `items` are (name, value) pairs: names in lower case, values unfolded and otherwise as sent.
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
        """Return a field's value in lower case, and its parameters; ("", {}) without the field.

        The result is kept, because several steps of parsing ask for the same field.
        """
        if name not in self._parameters:
            self._parameters[name] = parse_parameters(self.find_first(name))
        return self._parameters[name]


@dataclass(frozen=True, slots=True)
class HeaderBlock:
    """The fields of a header block and the position at which the body behind it begins."""

    fields: Fields
    body_start: int
    is_cut: bool = False  # a limit was hit: some of it was not read


def parse_header(raw: bytes, start: int = 0) -> HeaderBlock:
    """Find the header block of a message or part that begins at `start`.

    Lines that only look like a header leave everything as body: no fields, `body_start` is `start`.
    Of more than MAX_FIELDS fields or MAX_BLOCK bytes the rest is left out, and `is_cut` set.
    """
    begin = _find_first_field(raw, start)
    # Reads the whole block, so it is called for broken headers only, and once.
    find_last_known = cache(partial(_find_last_known, raw, begin))
    items: list[tuple[str, bytes]] = []
    position = begin
    while position < len(raw):
        if len(items) >= MAX_FIELDS or position - begin > MAX_BLOCK:
            return HeaderBlock(Fields(items), _find_blank_line(raw, position), is_cut=True)
        end = _find_line_end(raw, position)
        line = raw[position:end].rstrip(b"\r\n")
        if not line or (line.isspace() and position > find_last_known()):
            position = end  # the empty line belongs to the header
            break
        is_part_of_header = _add_line(line, items)
        if not is_part_of_header and (not items or position > find_last_known()):
            break
        position = end
    if not _is_header(items):
        return HeaderBlock(Fields([]), start)
    return HeaderBlock(Fields(items), position)


def _is_header(items: list[tuple[str, bytes]]) -> bool:
    """Return whether fields are those of a mail, and not a text with colons."""
    return any(name in KNOWN_FIELDS or name.startswith(("x-", "content-")) for name, _ in items)


def _find_line_end(raw: bytes, position: int) -> int:
    line = _LINE.match(raw, position)
    assert line is not None  # the pattern matches everywhere
    return line.end()


def _find_first_field(raw: bytes, start: int) -> int:
    """Return the position of the first field.

    It stands behind a byte order mark, blank lines, mbox lines and a title, where there are any.
    """
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


def _find_last_known(raw: bytes, begin: int) -> int:
    """Return the position of the last field that mail knows before the first empty line.

    Lines up to there belong to the header even if they have neither a name nor the blank of a
    folded line. Returns `begin` - 1 where no known field follows.
    """
    end = min(_find_blank_line(raw, begin), begin + MAX_BLOCK)
    last = begin - 1
    for field in _KNOWN_FIELD.finditer(raw, begin, end):
        last = field.start()
    return last


def _add_line(line: bytes, items: list[tuple[str, bytes]]) -> bool:
    """Add one line to the fields; return whether it is a field or a folded line.

    A line that is neither continues the value above it, unless it looks like a damaged field.
    """
    is_folded = line[:1] in {b" ", b"\t"}
    field = None if is_folded else _FIELD.match(line)
    if field is not None:
        name = field[1].decode("ascii", "replace").lower()
        items.append((name, field[2].strip(b" \t")[:MAX_VALUE]))
        return True
    if not is_folded and _STRANGE_FIELD.match(line):
        return False
    if items:
        name, value = items[-1]
        if len(value) < MAX_VALUE:
            items[-1] = (name, (value + b" " + line.strip(b" \t"))[:MAX_VALUE])
    return is_folded


def _find_blank_line(raw: bytes, position: int) -> int:
    """Return the position behind the next empty line, or the end."""
    line = _EMPTY_LINE.search(raw, position)
    return line.end() if line is not None else len(raw)


def to_one_line(text: str) -> str:
    """Return a text as one line.

    Line ends and other control characters become blanks, runs of blanks become one, and there is
    none at either end.
    """
    if text.isprintable() and "  " not in text:  # nearly every text: it has blanks alone
        return text.strip()
    return _BLANKS.sub(" ", _CONTROLS.sub(" ", text)).strip()


def decode_words(value: bytes, hint: str = "") -> str:
    """Decode the unfolded bytes of a field, with encoded words wherever they stand (RFC 2047).

    Words are decoded once; neighbours of one charset are joined before, because senders often split
    a character between two words. Bytes that no standard allows are decoded by `hint`, a charset.
    """
    last = value.rfind(b"?=")
    if last < 0 or b"=?" not in value:
        return _decode_tail(value, hint)
    pieces: list[tuple[str, bytes]] = []
    position = 0
    for word in _WORD.finditer(value, 0, last + len(b"?=")):
        _add_word(pieces, value[position : word.start()], word)
        position = word.end()
    text = "".join(
        charsets.decode(content, label, "" if label else hint) for label, content in pieces
    )
    return text + _decode_tail(value[position:], hint)


def _add_word(pieces: list[tuple[str, bytes]], gap: bytes, word: re.Match[bytes]) -> None:
    """Add an encoded word and the bytes before it to pieces: charset, "" for a gap, and content.

    Blanks between two words are no text (RFC 2047 §6.2).
    """
    is_behind_word = bool(pieces) and pieces[-1][0] != ""
    if gap.strip() or not is_behind_word:
        pieces.append(("", gap))
    label, content = word[1].decode("ascii", "replace"), _decode_word(word[2], word[3])
    last_label, last_content = pieces[-1]
    if last_label.lower() == label.lower():
        pieces[-1] = (label, last_content + content)
    else:
        pieces.append((label, content))


def _decode_tail(value: bytes, hint: str) -> str:
    """Decode bytes behind the last whole encoded word, which may end in one that was cut off."""
    word = _CUT_WORD.search(value, max(0, len(value) - 2000)) if b"=?" in value else None
    if word is None:
        return charsets.decode(value, "", hint)
    content = charsets.decode(_decode_word(word[2], word[3]), word[1].decode("ascii", "replace"))
    return charsets.decode(value[: word.start()], "", hint) + content


def _decode_word(encoding: bytes, content: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(content.replace(b"_", b" "))
    return decode_base64(content)


def decode_base64(data: bytes) -> bytes:
    """Decode base64 leniently.

    Other characters are skipped, missing padding is added (RFC 2045 §6.8).
    """
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        return _decode_unpadded(data)


def _decode_unpadded(data: bytes) -> bytes:
    bare = re.sub(rb"[^A-Za-z0-9+/]", b"", data)
    if len(bare) % 4 == 1:  # six bits alone make no byte
        bare = bare[:-1]
    return binascii.a2b_base64(bare + b"=" * (-len(bare) % 4))


def find_message_ids(value: bytes) -> tuple[str, ...]:
    """Return the well-formed message ids of a field, in order, with angle brackets.

    Source: RFC 5322 §3.6.4.
    """
    text = charsets.decode(value.replace(b"\t", b" "))
    return tuple(f"<{message_id}>" for message_id in _ID.findall(text))


def parse_parameters(value: bytes) -> tuple[str, dict[str, str]]:
    """Split `type/subtype; name=value`: the value in lower case, the parameters decoded.

    Where a parameter stands in the place of the value, the value is "". Of a parameter that comes
    twice the first one counts. Source: RFC 2045 §5.1, RFC 2231.
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
        parameter = _PARAMETER.match(rest, position)
        if parameter is None:
            position = rest.find(b";", position)
            if position < 0:
                break
            continue
        position = parameter.end()
        name = parameter[1].decode("ascii", "replace").lower()
        raw.setdefault(name, _unquote_parameter(name, parameter))
    return head[1].decode("ascii", "replace").lower(), _join_continuations(raw)


def _unquote_parameter(name: str, parameter: re.Match[bytes]) -> bytes:
    quoted = next((group for group in parameter.group(2, 3, 4) if group is not None), None)
    if quoted is not None:
        return re.sub(rb"\\([\"\\])", rb"\1", quoted)
    bare = parameter[5].strip()
    if name.split("*", maxsplit=1)[0] in _VALUES_WITH_BLANKS:
        return bare
    words = bare.split()
    return words[0] if words else b""


def _join_continuations(raw: dict[str, bytes]) -> dict[str, str]:
    """Return the parameters as text, those that are continued put together (RFC 2231 §3).

    The extended form `name*=` wins over the plain one.
    """
    plain: dict[str, str] = {}
    sections: dict[str, list[tuple[int, bool, bytes]]] = {}
    for name, value in raw.items():
        base, star, rest = name.partition("*")
        if not star:
            plain[base] = _decode_parameter(value)
            continue
        digits = rest.rstrip("*")
        number = int(digits) if digits.isdecimal() else 0
        sections.setdefault(base, []).append((number, name.endswith("*"), value))
    return plain | {base: _decode_sections(parts) for base, parts in sections.items()}


def _decode_parameter(value: bytes) -> str:
    """Decode a plain value.

    Senders put encoded words into it, although RFC 2047 forbids that, and percent forms without the
    star that RFC 2231 asks for.
    """
    extended = re.fullmatch(rb"([\w-]{2,40})'[\w-]*'(.*%[0-9A-Fa-f]{2}.*)", value)
    if extended is not None and charsets.find_codec(extended[1].decode("ascii", "replace")):
        return charsets.decode(_decode_percent(extended[2]), extended[1].decode("ascii"))
    return decode_words(value)


def _decode_sections(parts: list[tuple[int, bool, bytes]]) -> str:
    """Decode the sections of one parameter: number, whether percent-encoded, and value of each."""
    label, content = "", b""
    for number, is_encoded, section in sorted(parts, key=lambda part: part[0]):
        value = section
        quotes = value.count(b"'")
        if is_encoded and number == 0 and quotes >= len(("charset'", "language'")):
            charset, _, value = value.split(b"'", 2)
            label = charset.decode("ascii", "replace")
        content += _decode_percent(value) if is_encoded else value
    return charsets.decode(content, label) if b"=?" not in content else decode_words(content)


def _decode_percent(value: bytes) -> bytes:
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(code[1].decode()), value)
