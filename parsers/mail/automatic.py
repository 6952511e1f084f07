"""Recognition of automatic mail: automatic answers, bounces, reports, lists.

The signs, how much each proves and its source stand in `parsers.mail.evidence`; this module looks
for them in a message and classifies it by all of them together.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from parsers.item import Address
from parsers.mail import automatic_phrases as phrases
from parsers.mail import evidence, machines, message_notices
from parsers.mail.bounces import report
from parsers.mail.evidence import Meaning, Sign
from parsers.mail.syntax.headers import Fields
from parsers.mail.syntax.mime import Part

MAX_HOPS = 50  # relays a message may have passed; more is a loop, and an answer would go round too
TEXT_READ = 4000  # characters of a text that are searched for a bounce's words
BOUNCE_REPORT = frozenset({"message/delivery-status", "message/global-delivery-status"})
RECEIPT = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
# Types of machine reports, as a part and as report-type (RFC 6522 §3) -> the sign they are.
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
# Signs of the same parts outside of a multipart/report.
LOOSE_SIGNS = {
    "delivery-status-part": "loose-report",
    "read-receipt-part": "loose-receipt",
    "tracking-part": "loose-receipt",
    "feedback-report-part": "loose-complaint",
}
RETURNED_MAIL = frozenset({"message/rfc822", "text/rfc822-headers", "message/global"})


@dataclass(frozen=True, slots=True)
class Verdict:
    """Kind of automatic mail a message is; all false, and no signs, for mail of a person."""

    is_auto_reply: bool = False
    is_bounce: bool = False
    is_automated: bool = False
    signs: tuple[str, ...] = ()  # names of `evidence.SIGNS` that count


def classify(fields: Fields, subject: str, sender: Address, root: Part, body_text: str) -> Verdict:
    """Return the kind of a message by its fields, parts, sender, subject and text.

    `root` is the tree of its parts, `body_text` the text a ticket shows of it.
    """
    is_report = root.mime == "multipart/report" or "report-type" in root.parameters
    signs = {
        *_find_field_signs(fields),
        *_find_sender_signs(sender),
        *_find_subject_signs(subject),
    }
    if _is_newsletter(fields, body_text):
        signs.add(_get_sign("newsletter"))
    if is_report:
        signs |= _find_report_signs(root)
    signs |= set(map(_get_sign, message_notices.find_notice_signs(subject, body_text)))
    names = {sign.name for sign in signs}
    if "feedback-report-part" in names:  # it may carry the status of the mail it is about
        signs -= {_get_sign("delivery-status-part"), _get_sign("report-type")}
    elif _reads_as_bounce(subject, body_text, root, names):
        signs.add(_get_sign("bounce-wording"))
    if not is_report:
        signs |= _find_loose_report(root, subject, names)
    if "robot-address" in names and report.is_json_notice(body_text):
        signs.add(_get_sign("bounce-notice"))
    return _make_verdict(evidence.order_signs(sign.name for sign in signs))


def add_unmarked(
    verdict: Verdict,
    sender: Address,
    subject: str,
    newest_text: str,
    *,
    is_answer: bool,
    passes_on: bool,
) -> Verdict:
    """Return the kind of a message with the signs of devices and programs that mark nothing.

    `newest_text` is its text without what it quotes, `is_answer` says that it answers a message,
    `passes_on` that it forwards one.
    """
    if verdict.is_bounce:
        return verdict
    local = sender.email.partition("@")[0]
    names = machines.list_signs(
        local,
        sender.name,
        subject,
        newest_text,
        has_unread_address="robot-address" in verdict.signs,
        is_answer=is_answer,
        passes_on=passes_on,
    )
    return _make_verdict(evidence.order_signs([*verdict.signs, *names]))


def _make_verdict(names: tuple[str, ...]) -> Verdict:
    """Return the kind of a message that has signs of these names, all of which count."""
    meanings = {_get_sign(name).meaning for name in names}
    is_bounce = Meaning.BOUNCE in meanings
    answers = {Meaning.ANSWER, Meaning.RECEIPT, Meaning.CHALLENGE}
    is_answer = not answers.isdisjoint(meanings) and Meaning.COMPLAINT not in meanings
    return Verdict(
        is_auto_reply=is_answer and not is_bounce,
        is_bounce=is_bounce,
        is_automated=bool(names),
        signs=names,
    )


def _get_sign(name: str) -> Sign:
    return evidence.SIGNS_BY_NAME[name]


def _find_field_signs(fields: Fields) -> Iterator[Sign]:
    names = {name for name, _ in fields.items}
    for name in names & evidence.SIGNS_BY_FIELD.keys():
        signs = evidence.SIGNS_BY_FIELD[name]
        yield from (sign for sign in signs if _matches_field(sign, fields, name))
    yield from _find_combined_signs(fields, names)
    if len(fields.find_all("received")) > MAX_HOPS:
        yield _get_sign("hops")
    if has_null_return_path(fields):
        yield _get_sign(evidence.NULL_SENDER)


def _find_combined_signs(fields: Fields, names: set[str]) -> Iterator[Sign]:
    """Yield the signs of fields that mean something only beside another one."""
    is_generated = _find_first_word(fields, "auto-submitted") == "auto-generated"
    if is_generated and fields.find_first("in-reply-to").strip():
        yield _get_sign("auto-submitted-answer")  # Exchange marks its out-of-office notes so
    suppresses_all = _find_first_word(fields, "x-auto-response-suppress") == "all"
    if "x-ms-exchange-inbox-rules-loop" in names and suppresses_all:
        yield _get_sign("inbox-rule-answer")


def _is_newsletter(fields: Fields, body_text: str) -> bool:
    """Return whether a mail can be unsubscribed from and is part of no discussion.

    It says so in its text too, or by one click (RFC 8058), as bulk senders must.
    """
    if not fields.find_first("list-unsubscribe").strip():
        return False
    if any(fields.find_first(name).strip() for name in ("list-post", "in-reply-to", "references")):
        return False
    has_click = bool(fields.find_first("list-unsubscribe-post").strip())
    return has_click or phrases.UNSUBSCRIBE_PATTERN.search(body_text[-TEXT_READ:]) is not None


def _matches_field(sign: Sign, fields: Fields, name: str) -> bool:
    if sign.value is None:
        return bool(fields.find_first(name).strip())
    return sign.value.fullmatch(_find_first_word(fields, name)) is not None


def _find_first_word(fields: Fields, name: str) -> str:
    """Return the first word of a field, lower case and without comments."""
    return re.split(r"[\s;,(]", fields.find_text(name).strip().lower(), maxsplit=1)[0]


def _find_report_signs(root: Part) -> set[Sign]:
    """Return the signs of a multipart/report: of its parts, and of its report-type."""
    names = {SIGNS_BY_PART[part.mime] for part in root.children if part.mime in SIGNS_BY_PART}
    by_type = SIGNS_BY_REPORT_TYPE.get(root.parameters.get("report-type", "").lower())
    # The type of a delivery report is a sign only where the report itself is missing.
    if by_type is not None and not (by_type == "report-type" and names):
        names.add(by_type)
    return set(map(_get_sign, names))


def _find_loose_report(root: Part, subject: str, names: set[str]) -> set[Sign]:
    """Return the sign of a report that is no multipart/report; none where a person passes one on.

    Many systems send its parts in multipart/mixed. So does whoever forwards a report with a word
    of their own, and they do so under their own name and a subject that begins with "Fwd:".
    """
    parts = (part for part in (root, *root.children) if part.mime in SIGNS_BY_PART)
    part = next(parts, None)
    is_by_system = evidence.is_from_mail_system(names)
    if part is None or not (is_by_system or phrases.BOUNCE_SUBJECT_PATTERN.match(subject)):
        return set()
    return {_get_sign(LOOSE_SIGNS[SIGNS_BY_PART[part.mime]])}


def has_null_return_path(fields: Fields) -> bool:
    """Return whether the last mail server recorded an empty envelope sender.

    Source: RFC 5321 §4.4, §4.5.5.
    """
    values = fields.find_all("return-path")
    return bool(values) and re.sub(rb"\s", b"", values[0]) == b"<>"


def _find_sender_signs(sender: Address) -> Iterator[Sign]:
    local = sender.email.partition("@")[0] or sender.name
    for name in ("daemon-address", "robot-address"):
        if _matches(name, local):
            yield _get_sign(name)
    if not sender.email and _matches("system-name", sender.name):
        yield _get_sign("daemon-address")  # From: "" (Mail Delivery System)


def _matches(name: str, value: str) -> bool:
    pattern = evidence.SIGNS_BY_NAME[name].pattern
    return pattern is not None and pattern.fullmatch(value.strip()) is not None


def _find_subject_signs(subject: str) -> Iterator[Sign]:
    for name in ("answer-subject", "absence-subject", "absence-answer"):
        pattern = evidence.SIGNS_BY_NAME[name].pattern
        if pattern is not None and pattern.match(subject):
            yield _get_sign(name)


def _reads_as_bounce(subject: str, body_text: str, root: Part, names: set[str]) -> bool:
    """Return whether sender, subject and text make a bounce together.

    Words that people write too make none alone: a subject "Delivery problem" and a text with
    "did not reach the payer" are daily work of a billing desk.
    """
    has_subject = phrases.BOUNCE_SUBJECT_PATTERN.match(subject) is not None
    is_by_system = evidence.is_from_mail_system(names)
    if not (has_subject or is_by_system):
        return False
    if has_subject and is_by_system:
        return True
    text = body_text[:TEXT_READ]
    if phrases.BOUNCE_TEXT_PATTERN.search(text):
        return True
    if is_by_system:
        has_returned_mail = any(part.mime in RETURNED_MAIL for part in root.children)
        return has_returned_mail or phrases.BOUNCE_TEXT_OF_PEOPLE_PATTERN.search(text) is not None
    return subject.lower().startswith("delivery status notification")
