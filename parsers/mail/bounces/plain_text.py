"""Parser of bounces written for people: failed addresses, status and reason out of plain words.

Mail programs by the dozen have layouts of their own, and all hold three things: an address the mail
was for, the answer of the other server, and the mail itself. The addresses are known by where they
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
_HEADER_BLOCK = re.compile(
    r"^(?:"
    r"(?:received|return-path|from|to|cc|subject|date|message-id|mime-version|content-type"
    r"|x-[\w-]{1,60}"
    r"|reply-to|sender|dkim-signature|user-agent|delivered-to|in-reply-to|references)[ \t]*:"
    r"[^\n]*\n(?:[ \t]+\S[^\n]*\n)*"
    r"){3,40}",
    re.IGNORECASE | re.MULTILINE,
)
_ORIGIN_FIELD = re.compile(
    r"^(?:from|received|return-path|message-id)[ \t]*:", re.IGNORECASE | re.MULTILINE
)
_ADDRESS = re.compile(
    r"(?<![\w.!#$%&'*+/=?^`{|}~@-])[\w.!#$%&'*+/=?^`{|}~-]{1,100}"
    r"@[\w-]{1,63}(?:\.[\w-]{1,63}){1,10}"
)
# Before an address that is the whole line, or stands behind the words for a recipient.
_BEFORE_RECIPIENT = re.compile(
    r"^[\s>*•·\-]*"
    r"(?:(?:original-|final-)?recipients?|rcpt to|to|user|address|e-?mail|failed recipient)?"
    r"[\s:=]*(?:rfc822;)?\s*[\"'(<\[]*(?:smtp:|mailto:)?$"
    r"|(?:rcpt to|recipients?|forward-path)\s*:?\s*<?$"
    r"|^[\s<>]*[45]\d\d[ -](?:[45]\.\d\.\d{1,3} )?<$",
    re.IGNORECASE,
)
_BEFORE_SENDER = re.compile(
    r"(?:mail from|sender|from|envelope-from|reply-to|return-path|message-?id|in-reply-to"
    r"|contact\w*|assistance|\bid|references?|mailto)\W{0,3}$",
    re.IGNORECASE,
)
_HELP = re.compile(
    r"assistance|contact|help|abuse|question|postmaster|support|further information", re.IGNORECASE
)
_HELPER = re.compile(
    r"(?:post?master|mailer-daemon|abuse|support|helpdesk|no-?reply|mail-daemon)@", re.IGNORECASE
)
# Whose mail that is returned is a bounce itself.
_DAEMON = re.compile(r"(?:post?master|mail(?:er)?-daemon)@", re.IGNORECASE)
_ENHANCED = re.compile(r"(?<![\d.])([245])\.([0-7])\.(\d{1,3})(?![\d.]*\d)")
_REPLY = re.compile(
    r"(?<![\d.:/-])([45])[0-7]\d(?=[ \-#:)]|$)(?:[ -]\(?#?([45]\.[0-7]\.\d{1,3})\b)?", re.MULTILINE
)
_FIELD_LINE = re.compile(
    r"^\s*(?:reason|error|diagnostic-code|details?|remote host said|message|cause)\s*:",
    re.IGNORECASE,
)
_CONTINUES = re.compile(r"[^\S\n]|[45]\d\d[ -]")
_THROUGH_ADDRESS = re.compile(r"^.{0,400}?@[\w.-]{1,255}[\s>\"')\]:;,.-]*")
# Marks at the beginning of a line, and an address with a colon behind it.
_OPENING = re.compile(r"^[\s<>*|#=-]*(?:[^\s<>:]{1,100}@[\w.-]{1,255}>?[ \t]*:[ \t]+)?(?=.)")
_MARKS = " \t*|-=#"
_QUOTES = re.compile(r"^(?:> ?)+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BounceFacts:
    """Content of a bounce from one source; what the source lacks is empty."""

    action: str = ""
    status: str = ""
    failed_addresses: tuple[str, ...] = ()
    reason: str = field(default="", repr=False)

    def fill_gaps_from(self, other: "BounceFacts") -> "BounceFacts":
        """Return these facts with their gaps filled from another source."""
        return BounceFacts(
            self.action or other.action,
            _choose_status(self.status, other.status),
            self.failed_addresses or other.failed_addresses,
            self.reason or other.reason,
        )


def _choose_status(status: str, other: str) -> str:
    """Return the first status, unless it is only a failure and the other has the reason of it."""
    is_vague = not status or (status.endswith(".0.0") and other[:1] == status[:1])
    return other if is_vague and other else status


def parse(fields: Fields, root: Part, subject: str, body_text: str) -> BounceFacts:
    """Parse the words of a bounce; `body_text` is its text, which may end with that mail."""
    text = body_text[:MAX_TEXT]
    if body_text.lstrip().startswith(">"):
        text = _QUOTES.sub("", text)
    end = _find_returned_mail(text)
    notice = text[:end] if text[:end].strip() else text
    original = _parse_returned_part(root)
    if original is None:
        original = headers.parse_header(text[end:].lstrip().encode("utf-8", "replace")).fields
    writers = _list_emails(original, "from", "reply-to", "sender", "return-path")
    own = {*writers, *_list_emails(fields, "to", "cc", "from", "reply-to", "sender")}
    recipients = [
        email
        for email in _list_emails(original, "to", "cc", "bcc", "apparently-to")
        if email not in own
    ]
    failed_addresses = (
        _find_failed(notice, own, recipients)
        or _find_failed(text, own, recipients)
        or _find_failed(notice, set(), recipients)
    )
    if not failed_addresses and len(recipients) == 1 and not any(map(_DAEMON.match, writers)):
        failed_addresses = tuple(recipients)
    reason = find_reason(notice, failed_addresses)
    action = find_action(f"{subject}\n{notice}")
    return BounceFacts(action, find_status(notice, reason, action), failed_addresses, reason)


def _find_returned_mail(text: str) -> int:
    """Return the position at which the returned mail begins in a text; its end where none does."""
    blocks = (block for block in _HEADER_BLOCK.finditer(text) if _ORIGIN_FIELD.search(block[0]))
    beginnings = (phrases.RETURNED_PATTERN.search(text), next(blocks, None))
    return min((begin.start() for begin in beginnings if begin is not None), default=len(text))


def _parse_returned_part(root: Part) -> Fields | None:
    """Return the header of the mail that was returned as a part, None where none was."""
    for part in list_leaves(root):
        if part.mime in ORIGINALS:
            return headers.parse_header(part.content[:MAX_ORIGINAL].lstrip()).fields
    return None


def list_leaves(root: Part) -> list[Part]:
    """Return the parts that have a body, in their order."""
    if not root.children:
        return [root]
    return [leaf for child in root.children for leaf in list_leaves(child)]


def _list_emails(fields: Fields, *names: str) -> list[str]:
    """Return the addresses in some fields, case folded; of each field at most MAX_FAILED."""
    emails: list[str] = []
    for name in names:
        values = fields.find_all(name)[:5]
        keys = (person.key for value in values for person in addresses.parse(value[:4000]))
        emails += list(dict.fromkeys(key for key in keys if "@" in key))[:MAX_FAILED]
    return emails


def _find_failed(notice: str, own: set[str], recipients: list[str]) -> tuple[str, ...]:
    """Return the addresses a notice is about.

    They are those the returned mail went to and those in a place for recipients; without any, all
    others but the writers' `own` and those of people who can help.
    """
    sure: list[str] = []
    others: list[str] = []
    for line in notice.split("\n"):
        for match in _ADDRESS.finditer(line[:1000]):
            address, before = clean_address(match[0]), line[: match.start()]
            if address in recipients:
                sure.append(address)
            elif address in own:
                continue
            elif _BEFORE_RECIPIENT.search(before):
                sure.append(address)
            elif not _is_helper(address, before, line):
                others.append(address)
    return tuple(dict.fromkeys(sure or others))[:MAX_FAILED]


def _is_helper(address: str, before: str, line: str) -> bool:
    """Return whether an address in a line is that of a sender, or of somebody who can help."""
    return bool(_BEFORE_SENDER.search(before) or _HELP.search(line) or _HELPER.match(address))


def clean_address(address: str) -> str:
    """Return an address as an identity: case folded, without the route to it (RFC 5322 §4.4)."""
    bare = address.strip(" \t\r\n<>()[]\"';,:").rstrip(".").casefold()
    return bare.rpartition(":")[2] if bare.startswith("@") else bare


def find_action(text: str) -> str:
    """Return the action that words mean, "" where they mean only that something is wrong."""
    for action, words in phrases.ACTION_PATTERNS.items():
        if words.search(text):
            return action
    return ""


def find_status(text: str, reason: str, action: str) -> str:
    """Return the status a text names or its words mean (RFC 3463), "" where it has neither.

    The best source comes first: a status of the class that fits the action, another one that names
    a cause, words that mean a cause, a status without a cause, the reply of a server (as 550).
    """
    status_class = {"delayed": "4", "delivered": "2"}.get(action, "5")
    codes = [*_ENHANCED.finditer(reason), *_ENHANCED.finditer(text)]
    code = _choose_code(codes, status_class)
    if code is not None:
        return code[0]
    cause = _find_cause(reason)
    if not cause and not codes:
        cause = _find_cause(text)
    if cause:
        return f"{status_class}.{cause}"
    if codes:
        return codes[0][0]
    reply = _REPLY.search(text)
    return f"{reply[1]}.0.0" if reply is not None else ""


def _choose_code(codes: list[re.Match[str]], status_class: str) -> re.Match[str] | None:
    """Return the first status of a class that names a cause, else one of any class; or None."""
    with_cause = [code for code in codes if code[2] + code[3] != "00"]
    fitting = [code for code in with_cause if code[1] == status_class]
    return next(iter(fitting or with_cause), None)


def _find_cause(text: str) -> str:
    """Return the last two numbers of the status that words mean, or ""."""
    for cause, words in phrases.REASON_PATTERNS.items():
        if words.search(text):
            return cause
    return ""


def find_reason(notice: str, failed_addresses: tuple[str, ...]) -> str:
    """Return the answer of the other server as one line, "" where there is none.

    Without a line that looks like an answer, the words behind a failed address are taken.
    """
    lines = notice.split("\n")
    weights = [_weigh(line) for line in lines]
    if any(weights):
        return to_short_line(_join_paragraph(lines, weights.index(max(weights))))
    for number, line in enumerate(lines):
        if any(address in line.casefold() for address in failed_addresses):
            paragraph = _join_paragraph(lines, number)
            return to_short_line(_THROUGH_ADDRESS.sub("", paragraph, count=1))
    return ""


def _join_paragraph(lines: list[str], start: int) -> str:
    """Return a line with those that continue it: indented no less, or going on with a code."""
    indent = len(lines[start]) - len(lines[start].lstrip())
    pieces = [_OPENING.sub("", lines[start])]
    for line in lines[start + 1 : start + MAX_LINES]:
        is_indented = len(line) - len(line.lstrip()) >= indent
        if not line.strip() or not _CONTINUES.match(line) or not is_indented:
            break
        pieces.append(line.strip(_MARKS))
    return " ".join(pieces).strip(_MARKS)


def _weigh(line: str) -> int:
    """Return how much a line looks like the answer of a server: 0 not at all, 5 most."""
    line = line[:1000]
    reply = _REPLY.search(line)
    if reply is not None:
        return 5 if reply[2] else 4
    if _ENHANCED.search(line):
        return 3
    if _FIELD_LINE.match(line):
        return 2
    return 1 if _find_cause(line) else 0


def to_short_line(text: str) -> str:
    """Return a reason as one line of at most MAX_REASON printable characters.

    It is shown on a ticket and in a terminal.
    """
    line = "".join(c for c in headers.to_one_line(text) if c.isprintable())
    return line if len(line) <= MAX_REASON else line[: MAX_REASON - 1] + "…"
