"""One field at a time.

Strings made fit for a database and a mail header, addresses found in what people type.
"""

import re
import unicodedata
from collections.abc import Container

from parsers.item import Address

# NUL is refused by PostgreSQL, lone surrogates by every encoder; the other controls only ever hide
# something.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NEWLINE = re.compile(r"\r\n?")
_DIRECTION = re.compile(
    r"[\u202a-\u202e\u2066-\u2069]"
)  # turn a name around on the screen; text may need them
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MARKS = re.compile(r"[\u200b-\u200f\u2060\ufeff#:*_?\"'()\[\]]+")
_NUMBER_SIGN = re.compile(r"(?<=\w)\s?#\s*\Z")  # "Message #" is not the message
_ATOM = r"[^\s<>(),;:\"\[\]@\\]"
_ADDRESS = re.compile(
    rf"(?<!{_ATOM}){_ATOM}++@{_ATOM}++"
)  # tried once a word, possessive: linear on any input
TELEMEDICINE = re.compile(
    r"tele-? ?(?:med|health)", re.IGNORECASE
)  # in a category or subject: a hint, not a claim
_LONGEST_ADDRESS = 254  # RFC 5321 §4.5.3.1.3, less its angle brackets
MAX_LINE_LENGTH = 500  # names and subjects; what is longer stays whole in `text` and `details`


def clean(text: str) -> str:
    """Return the text with line ends as LF and nothing a database.

    A terminal or an encoder chokes on.
    """
    if text.isprintable():
        return text.strip()
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _NEWLINE.sub("\n", text))).strip()


def to_one_line(text: str) -> str:
    """Return the text as a single line of at most 500 characters.

    It fits a mail header and a table cell.
    """
    if len(text) <= MAX_LINE_LENGTH and text.isprintable():
        return " ".join(text.split()) if "  " in text else text.strip()
    return " ".join(_DIRECTION.sub("", clean(text[: 4 * MAX_LINE_LENGTH])).split())[
        :MAX_LINE_LENGTH
    ].rstrip()


def fold_label(text: str, known: Container[str] = ()) -> str:
    """Turn a heading or form label into a key.

    Folded, without marks, spaces collapsed, camelCase split if unknown.

    `" dAtE:"`, `"Date"` and `"DATE *"` are one; so are `"PracticeName"`, `"practice_name"` and
    `"Practice Name"`.
    """
    plain = _NUMBER_SIGN.sub(" number", unicodedata.normalize("NFKC", text[:MAX_LINE_LENGTH]))
    folded = _folded(plain)
    return folded if folded in known else _folded(_CAMEL.sub(" ", plain))


def _folded(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).replace("-", " ").casefold().split())


def find_emails(text: str) -> tuple[str, ...]:
    """Find the mail addresses in what somebody typed, in order, each once.

    No quoted local parts.
    """
    unique: dict[str, str] = {}
    for match in _ADDRESS.findall(clean(text[:10_000])):
        address = match.strip(".'`")
        if _plausible(address):
            unique.setdefault(address.casefold(), address)
    return tuple(unique.values())


def _plausible(address: str) -> bool:
    local, _, domain = address.rpartition("@")
    shaped = bool(local) and ".." not in address and not domain.startswith((".", "-"))
    return shaped and len(address) <= _LONGEST_ADDRESS and address.isprintable()


def parse_sender(name: str, email: str) -> tuple[Address, tuple[str, ...]]:
    """Make the person who wrote out of a name field and an address field.

    With caveats on the address.

    Either field may hold the other's content (`Pat Doe <pat@clinic.example>` in a name column). Of
    several addresses the first is taken: the others are strangers until a person has looked.
    """
    found = find_emails(email) or find_emails(name)
    return Address(
        name=_without_addresses(name), email=found[0] if found else ""
    ), _address_caveats(email, found)


def _without_addresses(name: str) -> str:
    return to_one_line(_ADDRESS.sub(" ", name).replace("<>", " ").replace("< >", " ")).strip(
        " <>,;"
    )


def _address_caveats(email: str, found: tuple[str, ...]) -> tuple[str, ...]:
    if len(found) > 1:
        return ("several e-mail addresses given: the first is used",)
    if found:
        return ()
    return (
        ("the e-mail address given cannot be used",)
        if email.strip()
        else ("no e-mail address given",)
    )
