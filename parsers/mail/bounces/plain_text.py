"""Bounces written for people.

Failed addresses, status and reason out of the words of mail programs.

Mail programs by the dozen have their own layout, and all say three things: an address the mail was
for, what the other server answered, and the mail itself. The addresses are known by where they
stand and by the returned mail.
"""

import re
from dataclasses import dataclass, field

from parsers.mail.bounces import phrases
from parsers.mail.syntax import addresses, headers
from parsers.mail.syntax.headers import Fields
from parsers.mail.syntax.mime import Part

MAX_TEXT = 20_000  # characters that are searched
MAX_ORIGINAL = 65_536  # bytes of a returned mail that are read: its header
MAX_FAILED = 50
MAX_REASON = 300
MAX_LINES = 8  # of one reason
ORIGINALS = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "message/global-headers"}
)

# Fields of a header block that stands in a text: three in a row, one of which says where the mail
# came from.
_BLOCK = re.compile(
    r"^(?:(?:received|return-path|from|to|cc|subject|date|message-id|mime-version|content-type|x-[\w-]{1,60}"
    r"|reply-to|sender|dkim-signature|user-agent|delivered-to|in-reply-to|references)[ \t]*:"
    r"[^\n]*\n(?:[ \t]+\S[^\n]*\n)*){3,40}",
    re.IGNORECASE | re.MULTILINE,
)
_SENT = re.compile(
    r"^(?:from|received|return-path|message-id)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(
    r"(?<![\w.!#$%&'*+/=?^`{|}~@-])[\w.!#$%&'*+/=?^`{|}~-]{1,100}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,10}"
)
# Addresses that are the line, or stand behind the words for a recipient.
_STANDS = re.compile(
    r"^[\s>*•·\-]*(?:(?:original-|final-)?recipients?|rcpt to|to|user|address|e-?mail|failed"
    r" recipient)?"
    r"[\s:=]*(?:rfc822;)?\s*[\"'(<\[]*(?:smtp:|mailto:)?$"
    r"|(?:rcpt to|recipients?|forward-path)\s*:?\s*<?$"
    r"|^[\s<>]*[45]\d\d[ -](?:[45]\.\d\.\d{1,3} )?<$",
    re.IGNORECASE,
)
_OF_SENDER = re.compile(
    r"(?:mail"
    r" from|sender|from|envelope-from|reply-to|return-path|message-?id|in-reply-to|contact\w*|assistance|"
    r"\bid|references?|mailto)\W{0,3}$",
    re.IGNORECASE,
)
_HELP = re.compile(
    r"assistance|contact|help|abuse|question|postmaster|support|further information", re.IGNORECASE
)
_SERVICE = re.compile(
    r"(?:post?master|mailer-daemon|abuse|support|helpdesk|no-?reply|mail-daemon)@", re.IGNORECASE
)
_DAEMON = re.compile(
    r"(?:post?master|mail(?:er)?-daemon)@", re.IGNORECASE
)  # what it returned is a bounce itself
_ENHANCED = re.compile(r"(?<![\d.])([245])\.([0-7])\.(\d{1,3})(?![\d.]*\d)")
_REPLY = re.compile(
    r"(?<![\d.:/-])([45])[0-7]\d(?=[ \-#:)]|$)(?:[ -]\(?#?([45]\.[0-7]\.\d{1,3})\b)?", re.MULTILINE
)
_FIELD_LINE = re.compile(
    r"^\s*(?:reason|error|diagnostic-code|details?|remote host said|message|cause)\s*:",
    re.IGNORECASE,
)
_CONTINUES = re.compile(r"[^\S\n]|[45]\d\d[ -]")
_BEHIND = re.compile(r"^.{0,400}?@[\w.-]{1,255}[\s>\"')\]:;,.-]*")
_OPENS = re.compile(
    r"^[\s<>*|#=-]*(?:[^\s<>:]{1,100}@[\w.-]{1,255}>?[ \t]*:[ \t]+)?(?=.)"
)  # marks; the address itself
_MARKS = " \t*|-=#"
_QUOTES = re.compile(r"^(?:> ?)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BounceFacts:
    """What one source says of a bounce; what it does not say is empty."""

    action: str = ""
    status: str = ""
    failed: tuple[str, ...] = ()
    reason: str = field(default="", repr=False)

    def fill_gaps_from(self, other: "BounceFacts") -> "BounceFacts":
        """Return this with its gaps filled from another source."""
        return BounceFacts(
            self.action or other.action,
            _more_telling(self.status, other.status),
            self.failed or other.failed,
            self.reason or other.reason,
        )


def _more_telling(status: str, other: str) -> str:
    """Prefer the first, unless it says only that it failed and the other says why."""
    vague = not status or (status.endswith(".0.0") and other[:1] == status[:1])
    return other or status if vague else status


def parse(fields: Fields, root: Part, subject: str, shown: str) -> BounceFacts:
    """Read the words of a bounce; `shown` is its text, which may end with the mail it is about."""
    text = _QUOTES.sub("", shown[:MAX_TEXT]) if shown.lstrip().startswith(">") else shown[:MAX_TEXT]
    cut = _original_at(text)
    notice = text[:cut] if text[:cut].strip() else text
    original = (
        _original(root)
        or headers.parse_header(text[cut:].lstrip().encode("utf-8", "replace")).fields
    )
    writers = [
        a for name in ("from", "reply-to", "sender", "return-path") for a in _emails(original, name)
    ]
    own = {
        *writers,
        *(a for name in ("to", "cc", "from", "reply-to", "sender") for a in _emails(fields, name)),
    }
    sent_to = [
        a
        for name in ("to", "cc", "bcc", "apparently-to")
        for a in _emails(original, name)
        if a not in own
    ]
    failed = (
        _failed(notice, own, sent_to)
        or _failed(text, own, sent_to)
        or _failed(notice, set(), sent_to)
    )
    if not failed and len(sent_to) == 1 and not any(map(_DAEMON.match, writers)):
        failed = tuple(sent_to)
    reason = find_reason(notice, failed)
    action = find_action(f"{subject}\n{notice}")
    return BounceFacts(action, find_status(notice, reason, action), failed, reason)


def _original_at(text: str) -> int:
    """Return where the returned mail begins in a text."""
    marker = phrases.RETURNED_PATTERN.search(text)
    block = next((found for found in _BLOCK.finditer(text) if _SENT.search(found[0])), None)
    return min((found.start() for found in (marker, block) if found is not None), default=len(text))


def _original(root: Part) -> Fields | None:
    """Header of the mail that was returned as a part."""
    part = next((part for part in list_leaves(root) if part.mime in ORIGINALS), None)
    return (
        None if part is None else headers.parse_header(part.content[:MAX_ORIGINAL].lstrip()).fields
    )


def list_leaves(root: Part) -> list[Part]:
    """Return the parts that have a body, in their order."""
    return (
        [leaf for child in root.children for leaf in list_leaves(child)]
        if root.children
        else [root]
    )


def _emails(fields: Fields, name: str) -> list[str]:
    people = [a for value in fields.find_all(name)[:5] for a in addresses.parse(value[:4000])]
    return list(dict.fromkeys(person.key for person in people if "@" in person.key))[:MAX_FAILED]


def _failed(notice: str, own: set[str], sent_to: list[str]) -> tuple[str, ...]:
    """Addresses a notice is about.

    Those of the returned mail and those that stand alone, else all but helpers'.
    """
    sure, others = [], []
    for line in notice.split("\n"):
        for found in _ADDRESS.finditer(line[:1000]):
            address, before = clean_address(found[0]), line[: found.start()]
            if address in sent_to or (address not in own and _STANDS.search(before)):
                sure.append(address)
            elif not (
                address in own
                or _OF_SENDER.search(before)
                or _HELP.search(line)
                or _SERVICE.match(address)
            ):
                others.append(address)
    return tuple(dict.fromkeys(sure or others))[:MAX_FAILED]


def clean_address(address: str) -> str:
    """Return an address as an identity, without the route to it (RFC 5322 §4.4)."""
    bare = address.strip(" \t\r\n<>()[]\"';,:").rstrip(".").casefold()
    return bare.rpartition(":")[2] if bare.startswith("@") else bare


def find_action(text: str) -> str:
    """Return what was done, as the words say it; "" where they only say that something is wrong."""
    return next(
        (action for action, words in phrases.ACTION_PATTERNS.items() if words.search(text)), ""
    )


def find_status(text: str, reason: str, action: str) -> str:
    """Status a text names or, failing that, its words mean.

    "" where it says nothing of the kind.
    """
    wanted = {"delayed": "4", "delivered": "2"}.get(action, "5")
    codes = [code for place in (reason, text) for code in _ENHANCED.finditer(place)]
    telling = [code for code in codes if code[2] + code[3] != "00"]
    best = next((code for code in telling if code[1] == wanted), telling[0] if telling else None)
    if best is not None:
        return best[0]
    meaning = _meaning(reason) or ("" if codes else _meaning(text))
    if meaning:
        return f"{wanted}.{meaning}"
    reply = _REPLY.search(text)
    return codes[0][0] if codes else f"{reply[1]}.0.0" if reply is not None else ""


def _meaning(text: str) -> str:
    return next((why for why, words in phrases.REASON_PATTERNS.items() if words.search(text)), "")


def find_reason(notice: str, failed: tuple[str, ...]) -> str:
    """The other server's words as one line.

    Where it answered, else what stands behind a failed address.
    """
    rows = notice.split("\n")
    weight, number = max(
        ((_weight(row), -number) for number, row in enumerate(rows)), default=(0, 0)
    )
    if weight:
        return to_short_line(_paragraph(rows, -number))
    at = next(
        (number for number, row in enumerate(rows) if any(a in row.casefold() for a in failed)),
        None,
    )
    behind = "" if at is None else _BEHIND.sub("", _paragraph(rows, at), count=1)
    return to_short_line(behind)


def _paragraph(rows: list[str], start: int) -> str:
    """A line with those that continue it: indented no less, or going on with a code."""
    indent = len(rows[start]) - len(rows[start].lstrip())
    taken = [_OPENS.sub("", rows[start])]
    for row in rows[start + 1 : start + MAX_LINES]:
        if not row.strip() or not _CONTINUES.match(row) or len(row) - len(row.lstrip()) < indent:
            break
        taken.append(row.strip(_MARKS))
    return " ".join(taken).strip(_MARKS)


def _weight(row: str) -> int:
    """Return how much a line looks like a server's answer."""
    row = row[:1000]
    code = _REPLY.search(row)
    if code is not None:
        return 5 if code[2] else 4
    if _ENHANCED.search(row):
        return 3
    if _FIELD_LINE.match(row):
        return 2
    return int(bool(_meaning(row)))


def to_short_line(text: str) -> str:
    """Return a reason as one line of printable characters, bounded.

    It goes onto a ticket and a terminal.
    """
    line = "".join(c for c in headers.to_one_line(text) if c.isprintable())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
