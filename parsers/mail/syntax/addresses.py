"""Address fields as people and programs write them (RFC 5322 §3.4, and much that is not)."""

import re

from parsers.item import Address
from parsers.mail.syntax.headers import decode_words, to_one_line
from parsers.text import charsets

MAX_ADDRESSES = 1000  # of one field; more is no correspondence
MAX_LENGTH = 65_536
LONGEST_NAME = 60  # characters of a name before a comma that lacks its quotes

_BARE = re.compile(r"[^\s<>,;:()\[\]\"']{1,200}@[^\s<>,;:()\[\]\"']{1,255}")
_QUOTED_LOCAL = re.compile(r'"(?:[^"\\]|\\.){1,100}"@[^\s<>,;:()"]{1,255}')
_QUOTED = re.compile(
    r'"(?:[^"\\]|\\.){0,400}+"(?!@)', re.DOTALL
)  # bounded: a quote never closed is tried from each mark
_MAILTO = re.compile(r"[\[<(]?mailto:", re.IGNORECASE)
_ANGLE = re.compile(r"<([^<>]*)>?")
_ESCAPED = re.compile(r"\\(.)")
_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,80}\?[bq]\?[^?\s\"<>]{0,400}\?=", re.IGNORECASE)
_NAME = re.compile(r"\s*[^\W\d_][^@<>:()\"\[\]]{0,60}")  # a name alone, unquoted, encoded or not
_NAME_AND_ADDRESS = re.compile(r"\s*[^\s<>@\"][^<>@\"]{0,100}<[^<>\s]{1,250}@[^<>\s]{1,250}>")
_OPENING = {"(": 1, ")": -1}


def parse(value: bytes, hint: str = "") -> tuple[Address, ...]:
    """Return the mailboxes of a field in their order, groups opened, names decoded.

    `hint` is the charset to try for bytes above ASCII.
    """
    found: list[Address] = []
    for piece in _pieces(value[:MAX_LENGTH].decode("latin-1")):
        found += _mailboxes(piece, hint)
        if len(found) >= MAX_ADDRESSES:
            break
    return tuple(address for address in found[:MAX_ADDRESSES] if address.name or address.email)


def _pieces(text: str) -> list[str]:
    """Split at the commas (or Outlook's semicolons) between mailboxes.

    Not in quotes, comments or angle brackets.
    """
    marks = _ENCODED_WORD.sub(
        lambda word: "_" * len(word[0]), text
    )  # commas in encoded words part nothing
    ends = _scan(marks, quotes=True)
    if ends is None:
        ends = _scan(marks, quotes=False) or [(0, len(text))]
    pieces: list[str] = []
    for start, end in ends:
        separated_by_comma = start > 0 and text[start - 1] == ","
        if pieces and separated_by_comma and _is_surname(pieces[-1], text[start:end]):
            pieces[-1] = f"{pieces[-1]},{text[start:end]}"
        else:
            pieces.append(text[start:end])
    return pieces


def _is_surname(piece: str, following: str) -> bool:
    """Return whether a comma parts no mailboxes but a name that lacks its quotes.

    `Doe, Jane <jane@example.org>`.
    """
    return (
        len(piece) <= LONGEST_NAME
        and _NAME.fullmatch(piece) is not None
        and _NAME_AND_ADDRESS.match(following) is not None
    )


def _scan(text: str, *, quotes: bool) -> list[tuple[int, int]] | None:
    """Return where each mailbox begins and ends.

    None when a quote is never closed, so that it is a plain character.
    """
    pieces, start, depth, quoted, angle, escaped = [], 0, 0, False, False, False
    for i, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = quoted or depth > 0
        elif quoted:
            quoted = char != '"'
        elif char == '"' and quotes and not depth:
            quoted = True
        elif char in "()" and not angle:
            depth = max(0, depth + _OPENING[char])
        elif not depth and char in "<>":
            angle = char == "<"
        elif not depth and char in ",;" and (not angle or _ended(text[start:i])):
            pieces.append((start, i))
            start, angle = i + 1, False
        elif not depth and not angle and char == ":" and _opens_group(text, start, i):
            start = i + 1
    pieces.append((start, len(text)))
    return None if quoted else pieces


def _ended(piece: str) -> bool:
    """Return whether an angle bracket left open has its address already.

    A source route is none (RFC 5322 §4.4).
    """
    route = piece.rpartition("<")[2].lstrip()
    return "@" in route and not route.startswith("@")


def _opens_group(text: str, start: int, colon: int) -> bool:
    """Return whether a colon ends a group's name (RFC 5322 §3.4).

    No address before it, and no `mailto:`.
    """
    name = text[start:colon]
    return (
        "@" not in name
        and "[" not in name
        and not name.strip().lower().endswith("mailto")
        and bool(name.strip())
    )


def _mailboxes(piece: str, hint: str) -> list[Address]:
    """Mailboxes of one piece: mostly one, several where the separators are missing."""
    piece = piece.strip().replace("<<", "<").replace(">>", ">")
    if not piece:
        return []
    bare, comments = _without_comments(piece)
    angles = [found for found in _ANGLE.finditer(_masked(bare)) if "@" in found[1]]
    if len(angles) > 1 and all(not found[1].strip().startswith("@") for found in angles):
        return _several(bare, angles, hint)
    angle = angles[0] if angles else next(_ANGLE.finditer(_masked(bare)), None)
    if angle is not None:
        name = bare[: angle.start()].strip() or bare[angle.end() :].strip()
        return [_made(name or comments, bare[angle.start(1) : angle.end(1)], hint)]
    return _unbracketed(bare, comments, hint)


def _several(bare: str, angles: list[re.Match[str]], hint: str) -> list[Address]:
    made, position = [], 0
    for found in angles:
        made.append(
            _made(bare[position : found.start()], bare[found.start(1) : found.end(1)], hint)
        )
        position = found.end()
    return made


def _unbracketed(bare: str, comments: str, hint: str) -> list[Address]:
    """`jane@example.org`, `jane@example.org (Jane)`, `Jane jane@example.org`, `Jane [mailto:…]`.

    Or only a name.
    """
    bare = _MAILTO.sub(" ", bare)
    found = _QUOTED_LOCAL.search(bare) or _BARE.search(bare)
    if found is not None:
        name = (bare[: found.start()] + " " + bare[found.end() :]).strip(" []<>'")
        return [_made(name or comments, found[0], hint)]
    decoded = to_one_line(decode_words(bare.encode("latin-1"), hint))
    if "@" in decoded and "=?" in bare and decoded != bare and "=?" not in decoded:
        return _mailboxes(decoded.encode("utf-8").decode("latin-1"), "utf-8")
    return [_made(bare, "", hint)]


def _made(name: str, email: str, hint: str) -> Address:
    email = _clean_email(email)
    shown = _clean_name(name, hint)
    return Address(shown, email)


def _clean_email(text: str) -> str:
    """The address alone.

    Without blanks, `mailto:`, source routes (RFC 5322 §4.4) and stray quotes.
    """
    decoded = (
        charsets.decode(text.encode("latin-1"))
        if "=?" not in text
        else decode_words(text.encode("latin-1"))
    )
    email = to_one_line(_MAILTO.sub("", decoded)).strip("'<> ,;")
    if email.startswith("@") and ":" in email:
        email = email.rpartition(":")[2]
    if not email.startswith('"'):
        email = email.replace(" ", "").strip('"')
    return email.rstrip(".")


def _clean_name(text: str, hint: str) -> str:
    """Return a display name without quotes, encoded words decoded.

    Inside the quotes too, as most senders do it.
    """
    text = text.strip()
    if text.startswith('"') and text.endswith('"') and len(text) > 1:
        text = text[1:-1]
    text = _ESCAPED.sub(r"\1", text)
    name = to_one_line(decode_words(text.encode("latin-1"), hint))
    if len(name) > 1 and name[0] == name[-1] and name[0] in "\"'":
        name = name[1:-1].strip()
    return name


def _masked(text: str) -> str:
    """The same length with quoted strings blanked.

    So that brackets inside a name are no address.
    """
    return _QUOTED.sub(lambda found: " " * len(found[0]), text)


def _without_comments(text: str) -> tuple[str, str]:
    """Text outside and inside of comments (RFC 5322 §3.2.2).

    Nested ones are kept with their brackets.
    """
    if "(" not in text:
        return text, ""
    outside: list[str] = []
    inside: list[str] = []
    depth, quoted, escaped = 0, False, False
    for char in text:
        if escaped or (char == "\\" and (quoted or depth)):
            escaped = not escaped
            (inside if depth else outside).append(char)
            continue
        quoted ^= char == '"' and not depth
        change = 0 if quoted else _OPENING.get(char, 0)
        if (change > 0 and depth) or (change < 0 and depth > 1) or (not change and depth):
            inside.append(char)
        elif not change:
            outside.append(char)
        depth = max(0, depth + change)
    return "".join(outside).strip(), "".join(inside).strip()
