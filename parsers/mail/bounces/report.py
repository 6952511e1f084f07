"""Parser of bounces: status reports (RFC 3464), a field of failed addresses, JSON, plain words."""

import re

from parsers.item import Bounce, ParseError
from parsers.mail.bounces import plain_text
from parsers.mail.bounces.plain_text import MAX_FAILED, BounceFacts
from parsers.mail.syntax.headers import Fields
from parsers.mail.syntax.mime import Part
from parsers.text import charsets, json
from parsers.text.json import Json

MAX_REPORT = 200_000  # bytes of a report that are read
MAX_VALUE = 2000  # characters of one of its fields
REPORTS = frozenset({"message/delivery-status", "message/global-delivery-status"})

# The worst first: the worst action of one recipient counts for the mail (RFC 3464 §2.3.3).
ORDER = ("failed", "delayed", "relayed", "expanded", "delivered")
# Words programs write instead of the five.
ACTIONS = {
    **{action: action for action in ORDER},
    "bounced": "failed",
    "deferred": "delayed",
    "delay": "delayed",
    "error": "failed",
    "expired": "failed",
    "fail": "failed",
    "failure": "failed",
    "hard": "failed",
    "success": "delivered",
    "undeliverable": "failed",
}
# Class of a status -> the action, where a report gives none.
ACTIONS_BY_CLASS = {"2": "delivered", "4": "delayed", "5": "failed"}

# Kinds of notices in JSON -> the member that names the addresses, and the action.
NOTICES = {
    "bounce": ("bouncedRecipients", "failed"),
    "deliveryDelay": ("delayedRecipients", "delayed"),
    "delivery": ("recipients", "delivered"),
}

_FIELD = re.compile(r"[ \t]*([A-Za-z][A-Za-z-]{1,60})[ \t]*:[ \t]*(.*)")
_STARTS = re.compile(
    r"^[ \t>]*(?:final-recipient|original-recipient|action|diagnostic-code)[ \t]*:",
    re.IGNORECASE | re.MULTILINE,
)
# The original recipient is the contact; the final one may be an address the contact forwards to.
_RECIPIENTS = ("original-recipient", "final-recipient")
_TYPED = re.compile(r"\s*[\w./-]{1,40}\s*;\s*")
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.]*\d)")
_NOTICE = re.compile(r"\s*\{")
_KIND = re.compile(
    r'\\?"(?:notificationType|eventType)\\?"\s*:\s*\\?"(?:Bounce|Delivery(?:Delay)?)\\?"',
    re.IGNORECASE,
)


def parse(fields: Fields, root: Part, subject: str, body_text: str) -> Bounce:
    """Return what happened to the mail that a bounce is about.

    `body_text` is the text of the bounce. The action is `failed` where nothing names one; all else
    is empty where nothing names it.
    """
    facts = _parse_json(body_text)
    if not facts.action:
        facts = _parse_report(root, body_text).fill_gaps_from(_parse_field(fields))
        if facts.reason:
            status = plain_text.find_status(facts.reason, facts.reason, facts.action)
            facts = facts.fill_gaps_from(BounceFacts(status=status))
        facts = facts.fill_gaps_from(plain_text.parse(fields, root, subject, body_text))
    return Bounce(
        action=facts.action or "failed",
        status=facts.status,
        failed=facts.failed_addresses,
        reason=facts.reason,
    )


def is_json_notice(body_text: str) -> bool:
    """Return whether a text is a bounce in JSON, as Amazon SES sends it through SNS."""
    return (
        _NOTICE.match(body_text) is not None
        and _KIND.search(body_text[: plain_text.MAX_TEXT]) is not None
    )


def _parse_field(fields: Fields) -> BounceFacts:
    """Return the addresses in X-Failed-Recipients, as Exim, Gmail and others write it."""
    values = b",".join(fields.find_all("x-failed-recipients")[:MAX_FAILED])
    text = values[:20_000].decode("utf-8", "replace")
    emails = [plain_text.clean_address(address) for address in re.split(r"[,;\s]+", text)]
    return BounceFacts(failed_addresses=_select_addresses(emails))


def _select_addresses(emails: list[str]) -> tuple[str, ...]:
    """Return the first MAX_FAILED that are addresses, each once."""
    usable = dict.fromkeys(email[:320] for email in emails if "@" in email.strip("@"))
    return tuple(usable)[:MAX_FAILED]


def _parse_report(root: Part, body_text: str) -> BounceFacts:
    """Return the facts in the report of the message, or in one a program wrote into its text."""
    parts = [part for part in plain_text.list_leaves(root) if part.mime in REPORTS]
    facts = BounceFacts()
    for part in parts[:10]:
        facts = facts.fill_gaps_from(_find_worst(charsets.decode(part.content[:MAX_REPORT])))
    start = _STARTS.search(body_text[:MAX_REPORT])
    if facts.failed_addresses or start is None:
        return facts
    unquoted = re.sub(r"(?m)^[ \t>]+", "", body_text[start.start() : MAX_REPORT])
    return facts.fill_gaps_from(_find_worst(unquoted))


def _find_worst(report: str) -> BounceFacts:
    """Return the recipients with the worst action; the first of them gives status and reason."""
    recipients = [_parse_recipient(group) for group in _split_recipients(report)]
    rank = {action: number for number, action in enumerate(ORDER)}
    actions = (recipient.action for recipient in recipients)
    worst = min(actions, key=lambda action: rank.get(action, len(ORDER)), default="")
    worst_recipients = [recipient for recipient in recipients if recipient.action == worst]
    facts = BounceFacts()
    for recipient in worst_recipients[:MAX_FAILED]:
        facts = facts.fill_gaps_from(recipient)
    emails = [email for recipient in worst_recipients for email in recipient.failed_addresses]
    return BounceFacts(worst, facts.status, _select_addresses(emails), facts.reason)


def _split_recipients(report: str) -> list[dict[str, str]]:
    """Return the fields of each recipient (RFC 3464 §2.3), folded lines joined."""
    recipients = _Recipients()
    for line in report.replace("\r", "").split("\n"):
        is_folded = line[:1] in {" ", "\t"} and recipients.has_open_field
        field = None if is_folded else _FIELD.match(line)
        if field is not None:
            recipients.add_field(field[1].lower(), field[2])
        elif line.strip():
            recipients.continue_field(line.strip())
        else:
            recipients.end_block()
    return [group for group in recipients.groups if group][: 2 * MAX_FAILED]


class _Recipients:
    """Fields of a report, a group for each recipient.

    Blank lines divide the recipients, but some programs leave those out: a field that comes twice
    begins a new recipient too.
    """

    def __init__(self) -> None:
        self.groups: list[dict[str, str]] = [{}]
        self._name = ""  # of the field that a folded line would continue

    @property
    def has_open_field(self) -> bool:
        """True where a folded line would continue a field."""
        return self._name != ""

    def add_field(self, name: str, value: str) -> None:
        """Add a field, to the recipient at hand or to a new one."""
        if name in _RECIPIENTS and name in self.groups[-1]:
            self.groups.append({})
        self.groups[-1].setdefault(name, value[:MAX_VALUE])
        self._name = name

    def continue_field(self, text: str) -> None:
        """Add text to the last field, if there is any to continue."""
        if self._name:
            value = self.groups[-1][self._name]
            self.groups[-1][self._name] = f"{value} {text}"[:MAX_VALUE]

    def end_block(self) -> None:
        """End the fields of a recipient; those of the message stand in a block before."""
        self._name = ""
        if not self.groups[-1].keys().isdisjoint(_RECIPIENTS):
            self.groups.append({})


def _parse_recipient(group: dict[str, str]) -> BounceFacts:
    code = _STATUS.search(group.get("status", ""))
    status = code[0] if code is not None else ""
    word = re.match(r"[a-z]*", group.get("action", "").strip().lower())
    action = ACTIONS.get(word[0] if word is not None else "", "")
    emails = (_parse_mailbox(group.get(name, "")) for name in _RECIPIENTS)
    return BounceFacts(
        action=action or ACTIONS_BY_CLASS.get(status[:1], ""),
        status=status,
        failed_addresses=_select_addresses([next(filter(None, emails), "")]),
        reason=plain_text.to_short_line(_remove_type(group.get("diagnostic-code", ""))),
    )


def _remove_type(value: str) -> str:
    """Return a value without the `smtp;` or `rfc822;` before it (RFC 3464 §2.1.2)."""
    prefix = _TYPED.match(value)
    return value[prefix.end() :] if prefix is not None else value


def _parse_mailbox(value: str) -> str:
    """Return the address of a recipient field, "" where it has none.

    The two characters that RFC 3461 §4 has encoded are put back.
    """
    bare = _remove_type(value).replace("+2B", "+").replace("+3D", "=")
    return next((plain_text.clean_address(word) for word in bare.split() if "@" in word), "")


def _parse_json(body_text: str) -> BounceFacts:
    """Return the facts in a notice of Amazon SES, bare or in the envelope of SNS."""
    if not is_json_notice(body_text):
        return BounceFacts()
    try:
        notice = dict(_parse_object(body_text))
        inner = notice.get("Message")
        if isinstance(inner, str):
            notice = dict(_parse_object(inner))
    except ParseError:
        return BounceFacts()
    kind = next((kind for kind in NOTICES if kind in notice), None)
    return _parse_notice(_get_members(notice[kind]), *NOTICES[kind]) if kind else BounceFacts()


def _parse_notice(notice: dict[str, Json], list_name: str, action: str) -> BounceFacts:
    """Return the facts in the member of a notice that is named as its kind."""
    recipients = notice.get(list_name)
    people = recipients[:MAX_FAILED] if isinstance(recipients, list) else []
    first = _get_members(people[0]) if people else {}
    if notice.get("bounceType") == "Transient":
        action = "delayed"
    status = _STATUS.search(_get_text(first.get("status")) or _get_text(notice.get("smtpResponse")))
    emails = [
        _get_text(person) or _get_text(_get_members(person).get("emailAddress"))
        for person in people
    ]
    return BounceFacts(
        action=ACTIONS.get(_get_text(first.get("action")).lower(), action),
        status=status[0] if status is not None else "",
        failed_addresses=_select_addresses(list(map(plain_text.clean_address, emails))),
        reason=plain_text.to_short_line(_remove_type(_get_text(first.get("diagnosticCode")))),
    )


def _parse_object(text: str) -> json.Pairs:
    """Parse the JSON object in a text; relays fold its long lines anywhere."""
    bare = text[text.find("{") : text.rfind("}") + 1][:MAX_REPORT].replace("\n", "")
    return json.parse_object(bare.encode("utf-8", "replace"))


def _get_members(value: Json) -> dict[str, Json]:
    """Return the members of an object, {} for any other value."""
    return dict(value) if isinstance(value, tuple) else {}


def _get_text(value: Json) -> str:
    """Return a value that is text, "" for any other."""
    return value if isinstance(value, str) else ""
