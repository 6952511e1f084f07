"""Address fields as people and programs write them (RFC 5322 §3.4, and much that is not)."""

import re
from enum import Enum, auto

from parsers.item import Address
from parsers.mail.syntax.headers import decode_words, to_one_line
from parsers.text import charsets

MAX_ADDRESSES = 1000  # of one field; more is no correspondence
MAX_LENGTH = 65_536  # bytes of one field that are read
LONGEST_NAME = 60  # characters of a name before a comma that lacks its quotes

_BARE = re.compile(r"[^\s<>,;:()\[\]\"']{1,200}@[^\s<>,;:()\[\]\"']{1,255}")
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\]|\\.){1,100}"@[^\s<>,;:()"]{1,255}')
# Bounded, because a quote that is never closed is tried from each of its marks.
_QUOTED = re.compile(r'"(?:[^"\\]|\\.){0,400}+"(?!@)', re.DOTALL)
_MAILTO = re.compile(r"[\[<(]?mailto:", re.IGNORECASE)
_ANGLE = re.compile(r"<([^<>]*)>?")
_ESCAPED = re.compile(r"\\(.)")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,80}\?[bq]\?[^?\s\"<>]{0,400}\?=", re.IGNORECASE)
_NAME = re.compile(r"\s*[^\W\d_][^@<>:()\"\[\]]{0,60}")  # a name alone, unquoted, encoded or not
_NAME_AND_ADDRESS = re.compile(r"\s*[^\s<>@\"][^<>@\"]{0,100}<[^<>\s]{1,250}@[^<>\s]{1,250}>")
_SYNTAX = re.compile(r'[\\"()<>,;:]')  # characters that part mailboxes, or change how others read
# Round brackets -> by how much they change the depth of nested comments.
_NESTING = {"(": 1, ")": -1}


class _State(Enum):
    """The syntax a character of an address field stands in."""

    PLAIN = auto()
    ANGLE = auto()  # between angle brackets
    QUOTED = auto()  # in a quoted string
    COMMENT = auto()  # in round brackets, which nest


def parse(value: bytes, hint: str = "") -> tuple[Address, ...]:
    """Return the mailboxes of a field in their order, groups opened, names decoded.

    `value` is the unfolded field; of more than 64 KiB or 1,000 addresses the rest is left out.
    `hint` is the charset to try for bytes above ASCII. Empty where the field names nobody.
    """
    people: list[Address] = []
    for piece in _split(value[:MAX_LENGTH].decode("latin-1")):
        people += _parse_piece(piece, hint)
        if len(people) >= MAX_ADDRESSES:
            break
    return tuple(person for person in people[:MAX_ADDRESSES] if person.name or person.email)


def _split(text: str) -> list[str]:
    """Split at the commas (or Outlook's semicolons) between mailboxes.

    Separators in quotes, comments, angle brackets and encoded words do not count.
    """
    marks = _ENCODED_WORD.sub(lambda word: "_" * len(word[0]), text)
    spans = _Scanner(marks, has_quotes=True).scan()
    if spans is None:  # a quote is never closed, so it is a plain character
        spans = _Scanner(marks, has_quotes=False).scan() or [(0, len(text))]
    pieces: list[str] = []
    for start, end in spans:
        is_behind_comma = start > 0 and text[start - 1] == ","
        if pieces and is_behind_comma and _is_surname(pieces[-1], text[start:end]):
            pieces[-1] = f"{pieces[-1]},{text[start:end]}"
        else:
            pieces.append(text[start:end])
    return pieces


def _is_surname(piece: str, following: str) -> bool:
    """Return whether a comma stands in a name that lacks its quotes, not between two mailboxes.

    For example `Doe, Jane <jane@example.org>`.
    """
    return (
        len(piece) <= LONGEST_NAME
        and _NAME.fullmatch(piece) is not None
        and _NAME_AND_ADDRESS.match(following) is not None
    )


class _Scanner:
    """Finds where each mailbox of a field begins and ends, in one pass over its syntax."""

    def __init__(self, text: str, *, has_quotes: bool) -> None:
        self._text = text
        self._has_quotes = has_quotes  # false where quotes are plain characters
        self._state = _State.PLAIN
        self._state_around = _State.PLAIN  # to return to at the end of a quoted string
        self._depth = 0  # of nested comments
        self._start = 0  # of the mailbox at hand
        self._spans: list[tuple[int, int]] = []

    def scan(self) -> list[tuple[int, int]] | None:
        """Return start and end of each mailbox; None where a quote is never closed."""
        escaped = -1  # index of the character behind a backslash
        for mark in _SYNTAX.finditer(self._text):
            index, char = mark.start(), mark[0]
            if index == escaped:
                continue
            if char == "\\":
                if self._state in {_State.QUOTED, _State.COMMENT}:
                    escaped = index + 1
            else:
                self._take(index, char)
        self._spans.append((self._start, len(self._text)))
        return None if self._state is _State.QUOTED else self._spans

    def _take(self, index: int, char: str) -> None:
        match self._state:
            case _State.QUOTED:
                if char == '"':
                    self._state = self._state_around
            case _State.COMMENT:
                self._depth += _NESTING.get(char, 0)
                if self._depth == 0:
                    self._state = _State.PLAIN
            case _State.PLAIN | _State.ANGLE:
                self._take_outside(index, char)

    def _take_outside(self, index: int, char: str) -> None:
        """Take a character outside of quotes and comments, where separators count."""
        is_plain = self._state is _State.PLAIN
        match char:
            case '"' if self._has_quotes:
                self._state_around, self._state = self._state, _State.QUOTED
            case "(" if is_plain:
                self._depth, self._state = 1, _State.COMMENT
            case "<":
                self._state = _State.ANGLE
            case ">":
                self._state = _State.PLAIN
            case "," | ";" if is_plain or _has_address(self._text[self._start : index]):
                self._spans.append((self._start, index))
                self._start, self._state = index + 1, _State.PLAIN
            case ":" if is_plain and _opens_group(self._text[self._start : index]):
                self._start = index + 1


def _has_address(piece: str) -> bool:
    """Return whether an angle bracket left open has its address already.

    A source route before the address is none (RFC 5322 §4.4).
    """
    route = piece.rpartition("<")[2].lstrip()
    return "@" in route and not route.startswith("@")


def _opens_group(name: str) -> bool:
    """Return whether words before a colon are a group's name (RFC 5322 §3.4).

    They are none where they hold an address, or end in `mailto`.
    """
    return (
        "@" not in name
        and "[" not in name
        and not name.strip().lower().endswith("mailto")
        and bool(name.strip())
    )


def _parse_piece(piece: str, hint: str) -> list[Address]:
    """Return the mailboxes of one piece: mostly one, several where the separators are missing."""
    piece = piece.strip().replace("<<", "<").replace(">>", ">")
    if not piece:
        return []
    bare, comments = _split_comments(piece)
    brackets = list(_ANGLE.finditer(_blank_quotes(bare)))
    if not brackets:
        return _parse_unbracketed(bare, comments, hint)
    addressed = [bracket for bracket in brackets if "@" in bracket[1]]
    if len(addressed) > 1 and not any(map(_is_route, addressed)):
        return _parse_several(bare, addressed, hint)
    bracket = (addressed or brackets)[0]
    name = bare[: bracket.start()].strip() or bare[bracket.end() :].strip()
    return [_make_address(name or comments, bare[bracket.start(1) : bracket.end(1)], hint)]


def _is_route(bracket: re.Match[str]) -> bool:
    """Return whether an angle bracket begins with a source route (RFC 5322 §4.4)."""
    return bracket[1].strip().startswith("@")


def _parse_several(bare: str, brackets: list[re.Match[str]], hint: str) -> list[Address]:
    """Return a mailbox for each address in angle brackets, named by the words before it."""
    people, position = [], 0
    for bracket in brackets:
        name = bare[position : bracket.start()]
        people.append(_make_address(name, bare[bracket.start(1) : bracket.end(1)], hint))
        position = bracket.end()
    return people


def _parse_unbracketed(bare: str, comments: str, hint: str) -> list[Address]:
    """Return the mailbox of a piece without angle brackets, or only its name.

    For example `jane@example.org`, `jane@example.org (Jane)`, `Jane jane@example.org` or
    `Jane [mailto:jane@example.org]`.
    """
    bare = _MAILTO.sub(" ", bare)
    email = _QUOTED_LOCAL.search(bare) or _BARE.search(bare)
    if email is not None:
        name = (bare[: email.start()] + " " + bare[email.end() :]).strip(" []<>'")
        return [_make_address(name or comments, email[0], hint)]
    decoded = to_one_line(decode_words(bare.encode("latin-1"), hint))
    has_encoded_address = "=?" in bare and "@" in decoded and decoded != bare
    if has_encoded_address and "=?" not in decoded:
        return _parse_piece(decoded.encode("utf-8").decode("latin-1"), "utf-8")
    return [_make_address(bare, "", hint)]


def _make_address(name: str, email: str, hint: str) -> Address:
    return Address(_clean_name(name, hint), _clean_email(email))


def _clean_email(text: str) -> str:
    """Return the address alone.

    Blanks, `mailto:`, source routes (RFC 5322 §4.4) and stray quotes are left out.
    """
    raw = text.encode("latin-1")
    decoded = decode_words(raw) if "=?" in text else charsets.decode(raw)
    email = to_one_line(_MAILTO.sub("", decoded)).strip("'<> ,;")
    if email.startswith("@") and ":" in email:
        email = email.rpartition(":")[2]
    if not email.startswith('"'):
        email = email.replace(" ", "").strip('"')
    return email.rstrip(".")


def _clean_name(text: str, hint: str) -> str:
    """Return a display name without quotes, encoded words decoded.

    Encoded words are decoded inside of quotes too, as most senders write them there.
    """
    text = text.strip()
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        text = text[1:-1]
    text = _ESCAPED.sub(r"\1", text)
    name = to_one_line(decode_words(text.encode("latin-1"), hint))
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1].strip()
    return name


def _blank_quotes(text: str) -> str:
    """Return a text of the same length whose quoted strings are blanks.

    Brackets inside of a quoted name hold no address.
    """
    return _QUOTED.sub(lambda quoted: " " * len(quoted[0]), text)


def _split_comments(text: str) -> tuple[str, str]:
    """Return the text outside and the text inside of comments (RFC 5322 §3.2.2).

    Nested comments are kept with their brackets; a closing bracket that closes nothing is dropped.
    """
    if "(" not in text:
        return text, ""
    outside: list[str] = []
    inside: list[str] = []
    state, depth, is_escaped = _State.PLAIN, 0, False
    for char in text:
        if is_escaped or (char == "\\" and state is not _State.PLAIN):
            is_escaped = not is_escaped
            (inside if state is _State.COMMENT else outside).append(char)
            continue
        match state, char:
            case _State.PLAIN, "(":
                state, depth = _State.COMMENT, 1
            case _State.PLAIN, ")":
                pass
            case _State.COMMENT, _:
                depth += _NESTING.get(char, 0)
                if depth:
                    inside.append(char)
                else:
                    state = _State.PLAIN
            case _, '"':
                state = _State.PLAIN if state is _State.QUOTED else _State.QUOTED
                outside.append(char)
            case _:
                outside.append(char)
    return "".join(outside).strip(), "".join(inside).strip()
