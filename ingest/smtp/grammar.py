"""Grammar of command lines, and the recipients we accept mail for.

Pure, and linear in the length of a line.
"""

import re
from collections.abc import Iterable

# octets of a command line: 512 by RFC 5321 §4.5.3.1.4, to which extensions add
MAX_LINE = 1000
MAX_PATH = 320  # 64 octets of local part, "@", 255 of domain (RFC 5321 §4.5.3.1)

_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ARGUMENT = re.compile(rf" *(?:<((?:{_QUOTED}|[^<>\"])*)>|([^\s<>]+))(?: +(.*))?")
_ATOM = r'[^\s<>"\\@:,;()\[\]]+'
_DOMAIN = rf'{_ATOM}|\[[^\s<>"\\@\[\]]+\]'
# A source route before the address is recognised and ignored (RFC 5321 §4.1.1.3).
_MAILBOX = re.compile(rf'(?:@[^\s<>:"]+:)?((?:{_QUOTED}|{_ATOM})(?:@(?:{_DOMAIN}))?)')


def parse_command(line: bytes) -> tuple[str, str, str | None]:
    """Split a command line; return an error reply or "", the verb in capitals, the rest or None."""
    if not line.endswith(b"\r\n"):
        return "500 5.5.2 a line ends with CR LF", "", None
    if len(line) > MAX_LINE:
        return "500 5.5.6 line too long", "", None
    try:
        text = line[:-2].decode()
    except UnicodeDecodeError:
        text = ""
    verb, _, rest = text.partition(" ")
    if not (verb and verb.isascii() and text.isprintable()):
        # nothing stored or logged may hold control characters
        return "500 5.5.2 not a command", "", None
    return "", verb.upper(), rest.strip() or None


def parse_argument(keyword: str, text: str | None) -> tuple[str | None, list[str]]:
    """Split "FROM:<path> word word" into the path and its words; path None when it does not match.

    Brackets may be missing and blanks may follow the colon: scanners and scripts send mail too.
    """
    if text is None or text[: len(keyword)].upper() != keyword:
        return None, []
    match = _ARGUMENT.fullmatch(text, len(keyword))
    if match is None:
        return None, []
    path = match[1] if match[1] is not None else match[2]
    return path, (match[3] or "").split()


def parse_mailbox(path: str, *, utf8: bool) -> str | None:
    """Return the address in a path, without its source route; None when it is none.

    `utf8`: the client asked for SMTPUTF8 (RFC 6531 §3.4); without it an address is ASCII.
    """
    match = _MAILBOX.fullmatch(path)
    if match is None or len(path.encode()) > MAX_PATH or not (utf8 or path.isascii()):
        return None
    return match[1]


def find_parameter_error(words: list[str], limit: int) -> str:
    """Return the error reply to the parameters of MAIL, or "".

    `limit` is the size of the largest message we take, in octets.
    """
    parameters = {name: value for name, _, value in (word.upper().partition("=") for word in words)}
    if len(parameters) < len(words):
        return "501 5.5.4 a parameter stands there twice"
    size = parameters.pop("SIZE", "0")
    if not (size.isascii() and size.isdigit()):
        return "501 5.5.4 SIZE is a number"
    if int(size) > limit:
        return f"552 5.3.4 message larger than {limit} octets"
    if parameters.pop("BODY", "8BITMIME") not in {"7BIT", "8BITMIME"}:
        return "501 5.5.4 BODY is 7BIT or 8BITMIME"
    if parameters.pop("SMTPUTF8", ""):
        return "501 5.5.4 SMTPUTF8 takes no value"
    return "555 5.5.4 no such parameter here" if parameters else ""


class Recipients:
    """The addresses we accept mail for, each with any plus-tag; "@domain" is everyone there.

    Postmaster is always accepted (RFC 5321 §4.5.1).
    """

    def __init__(self, addresses: Iterable[str]) -> None:
        folded = {address.casefold() for address in addresses}
        self._exact = {address for address in folded if not address.startswith("@")}
        self._everyone = {address[1:] for address in folded if address.startswith("@")}
        self._domains = {address.rpartition("@")[2] for address in folded}
        self._exact |= {f"postmaster@{domain}" for domain in self._domains} | {"postmaster"}

    def find_refusal(self, address: str) -> str:
        """Return the reply that refuses mail for `address`, or "".

        Both parts are compared without regard to case.
        """
        local, at, domain = address.casefold().rpartition("@")
        if not at:
            return "" if domain in self._exact else "550 5.1.1 no such recipient here"
        if domain not in self._domains or set(local) & set('%!@"\\'):
            # "victim%other@ours" asks us to relay
            return "550 5.7.1 we relay for nobody"
        if (
            domain in self._everyone
            or {f"{local}@{domain}", f"{local.partition('+')[0]}@{domain}"} & self._exact
        ):
            return ""
        return "550 5.1.1 no such recipient here"
