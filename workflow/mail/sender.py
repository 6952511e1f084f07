"""Sends the mails of the outbox: claims them, retries until the relay accepts or refuses them.

The relay's acceptance and our commit cannot be one act, so a crash in between sends a mail once
more, with the same Message-ID: at most two copies, never none.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from enum import Enum
from typing import NamedTuple

from sqlalchemy import ColumnElement, Update, and_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.customers import directory
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.database.locks import lock_ticket
from workflow.database.visibility import is_visible
from workflow.mail import answer, compose, transport
from workflow.mail.compose import ComposedMail
from workflow.mail.transport import MailDeferred, Mailer, MailRefused
from workflow.models.core import Message, OutgoingMail
from workflow.models.states import OutboxState
from workflow.process import Template
from workflow.runtime import log
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Settings, SettingsError
from workflow.tickets.outbox import SEND

BATCH_SIZE = 50
# A claimed mail is left alone for this time, then sent again under the same Message-ID.
CLAIM_LEASE = timedelta(seconds=120)
# How long recording the relay's answer is retried while the database is unavailable.
RECORD_SECONDS = 15.0
RECORD_PAUSE_SECONDS = 0.5
LAST_COMMIT_SECONDS = 25.0  # how long the last of these attempts may take (database/engine.py)
# A mail is begun only while its lease outlasts the slowest relay and the slowest recording, so that
# nobody else takes it up meanwhile.
MIN_LEASE_LEFT = timedelta(
    seconds=transport.SECONDS_PER_MAIL + RECORD_SECONDS + LAST_COMMIT_SECONDS
)
SLICE_SECONDS = 5.0  # then a worker turns to its other queues, or stops when it is asked to
BACKOFF = Backoff(first=timedelta(seconds=30), maximum=timedelta(minutes=30))
GIVE_UP_AFTER = timedelta(hours=48)
# A mail is given up only after this many attempts as well. Their delays add up to more than 24
# hours: time during which nothing ran, or by which the clock was set forward, does not count.
MIN_ATTEMPTS = 60
NO_ANSWER_REASON = "not taken by the relay (no answer)"
RELAY_CLOSED_REASON = "the relay took no mail"
RETRY_SUFFIX = ": tried again"


class RelayState(Enum):
    """State of the relay during a batch; it decides about the mails that are left."""

    OPEN = "it may accept the next mail"
    CLOSED = "it opens no session now, and would refuse the next mail as well"
    SILENT = "it does not answer, and each mail would wait for the whole time limit"


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


def send_waiting(context: AppContext, seconds: float = transport.SECONDS_PER_MAIL) -> int:
    """Send due mails over one connection for about SLICE_SECONDS; return how many were claimed.

    A worker is woken again for those that are left. The relay has `seconds` for a mail; when it
    does not answer, it is not asked again now, and all due mails wait for their next attempt.
    """
    settings = context.settings
    slice_end = time.monotonic() + SLICE_SECONDS
    try:
        relay = transport.open_mailer(
            settings.relay_url.get_secret_value(), settings.home / "outbox", seconds
        )
    # Nothing is claimed and nothing lost, and the process has other work to do.
    except SettingsError as error:
        log.fault(SEND, error)
        return 0
    count = 0
    relay_state = RelayState.OPEN
    with relay:
        while batch := _claim_batch(context):
            count += len(batch)
            if relay_state is RelayState.SILENT:
                _postpone(context, batch)
                continue
            relay_state = _send_batch(context, relay, batch, slice_end)
            if relay_state is RelayState.CLOSED:  # another worker may have a session and go on
                break
            if relay_state is RelayState.OPEN and time.monotonic() >= slice_end:
                context.store.notify(SEND)
                break
    return count


def send(context: AppContext, relay: Mailer, claim: Claim) -> RelayState:
    """Send one claimed mail and record the result; return the state of the relay after it."""
    try:
        mail = _compose(context, claim)
        if mail is not None:
            relay.post(*mail)
            _record_sent(context, claim, mail)
    except MailDeferred as error:
        _record_deferred(
            context, claim, f"not taken by the relay ({error.code or 'no answer'})", error.code
        )
        if error.is_relay_fault:
            return RelayState.CLOSED if error.code else RelayState.SILENT
    except MailRefused as error:
        _record_refused(context, claim, f"refused by the relay with {error.code}", error.code)
    except DATABASE_UNAVAILABLE:
        raise
    # The top of one mail: an error of its own must not stop the mails behind it.
    except Exception as error:  # noqa: BLE001
        log.fault(SEND, error)
        _record_deferred(
            context, claim, f"not written: an error of ours ({type(error).__name__})", 0
        )
    return RelayState.OPEN


def _claim_batch(context: AppContext) -> list[Claim]:
    """Claim the mails that are due, the oldest first.

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


def _send_batch(
    context: AppContext, relay: Mailer, batch: list[Claim], slice_end: float
) -> RelayState:
    """Send the mails of a batch, at least the first; return the state of the relay.

    Mails for which there is no time are released; mails for which the relay is not asked any more
    are postponed.
    """
    for index, claim in enumerate(batch):
        if index and time.monotonic() >= slice_end:
            _release(context, batch[index:])
            break
        relay_state = send(context, relay, claim)
        if relay_state is not RelayState.OPEN:
            _postpone(context, batch[index + 1 :])
            return relay_state
    return RelayState.OPEN


def _release(context: AppContext, claims: list[Claim]) -> None:
    """Give up claims whose attempt was not begun: the mails are due again."""
    values = {"attempts": OutgoingMail.attempts - 1, "not_before": context.clock()}
    with context.store.transaction() as session:
        for _, statement in _update_claimed(claims):
            session.execute(statement.values(values))


def _postpone(context: AppContext, claims: list[Claim]) -> None:
    """Count an attempt for mails that were not sent because the relay accepts none now."""
    # A suspect mail keeps its reason: it is what makes it suspect, and sent alone.
    for alone in (False, True):
        waiting = [c for c in claims if c.alone == alone and c.attempt < MIN_ATTEMPTS]
        _schedule_retry(context, waiting, "" if alone else RELAY_CLOSED_REASON, 0)
    for claim in claims:
        if claim.attempt >= MIN_ATTEMPTS:
            _record_deferred(context, claim, RELAY_CLOSED_REASON, 0)


def _update_claimed(claims: list[Claim]) -> Iterator[tuple[int, Update]]:
    """Yield for each attempt number an UPDATE of the mails that these claims still hold."""
    waiting = update(OutgoingMail).where(OutgoingMail.state == OutboxState.WAITING)
    for attempt in sorted({c.attempt for c in claims}):
        numbers = [c.number for c in claims if c.attempt == attempt]
        yield attempt, waiting.where(OutgoingMail.id.in_(numbers), OutgoingMail.attempts == attempt)


def _compose(context: AppContext, claim: Claim) -> ComposedMail | None:
    """Return the mail of a claim, or None when it must not be sent now.

    That is when the claim is lost, the mail is withheld or refused by us, or the rest of its lease
    is too short for the slowest relay.
    """
    with context.store.read_only() as session:
        mail = session.get(OutgoingMail, claim.number)
        if mail is None or (mail.state, mail.attempts) != (OutboxState.WAITING, claim.attempt):
            return None
        if _is_unwanted_survey(mail):
            _withhold(context, claim)
            return None
        if not directory.is_valid_address(mail.to):
            _record_refused(context, claim, "the address cannot be used", 553)
            return None
        files = answer.open_files(context.blob_store, mail)
        composed = compose.compose_mail(session, mail, context.settings, context.signer, files)
        # After a long wait, or when the clock was set, another worker may claim the mail before
        # this one has an answer: leave it to that one.
        if mail.not_before - context.clock() < MIN_LEASE_LEFT:
            return None
        return composed


def _is_unwanted_survey(mail: OutgoingMail) -> bool:
    contact = mail.contact
    if mail.template is not Template.SURVEY or contact is None:
        return False
    return contact.unreachable or contact.unsubscribed


def _record_sent(context: AppContext, claim: Claim, composed: ComposedMail) -> None:
    now, text = context.clock(), composed.text
    message_id = str(composed.message["Message-ID"])

    def set_state(mail: OutgoingMail) -> None:
        mail.state, mail.reason = OutboxState.SENT, ""
        mail.sent_at, mail.message_id = now, message_id

    def apply_effects(session: Session, mail: OutgoingMail) -> None:
        # A reminder to the desk's own people is not part of the conversation with the customer.
        if mail.template is not Template.TASK:
            _add_to_timeline(session, mail, text, context.settings, now)
        audit.record(
            session,
            "mail sent",
            by=RULE,
            cause=mail.rule_key,
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
        context.desk.record_mail_sent(session, mail, now=now)

    if _record(context, claim, set_state, apply_effects):
        log.mail_sent(claim.number)


def _add_to_timeline(
    session: Session, mail: OutgoingMail, text: str, settings: Settings, now: datetime
) -> None:
    """Add a sent mail to the ticket's timeline; a mail to several recipients is added once."""
    message = Message(
        ticket_id=mail.ticket_id,
        direction="out",
        format="mail",
        external_id=compose.make_timeline_key(mail),
        message_id=mail.message_id.strip("<>"),
        from_name=settings.from_name,
        from_email=settings.sender,
        subject=mail.template,
        text=text,
        at=now,
    )
    if mail.written is not None:
        message.from_name, message.subject = mail.by, mail.written.subject
        message.attachments = answer.make_attachments(mail.written)
    try:
        with session.begin_nested():
            session.add(message)
    except IntegrityError:  # it was sent to another recipient before, perhaps by another worker
        return


def _record_refused(
    context: AppContext, claim: Claim, reason: str, code: int, *, unreachable: bool = True
) -> None:
    now = context.clock()

    def set_state(mail: OutgoingMail) -> None:
        mail.state, mail.reason = OutboxState.REFUSED, reason

    def apply_effects(session: Session, mail: OutgoingMail) -> None:
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

    if _record(context, claim, set_state, apply_effects):
        log.mail_refused(claim.number, code)


def _record(
    context: AppContext,
    claim: Claim,
    set_state: Callable[[OutgoingMail], None],
    apply_effects: Callable[[Session, OutgoingMail], None],
) -> bool:
    """Record the relay's answer and its effects in one transaction.

    Returns False when a bounce or another worker was faster. While the database is unavailable it
    retries for RECORD_SECONDS, because giving up means that the mail is sent a second time. An
    error of ours in the effects would mean that at each attempt, so then only the state is
    recorded, and the sweep makes up for the effects.
    """
    deadline = time.monotonic() + RECORD_SECONDS
    with_effects = True
    while True:
        try:
            with context.store.transaction() as session:
                mail = _lock_waiting(session, claim.number)
                if mail is None:
                    return False
                set_state(mail)
                if with_effects:
                    apply_effects(session, mail)
        except DATABASE_UNAVAILABLE:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RECORD_PAUSE_SECONDS)
        except Exception as error:
            log.fault(SEND, error)
            if not with_effects:
                raise
            with_effects = False
        else:
            return True


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


def _record_deferred(context: AppContext, claim: Claim, reason: str, code: int) -> None:
    """Schedule the next attempt of a mail, or give it up after two days of attempts."""
    with context.store.read_only() as session:
        age = context.clock() - session.get_one(OutgoingMail, claim.number).created_at
    # A negative age means that the clock was set back since: then only the attempts count.
    has_time_left = timedelta() <= age < GIVE_UP_AFTER
    if claim.attempt >= MIN_ATTEMPTS and not has_time_left:
        _record_refused(
            context, claim, f"{reason}: given up after two days", code, unreachable=False
        )
    else:
        _schedule_retry(context, [claim], reason, code)


def _schedule_retry(context: AppContext, claims: list[Claim], reason: str, code: int) -> None:
    """Schedule the next attempt of these mails; with reason "" they keep the one they have."""
    new_reason = f"{reason}{RETRY_SUFFIX}" if reason else OutgoingMail.reason
    with context.store.transaction() as session:
        for attempt, statement in _update_claimed(claims):
            not_before = context.clock() + BACKOFF.delay(attempt)
            session.execute(statement.values(not_before=not_before, reason=new_reason))
    for claim in claims:
        log.mail_deferred(claim.number, attempt=claim.attempt, code=code)


def _withhold(context: AppContext, claim: Claim) -> None:
    values = {"state": OutboxState.WITHHELD, "reason": "the contact is unreachable or unsubscribed"}
    with context.store.transaction() as session:
        for _, statement in _update_claimed([claim]):
            session.execute(statement.values(values))
