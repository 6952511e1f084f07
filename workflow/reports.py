"""Bounces, complaints and our own mail come back: they mark the mail they are about and open no ticket."""

from datetime import datetime

from sqlalchemy.orm import Session

from parsers.item import Bounce, InboundItem
from workflow import audit, belonging
from workflow.desk import RULE, Desk
from workflow.models import Delivery, Filing, Message, Outgoing
from workflow.states import OutboxState, Outcome

COMPLAINT_PART = "message/feedback-report"  # RFC 5965
REPORT_PART = "message/delivery-status"  # RFC 3464
COMPLAINT, BOUNCED, DELAYED, ANSWER = "complaint", "bounced", "delayed", "automatic answer"
# RFC 3464 §2.3.3: what a report says was done -> what that is to us.
ACTIONS = {"failed": BOUNCED, "delayed": DELAYED}


def filed(desk: Desk, session: Session, item: InboundItem, delivery: Delivery, now: datetime) -> Filing | None:
    """How an item that never opens a ticket is filed; None for one that does."""
    if belonging.is_our_mail(item, desk.signer):
        return Filing(outcome=Outcome.IGNORED, reason="our own mail come back")
    said = _kind(item)
    returned = belonging.to_return_path(item, delivery.envelope, desk.signer)
    if not (said or returned):
        return None
    mail = belonging.bounced_mail(session, item, delivery.envelope, desk.signer)
    if mail is None:
        # A report by the standard about mail that is not ours is backscatter. What only looks like one may be the one
        # word a person ever gets of a mail they sent by hand: it becomes a ticket that nobody answers automatically.
        backscatter = returned or _has_part(item, REPORT_PART)
        return Filing(outcome=Outcome.IGNORED, reason="a bounce about no mail of ours") if backscatter else None
    said = said or ANSWER
    if _mark(desk, session, mail, said, item.bounce or Bounce(), now):
        cause = f"delivery {delivery.id}"
        audit.record(session, said, by=RULE, cause=cause, now=now, ticket=mail.ticket_id, mail=mail.id)
        _note(session, mail, said, item, delivery)
    return Filing(outcome=Outcome.IGNORED, ticket_id=mail.ticket_id, reason=f"{said} about mail {mail.id}")


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
    session.add(
        Message(
            ticket_id=mail.ticket_id, delivery_id=delivery.id, direction="note", format=item.format,
            external_id=f"report:{delivery.id}", subject=said, text="\n".join(t for t in told if t),
            at=delivery.received_at,
        )
    )  # fmt: skip


def _has_part(item: InboundItem, mime: str) -> bool:
    return any(a.mime == mime for a in item.attachments)
