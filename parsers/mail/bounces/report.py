"""What a bounce says.

Status reports (RFC 3464), a header of the failed addresses, notices in JSON, or plain words.
"""

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

# The worst first: what is said of one recipient counts for the mail (RFC 3464 §2.3.3).
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
BY_CLASS = {
    "2": "delivered",
    "4": "delayed",
    "5": "failed",
}  # where a report gives a status and no action

# Kinds of notices in JSON -> where they name the addresses, and what was done.
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
_RECIPIENTS = (
    "original-recipient",
    "final-recipient",
)  # the one we wrote to is the contact's; the other may be where it forwards to
_TYPED = re.compile(r"\s*[\w./-]{1,40}\s*;\s*")
_STATUS = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.]*\d)")
_NOTICE = re.compile(r"\s*\{")
_KIND = re.compile(
    r'\\?"(?:notificationType|eventType)\\?"\s*:\s*\\?"(?:Bounce|Delivery(?:Delay)?)\\?"',
    re.IGNORECASE,
)


def parse(fields: Fields, root: Part, subject: str, shown: str) -> Bounce:
    """Return what a bounce says of the mail it is about.

    An action where nothing says one is `failed`.
    """
    said = _json(shown)
    if not said.action:
        said = _report(root, shown).fill_gaps_from(_header(fields))
        if said.reason:
            said = said.fill_gaps_from(
                BounceFacts(status=plain_text.find_status(said.reason, said.reason, said.action))
            )
        said = said.fill_gaps_from(plain_text.parse(fields, root, subject, shown))
    return Bounce(
        action=said.action or "failed", status=said.status, failed=said.failed, reason=said.reason
    )


def is_json_notice(shown: str) -> bool:
    """Return whether a text is a bounce in JSON, as Amazon SES sends it through SNS."""
    return (
        _NOTICE.match(shown) is not None and _KIND.search(shown[: plain_text.MAX_TEXT]) is not None
    )


def _header(fields: Fields) -> BounceFacts:
    """X-Failed-Recipients, as Exim, Gmail and others write it."""
    value = b",".join(fields.find_all("x-failed-recipients")[:MAX_FAILED])[:20_000].decode(
        "utf-8", "replace"
    )
    found = [plain_text.clean_address(address) for address in re.split(r"[,;\s]+", value)]
    return BounceFacts(failed=_addresses(found))


def _addresses(found: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(address[:320] for address in found if "@" in address.strip("@")))[
        :MAX_FAILED
    ]


def _report(root: Part, shown: str) -> BounceFacts:
    """The report of the message, or the one a program wrote into its text."""
    parts = [part for part in plain_text.list_leaves(root) if part.mime in REPORTS]
    said = BounceFacts()
    for part in parts[:10]:
        said = said.fill_gaps_from(_worst(charsets.decode(part.content[:MAX_REPORT])))
    start = _STARTS.search(shown[:MAX_REPORT]) if not said.failed else None
    return (
        said
        if start is None
        else said.fill_gaps_from(
            _worst(re.sub(r"(?m)^[ \t>]+", "", shown[start.start() : MAX_REPORT]))
        )
    )


def _worst(report: str) -> BounceFacts:
    """The recipients with the worst action; the first of them gives status and reason."""
    found = [_recipient(group) for group in _groups(report)]
    rank = {action: number for number, action in enumerate(ORDER)}
    worst = min(
        (said.action for said in found), key=lambda action: rank.get(action, len(ORDER)), default=""
    )
    concerned = [said for said in found if said.action == worst]
    said = BounceFacts()
    for one in concerned[:MAX_FAILED]:
        said = said.fill_gaps_from(one)
    return BounceFacts(
        worst, said.status, _addresses([a for one in concerned for a in one.failed]), said.reason
    )


def _groups(report: str) -> list[dict[str, str]]:
    """Fields of each recipient (RFC 3464 §2.3), folded lines joined.

    Blank lines divide them, but some programs leave those out: a field that comes twice begins a
    new one too.
    """
    groups: list[dict[str, str]] = [{}]
    name = ""
    for line in report.replace("\r", "").split("\n"):
        found = _FIELD.match(line) if line[:1] not in {" ", "\t"} or not name else None
        if found is not None:
            name = found[1].lower()
            if name in groups[-1] and name in _RECIPIENTS:
                groups.append({})
            groups[-1].setdefault(name, found[2][:MAX_VALUE])
        elif line.strip() and name:
            groups[-1][name] = f"{groups[-1][name]} {line.strip()}"[:MAX_VALUE]
        elif not line.strip():
            name = ""
            if not groups[-1].keys().isdisjoint(_RECIPIENTS):
                groups.append({})
    return [group for group in groups if group][: 2 * MAX_FAILED]


def _recipient(group: dict[str, str]) -> BounceFacts:
    reason = plain_text.to_short_line(_untyped(group.get("diagnostic-code", "")))
    given = _STATUS.search(group.get("status", ""))
    status = given[0] if given is not None else ""
    word = re.match(r"[a-z]*", group.get("action", "").strip().lower())
    action = ACTIONS.get(word[0] if word is not None else "", "") or BY_CLASS.get(status[:1], "")
    found = next(filter(None, (_mailbox(group.get(name, "")) for name in _RECIPIENTS)), "")
    return BounceFacts(action, status, _addresses([found]), reason)


def _untyped(value: str) -> str:
    """A value without the `smtp;` or `rfc822;` before it (RFC 3464 §2.1.2)."""
    typed = _TYPED.match(value)
    return value[typed.end() :] if typed is not None else value


def _mailbox(value: str) -> str:
    """Address of a recipient field.

    Its type taken off, and the two characters RFC 3461 §4 encodes put back.
    """
    bare = _untyped(value).replace("+2B", "+").replace("+3D", "=")
    return next((plain_text.clean_address(word) for word in bare.split() if "@" in word), "")


def _json(shown: str) -> BounceFacts:
    """A notice of Amazon SES, bare or in the envelope of SNS."""
    if not is_json_notice(shown):
        return BounceFacts()
    try:
        notice = dict(_pairs(shown))
        inner = notice.get("Message")
        notice = dict(_pairs(inner)) if isinstance(inner, str) else notice
    except ParseError:
        return BounceFacts()
    return next((_notice(notice, kind) for kind in NOTICES if kind in notice), BounceFacts())


def _notice(notice: dict[str, Json], kind: str) -> BounceFacts:
    listed, action = NOTICES[kind]
    told = _members(notice[kind])
    recipients = told.get(listed)
    people = recipients[:MAX_FAILED] if isinstance(recipients, list) else []
    first = _members(people[0]) if people else {}
    action = "delayed" if told.get("bounceType") == "Transient" else action
    status = _STATUS.search(_text(first.get("status")) or _text(told.get("smtpResponse")))
    return BounceFacts(
        ACTIONS.get(_text(first.get("action")).lower(), action),
        status[0] if status is not None else "",
        _addresses(
            [
                plain_text.clean_address(_text(one) or _text(_members(one).get("emailAddress")))
                for one in people
            ]
        ),
        plain_text.to_short_line(_untyped(_text(first.get("diagnosticCode")))),
    )


def _pairs(text: str) -> json.Pairs:
    bare = text[text.find("{") : text.rfind("}") + 1][:MAX_REPORT].replace(
        "\n", ""
    )  # relays fold long lines anywhere
    return json.parse_object(bare.encode("utf-8", "replace"))


def _members(value: Json) -> dict[str, Json]:
    return dict(value) if isinstance(value, tuple) else {}


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
