"""Cleaning of single fields: strings fit for a database and a mail header, addresses, labels."""

import re
import unicodedata
from collections.abc import Container

from parsers.item import Address

# NUL is refused by PostgreSQL, lone surrogates by every encoder; the other controls only ever hide
# something.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_NEWLINE = re.compile(r"\r\n?")
# They turn a name around on the screen; a text may need them.
_DIRECTION = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_MARKS = re.compile(r"[\u200b-\u200f\u2060\ufeff#:*_?\"'()\[\]]+")
_NUMBER_SIGN = re.compile(r"(?<=\w)\s?#\s*\Z")  # "Message #" is not the message
_ATOM = r"[^\s<>(),;:\"\[\]@\\]"
# Tried once a word, and possessive: linear on any input.
_ADDRESS = re.compile(rf"(?<!{_ATOM}){_ATOM}++@{_ATOM}++")
# In a category or subject it is a hint, not a claim.
TELEMEDICINE = re.compile(r"tele-? ?(?:med|health)", re.IGNORECASE)
_MAX_ADDRESS_LENGTH = 254  # RFC 5321 §4.5.3.1.3, less its angle brackets
MAX_LINE_LENGTH = 500  # of names and subjects; a longer one stays whole in `text` and `details`


def clean(text: str) -> str:
    """Return the text with line ends as LF, without control characters and lone surrogates.

    Databases, terminals and encoders choke on those. Blanks at both ends are left out.
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
    beginning = _DIRECTION.sub("", clean(text[: 4 * MAX_LINE_LENGTH]))
    return " ".join(beginning.split())[:MAX_LINE_LENGTH].rstrip()


def fold_label(text: str, known_labels: Container[str] = ()) -> str:
    """Return a heading or form label as a key: folded, without marks, blanks collapsed.

    camelCase is split, unless the label is among `known_labels` unsplit. `" dAtE:"`, `"Date"` and
    `"DATE *"` are one key; so are `"PracticeName"`, `"practice_name"` and `"Practice Name"`.
    """
    plain = _NUMBER_SIGN.sub(" number", unicodedata.normalize("NFKC", text[:MAX_LINE_LENGTH]))
    folded = _fold(plain)
    return folded if folded in known_labels else _fold(_CAMEL.sub(" ", plain))


def _fold(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).replace("-", " ").casefold().split())


def find_emails(text: str) -> tuple[str, ...]:
    """Return the mail addresses in a text that somebody typed, in order, each once.

    Addresses with a quoted local part are not found; of a text of more than 10,000 characters only
    the beginning is searched.
    """
    unique: dict[str, str] = {}
    for match in _ADDRESS.findall(clean(text[:10_000])):
        address = match.strip(".'`")
        if _is_plausible(address):
            unique.setdefault(address.casefold(), address)
    return tuple(unique.values())


def _is_plausible(address: str) -> bool:
    local, _, domain = address.rpartition("@")
    if not local or ".." in address or domain.startswith((".", "-")):
        return False
    return len(address) <= _MAX_ADDRESS_LENGTH and address.isprintable()


def parse_sender(name: str, email: str) -> tuple[Address, tuple[str, ...]]:
    """Return the sender out of a name field and an address field, and caveats on the address.

    Either field may hold the other's content (`Pat Doe <pat@clinic.example>` in a name column). Of
    several addresses the first is taken: the others are strangers until a person has looked.
    """
    emails = find_emails(email) or find_emails(name)
    sender = Address(name=_remove_addresses(name), email=emails[0] if emails else "")
    return sender, _list_address_caveats(email, emails)


def _remove_addresses(name: str) -> str:
    bare = _ADDRESS.sub(" ", name).replace("<>", " ").replace("< >", " ")
    return to_one_line(bare).strip(" <>,;")


NO_EMAIL = "no e-mail address given"


def _list_address_caveats(email: str, emails: tuple[str, ...]) -> tuple[str, ...]:
    if len(emails) > 1:
        return ("several e-mail addresses given: the first is used",)
    if emails:
        return ()
    if email.strip():
        return ("the e-mail address given cannot be used",)
    return (NO_EMAIL,)
