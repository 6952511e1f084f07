"""Notices of secure-message portals: the text of the mail is behind a link or inside a file."""

import re
from collections.abc import Sequence

from parsers.item import Attachment

CAVEAT = "secure message: its text is behind {place}{expiry}, or ask for it by other means"
LINK_PLACE = "a link (see Links)"
FILE_PLACE = "an attached file"
_MAX_SEARCHED = 20_000  # characters of a text; the notice of a portal is short
_MAX_NOTICE = 3_000  # characters of text that a portal writes itself

_SECURE = r"(?:secured?|encrypted|protected|confidential)"
_MESSAGE = r"(?:e-?mails?|messages?|mails?|documents?|files?|nachrichten?|mensajes?)"
# "You have a new secure message", "has sent you a protected message", "This is a secure, encrypted
# message", "Encrypted message from …": what a portal announces, not what a person mentions.
_ANNOUNCEMENT = re.compile(
    rf"\b(?:(?:you(?:'ve| have)|has|have)\s+(?:been\s+)?(?:received?|got|sent(?:\s+you)?)?\s*"
    rf"|sent\s+you\s+|this\s+is\s+|received\s+)(?:an?|\d+|one)\s+(?:new\s+|unread\s+)*"
    rf"{_SECURE}(?:[\s,]+{_SECURE})*\s+{_MESSAGE}\b"
    rf"|\b(?:new\s+)?{_SECURE}(?:[\s,]+{_SECURE})*\s+{_MESSAGE}\s+(?:from|for)\b",
    re.IGNORECASE,
)
# "You have a new message from …": of a portal only where its link opens a message that expires.
_NEW_MESSAGE = re.compile(
    r"\byou\s+have\s+(?:received\s+)?(?:an?|\d+)\s+(?:new\s+|unread\s+)?message\s+from\b",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"\b(?:click|open|read|view|retrieve|access|decrypt|unlock|sign\s+in|log\s?in)\b", re.IGNORECASE
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

    `links` are the words and the address of each link. A portal is recognised by a file that only
    it opens, or by its announcement in a short text beside a link that opens something.
    """
    text = text[:_MAX_SEARCHED]
    opens = any(_OPENS.search(label) or _OPENS.search(text) for label, _ in links)
    has_file = any(map(_is_sealed, attachments))
    if not has_file:
        if not opens or len(text) > _MAX_NOTICE:
            return ""
        expires = _EXPIRY.search(text) is not None
        announces = _ANNOUNCEMENT.search(f"{subject}\n{text}") is not None
        if not announces and not (expires and _NEW_MESSAGE.search(text)):
            return ""
    return CAVEAT.format(
        place=LINK_PLACE if links and opens else FILE_PLACE, expiry=_describe_expiry(text)
    )


def _is_sealed(attachment: Attachment) -> bool:
    return attachment.mime in _SEALED_TYPES or _SEALED_FILE.fullmatch(attachment.name) is not None


def _describe_expiry(text: str) -> str:
    match = _EXPIRY.search(text)
    if match is None:
        return ": open it before it expires"
    when = " ".join(match[1].split())
    return f": open it before it expires ({when})"
