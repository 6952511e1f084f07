"""Bounces, complaints and our own mail come back: they mark the mail they are about and open no ticket."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Bounce, InboundItem
from workflow import audit, belonging
from workflow.desk import RULE, Desk, hold
from workflow.models import Delivery, Filing, Message, Outgoing
from workflow.states import OutboxState, Outcome

COMPLAINT_PART = "message/feedback-report"  # RFC 5965
REPORT_PART = "message/delivery-status"  # RFC 3464
COMPLAINT, BOUNCED, DELAYED, ANSWER = "complaint", "bounced", "delayed", "automatic answer"
# RFC 3464 §2.3.3: what a report says was done -> what that is to us.
ACTIONS = {"failed": BOUNCED, "delayed": DELAYED}


@dataclass(frozen=True)
class _Verdict:
    """Why an item opens no ticket, and the mail of ours it is about, if that is known."""

    reason: str
    mail: Outgoing | None = None
    said: str = ""

    def filing(self) -> Filing:
        ticket = self.mail.ticket_id if self.mail is not None else None
        return Filing(outcome=Outcome.IGNORED, ticket_id=ticket, reason=self.reason)


def ignored(desk: Desk, session: Session, item: InboundItem, delivery: Delivery) -> Filing | None:
    """How an item that never opens a ticket would be filed; None for one that does. Changes nothing."""
    verdict = _verdict(desk, session, item, delivery)
    return verdict.filing() if verdict is not None else None


def filed(desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime) -> Filing | None:
    """How an item that never opens a ticket is filed, the mail it is about being marked; None for one that does."""
    verdict = _verdict(desk, session, item, delivery)
    if verdict is None:
        return None
    mail, said = verdict.mail, verdict.said
    if mail is not None:
        hold(session, mail.ticket)  # before its mail, as everybody who changes both
    if mail is not None and _mark(desk, session, mail, said, item.bounce or Bounce(), now):
        cause = f"delivery {delivery.id}"
        audit.record(session, said, by=RULE, cause=cause, now=now, ticket=mail.ticket_id, mail=mail.id)
        _note(session, mail, said, item, delivery)
    return verdict.filing()


def _verdict(desk: Desk, session: Session, item: InboundItem, delivery: Delivery) -> _Verdict | None:
    if belonging.is_our_mail(item, desk.signer):
        return _Verdict("our own mail come back")
    said = _kind(item)
    returned = belonging.to_return_path(item, delivery.envelope, desk.signer)
    if not (said or returned):
        return None
    mail = belonging.bounced_mail(session, item, delivery.envelope, desk.signer)
    if mail is not None:
        said = said or ANSWER
        return _Verdict(f"{said} about mail {mail.id}", mail, said)
    # A report by the standard about mail that is not ours is backscatter. What only looks like one may be the one
    # word a person ever gets of a mail they sent by hand: it becomes a ticket that nobody answers automatically.
    backscatter = returned or _has_part(item, REPORT_PART)
    return _Verdict("a bounce about no mail of ours") if backscatter else None


def _kind(item: InboundItem) -> str:
    if _has_part(item, COMPLAINT_PART):
        return COMPLAINT
    if item.is_bounce:
        return ACTIONS.get(item.bounce.action, ANSWER) if item.bounce else BOUNCED
    return ""


def _mark(desk: Desk, session: Session, mail: Outgoing, said: str, bounce: Bounce, now: datetime) -> bool:
    """Put down what a report says of a mail of ours; whether that changed anything."""
    if said == COMPLAINT and mail.contact is not None and not mail.contact.unsubscribed:
        mail.contact.unsubscribed = True
        return True
    status = f" ({bounce.status})" if bounce.status else ""
    if said == BOUNCED and mail.state is not OutboxState.BOUNCED:
        mail.state, mail.reason = OutboxState.BOUNCED, f"came back{status}"
        desk.mail_failed(session, mail, mail.reason, now=now)
        return True
    if said == DELAYED and mail.state is OutboxState.SENT and not mail.reason:
        mail.reason = f"delayed on its way{status}"
        return True
    return False


def _note(session: Session, mail: Outgoing, said: str, item: InboundItem, delivery: Delivery) -> None:
    """Tell staff on the timeline what the other system said, in its own words."""
    bounce = item.bounce or Bounce()
    told = [f"Mail {mail.id} to {mail.to}: {said}", bounce.status, ", ".join(bounce.failed), bounce.reason]
    name = f"report:{delivery.id}"  # a report that is read again is still one report
    note = session.scalar(select(Message).where(Message.format == item.format, Message.external_id == name))
    if note is None:
        note = Message(format=item.format, external_id=name, delivery_id=delivery.id, direction="note")
        session.add(note)
    note.ticket_id, note.at = mail.ticket_id, delivery.received_at
    note.subject, note.text = said, "\n".join(t for t in told if t)


def _has_part(item: InboundItem, mime: str) -> bool:
    return any(a.mime == mime for a in item.attachments)
