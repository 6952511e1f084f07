"""Notices of secure-message portals: the text of the mail is behind a link or inside a file."""

import re
from collections.abc import Sequence

from parsers.item import Attachment

CAVEAT_START = "secure message: "
CAVEAT = f"{CAVEAT_START}its text is behind {{place}}{{expiry}}, or ask for it by other means"
LISTED_LINK = "a link (see Links)"
SHOWN_LINK = "the link in it"
FILE = "an attached file"
_MAX_SEARCHED = 20_000  # characters of a text; the notice of a portal is short
_MAX_NOTICE = 3_000  # characters of text that a portal writes itself

_SECURE = (
    r"(?:secured?|encrypted|protected|confidential"
    r"|sichere[nrs]?|verschlüsselte[nrs]?|geschützte[nrs]?"
    r"|sécurisée?s?|chiffrée?s?|protégée?s?|segur[oa]s?|cifrad[oa]s?|protegid[oa]s?)"
)
_NOUN = (
    r"(?:e-?mails?|messages?|mails?|documents?|files?|nachricht(?:en)?|courriels?|mensajes?"
    r"|correos?)"
)
# In Spanish and French the noun comes first.
_MESSAGE = rf"(?:{_SECURE}(?:[\s,]+{_SECURE})*\s+{_NOUN}|{_NOUN}\s+{_SECURE})"
_HAS = (
    r"(?:you(?:['\u2019]ve|\s+have)|has|have)(?:\s+been)?(?:\s+(?:received?|got|sent(?:\s+you)?))?"
    r"|(?<!have\s)(?<!['\u2019]ve\s)sent(?:\s+you)?|to\s+send\s+you|received|this\s+is"
    r"|sie\s+haben|vous\s+avez(?:\s+reçu)?|ha\s+recibido|tiene"
)
_ARTICLE = r"(?:an?|one|\d+|eine?n?|une?|un[ao]?)"
_NEW = r"(?:(?:new|unread|neue[nrs]?|nouve(?:au|l|lle)|nuev[oa])\s+)*"
# "You have a new secure message", "has sent you a protected message", "This is a secure, encrypted
# message", "Encrypted message from …": what a portal announces, not what a person mentions, who
# writes "I sent a secure message".
_ANNOUNCEMENT = re.compile(
    rf"(?<!\bi\s)(?<!\bwe\s)\b(?:{_HAS})\s+{_ARTICLE}\s+{_NEW}{_MESSAGE}\b"
    rf"|(?:^|\n)\W*{_NEW}{_MESSAGE}\s+(?:from|for|von|de)\b",
    re.IGNORECASE,
)
# "You have a new message from …": of a portal only where its link opens a message that expires.
_NEW_MESSAGE = re.compile(
    r"\byou\s+have\s+(?:received\s+)?(?:an?|\d+)\s+(?:new\s+|unread\s+)?message\s+from\b",
    re.IGNORECASE,
)
_WEB_ADDRESS = re.compile(r"\bhttps?://\S", re.IGNORECASE)
_OPENS = re.compile(
    r"\b(?:click|open|read|view|retrieve|access|decrypt|unlock|sign\s+in|log\s?in"
    r"|öffnen|lesen|anzeigen|klicken|ouvrir|lire|cliquez|abrir|leer|ver)\b",
    re.IGNORECASE,
)
_DATE = (
    r"\d{1,3}\s+(?:hours?|days?|weeks?)"
    r"|(?:[a-z]{3,9},?\s+)?[a-z]{3,9}\.?\s+\d{1,2},?\s+\d{4}"
    r"|\d{1,2}\.?\s+[a-z]{3,9}\.?,?\s+\d{4}"
    r"|\d{4}-\d\d-\d\d|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}"
)
_EXPIRY = re.compile(
    rf"\b(?:expires?|expiring|expire|good|valid|available|deleted|kept)\s+"
    rf"(?:on|in|after|for|until|till|through)?\s*:?\s*({_DATE})\b",
    re.IGNORECASE,
)
_SEALED_TYPES = frozenset(
    str.split("application/x-microsoft-rpmsg-message application/x-virtru-message"),
)
_SEALED_FILE = re.compile(
    r"secure-?_?(?:message|doc|mail|email|envelope)\w*\.html?|message_zdm\.html?|"
    r"encrypted-?_?(?:message|mail|email)\w*\.html?|.+\.tdf\.html?|.+\.rpmsg",
    re.IGNORECASE,
)


def find_caveat(
    subject: str,
    text: str,
    links: Sequence[tuple[str, str]],
    attachments: Sequence[Attachment],
) -> str:
    """Return the caveat for the notice of a secure-message portal, "" for any other mail.

    `links` are the words and the address of each link that the text does not show. A portal is
    recognised by a file that only it opens, or by its announcement in a short text beside a link
    that opens something.
    """
    text = text[:_MAX_SEARCHED]
    link, has_file = _find_link(text, links), any(map(_is_sealed, attachments))
    if not has_file and not (link and _announces(subject, text)):
        return ""
    return CAVEAT.format(place=link or FILE, expiry=_describe_expiry(text))


def _find_link(text: str, links: Sequence[tuple[str, str]]) -> str:
    """Return where a link that opens something stands, "" for no such link."""
    if links and any(map(_OPENS.search, (text, *(label for label, _ in links)))):
        return LISTED_LINK
    return SHOWN_LINK if _WEB_ADDRESS.search(text) and _OPENS.search(text) else ""


def _announces(subject: str, text: str) -> bool:
    """Return whether a short text announces a message that is somewhere else."""
    if len(text) > _MAX_NOTICE:
        return False
    if _ANNOUNCEMENT.search(f"{subject}\n{text}"):
        return True
    return _EXPIRY.search(text) is not None and _NEW_MESSAGE.search(text) is not None


def _is_sealed(attachment: Attachment) -> bool:
    return attachment.mime in _SEALED_TYPES or _SEALED_FILE.fullmatch(attachment.name) is not None


def _describe_expiry(text: str) -> str:
    match = _EXPIRY.search(text)
    if match is None:
        return ": open it before it expires"
    when = " ".join(match[1].split())
    return f": open it before it expires ({when})"
