"""Delivery reports, complaints and our own mail coming back: which items they are, and what they say.

They open no ticket (RFC 3834 §4): what they say is put on the ticket of the mail they are about, as
a note. Only a proof makes an item one of them (`parsers.mail.evidence.CONSEQUENCES`); what merely looks
like one is a message like any other.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from parsers.item import Bounce, InboundItem
from parsers.mail import evidence
from parsers.mail.evidence import Meaning
from workflow import belonging
from workflow.desk import Desk
from workflow.models import Delivery, Filing, Outgoing
from workflow.states import Judgement, OutboxState, Outcome

# RFC 3464 §2.3.3: what a report says was done -> what that is to us.
ACTIONS = {"failed": Judgement.BOUNCED, "delayed": Judgement.DELAYED}
# What these say is in their summary; the whole text is folded below it.
ABOUT_DELIVERY = frozenset({Judgement.BOUNCED, Judgement.DELAYED, Judgement.COMPLAINT})
MAIL_SYSTEM = frozenset({"daemon-address", "robot-address"})  # signs: whose reports are believed
OTHERS_MAIL = "a report about no mail of ours"


@dataclass(frozen=True)
class Report:
    """A delivery report, a complaint, an automatic answer to our return path, or our own mail.

    `mail` is the mail of ours it is about; None where it is about none: then it is on no ticket.
    """

    judgement: Judgement
    reason: str
    mail: Outgoing | None = None

    def filing(self, session: Session) -> Filing:
        """What becomes of the item, as the ledger counts it."""
        ticket = belonging.merged_into(session, self.mail.ticket).id if self.mail is not None else None
        return Filing(outcome=Outcome.IGNORED, ticket_id=ticket, reason=self.reason)


def find(desk: Desk, session: Session, item: InboundItem, delivery: Delivery) -> Report | None:
    """Return what report an item is; None for a message. Changes nothing."""
    if delivery.by_person:
        return None
    named = belonging.our_mail(item, delivery.envelope, desk.signer)
    if named.itself is not None:
        mail = session.get(Outgoing, named.itself)
        return Report(Judgement.RETURNED, "our own mail came back", mail)
    complaint = evidence.proves(item.signs, Meaning.COMPLAINT)
    no_sender = null_sender(item, delivery.envelope)
    by_system = no_sender or not MAIL_SYSTEM.isdisjoint(item.signs)
    # A person may pass a whole report on, under their own name and with a word of their own.
    status = by_system and evidence.proves(item.signs, Meaning.BOUNCE)
    to_return_path = named.return_path is not None
    mail = session.get(Outgoing, named.number) if named.number is not None else None
    if mail is None:
        backscatter = complaint or status or (to_return_path and no_sender)
        return Report(Judgement.AUTOMATIC, OTHERS_MAIL) if backscatter else None
    if complaint:
        return _about(mail, Judgement.COMPLAINT)
    by_recipient = item.contact.key == mail.to.casefold()  # who writes from there can be written to
    ours_inside = named.attached is not None or (named.quoted is not None and no_sender)
    ours_returned = ours_inside and by_system and item.is_bounce and not by_recipient
    if status or (no_sender and to_return_path) or ours_returned:
        return _about(mail, Judgement.ANSWER if by_recipient else _said_of_delivery(item))
    is_answer = evidence.proves(item.signs, Meaning.ANSWER)
    if is_answer and (to_return_path or named.answered is not None):
        return _about(mail, Judgement.ANSWER)
    return None


def null_sender(item: InboundItem, envelope: dict[str, Any]) -> bool:
    """Whether the envelope had no sender: as the listener was told, else as the mail's fields say."""
    if "mail_from" in envelope:
        return bool(envelope["mail_from"] == "")
    return "null-sender" in item.signs


def _about(mail: Outgoing, judgement: Judgement) -> Report:
    return Report(judgement, f"{judgement} about mail {mail.id}", mail)


def _said_of_delivery(item: InboundItem) -> Judgement:
    if item.is_bounce:
        action = item.bounce.action if item.bounce is not None else "failed"
        return ACTIONS.get(action, Judgement.ANSWER)
    return Judgement.ANSWER


def mark(desk: Desk, session: Session, report: Report, bounce: Bounce, now: datetime) -> bool:
    """Record what a report says on the mail of ours and its contact; whether that changed anything."""
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
        desk.mail_failed(session, mail, mail.reason, now=now)
        return True
    if report.judgement is Judgement.DELAYED:
        if mail.state is not OutboxState.SENT or mail.reason:
            return False
        mail.reason = f"delayed on its way{status}"
        return True
    return False


def summary(report: Report, bounce: Bounce) -> str:
    """What a report says, for staff: the mail it is about, then the other system's own words."""
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
