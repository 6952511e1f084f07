"""What people do with promised mails: look through what is not sent, and have it tried again."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session, joinedload

from workflow.audit import record as audit
from workflow.database.engine import notify_workers
from workflow.errors import ActionNotAllowed
from workflow.mail.sender import CLAIM_LEASE
from workflow.models.core import OutgoingMail
from workflow.models.states import OutboxState
from workflow.process import Template
from workflow.tickets.outbox import SEND

PAGE_SIZE = 100
MAX_EXPORTED = 10_000
UNSENT_STATES = (
    OutboxState.WAITING,
    OutboxState.REFUSED,
    OutboxState.WITHHELD,
    OutboxState.BOUNCED,
)
AUDIT_CAUSE = "outbox"
ALREADY_DUE_MESSAGE = "It goes by itself within two minutes."


def count_by_state(session: Session) -> dict[OutboxState, int]:
    """Return how many mails there are in each state."""
    query = select(OutgoingMail.state, func.count()).group_by(OutgoingMail.state)
    return dict(session.execute(query).all())


def list_mails(
    session: Session, state: OutboxState, before: int | None = None, most: int = PAGE_SIZE
) -> tuple[list[OutgoingMail], int | None]:
    """Mails in this state, newest first, older than the mail `before`.

    And what to ask with for the next page.
    """
    query = (
        select(OutgoingMail)
        .where(OutgoingMail.state == state)
        .options(joinedload(OutgoingMail.ticket))
    )
    if before is not None:
        query = query.where(OutgoingMail.id < before)
    found = list(session.scalars(query.order_by(OutgoingMail.id.desc()).limit(most + 1)))
    return found[:most], found[most - 1].id if len(found) > most else None


def may_retry(mail: OutgoingMail, now: datetime) -> bool:
    """Return whether having it tried now would change anything."""
    paused = mail.state is OutboxState.WAITING and mail.not_before - now > CLAIM_LEASE
    # A refused survey has given its turn back: the customer may have had another one since.
    return paused or (mail.state is OutboxState.REFUSED and mail.template is not Template.SURVEY)


def retry_mail(session: Session, number: int, *, by: str, now: datetime) -> OutgoingMail:
    """Have a mail sent now that pauses between two tries, or that was refused.

    The name of the mail stays the same.

    Raises ActionNotAllowed where there is nothing to hurry: a mail that is due or in somebody's hands is
    left to them, or its customer had it twice.
    """
    mail = session.get(OutgoingMail, number, with_for_update=True)
    if mail is None:
        raise ActionNotAllowed("There is no such mail.")
    if mail.state is OutboxState.WAITING and not may_retry(mail, now):
        raise ActionNotAllowed(ALREADY_DUE_MESSAGE)
    if not may_retry(mail, now):
        raise ActionNotAllowed(
            f"It is {mail.state}: only mail that waits, or that was refused and is no survey, is"
            " tried again."
        )
    if mail.state is OutboxState.REFUSED:
        mail.state, mail.attempts, mail.reason = OutboxState.WAITING, 0, ""
    mail.not_before = now
    audit.record(
        session,
        "mail retried",
        by=by,
        cause=AUDIT_CAUSE,
        now=now,
        ticket=mail.ticket_id,
        mail=number,
    )
    notify_workers(session, SEND)
    return mail


def retry_waiting_mails(session: Session, *, by: str, now: datetime) -> int:
    """Have every mail that pauses between two tries sent now; how many."""
    hurried = session.execute(
        update(OutgoingMail).where(_paused(now)).values(not_before=now).returning(OutgoingMail.id)
    )
    count = len(hurried.all())
    if count:
        audit.record(session, "mails retried", by=by, cause=AUDIT_CAUSE, now=now, mails=count)
        notify_workers(session, SEND)
    return count


def _paused(now: datetime) -> ColumnElement[bool]:
    """Return whether a mail pauses for sure.

    Nobody who has taken one up keeps it longer than the lease.
    """
    return and_(
        OutgoingMail.state == OutboxState.WAITING, OutgoingMail.not_before > now + CLAIM_LEASE
    )
