"""Delivery reports, complaints, automatic answers, and our own mail coming back.

They open no ticket (RFC 3834 §4), but become a note on the ticket of the mail they are about. Only
proof makes an item a report (`parsers.mail.evidence.CONSEQUENCES`); one that merely looks like a
report is filed as any other message.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from parsers.item import Bounce, InboundItem
from parsers.mail import evidence
from parsers.mail.evidence import Meaning
from workflow.filing import forms, signs, threading
from workflow.filing.threading import OurMailReferences
from workflow.models.core import Delivery, Filing, OutgoingMail
from workflow.models.states import Judgement, OutboxState, Outcome
from workflow.tickets.desk import Desk

# Action field of a report (RFC 3464 §2.3.3) -> our judgement. Other actions are good news.
JUDGEMENT_OF_ACTION = {"failed": Judgement.BOUNCED, "delayed": Judgement.DELAYED}
# The summary says all that matters in these; the timeline folds the whole text.
SUMMARIZED_JUDGEMENTS = frozenset({Judgement.BOUNCED, Judgement.DELAYED, Judgement.COMPLAINT})
NOT_OUR_MAIL = "a report about no mail of ours"


@dataclass(frozen=True)
class MailReport:
    """A delivery report, a complaint, an automatic answer, or our own mail coming back.

    `mail` is our mail that it is about. With None it goes onto no ticket.
    """

    judgement: Judgement
    reason: str
    mail: OutgoingMail | None = None

    def make_filing(self, session: Session) -> Filing:
        """Return the filing of the item, which the ledger counts as ignored."""
        ticket_id = None
        if self.mail is not None:
            ticket_id = threading.follow_merges(session, self.mail.ticket).id
        return Filing(outcome=Outcome.IGNORED, ticket_id=ticket_id, reason=self.reason)


def find_report(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery
) -> MailReport | None:
    """Return the report that an item is; None for a message. Changes nothing.

    Expects an item with the signs of its envelope (`workflow.filing.signs`).
    """
    # A person's judgement overrides the rules.
    if delivery.by_person:
        return None
    if forms.is_ping(item):
        return MailReport(Judgement.AUTOMATIC, forms.PING_REASON)
    ours = threading.find_our_mail(item, delivery.envelope, desk.signer)
    if ours.own_id is not None:
        mail = session.get(OutgoingMail, ours.own_id)
        return MailReport(Judgement.RETURNED, "our own mail came back", mail)
    mail = session.get(OutgoingMail, ours.mail_id) if ours.mail_id is not None else None
    if mail is None:
        if _is_about_delivery(item, ours):
            return MailReport(Judgement.AUTOMATIC, NOT_OUR_MAIL)
        return None
    judgement = _judge(item, ours, mail)
    if judgement is None:
        return None
    return MailReport(judgement, f"{judgement} about mail {mail.id}", mail)


def is_surely_message(desk: Desk, item: InboundItem, delivery: Delivery) -> bool:
    """Return whether an item is no report and refers to no mail of ours, without any query."""
    if delivery.by_person or threading.names_our_mail(item, delivery.envelope):
        return False
    if forms.is_ping(item):
        return False
    item = signs.add_envelope_signs(desk.settings, item, delivery)
    ours = threading.find_our_mail(item, delivery.envelope, desk.signer)
    return ours.mail_id is None and not _is_about_delivery(item, ours)


def _judge(item: InboundItem, ours: OurMailReferences, mail: OutgoingMail) -> Judgement | None:
    """Return the judgement about an item that refers to a mail of ours; None for a message."""
    if evidence.has_proof(item.signs, Meaning.COMPLAINT):
        return Judgement.COMPLAINT
    if item.contact.key == mail.to.casefold():
        # It comes from the very address that we wrote to, so the address works, whatever it says.
        is_answer = _is_about_delivery(item, ours) or _answers_our_mail(item, ours)
        return Judgement.ANSWER if is_answer else None
    if _is_about_delivery(item, ours) or _returns_our_mail(item, ours):
        return _judge_delivery(item)
    return Judgement.ANSWER if _answers_our_mail(item, ours) else None


def _is_about_delivery(item: InboundItem, ours: OurMailReferences) -> bool:
    """Return whether an item is proved to be a report of a mail system, or a complaint.

    A report that a person forwards, from their own address, is neither.
    """
    if evidence.has_proof(item.signs, Meaning.COMPLAINT):
        return True
    if evidence.has_proof(item.signs, Meaning.BOUNCE) and evidence.is_from_mail_system(item.signs):
        return True
    return ours.return_path is not None and evidence.NULL_SENDER in item.signs


def _returns_our_mail(item: InboundItem, ours: OurMailReferences) -> bool:
    """Return whether a mail system sends a mail of ours back.

    It has our mail attached, or has no envelope sender and quotes it.
    """
    if not (item.is_bounce and evidence.is_from_mail_system(item.signs)):
        return False
    return ours.attached is not None or (
        ours.quoted is not None and evidence.NULL_SENDER in item.signs
    )


def _answers_our_mail(item: InboundItem, ours: OurMailReferences) -> bool:
    """Return whether an item is proved to be an automatic answer to a mail of ours.

    A read receipt may name that mail in its own part only (Original-Message-ID, RFC 8098 §3.2.3).
    """
    is_to_our_mail = ours.return_path is not None or ours.in_reply_to is not None
    if evidence.find_notice(item.signs) is not None:
        return is_to_our_mail or ours.attached is not None
    return is_to_our_mail and evidence.has_proof(item.signs, Meaning.ANSWER)


def _judge_delivery(item: InboundItem) -> Judgement:
    if not item.is_bounce:
        return Judgement.ANSWER
    action = item.bounce.action if item.bounce is not None else "failed"
    return JUDGEMENT_OF_ACTION.get(action, Judgement.ANSWER)


def apply_report(
    desk: Desk, session: Session, report: MailReport, bounce: Bounce, now: datetime
) -> bool:
    """Apply a report to the mail that it is about and its contact; return whether it changed them.

    A complaint unsubscribes the contact, a bounce fails the mail, a delay is noted on it. A report
    that is applied twice changes nothing the second time.
    """
    mail = report.mail
    if mail is None:
        return False
    status = f" ({bounce.status})" if bounce.status else ""
    match report.judgement:
        case Judgement.COMPLAINT if mail.contact is not None and not mail.contact.unsubscribed:
            mail.contact.unsubscribed = True
        case Judgement.BOUNCED if mail.state is not OutboxState.BOUNCED:
            mail.state, mail.reason = OutboxState.BOUNCED, f"came back{status}"
            desk.record_mail_failed(session, mail, mail.reason, now=now)
        case Judgement.DELAYED if mail.state is OutboxState.SENT and not mail.reason:
            mail.reason = f"delayed on its way{status}"
        case _:
            return False
    return True


def summarize_report(report: MailReport, item: InboundItem) -> str:
    """Return the summary of a report for staff: the mail, then status and reason as reported.

    Of a message about a message: which it is, and what is to be done.
    """
    bounce = item.bounce or Bounce()
    mail = report.mail
    assert mail is not None
    if report.judgement is Judgement.RETURNED:
        return f"Our mail {mail.id} to {mail.to} came back to us."
    notice = evidence.find_notice(item.signs)
    if notice is not None and report.judgement is Judgement.ANSWER:
        return f"Mail {mail.id} to {mail.to}: {notice}; {evidence.ADVICE_BY_NOTICE[notice]}"
    lines = [
        f"Mail {mail.id} to {mail.to}: {report.judgement}",
        bounce.status,
        ", ".join(bounce.failed),
        bounce.reason,
    ]
    return "\n".join(line for line in lines if line)
