"""Send what was promised, again and again until the relay has said yes or no.

And record what came of it.
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
from workflow.settings.settings import Settings, SettingsError
from workflow.tickets.outbox import SEND

BATCH_SIZE = 50
CLAIM_LEASE = timedelta(
    seconds=120
)  # a claimed mail is left alone this long, then sent again under the same Message-ID
RECORD_SECONDS = (
    15.0  # how long a database that is away is asked again to put down what the relay has said
)
RECORD_PAUSE_SECONDS = 0.5
LAST_COMMIT_SECONDS = 25.0  # how long its last answer may take (store.py)
# A mail is only started while its lease outlasts the slowest relay and the slowest record: nobody
# else takes it then.
MIN_LEASE_LEFT = timedelta(
    seconds=transport.SECONDS_PER_MAIL + RECORD_SECONDS + LAST_COMMIT_SECONDS
)
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
FIRST_RETRY_DELAY = timedelta(seconds=30)
MAX_RETRY_DELAY = timedelta(minutes=30)
GIVE_UP_AFTER = timedelta(hours=48)
# their pauses are more than 24 hours: time that passed while nothing ran, or by the clock alone, is
# no try
MIN_ATTEMPTS = 60
NO_ANSWER_REASON = "not taken by the relay (no answer)"
RELAY_CLOSED_REASON = "the relay took no mail"
RETRY_SUFFIX = ": tried again"


class RelayState(Enum):
    """How the relay stands to further mail."""

    OPEN = "the next mail may go"
    CLOSED = "it opens no session now, and would say the same to the next mail"
    SILENT = "it does not answer, and each mail would find that out the long way"


class Claim(NamedTuple):
    """A mail taken up for sending; whoever takes it up later has another `attempt`."""

    number: int
    attempt: int
    alone: bool = False  # nothing, or only silence, came of the last attempt


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return whether a row of the outbox is to be sent now, and has been for so long."""
    return and_(
        OutgoingMail.state == OutboxState.WAITING,
        is_visible(OutgoingMail.not_before, now - since, MAX_RETRY_DELAY + since),
    )


def send_waiting(context: AppContext, seconds: float = transport.SECONDS_PER_MAIL) -> int:
    """Send the promised mail that is due, over one connection, for about five seconds.

    How many were due.

    What is left wakes a worker again. A relay gets so many seconds for a mail; one that does not
    answer is asked once, and everything that is due waits for its next turn.
    """
    settings, until, done, found = (
        context.settings,
        time.monotonic() + SLICE_SECONDS,
        0,
        RelayState.OPEN,
    )
    try:
        relay = transport.open_mailer(
            settings.relay_url.get_secret_value(), settings.home / "outbox", seconds
        )
    except (
        SettingsError
    ) as error:  # nothing is claimed and nothing lost, and the process has other work
        log.fault(SEND, error)
        return 0
    with relay:
        while batch := _claim(context):
            done += len(batch)
            if found is RelayState.SILENT:
                _put_off(context, batch)
                continue
            found = _send_batch(context, relay, batch, until)
            if (
                found is RelayState.CLOSED
            ):  # busy with another worker, perhaps, which goes on with the rest
                break
            if found is RelayState.OPEN and time.monotonic() >= until:
                context.store.notify(SEND)
                break
    return done


def send(context: AppContext, relay: Mailer, claim: Claim) -> RelayState:
    """Send one claimed mail and record what came of it; what is to be expected of the relay now.

    The relay's yes and our commit cannot be one: after a crash in between the mail goes out once
    more, with the same Message-ID; it is never lost.
    """
    try:
        written = _written(context, claim)
        if written is not None:
            relay.post(*written)
            _sent(context, claim, written)
    except MailDeferred as error:
        _deferred(
            context, claim, f"not taken by the relay ({error.code or 'no answer'})", error.code
        )
        if error.of_relay:
            return RelayState.CLOSED if error.code else RelayState.SILENT
    except MailRefused as error:
        _refused(context, claim, f"refused by the relay with {error.code}", error.code)
    except DATABASE_UNAVAILABLE:
        raise
    # top of one mail: what is wrong with it must not stop those behind it
    except Exception as error:  # noqa: BLE001
        log.fault(SEND, error)
        _deferred(context, claim, f"not written: an error of ours ({type(error).__name__})", 0)
    return RelayState.OPEN


def _claim(context: AppContext) -> list[Claim]:
    """Take up the mails that are due.

    One of which nothing came, or only silence, goes after all others and alone.

    Whatever a mail does to a worker or a relay, it does to no other mail then.
    """
    suspect = or_(
        and_(OutgoingMail.attempts > 0, OutgoingMail.reason == ""),
        OutgoingMail.reason == f"{NO_ANSWER_REASON}{RETRY_SUFFIX}",
    )
    found = select(OutgoingMail.id, OutgoingMail.attempts, suspect.label("suspect")).where(
        is_due(context.clock())
    )
    with context.store.transaction() as session:
        oldest = (
            found.order_by("suspect", OutgoingMail.id)
            .limit(BATCH_SIZE)
            .with_for_update(skip_locked=True)
        )
        rows = session.execute(oldest).all()
        batch = [
            Claim(number, n + 1, bool(alone))
            for number, n, alone in rows
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


def _send_batch(context: AppContext, relay: Mailer, batch: list[Claim], until: float) -> RelayState:
    """Send a batch, at least one of it.

    What there is no time for goes back; what the relay is not asked for waits.
    """
    for n, claim in enumerate(batch):
        if n and time.monotonic() >= until:
            with context.store.transaction() as session:
                for _, mine in _claimed(batch[n:]):
                    session.execute(
                        mine.values(attempts=OutgoingMail.attempts - 1, not_before=context.clock())
                    )
            break
        found = send(context, relay, claim)
        if found is not RelayState.OPEN:
            _put_off(context, batch[n + 1 :])
            return found
    return RelayState.OPEN


def _put_off(context: AppContext, claims: list[Claim]) -> None:
    """Have mails wait for their next turn as if they had been tried.

    The relay was asked for all of them.
    """
    for alone in (False, True):  # what is said of a mail that goes alone stays: it is why
        waiting = [c for c in claims if c.alone == alone and c.attempt < MIN_ATTEMPTS]
        _later(context, waiting, "" if alone else RELAY_CLOSED_REASON, 0)
    for claim in (c for c in claims if c.attempt >= MIN_ATTEMPTS):
        _deferred(context, claim, RELAY_CLOSED_REASON, 0)


def _claimed(claims: list[Claim]) -> Iterator[tuple[int, Update]]:
    """For each number of attempts an UPDATE of those that are still ours."""
    waiting = update(OutgoingMail).where(OutgoingMail.state == OutboxState.WAITING)
    for attempt in sorted({c.attempt for c in claims}):
        numbers = [c.number for c in claims if c.attempt == attempt]
        yield attempt, waiting.where(OutgoingMail.id.in_(numbers), OutgoingMail.attempts == attempt)


def _written(context: AppContext, claim: Claim) -> ComposedMail | None:
    """The mail, if it is still ours to send, and will be until the slowest relay has answered."""
    with context.store.read_only() as session:
        mail = session.get(OutgoingMail, claim.number)
        if mail is None or (mail.state, mail.attempts) != (OutboxState.WAITING, claim.attempt):
            return None
        contact = mail.contact
        if (
            mail.template is Template.SURVEY
            and contact is not None
            and (contact.unreachable or contact.unsubscribed)
        ):
            _withhold(context, claim)
            return None
        if not directory.is_valid_address(mail.to):
            _refused(context, claim, "the address cannot be used", 553)
            return None
        written = compose.compose_mail(
            session,
            mail,
            context.settings,
            context.signer,
            answer.open_files(context.blob_store, mail),
        )
        # Held up, or the clock was set: what we begin too late might be in two hands, so it is
        # taken up again instead.
        return written if mail.not_before - context.clock() >= MIN_LEASE_LEFT else None


def _sent(context: AppContext, claim: Claim, written: ComposedMail) -> None:
    now, name, text = context.clock(), str(written.message["Message-ID"]), written.text

    def put_down(mail: OutgoingMail) -> None:
        mail.state, mail.sent_at, mail.message_id, mail.reason = OutboxState.SENT, now, name, ""

    def follow(session: Session, mail: OutgoingMail) -> None:
        if (
            mail.template is not Template.TASK
        ):  # what the desk tells its own people is no part of the conversation
            _on_timeline(session, mail, text, context.settings, now)
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

    if _record(context, claim, put_down, follow):
        log.mail_sent(claim.number)


def _on_timeline(
    session: Session, mail: OutgoingMail, text: str, settings: Settings, now: datetime
) -> None:
    """Keep what was sent; of a letter to several, what was sent to the first of them."""
    said = Message(
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
        said.from_name, said.subject = mail.by, mail.written.subject
        said.attachments = answer.make_attachments(mail.written)
    try:
        with session.begin_nested():
            session.add(said)
    except IntegrityError:  # another worker has sent it to another of them
        return


def _refused(
    context: AppContext, claim: Claim, reason: str, code: int, *, unreachable: bool = True
) -> None:
    now = context.clock()

    def put_down(mail: OutgoingMail) -> None:
        mail.state, mail.reason = OutboxState.REFUSED, reason

    def follow(session: Session, mail: OutgoingMail) -> None:
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

    if _record(context, claim, put_down, follow):
        log.mail_refused(claim.number, code)


def _record(
    context: AppContext,
    claim: Claim,
    put_down: Callable[[OutgoingMail], None],
    follow: Callable[[Session, OutgoingMail], None],
) -> bool:
    """Put down what the relay has said, and what follows from it.

    False if its bounce or another worker was faster.

    A database that is away is asked again for a while: giving up means that the mail goes out a
    second time. So would an error of ours in what follows, each time: then only what the relay has
    said is put down, and the clock makes up for the rest (operations/sweep.py).
    """
    until, only = time.monotonic() + RECORD_SECONDS, False
    while True:
        try:
            with context.store.transaction() as session:
                mail = _held(session, claim.number)
                if mail is None:
                    return False
                put_down(mail)
                if not only:
                    follow(session, mail)
        except DATABASE_UNAVAILABLE:
            if time.monotonic() >= until:
                raise
            time.sleep(RECORD_PAUSE_SECONDS)
        except Exception as error:
            log.fault(SEND, error)
            if only:
                raise
            only = True
        else:
            return True


def _held(session: Session, number: int) -> OutgoingMail | None:
    """The mail, if it still waits, kept to this transaction with its ticket; the ticket first.

    What follows from a mail changes its ticket, and whoever does something to a ticket holds that
    before they come to its mails, as undo does: the other way round the two would wait for each
    other until PostgreSQL ended one.
    """
    mail = session.get(OutgoingMail, number)
    if mail is None:
        return None
    lock_ticket(session, mail.ticket)
    session.refresh(mail, with_for_update=True)
    return mail if mail.state is OutboxState.WAITING else None


def _deferred(context: AppContext, claim: Claim, why: str, code: int) -> None:
    """Have a mail wait for its next turn, or give it up.

    Two days old, and tried for more than one of them.
    """
    with context.store.read_only() as session:
        age = context.clock() - session.get_one(OutgoingMail, claim.number).created_at
    # A mail from the future was promised before the clock was set back: its age says nothing, the
    # tries do.
    if claim.attempt >= MIN_ATTEMPTS and not timedelta() <= age < GIVE_UP_AFTER:
        _refused(context, claim, f"{why}: given up after two days", code, unreachable=False)
    else:
        _later(context, [claim], why, code)


def _later(context: AppContext, claims: list[Claim], why: str, code: int) -> None:
    with context.store.transaction() as session:
        for attempt, mine in _claimed(claims):
            reason = f"{why}{RETRY_SUFFIX}" if why else OutgoingMail.reason
            session.execute(
                mine.values(not_before=context.clock() + retry_delay(attempt), reason=reason)
            )
    for claim in claims:
        log.mail_deferred(claim.number, attempt=claim.attempt, code=code)


def retry_delay(attempt: int) -> timedelta:
    """Return how long a mail waits after this attempt.

    30 seconds, twice as long each time, half an hour at most.
    """
    return min(FIRST_RETRY_DELAY * (1 << min(attempt - 1, 10)), MAX_RETRY_DELAY)


def _withhold(context: AppContext, claim: Claim) -> None:
    values = {"state": OutboxState.WITHHELD, "reason": "the contact is unreachable or unsubscribed"}
    with context.store.transaction() as session:
        for _, mine in _claimed([claim]):
            session.execute(mine.values(values))
