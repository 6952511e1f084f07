"""Records in the database what became of mails: sent, refused, deferred or withheld.

A relay's answer is recorded with its effects on the ticket in one transaction, for all mails that
were accepted one after the other; each refusal and deferral by itself.
"""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.database.bulk_insert import assign_ids, is_one_of
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.database.locks import lock_ticket, lock_tickets
from workflow.mail import answer, compose
from workflow.mail.claims import Claim, schedule_retry, update_claimed
from workflow.models.core import Message, OutgoingMail, Ticket
from workflow.models.states import OutboxState
from workflow.process import Template
from workflow.runtime import log
from workflow.settings.settings import Settings
from workflow.tickets.outbox import SEND

# How long recording the relay's answer is retried while the database is unavailable.
RECORD_SECONDS = 15.0
RECORD_PAUSE_SECONDS = 0.5
LAST_COMMIT_SECONDS = 25.0  # how long the last of these attempts may take (database/engine.py)
GIVE_UP_AFTER = timedelta(hours=48)
# A mail is given up only after this many attempts as well. Their delays add up to more than 24
# hours: time during which nothing ran, or by which the clock was set forward, does not count.
MIN_ATTEMPTS = 60


class SentMail(NamedTuple):
    """A mail of the outbox that the relay has taken; `text` is what the timeline shows."""

    number: int
    message_id: str
    text: str


Result = TypeVar("Result")
SetState = Callable[[OutgoingMail], None]
ApplyEffects = Callable[[Session, OutgoingMail], None]


def record_sent(context: AppContext, sent: Sequence[SentMail]) -> None:
    """Record mails that the relay has taken, and what follows from that on their tickets.

    One transaction records all whose tickets nobody else holds at the moment; the others follow one
    by one. So do all when the effects of one raise an error of ours, which then counts for that one
    alone. Raises DATABASE_UNAVAILABLE after RECORD_SECONDS.
    """
    alone: Sequence[SentMail] = sent
    if len(sent) > 1:
        try:
            alone = _retry_while_unavailable(lambda: _record_together(context, sent))
        except DATABASE_UNAVAILABLE:
            raise
        except Exception as error:  # noqa: BLE001  # tried again below, one by one
            log.fault(SEND, error)
    for mail in alone:
        _record_alone(context, mail)


def record_refused(
    context: AppContext, claim: Claim, reason: str, code: int, *, unreachable: bool = True
) -> None:
    """Record a mail that will never be sent, and what follows from that on its ticket.

    `unreachable` is False where that says nothing about the address.
    """
    now = context.clock()

    def set_refused(mail: OutgoingMail) -> None:
        mail.state, mail.reason = OutboxState.REFUSED, reason

    def follow_refused(session: Session, mail: OutgoingMail) -> None:
        audit.record(
            session,
            "mail refused",
            by=RULE,
            cause=reason,
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
        context.desk.record_mail_failed(session, mail, reason, now=now, unreachable=unreachable)

    if record_answer(context, claim.number, set_refused, follow_refused):
        log.mail_refused(claim.number, code)


def record_deferred(context: AppContext, claim: Claim, reason: str, code: int) -> None:
    """Schedule the next attempt of a mail, or give it up after two days of attempts."""
    with context.store.read_only() as session:
        age = context.clock() - session.get_one(OutgoingMail, claim.number).created_at
    # A negative age means that the clock was set back since: then only the attempts count.
    has_time_left = timedelta() <= age < GIVE_UP_AFTER
    if claim.attempt >= MIN_ATTEMPTS and not has_time_left:
        record_refused(
            context, claim, f"{reason}: given up after two days", code, unreachable=False
        )
    else:
        schedule_retry(context, [claim], reason, code)


def withhold(context: AppContext, claim: Claim) -> None:
    """Record that a mail must not be sent, because its contact does not want it."""
    values = {"state": OutboxState.WITHHELD, "reason": "the contact is unreachable or unsubscribed"}
    with context.store.transaction() as session:
        for _, statement in update_claimed([claim]):
            session.execute(statement.values(values))


def record_answer(
    context: AppContext, number: int, set_state: SetState, apply_effects: ApplyEffects
) -> bool:
    """Record the relay's answer about one mail and its effects in one transaction.

    Returns False when a bounce or another worker was faster. While the database is unavailable it
    retries for RECORD_SECONDS, because giving up means that the mail may be sent a second time. An
    error of ours in the effects would mean that at each attempt, so then only the state is
    recorded, and the sweep makes up for the effects.
    """

    def write(*, with_effects: bool) -> bool:
        with context.store.transaction() as session:
            mail = _lock_waiting(session, number)
            if mail is not None:
                set_state(mail)
                if with_effects:
                    apply_effects(session, mail)
            return mail is not None

    try:
        return _retry_while_unavailable(lambda: write(with_effects=True))
    except DATABASE_UNAVAILABLE:
        raise
    except Exception as error:  # noqa: BLE001  # an error in the state as well is raised below
        log.fault(SEND, error)
        return _retry_while_unavailable(lambda: write(with_effects=False))


def _retry_while_unavailable(write: Callable[[], Result]) -> Result:
    """Return the result of `write`, tried again while the database is unavailable."""
    deadline = time.monotonic() + RECORD_SECONDS
    while True:
        try:
            return write()
        except DATABASE_UNAVAILABLE:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RECORD_PAUSE_SECONDS)


def _record_together(context: AppContext, sent: Sequence[SentMail]) -> list[SentMail]:
    """Record mails in one transaction; return those whose tickets another transaction holds."""
    now = context.clock()
    recorded = []
    with context.store.transaction() as session:
        rows, held = _lock_waiting_mails(session, [mail.number for mail in sent])
        with audit.collect_rows(session):
            for mail in sent:
                if mail.number in rows:
                    row = rows[mail.number]
                    _set_sent(row, mail, now)
                    _follow_sent(context, session, row, mail.text)
                    recorded.append(mail.number)
            assign_ids(session)
    for number in recorded:
        log.mail_sent(number)
    return [mail for mail in sent if mail.number in held]


def _record_alone(context: AppContext, mail: SentMail) -> None:
    """Record one mail, once its ticket is free."""

    def set_sent(row: OutgoingMail) -> None:
        _set_sent(row, mail, context.clock())

    def follow_sent(session: Session, row: OutgoingMail) -> None:
        _follow_sent(context, session, row, mail.text)

    if record_answer(context, mail.number, set_sent, follow_sent):
        log.mail_sent(mail.number)


def _set_sent(row: OutgoingMail, mail: SentMail, now: datetime) -> None:
    row.state, row.reason = OutboxState.SENT, ""
    row.sent_at, row.message_id = now, mail.message_id


def _follow_sent(context: AppContext, session: Session, row: OutgoingMail, text: str) -> None:
    """Record what follows from a sent mail: timeline, audit log and milestone."""
    assert row.sent_at is not None
    now = row.sent_at
    # A reminder to the desk's own people is not part of the conversation with the customer.
    if row.template is not Template.TASK:
        _add_to_timeline(session, row, text, context.settings, now)
    audit.record(
        session,
        "mail sent",
        by=RULE,
        cause=row.rule_key,
        now=now,
        ticket=row.ticket_id,
        mail=row.id,
    )
    context.desk.record_mail_sent(session, row, now=now)


def _add_to_timeline(
    session: Session, mail: OutgoingMail, text: str, settings: Settings, now: datetime
) -> None:
    """Add a sent mail to the ticket's timeline; a mail to several recipients is added once."""
    key = compose.make_timeline_key(mail)
    # The ticket is locked, so nobody else adds it meanwhile.
    if mail.written is not None and session.scalar(
        select(Message.id).where(Message.ticket_id == mail.ticket_id, Message.external_id == key)
    ):
        return
    message = Message(
        ticket_id=mail.ticket_id,
        direction="out",
        format="mail",
        external_id=key,
        message_id=mail.message_id.strip("<>"),
        from_name=settings.from_name,
        from_email=settings.sender,
        to=[["", mail.to]],
        subject=mail.template,
        text=text,
        at=now,
    )
    if mail.written is not None:
        message.from_name, message.subject = mail.by, mail.written.subject
        message.to = [["", email] for email in mail.written.to]
        message.cc = [["", email] for email in mail.written.cc]
        message.attachments = answer.make_attachments(mail.written)
    session.add(message)


def _lock_waiting(session: Session, number: int) -> OutgoingMail | None:
    """Lock the ticket of a mail and then the mail; return None when it does not wait any more.

    The order is that of every action on a ticket, which locks the ticket before its mails. In the
    other order the two would wait for each other until PostgreSQL ended one of them.
    """
    mail = session.get(OutgoingMail, number)
    if mail is None:
        return None
    lock_ticket(session, mail.ticket)
    session.refresh(mail, with_for_update=True)
    return mail if mail.state is OutboxState.WAITING else None


def _lock_waiting_mails(
    session: Session, numbers: Sequence[int]
) -> tuple[dict[int, OutgoingMail], set[int]]:
    """Lock the tickets of these mails and then the mails that still wait.

    Returns the locked mails by number, and the numbers of those left out because another
    transaction holds their ticket: waiting for it with other tickets locked could be a deadlock.
    """
    ticket_of = dict(
        session.execute(
            select(OutgoingMail.id, OutgoingMail.ticket_id).where(
                is_one_of(session, OutgoingMail.id, numbers)
            )
        ).all()
    )
    locked = lock_tickets(session, set(ticket_of.values()), [selectinload(Ticket.milestones)])
    free = [number for number, ticket in ticket_of.items() if ticket in locked]
    waiting = (
        select(OutgoingMail)
        .where(is_one_of(session, OutgoingMail.id, free), OutgoingMail.state == OutboxState.WAITING)
        .with_for_update(of=OutgoingMail)
        .options(
            joinedload(OutgoingMail.contact),
            selectinload(OutgoingMail.ticket),
            selectinload(OutgoingMail.written),
        )
    )
    rows = {mail.id: mail for mail in session.scalars(waiting)} if free else {}
    return rows, ticket_of.keys() - set(free)
