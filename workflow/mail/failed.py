"""Unsent mails of the outbox: list them, and retry them now."""

from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session, joinedload

from workflow.audit import record as audit
from workflow.database.engine import notify_workers
from workflow.errors import ActionNotAllowed
from workflow.mail.claims import CLAIM_LEASE
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
    """Return the number of mails in each state; states without a mail are left out."""
    query = select(OutgoingMail.state, func.count()).group_by(OutgoingMail.state)
    return dict(session.execute(query).all())


def list_mails(
    session: Session, state: OutboxState, before: int | None = None, most: int = PAGE_SIZE
) -> tuple[list[OutgoingMail], int | None]:
    """Return up to `most` mails in a state, newest first, and the `before` of the next page.

    `before` is the id of a mail: only older ones are returned. It is None on the first page, and
    returned as None after the last one.
    """
    query = (
        select(OutgoingMail)
        .where(OutgoingMail.state == state)
        .options(joinedload(OutgoingMail.ticket))
    )
    if before is not None:
        query = query.where(OutgoingMail.id < before)
    mails = list(session.scalars(query.order_by(OutgoingMail.id.desc()).limit(most + 1)))
    next_before = mails[most - 1].id if len(mails) > most else None
    return mails[:most], next_before


def may_retry(mail: OutgoingMail, now: datetime) -> bool:
    """Return whether a mail can be retried now: it pauses between two attempts, or was refused."""
    if mail.state is OutboxState.WAITING:
        return mail.not_before - now > CLAIM_LEASE
    # When a survey is refused its customer may be sent another one, and may have got it by now.
    return mail.state is OutboxState.REFUSED and mail.template is not Template.SURVEY


def retry_mail(session: Session, number: int, *, by: str, now: datetime) -> OutgoingMail:
    """Retry a mail now that pauses between two attempts or was refused; its Message-ID stays.

    Raises ActionNotAllowed when there is no such mail or it cannot be retried: a mail that is due
    or being sent is left alone, or its customer might get it twice.
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
    """Retry now every mail that pauses between two attempts; return how many."""
    result = session.execute(
        update(OutgoingMail)
        .where(_is_paused(now))
        .values(not_before=now)
        .returning(OutgoingMail.id)
    )
    count = len(result.all())
    if count:
        audit.record(session, "mails retried", by=by, cause=AUDIT_CAUSE, now=now, mails=count)
        notify_workers(session, SEND)
    return count


def _is_paused(now: datetime) -> ColumnElement[bool]:
    """Return the condition that a mail pauses between two attempts.

    A mail that is being sent is not meant: a claim never lasts longer than the lease.
    """
    return and_(
        OutgoingMail.state == OutboxState.WAITING, OutgoingMail.not_before > now + CLAIM_LEASE
    )
