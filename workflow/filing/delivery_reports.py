"""Delivery reports, complaints and our own mail coming back.

Which items they are, and what they say.

They open no ticket (RFC 3834 §4): what they say is put on the ticket of the mail they are about, as
a note. Only a proof makes an item one of them (`parsers.mail.evidence.CONSEQUENCES`); what merely
looks like one is a message like any other.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from parsers.item import Bounce, InboundItem
from parsers.mail import evidence
from parsers.mail.evidence import Meaning
from workflow.filing import threading
from workflow.filing.threading import OurMailReferences
from workflow.models.core import Delivery, Filing, OutgoingMail
from workflow.models.states import Judgement, OutboxState, Outcome
from workflow.tickets.desk import Desk

# RFC 3464 §2.3.3: what a report says was done -> what that is to us.
JUDGEMENT_OF_ACTION = {"failed": Judgement.BOUNCED, "delayed": Judgement.DELAYED}
# What these say is in their summary; the whole text is folded below it.
SUMMARIZED_JUDGEMENTS = frozenset({Judgement.BOUNCED, Judgement.DELAYED, Judgement.COMPLAINT})
NOT_OUR_MAIL = "a report about no mail of ours"


@dataclass(frozen=True)
class MailReport:
    """A delivery report, a complaint, an automatic answer to our return path, or our own mail.

    `mail` is the mail of ours it is about; None where it is about none: then it is on no ticket.
    """

    judgement: Judgement
    reason: str
    mail: OutgoingMail | None = None

    def make_filing(self, session: Session) -> Filing:
        """Return what becomes of the item, as the ledger counts it."""
        ticket = (
            threading.follow_merges(session, self.mail.ticket).id if self.mail is not None else None
        )
        return Filing(outcome=Outcome.IGNORED, ticket_id=ticket, reason=self.reason)


def find_report(
    desk: Desk, session: Session, item: InboundItem, delivery: Delivery
) -> MailReport | None:
    """Return what report an item is; None for a message. Changes nothing.

    Expects an item with the signs of its envelope (`workflow.filing.signs`).
    """
    if delivery.by_person:
        return None
    named = threading.find_our_mail(item, delivery.envelope, desk.signer)
    if named.own_id is not None:
        return MailReport(
            Judgement.RETURNED, "our own mail came back", session.get(OutgoingMail, named.own_id)
        )
    mail = session.get(OutgoingMail, named.mail_id) if named.mail_id is not None else None
    if mail is None:
        return (
            MailReport(Judgement.AUTOMATIC, NOT_OUR_MAIL)
            if _is_about_delivery(item, named)
            else None
        )
    if evidence.has_proof(item.signs, Meaning.COMPLAINT):
        return _about(mail, Judgement.COMPLAINT)
    # Who writes from the address we wrote to can be written to: no report says otherwise.
    by_recipient = item.contact.key == mail.to.casefold()
    if _is_about_delivery(item, named) or (_returns_our_mail(item, named) and not by_recipient):
        return _about(mail, Judgement.ANSWER if by_recipient else _judgement_of_delivery(item))
    if _answers_our_mail(item, named):
        return _about(mail, Judgement.ANSWER)
    return None


def _is_about_delivery(item: InboundItem, named: OurMailReferences) -> bool:
    """Return whether an item proves itself a report of a mail system, or a complaint.

    A person may pass a whole report on, under their own name and with a word of their own.
    """
    if evidence.has_proof(item.signs, Meaning.COMPLAINT):
        return True
    if evidence.has_proof(item.signs, Meaning.BOUNCE) and evidence.is_from_mail_system(item.signs):
        return True
    return named.return_path is not None and evidence.NULL_SENDER in item.signs


def _returns_our_mail(item: InboundItem, named: OurMailReferences) -> bool:
    """Return whether a mail system sends a mail of ours back.

    Attached, or, without a sender, quoted.
    """
    if not (item.is_bounce and evidence.is_from_mail_system(item.signs)):
        return False
    return named.attached is not None or (
        named.quoted is not None and evidence.NULL_SENDER in item.signs
    )


def _answers_our_mail(item: InboundItem, named: OurMailReferences) -> bool:
    """Return whether an item proves itself an automatic answer to a mail of ours."""
    to_our_mail = named.return_path is not None or named.in_reply_to is not None
    return to_our_mail and evidence.has_proof(item.signs, Meaning.ANSWER)


def _about(mail: OutgoingMail, judgement: Judgement) -> MailReport:
    return MailReport(judgement, f"{judgement} about mail {mail.id}", mail)


def _judgement_of_delivery(item: InboundItem) -> Judgement:
    if item.is_bounce:
        action = item.bounce.action if item.bounce is not None else "failed"
        return JUDGEMENT_OF_ACTION.get(action, Judgement.ANSWER)
    return Judgement.ANSWER


def apply_report(
    desk: Desk, session: Session, report: MailReport, bounce: Bounce, now: datetime
) -> bool:
    """Record what a report says on the mail of ours and its contact.

    Whether that changed anything.
    """
    mail = report.mail
    if mail is None:
        return False
    status = f" ({bounce.status})" if bounce.status else ""
    if report.judgement is Judgement.COMPLAINT:
        if mail.contact is None or mail.contact.unsubscribed:
            return False
        mail.contact.unsubscribed = True
        return True
    if report.judgement is Judgement.BOUNCED and mail.state is not OutboxState.BOUNCED:
        mail.state, mail.reason = OutboxState.BOUNCED, f"came back{status}"
        desk.record_mail_failed(session, mail, mail.reason, now=now)
        return True
    if report.judgement is Judgement.DELAYED:
        if mail.state is not OutboxState.SENT or mail.reason:
            return False
        mail.reason = f"delayed on its way{status}"
        return True
    return False


def summarize_report(report: MailReport, bounce: Bounce) -> str:
    """Return what a report says, for staff.

    The mail it is about, then the other system's own words.
    """
    mail = report.mail
    assert mail is not None
    if report.judgement is Judgement.RETURNED:
        return f"Our mail {mail.id} to {mail.to} came back to us."
    lines = [
        f"Mail {mail.id} to {mail.to}: {report.judgement}",
        bounce.status,
        ", ".join(bounce.failed),
        bounce.reason,
    ]
    return "\n".join(line for line in lines if line)
