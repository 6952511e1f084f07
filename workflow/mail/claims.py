"""Claims on mails of the outbox: which are due, and which one worker has for an attempt."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Update, and_, or_, select, update

from workflow.context import AppContext
from workflow.database.visibility import is_visible
from workflow.models.core import OutgoingMail
from workflow.models.states import OutboxState
from workflow.runtime import log
from workflow.runtime.backoff import Backoff

BATCH_SIZE = 50
# A claimed mail is left alone for this time, then sent again under the same Message-ID.
CLAIM_LEASE = timedelta(seconds=120)
BACKOFF = Backoff(first=timedelta(seconds=30), maximum=timedelta(minutes=30))
NO_ANSWER_REASON = "not taken by the relay (no answer)"
RETRY_SUFFIX = ": tried again"


class Claim(NamedTuple):
    """A mail claimed for one attempt; a later claim of the same mail has a higher `attempt`."""

    number: int
    attempt: int
    alone: bool = False  # the last attempt ended without a result, or without an answer


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return the condition that a row of the outbox is due, and has been for `since`."""
    return and_(
        OutgoingMail.state == OutboxState.WAITING,
        is_visible(OutgoingMail.not_before, now - since, BACKOFF.maximum + since),
    )


def claim_batch(context: AppContext) -> list[Claim]:
    """Claim the mails that are due, the oldest first, at most BATCH_SIZE.

    A suspect mail, whose last attempt ended without a result or without an answer, comes after all
    others and alone: if it crashes a worker or stalls the relay, no other mail suffers.
    """
    is_suspect = or_(
        and_(OutgoingMail.attempts > 0, OutgoingMail.reason == ""),
        OutgoingMail.reason == f"{NO_ANSWER_REASON}{RETRY_SUFFIX}",
    )
    due_mails = select(
        OutgoingMail.id, OutgoingMail.attempts, is_suspect.label("is_suspect")
    ).where(is_due(context.clock()))
    with context.store.transaction() as session:
        oldest = (
            due_mails.order_by("is_suspect", OutgoingMail.id)
            .limit(BATCH_SIZE)
            .with_for_update(skip_locked=True)
        )
        rows = session.execute(oldest).all()
        batch = [
            Claim(number, attempts + 1, bool(alone))
            for number, attempts, alone in rows
            if not alone or number == rows[0].id
        ]
        claim = {"not_before": context.clock() + CLAIM_LEASE, "attempts": OutgoingMail.attempts + 1}
        if batch:
            session.execute(
                update(OutgoingMail)
                .where(OutgoingMail.id.in_(c.number for c in batch))
                .values(claim)
            )
    return batch


def release(context: AppContext, claims: Sequence[Claim]) -> None:
    """Give up claims whose attempt was not begun: the mails are due again."""
    values = {"attempts": OutgoingMail.attempts - 1, "not_before": context.clock()}
    with context.store.transaction() as session:
        for _, statement in update_claimed(claims):
            session.execute(statement.values(values))


def schedule_retry(context: AppContext, claims: Sequence[Claim], reason: str, code: int) -> None:
    """Schedule the next attempt of these mails; with reason "" they keep the one they have.

    `code` is the relay's reply code for the log, 0 without a reply.
    """
    new_reason = f"{reason}{RETRY_SUFFIX}" if reason else OutgoingMail.reason
    with context.store.transaction() as session:
        for attempt, statement in update_claimed(claims):
            not_before = context.clock() + BACKOFF.delay(attempt)
            session.execute(statement.values(not_before=not_before, reason=new_reason))
    for claim in claims:
        log.mail_deferred(claim.number, attempt=claim.attempt, code=code)


def update_claimed(claims: Sequence[Claim]) -> Iterator[tuple[int, Update]]:
    """Yield for each attempt number an UPDATE of the mails that these claims still hold."""
    waiting = update(OutgoingMail).where(OutgoingMail.state == OutboxState.WAITING)
    for attempt in sorted({c.attempt for c in claims}):
        numbers = [c.number for c in claims if c.attempt == attempt]
        yield attempt, waiting.where(OutgoingMail.id.in_(numbers), OutgoingMail.attempts == attempt)
