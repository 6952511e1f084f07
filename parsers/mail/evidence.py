"""Signs of automatic mail: a table of every sign, how much it proves, and the source of that.

A *proof* may act: an answer that proves itself automatic reopens no ticket, and a delivery report
that proves itself marks the mail of ours it is about (`CONSEQUENCES` says what each needs). A
*hint* holds back automatic mail and adds a caveat, nothing else. What is listed as *no sign* was
one in other help desks and stands in mail that people write: it does nothing, alone or together.

Whatever the verdict, the words stay readable where a consultant looks, and a person can correct it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from parsers.mail import automatic_phrases as phrases
from parsers.mail import message_notices


class Grade(StrEnum):
    """Strength of the evidence that a sign is."""

    PROOF = "proof"
    HINT = "hint"
    NONE = "no sign"


class Meaning(StrEnum):
    """Kind of message that a sign points to."""

    ANSWER = "automatic answer"  # an out-of-office note, an autoresponder's receipt
    RECEIPT = "read receipt"  # RFC 8098
    RECALL = "recall of a message"  # Outlook: the sender would like to take a mail back
    CHALLENGE = "request to confirm the sender"  # a spam filter holds a mail back
    MACHINE = "sent by a program"  # a list, a newsletter, a notification
    BOUNCE = "delivery report"  # RFC 3464
    COMPLAINT = "complaint"  # a feedback report, RFC 5965


@dataclass(frozen=True, slots=True)
class Sign:
    """A sign of automatic mail.

    `fields` are names of header fields, lower case; the sign is there when one of them has a value
    that `value` matches (its first word; any value but "" where `value` is None). Signs without
    fields are looked for by `automatic.classify`: in parts, address, name, subject or text.
    """

    name: str
    grade: Grade
    meaning: Meaning
    label: str  # of the sign, for people
    source: str
    fields: frozenset[str] = frozenset()
    value: re.Pattern[str] | None = None
    # Of an address's local part, a name, a subject or a text.
    pattern: re.Pattern[str] | None = None


def _make_names(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.IGNORECASE)


# Answers that say no, as RFC 3834 §5 does for Auto-Submitted.
_NOT_NO = _compile(r"(?!(?:no|false|0|none)$).+")

_ROBOT_LOCAL = (
    r"(?:.*[-_.+])?"
    r"(?:(?:no|not|do[-_.]?not|dont|never)[-_.]?(?:reply|response|respond|answer)"
    r"|(?:nicht|keine)[-_.]?antwort(?:en)?|ne[-_.]?pas[-_.]?r[eé]pondre|pas[-_.]?de[-_.]?r[eé]ponse"
    r"|n[aã]?o[-_.]?(?:responda|responder|conteste|contestar|responde)"
    r"|non[-_.]?rispond(?:ere|i)|(?:niet|geen)[-_.]?(?:antwoord(?:en)?|beantwoorden|reageren)"
    r"|svara[-_.]?(?:ej|inte)|ikke[-_.]?svar|[aä]l[aä][-_.]?vastaa|nie[-_.]?odpowiada[jc]"
    r"|neodpov[ií]d(?:at|ejte)|unattended|unmonitored)"
    r"(?:[-_.+\d].*)?"
    r"|(?:listserv|majordomo|mdaemon|autoresponder|auto-?reply|auto-?mailer|mailman|nobody|cron)"
    r"(?:[-_+].*)?"
    r"|daemon"
)
_DAEMON_LOCAL = (
    r"(?:mail(?:er|erd)?[-_. ]?d(?:a?e|ea)mon|post?[-_.]?master|poostmaster|mailsystem"
    r"|mail[-_.]delivery)"
    r"(?:[-_+\d].*|[-_. ](?:sub)?system)?"
    r"|bounces?(?:[-_+=].*)?"
)

P, H, N = Grade.PROOF, Grade.HINT, Grade.NONE
SIGNS: tuple[Sign, ...] = (
    # -- proofs ----
    Sign(
        "auto-submitted-answer",
        P,
        Meaning.ANSWER,
        "field Auto-Submitted",
        "RFC 3834 §5",
        _make_names("auto-submitted"),
        _compile(r"auto-replied"),
    ),
    Sign(
        "auto-submitted",
        P,
        Meaning.MACHINE,
        "field Auto-Submitted",
        "RFC 3834 §5",
        _make_names("auto-submitted"),
        _compile(r"(?!(?:no|auto-replied)$).+"),
    ),
    Sign(
        "autoresponder-field",
        P,
        Meaning.ANSWER,
        "a field that only autoresponders write",
        "vacation(1), Exim, cPanel, Plesk",
        _make_names(
            "x-autoreply x-autoreply-from x-auto-reply x-auto-reply-from x-autorespond "
            "x-autoresponder x-auto-respond x-mail-autoreply x-vacation x-out-of-office"
        ),
        _NOT_NO,
    ),
    Sign(
        "delivery-status-part",
        P,
        Meaning.BOUNCE,
        "a delivery report as a part",
        "RFC 3464 §2, RFC 6533 §3",
    ),
    Sign(
        "feedback-report-part", P, Meaning.COMPLAINT, "a feedback report as a part", "RFC 5965 §2"
    ),
    Sign("read-receipt-part", P, Meaning.RECEIPT, "a read receipt as a part", "RFC 8098 §3"),
    Sign(
        "read-receipt-wording",
        P,
        Meaning.RECEIPT,
        "subject and text of a read receipt",
        "Exchange, Lotus Notes, in 15 languages",
    ),
    Sign(
        "recall",
        P,
        Meaning.RECALL,
        "subject and text of a mail program's recall",
        "Outlook, in 11 languages",
    ),
    Sign(
        "challenge",
        P,
        Meaning.CHALLENGE,
        "it says that a mail is held until its sender confirms to be a person",
        "RFC 3834 §2; spam filters in 8 languages",
    ),
    Sign("tracking-part", P, Meaning.MACHINE, "a tracking report as a part", "RFC 3886 §2"),
    # -- hints ----
    Sign(
        "report-type",
        H,
        Meaning.BOUNCE,
        "a multipart/report of deliveries without its report",
        "RFC 6522 §3",
    ),
    Sign(
        "loose-report",
        H,
        Meaning.BOUNCE,
        "the parts of a delivery report, by a mail system or under a subject that says so",
        "mail systems older than RFC 3464",
    ),
    Sign(
        "loose-receipt", H, Meaning.ANSWER, "the parts of a receipt, by a mail system", "the same"
    ),
    Sign(
        "loose-complaint",
        H,
        Meaning.COMPLAINT,
        "the parts of a feedback report, by a mail system",
        "the same",
    ),
    Sign("null-sender", H, Meaning.MACHINE, "no sender in the envelope", "RFC 5321 §4.5.5"),
    Sign(
        "precedence-answer",
        H,
        Meaning.ANSWER,
        "field Precedence",
        "RFC 2076 §3.9",
        _make_names("precedence x-precedence"),
        _compile(r"auto[_-]reply"),
    ),
    Sign(
        "precedence",
        H,
        Meaning.MACHINE,
        "field Precedence",
        "RFC 2076 §3.9",
        _make_names("precedence x-precedence"),
        _compile(r"bulk|list|junk"),
    ),
    Sign(
        "list-field",
        H,
        Meaning.MACHINE,
        "a field of a mailing list",
        "RFC 2919, RFC 2369, Mailman, fml",
        _make_names(
            "list-id list-unsubscribe list-post list-help list-owner list-archive "
            "list-subscribe x-mailing-list x-list x-beenthere mailing-list x-mlserver "
            "x-ml-name x-ml-info x-ml-count"
        ),
    ),
    Sign(
        "newsletter",
        H,
        Meaning.MACHINE,
        "a mail to many, with one click or words to unsubscribe",
        "RFC 8058; field List-Unsubscribe (RFC 2369) without List-Post",
    ),
    Sign(
        "failed-recipients",
        H,
        Meaning.BOUNCE,
        "a field of bounces only",
        "Exim, Gmail, Exchange",
        _make_names("x-failed-recipients x-dsncontext x-ms-exchange-message-is-ndr"),
    ),
    Sign(
        "feedback-type",
        H,
        Meaning.MACHINE,
        "field Feedback-Type",
        "RFC 5965 §3.1",
        _make_names("feedback-type"),
    ),
    Sign(
        "alert-field",
        H,
        Meaning.MACHINE,
        "a field of an alerting program",
        "Opsgenie, GitHub, Jira, cron, Debian",
        _make_names(
            "x-opsgenie-alert x-github-reason x-jira-fingerprint x-cron-env x-autogenerated"
        ),
        _NOT_NO,
    ),
    Sign("hops", H, Meaning.MACHINE, "so many relays that it goes in a circle", "RFC 5321 §6.3"),
    Sign(
        "loop-through-us",
        H,
        Meaning.MACHINE,
        "field X-Loop with an address of ours",
        "procmail(1), procmailex(5)",
    ),
    Sign(
        "inbox-rule-answer",
        H,
        Meaning.ANSWER,
        "an Exchange inbox rule's answer",
        "MS-OXCMAIL §2.2.3",
    ),
    Sign(
        "daemon-address",
        H,
        Meaning.MACHINE,
        "sent by a mail system",
        "RFC 2142 §5, RFC 5321 §4.5.1",
        pattern=_compile(_DAEMON_LOCAL),
    ),
    Sign(
        "robot-address",
        H,
        Meaning.MACHINE,
        "an address nobody reads",
        "operations manual, mail rules",
        pattern=_compile(_ROBOT_LOCAL),
    ),
    Sign(
        "answer-subject",
        H,
        Meaning.ANSWER,
        "the subject of an automatic answer",
        "autoresponders in 40 languages",
        pattern=phrases.AUTO_REPLY_SUBJECT_PATTERN,
    ),
    Sign(
        "absence-subject",
        H,
        Meaning.ANSWER,
        "a subject that only says that somebody is away",
        "the same",
        pattern=phrases.ABSENCE_ALONE_PATTERN,
    ),
    Sign(
        "absence-answer",
        H,
        Meaning.ANSWER,
        "an answer whose subject begins with an absence",
        "the same",
        pattern=phrases.ABSENCE_ANSWER_PATTERN,
    ),
    Sign(
        "bounce-wording",
        H,
        Meaning.BOUNCE,
        "subject, sender and text of a bounce",
        "mail systems in 20 languages",
        pattern=phrases.BOUNCE_TEXT_PATTERN,
    ),
    # Of devices and programs that mark nothing (`parsers.mail.machines`).
    Sign(
        "machine-address",
        H,
        Meaning.MACHINE,
        "the address of a notification program",
        "portals, payers, clearinghouses, monitoring",
    ),
    Sign(
        "machine-name",
        H,
        Meaning.MACHINE,
        "the name of a notification program",
        "the same",
    ),
    Sign(
        "device-address",
        H,
        Meaning.MACHINE,
        "the address of a copier, scanner, fax or voicemail server",
        "the same",
    ),
    Sign(
        "device-name",
        H,
        Meaning.MACHINE,
        "the name of a copier, scanner, fax or voicemail server",
        "the same",
    ),
    Sign(
        "unread-words",
        H,
        Meaning.MACHINE,
        "a sentence that nobody reads answers, in a text that shows no person",
        "notification programs in 20 languages",
    ),
    Sign(
        "program-words",
        H,
        Meaning.MACHINE,
        "a sentence that the message is automatic, in a text that shows no person",
        "the same",
    ),
    Sign(
        "device-words",
        H,
        Meaning.MACHINE,
        "the line of a copier, scanner, fax or voicemail server",
        "Ricoh, Xerox, Canon, HP, Asterisk, Cisco Unity and their like",
    ),
    Sign(
        "no-person",
        H,
        Meaning.MACHINE,
        "an address that programs have or nobody reads, and a text that shows no person",
        "reports@, notify@, no-reply@ and their like",
    ),
    Sign("bounce-notice", H, Meaning.BOUNCE, "a bounce notice in JSON", "Amazon SES notifications"),
    # -- no signs: each of them stands in mail that a person wrote ----
    Sign(
        "suppress-answers",
        N,
        Meaning.MACHINE,
        "field X-Auto-Response-Suppress",
        "MS-OXCMAIL §2.1.3.2.17: what the sender wants no answers of; ordinary mail has it too",
        _make_names("x-auto-response-suppress"),
    ),
    Sign(
        "generated-source",
        N,
        Meaning.MACHINE,
        "field X-MS-Exchange-Generated-Message-Source",
        "Exchange: also on what a rule redirects",
        _make_names("x-ms-exchange-generated-message-source"),
    ),
    Sign(
        "loop-field",
        N,
        Meaning.MACHINE,
        "field X-Loop with others' addresses",
        "aliases and gateways write it too",
        _make_names("x-loop"),
    ),
    Sign(
        "mailing-tool",
        N,
        Meaning.MACHINE,
        "a field of a mailing tool",
        "SendGrid, Mailgun, Mailchimp, Google: practice software sends people's mail by them",
        _make_names(
            "feedback-id x-feedback-id x-campaign-id x-campaignid x-mailgun-sid x-sg-eid "
            "x-csa-complaints x-report-abuse-to x-mailchimp-id"
        ),
    ),
    Sign(
        "list-address",
        N,
        Meaning.MACHINE,
        "an address as lists have it (-request, -owner)",
        "RFC 2142 §6; records-request@ is a department",
        pattern=_compile(r"owner-.+|.+-(?:bounces|request|owner)"),
    ),
    Sign(
        "system-name",
        N,
        Meaning.MACHINE,
        "a mail system's name",
        "Postfix, Exchange, Sendmail; administrators are people",
        pattern=_compile(
            r"mail(?:er)?[-_. ]?(?:daemon|delivery (?:sub)?system|administrator|system)"
            r"|postmaster|system administrator"
        ),
    ),
    Sign(
        "auto-subject",
        N,
        Meaning.ANSWER,
        "a subject that begins with Auto: or an absence",
        "autoresponders; people write so too",
        pattern=phrases.AUTO_OR_ABSENCE_PATTERN,
    ),
)
NULL_SENDER = "null-sender"
# Messages about a message, which are nobody's request: meaning -> what staff are to do about one.
# The labels of their signs do not say what they are, so the caveat does.
ADVICE_BY_NOTICE = {
    Meaning.RECEIPT: "nothing is asked",
    Meaning.RECALL: "the sender would like to take a message back: ask whether it still counts",
    Meaning.CHALLENGE: "a mail is held until somebody confirms by its link or by an answer",
}
LIST_SIGNS = frozenset({"list-field", "precedence"})  # what every mailing list adds
# What shows a program that marks nothing: it says nothing of a person whom the program names.
UNMARKED_SIGNS = frozenset(
    {
        "robot-address",
        "machine-address",
        "machine-name",
        "device-address",
        "device-name",
        "unread-words",
        "program-words",
        "device-words",
        "no-person",
    }
)
PROGRAM_TEXT_SIGNS = frozenset({"unread-words", "program-words", "no-person"})
BULK_SIGNS = LIST_SIGNS | {"newsletter"}
DEVICE_SIGNS = frozenset({"device-address", "device-name", "device-words"})
# Signs that say the same twice count once (`is_no_request`); a newsletter is enough by itself.
_KINDS_OF_HINT: dict[str, frozenset[str]] = {
    "list": LIST_SIGNS,
    "sender": frozenset({"robot-address", "machine-address", "machine-name"}),
    "no person": frozenset({"no-person"}),
    "words": frozenset({"unread-words", "program-words"}),
    "answer": frozenset(
        {"answer-subject", "absence-subject", "absence-answer", "precedence-answer"}
    ),
    "rule": frozenset({"inbox-rule-answer"}),
    "alert": frozenset({"alert-field"}),
    "envelope": frozenset({"null-sender"}),
}
MAIL_SYSTEM_SIGNS = frozenset({NULL_SENDER, "daemon-address"})
# Beginnings of the caveats that `make_caveat` writes.
CERTAIN, PERHAPS = "sent automatically", "perhaps sent automatically"
SIGNS_BY_NAME = {sign.name: sign for sign in SIGNS}
SIGNS_BY_FIELD: dict[str, list[Sign]] = {}
for _sign in SIGNS:
    for _field in _sign.fields:
        SIGNS_BY_FIELD.setdefault(_field, []).append(_sign)


@dataclass(frozen=True, slots=True)
class Consequence:
    """Effect that a message has without a person deciding it, and the evidence it needs.

    All fields are texts for people; `correction` is how a person undoes the effect.
    """

    effect: str
    needs: str
    where_readable: str  # the place where the words of the message stay readable
    correction: str


_CORRECT = "“A person wrote this” on the message · `intake ticket ID not-automatic`"
CONSEQUENCES: tuple[Consequence, ...] = (
    Consequence(
        "no automatic mail is sent about it; a caveat says why",
        "a proof or a hint",
        "on its ticket, like any message",
        _CORRECT,
    ),
    Consequence(
        "it reopens no completed ticket",
        "a proof that it is an automatic answer or sent by a program",
        "on that ticket",
        _CORRECT,
    ),
    Consequence(
        "it is a note on the ticket of our mail it is about; no deadline counts where it opens one",
        "a proof that it is a read receipt, a recall or a request to confirm the sender",
        "on that ticket, or on one of its own",
        _CORRECT,
    ),
    Consequence(
        "it is a note on the ticket it answers, whoever has sent it",
        "our signed mark, and a proof, or the words of an automatic answer; on an open ticket any "
        "hint but the fields of a list",
        "as that note, with its whole text",
        _CORRECT,
    ),
    Consequence(
        "a mail of ours counts as bounced, its contact as unreachable",
        "a delivery report as a part, by a mail system, about a mail of ours; or no sender in the "
        "envelope, to the return path of that mail; or that mail inside, by a mail system and not "
        "from the address it went to",
        "as a note on the ticket, its whole text folded below what it says",
        _CORRECT + "; the mail and its contact are as before",
    ),
    Consequence(
        "a contact gets no more surveys",
        "a feedback report as a part, about a mail of ours",
        "as a note on the ticket",
        _CORRECT,
    ),
    Consequence(
        "a mail of ours that came back opens no ticket",
        "our own signed Message-ID",
        "as a note on the ticket",
        _CORRECT,
    ),
    Consequence(
        "it counts as a duplicate, and no second message is shown",
        "the same id, sender, content and date as a message that is there",
        "as that message, which says that it came again",
        "“Not a duplicate: make it a ticket” · `intake ticket ID not-duplicate`",
    ),
    Consequence(
        "it lies under “Automated” instead of opening a ticket: no task, no deadline",
        "that it belongs to no ticket, its sender is not on record (no company, no ticket of a "
        "person), and a proof that it is automatic, a newsletter, or hints of two kinds. Not what "
        "names a person in Reply-To, is of a form or a device, or of a sender set to "
        "“always a ticket”; and always what comes from one set to “never”",
        "in “Automated”, `intake automated`",
        "“Make it a ticket”, with *Undo* · `intake automated ID ticket`",
    ),
    Consequence(
        "it is put on no ticket",
        "a delivery report by a mail system, a feedback report, or no sender in the envelope and "
        "our return path, and no mail of ours it is about",
        "in “Automated”, `intake automated`",
        "“Make it a ticket” · `intake automated ID ticket`",
    ),
)


def order_signs(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of signs that count, each once and in the order of the table."""
    present = set(names)
    return tuple(s.name for s in SIGNS if s.name in present and s.grade is not Grade.NONE)


def is_from_mail_system(names: Iterable[str]) -> bool:
    """Return whether signs of these names show that a mail system sent the message."""
    return not MAIL_SYSTEM_SIGNS.isdisjoint(names)


def has_proof(names: Iterable[str], *meanings: Meaning) -> bool:
    """Return whether signs of these names prove one of these meanings, or any where none is given.

    Unknown names prove nothing.
    """
    signs = (SIGNS_BY_NAME[name] for name in names if name in SIGNS_BY_NAME)
    proofs = (sign for sign in signs if sign.grade is Grade.PROOF)
    return any(not meanings or proof.meaning in meanings for proof in proofs)


def is_no_request(names: Iterable[str]) -> bool:
    """Return whether signs of these names show a mail that is no customer's request.

    Of a stranger, that is: a practice's own program may pass on a request. A proof of an automatic
    answer or a program shows it, a newsletter, or two kinds of hints. What a device sends is a
    person's: somebody has put a page on the scanner, or called.
    """
    present = set(names)
    if has_proof(present, Meaning.ANSWER, Meaning.MACHINE):
        return True
    if not present.isdisjoint(DEVICE_SIGNS):
        return False
    kinds = [kind for kind, signs in _KINDS_OF_HINT.items() if not present.isdisjoint(signs)]
    return "newsletter" in present or len(kinds) > 1


def means(names: Iterable[str], meaning: Meaning) -> bool:
    """Return whether one of these signs, proof or hint, points to this kind of message."""
    return any(SIGNS_BY_NAME[name].meaning is meaning for name in names if name in SIGNS_BY_NAME)


def describe(names: Iterable[str]) -> str:
    """Return the labels of these signs for people, each once; an unknown name as it is."""
    labels = (SIGNS_BY_NAME[name].label if name in SIGNS_BY_NAME else name for name in names)
    return ", ".join(dict.fromkeys(labels))


def find_notice(names: Iterable[str]) -> Meaning | None:
    """Return which message about a message the signs prove it to be: a receipt, recall, challenge.

    None for any other message. A delivery report or complaint is more than that.
    """
    signs = tuple(names)
    if has_proof(signs, Meaning.BOUNCE, Meaning.COMPLAINT):
        return None
    return next((notice for notice in ADVICE_BY_NOTICE if has_proof(signs, notice)), None)


def strip_recall_prefix(subject: str) -> str:
    """Return the subject of the mail that a recall with this subject is about."""
    return message_notices.RECALL_SUBJECT.sub("", subject, count=1).strip()


def make_caveat(names: Iterable[str]) -> str:
    """Return the caveat of a message that has these signs; "" for none."""
    signs = tuple(names)
    if not signs:
        return ""
    beginning = CERTAIN if has_proof(signs) else PERHAPS
    caveat = f"{beginning} ({describe(signs)}): no automatic mail goes out"
    notice = find_notice(signs)
    return f"{notice}, {caveat}; {ADVICE_BY_NOTICE[notice]}" if notice else caveat


def is_caveat(text: str) -> bool:
    """Return whether a caveat is one of `make_caveat`."""
    for notice in ADVICE_BY_NOTICE:
        text = text.removeprefix(f"{notice}, ")
    return text.startswith((f"{CERTAIN} (", f"{PERHAPS} ("))


def is_unread_address(email: str) -> bool:
    """Return whether nobody reads mail to an address, going by its local part.

    For example no-reply, or an address of a mail system.
    """
    local = email.partition("@")[0].strip()
    robot, daemon = SIGNS_BY_NAME["robot-address"].pattern, SIGNS_BY_NAME["daemon-address"].pattern
    assert robot is not None
    assert daemon is not None
    return bool(robot.fullmatch(local) or daemon.fullmatch(local))


def render_markdown() -> str:
    """Return both tables as Markdown: effects with their evidence, signs with their source."""
    lines = ["| what happens | it takes | its words stay | to correct it |", "|---|---|---|---|"]
    lines += [
        f"| {c.effect} | {c.needs} | {c.where_readable} | {c.correction} |" for c in CONSEQUENCES
    ]
    lines += ["", "| sign | grade | says | source |", "|---|---|---|---|"]
    for sign in SIGNS:
        fields = f" ({', '.join(sorted(sign.fields))})" if len(sign.fields) > 1 else ""
        lines.append(f"| {sign.label}{fields} | {sign.grade} | {sign.meaning} | {sign.source} |")
    return "\n".join(lines)
