"""Mail nobody wrote: automatic answers, bounces, reports, lists.

What the signs are, how much each proves and its source stand in `parsers.mail.evidence`; this
module looks for them in a message and says what they make of it together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from parsers.item import Address
from parsers.mail import automatic_phrases as phrases
from parsers.mail import evidence
from parsers.mail.bounces import report
from parsers.mail.evidence import Meaning, Sign
from parsers.mail.syntax.headers import Fields
from parsers.mail.syntax.mime import Part

MAX_HOPS = 50  # relays a message may have passed; more is a loop, and an answer would go round too
TEXT_READ = 4000  # characters of a text that are searched for a bounce's words
BOUNCE_REPORT = frozenset({"message/delivery-status", "message/global-delivery-status"})
RECEIPT = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
# Types of machine reports, as part and as report-type (RFC 6522 §3) -> the sign they are.
SIGNS_BY_PART = {
    **dict.fromkeys(BOUNCE_REPORT, "delivery-status-part"),
    **dict.fromkeys(RECEIPT, "read-receipt-part"),
    "message/feedback-report": "feedback-report-part",
    "message/tracking-status": "tracking-part",
}
SIGNS_BY_REPORT_TYPE = {
    "delivery-status": "report-type",
    "feedback-report": "feedback-report-part",
    "disposition-notification": "read-receipt-part",
    "tracking-status": "tracking-part",
}
# The same parts outside a multipart/report -> what they are then.
LOOSE_SIGNS = {
    "delivery-status-part": "loose-report",
    "read-receipt-part": "loose-receipt",
    "tracking-part": "loose-receipt",
    "feedback-report-part": "loose-complaint",
}
RETURNED_MAIL = frozenset({"message/rfc822", "text/rfc822-headers", "message/global"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What kind of automatic mail a message is; all false, and no signs, for a person's."""

    is_auto_reply: bool = False
    is_bounce: bool = False
    is_automated: bool = False
    signs: tuple[str, ...] = ()  # names of `evidence.SIGNS` that count


def classify(fields: Fields, subject: str, sender: Address, root: Part, shown: str) -> Verdict:
    """Return what a message says of itself by its fields, parts, sender, subject and text."""
    is_report = root.mime == "multipart/report" or "report-type" in root.parameters
    found = {
        *_field_signs(fields),
        *(_report_signs(root) if is_report else ()),
        *_sender_signs(sender),
        *_subject_signs(subject),
    }
    names = {sign.name for sign in found}
    if "feedback-report-part" in names:  # it may carry the status of the mail it is about
        found -= {_sign("delivery-status-part"), _sign("report-type")}
    elif _reads_as_bounce(subject, shown, root, names):
        found.add(_sign("bounce-wording"))
    if not is_report and (loose := _loose_report(root, subject, names)) is not None:
        found.add(loose)
    if "robot-address" in names and report.is_json_notice(shown):
        found.add(_sign("bounce-notice"))
    return _verdict(evidence.order_signs(sign.name for sign in found))


def _verdict(names: tuple[str, ...]) -> Verdict:
    """Return what signs that count make of a message together."""
    means = {_sign(name).meaning for name in names}
    is_bounce = Meaning.BOUNCE in means
    answers = Meaning.ANSWER in means and Meaning.COMPLAINT not in means
    return Verdict(
        is_auto_reply=answers and not is_bounce,
        is_bounce=is_bounce,
        is_automated=bool(names),
        signs=names,
    )


def _sign(name: str) -> Sign:
    return evidence.SIGNS_BY_NAME[name]


def _field_signs(fields: Fields) -> Iterator[Sign]:
    names = {name for name, _ in fields.items}
    for name in names & evidence.SIGNS_BY_FIELD.keys():
        word = _word(fields, name)
        for sign in evidence.SIGNS_BY_FIELD[name]:
            if (
                sign.value.fullmatch(word)
                if sign.value is not None
                else fields.find_first(name).strip()
            ):
                yield sign
    if (
        _word(fields, "auto-submitted") == "auto-generated"
        and fields.find_first("in-reply-to").strip()
    ):
        yield _sign("auto-submitted-answer")  # Exchange says so of its out-of-office notes
    suppresses_all = _word(fields, "x-auto-response-suppress") == "all"
    if "x-ms-exchange-inbox-rules-loop" in names and suppresses_all:
        yield _sign("inbox-rule-answer")
    if len(fields.find_all("received")) > MAX_HOPS:
        yield _sign("hops")
    if has_null_return_path(fields):
        yield _sign(evidence.NULL_SENDER)


def _word(fields: Fields, name: str) -> str:
    """Return the first word of a field, lower case and without comments."""
    return re.split(r"[\s;,(]", fields.find_text(name).strip().lower(), maxsplit=1)[0]


def _report_signs(root: Part) -> Iterator[Sign]:
    """Yield what a multipart/report is: by its parts, and by what its type promises."""
    found = {SIGNS_BY_PART[part.mime] for part in root.children if part.mime in SIGNS_BY_PART}
    kind = SIGNS_BY_REPORT_TYPE.get(root.parameters.get("report-type", "").lower())
    if kind is not None and not (kind == "report-type" and found):
        found.add(kind)
    return map(_sign, found)


def _loose_report(root: Part, subject: str, names: set[str]) -> Sign | None:
    """Return the sign of a report that is no multipart/report; None where a person passes one on.

    Many systems send its parts in multipart/mixed. So does whoever forwards a report with a word
    of their own, and they do so under their own name and a subject that begins with "Fwd:".
    """
    found = next(
        (SIGNS_BY_PART[p.mime] for p in (root, *root.children) if p.mime in SIGNS_BY_PART), None
    )
    if found is None or not (
        evidence.is_from_mail_system(names) or phrases.BOUNCE_SUBJECT_PATTERN.match(subject)
    ):
        return None
    return _sign(LOOSE_SIGNS[found])


def has_null_return_path(fields: Fields) -> bool:
    """Return whether the last mail server recorded an empty envelope sender.

    Source: RFC 5321 §4.4, §4.5.5.
    """
    values = fields.find_all("return-path")
    return bool(values) and re.sub(rb"\s", b"", values[0]) == b"<>"


def _sender_signs(sender: Address) -> Iterator[Sign]:
    local = sender.email.partition("@")[0] or sender.name
    for name in ("daemon-address", "robot-address"):
        if _matches(name, local):
            yield _sign(name)
    if not sender.email and _matches("system-name", sender.name):
        yield _sign("daemon-address")  # From: "" (Mail Delivery System)


def _matches(name: str, value: str) -> bool:
    pattern = evidence.SIGNS_BY_NAME[name].pattern
    return pattern is not None and pattern.fullmatch(value.strip()) is not None


def _subject_signs(subject: str) -> Iterator[Sign]:
    for name in ("answer-subject", "absence-subject", "absence-answer"):
        pattern = evidence.SIGNS_BY_NAME[name].pattern
        if pattern is not None and pattern.match(subject):
            yield _sign(name)


def _reads_as_bounce(subject: str, shown: str, root: Part, names: set[str]) -> bool:
    """Return whether sender, subject and text make a bounce together.

    Words alone make none that people write too: a subject "Delivery problem" and a text that says
    "did not reach the payer" are daily work of a billing desk.
    """
    titled = phrases.BOUNCE_SUBJECT_PATTERN.match(subject) is not None
    by_system = evidence.is_from_mail_system(names)
    if not (titled or by_system):
        return False
    if titled and by_system:
        return True
    text = shown[:TEXT_READ]
    if phrases.BOUNCE_TEXT_PATTERN.search(text):
        return True
    if by_system:
        returned = any(part.mime in RETURNED_MAIL for part in root.children)
        return returned or phrases.BOUNCE_TEXT_OF_PEOPLE_PATTERN.search(text) is not None
    return subject.lower().startswith("delivery status notification")
