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
from workflow.context import House
from workflow.customers import directory
from workflow.database.engine import AWAY
from workflow.database.locks import hold
from workflow.database.visibility import due
from workflow.mail import answer, compose, transport
from workflow.mail.compose import Letter
from workflow.mail.transport import Deferred, Mailer, Refused
from workflow.models.core import Message, Outgoing
from workflow.models.states import OutboxState
from workflow.process import Template
from workflow.runtime import log
from workflow.settings.settings import Settings, SettingsError
from workflow.tickets.outbox import SEND

BATCH = 50
LEASE = timedelta(
    seconds=120
)  # a claimed mail is left alone this long, then sent again under the same Message-ID
RECORD_SECONDS = (
    15.0  # how long a database that is away is asked again to put down what the relay has said
)
RECORD_PAUSE = 0.5
LAST_SECONDS = 25.0  # how long its last answer may take (store.py)
# A mail is only started while its lease outlasts the slowest relay and the slowest record: nobody
# else takes it then.
IN_HAND = timedelta(seconds=transport.SECONDS + RECORD_SECONDS + LAST_SECONDS)
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=30)
GIVE_UP = timedelta(hours=48)
# their pauses are more than 24 hours: time that passed while nothing ran, or by the clock alone, is
# no try
TRIES = 60
NO_ANSWER = "not taken by the relay (no answer)"
NOT_ASKED = "the relay took no mail"
AGAIN = ": tried again"


class Standing(Enum):
    """How the relay stands to further mail."""

    OPEN = "the next mail may go"
    CLOSED = "it opens no session now, and would say the same to the next mail"
    SILENT = "it does not answer, and each mail would find that out the long way"


class Claim(NamedTuple):
    """A mail taken up for sending; whoever takes it up later has another `attempt`."""

    number: int
    attempt: int
    alone: bool = False  # nothing, or only silence, came of the last attempt


def waits(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return whether a row of the outbox is to be sent now, and has been for so long."""
    return and_(
        Outgoing.state == OutboxState.WAITING,
        due(Outgoing.not_before, now - since, LONGEST_PAUSE + since),
    )


def send_waiting(house: House, seconds: float = transport.SECONDS) -> int:
    """Send the promised mail that is due, over one connection, for about five seconds.

    How many were due.

    What is left wakes a worker again. A relay gets so many seconds for a mail; one that does not
    answer is asked once, and everything that is due waits for its next turn.
    """
    settings, until, done, found = (
        house.settings,
        time.monotonic() + SLICE_SECONDS,
        0,
        Standing.OPEN,
    )
    try:
        relay = transport.mailer(
            settings.relay_url.get_secret_value(), settings.home / "outbox", seconds
        )
    except (
        SettingsError
    ) as error:  # nothing is claimed and nothing lost, and the process has other work
        log.fault(SEND, error)
        return 0
    with relay:
        while batch := _claim(house):
            done += len(batch)
            if found is Standing.SILENT:
                _put_off(house, batch)
                continue
            found = _send_batch(house, relay, batch, until)
            if (
                found is Standing.CLOSED
            ):  # busy with another worker, perhaps, which goes on with the rest
                break
            if found is Standing.OPEN and time.monotonic() >= until:
                house.store.waker(SEND)
                break
    return done


def send(house: House, relay: Mailer, claim: Claim) -> Standing:
    """Send one claimed mail and record what came of it; what is to be expected of the relay now.

    The relay's yes and our commit cannot be one: after a crash in between the mail goes out once
    more, with the same Message-ID; it is never lost.
    """
    try:
        written = _written(house, claim)
        if written is not None:
            relay.post(*written)
            _sent(house, claim, written)
    except Deferred as error:
        _deferred(house, claim, f"not taken by the relay ({error.code or 'no answer'})", error.code)
        if error.of_relay:
            return Standing.CLOSED if error.code else Standing.SILENT
    except Refused as error:
        _refused(house, claim, f"refused by the relay with {error.code}", error.code)
    except AWAY:
        raise
    # top of one mail: what is wrong with it must not stop those behind it
    except Exception as error:  # noqa: BLE001
        log.fault(SEND, error)
        _deferred(house, claim, f"not written: an error of ours ({type(error).__name__})", 0)
    return Standing.OPEN


def _claim(house: House) -> list[Claim]:
    """Take up the mails that are due.

    One of which nothing came, or only silence, goes after all others and alone.

    Whatever a mail does to a worker or a relay, it does to no other mail then.
    """
    suspect = or_(
        and_(Outgoing.attempts > 0, Outgoing.reason == ""), Outgoing.reason == f"{NO_ANSWER}{AGAIN}"
    )
    found = select(Outgoing.id, Outgoing.attempts, suspect.label("suspect")).where(
        waits(house.clock())
    )
    with house.store.transaction() as session:
        oldest = (
            found.order_by("suspect", Outgoing.id).limit(BATCH).with_for_update(skip_locked=True)
        )
        rows = session.execute(oldest).all()
        batch = [
            Claim(number, n + 1, bool(alone))
            for number, n, alone in rows
            if not alone or number == rows[0].id
        ]
        claim = {"not_before": house.clock() + LEASE, "attempts": Outgoing.attempts + 1}
        if batch:
            session.execute(
                update(Outgoing).where(Outgoing.id.in_(c.number for c in batch)).values(claim)
            )
    return batch


def _send_batch(house: House, relay: Mailer, batch: list[Claim], until: float) -> Standing:
    """Send a batch, at least one of it.

    What there is no time for goes back; what the relay is not asked for waits.
    """
    for n, claim in enumerate(batch):
        if n and time.monotonic() >= until:
            with house.store.transaction() as session:
                for _, mine in _claimed(batch[n:]):
                    session.execute(
                        mine.values(attempts=Outgoing.attempts - 1, not_before=house.clock())
                    )
            break
        found = send(house, relay, claim)
        if found is not Standing.OPEN:
            _put_off(house, batch[n + 1 :])
            return found
    return Standing.OPEN


def _put_off(house: House, claims: list[Claim]) -> None:
    """Have mails wait for their next turn as if they had been tried.

    The relay was asked for all of them.
    """
    for alone in (False, True):  # what is said of a mail that goes alone stays: it is why
        waiting = [c for c in claims if c.alone == alone and c.attempt < TRIES]
        _later(house, waiting, "" if alone else NOT_ASKED, 0)
    for claim in (c for c in claims if c.attempt >= TRIES):
        _deferred(house, claim, NOT_ASKED, 0)


def _claimed(claims: list[Claim]) -> Iterator[tuple[int, Update]]:
    """For each number of attempts an UPDATE of those that are still ours."""
    waiting = update(Outgoing).where(Outgoing.state == OutboxState.WAITING)
    for attempt in sorted({c.attempt for c in claims}):
        numbers = [c.number for c in claims if c.attempt == attempt]
        yield attempt, waiting.where(Outgoing.id.in_(numbers), Outgoing.attempts == attempt)


def _written(house: House, claim: Claim) -> Letter | None:
    """The mail, if it is still ours to send, and will be until the slowest relay has answered."""
    with house.store.reading() as session:
        mail = session.get(Outgoing, claim.number)
        if mail is None or (mail.state, mail.attempts) != (OutboxState.WAITING, claim.attempt):
            return None
        contact = mail.contact
        if (
            mail.template is Template.SURVEY
            and contact is not None
            and (contact.unreachable or contact.unsubscribed)
        ):
            _withhold(house, claim)
            return None
        if not directory.usable(mail.to):
            _refused(house, claim, "the address cannot be used", 553)
            return None
        written = compose.write(
            session, mail, house.settings, house.signer, answer.enclosed(house.vault, mail)
        )
        # Held up, or the clock was set: what we begin too late might be in two hands, so it is
        # taken up again instead.
        return written if mail.not_before - house.clock() >= IN_HAND else None


def _sent(house: House, claim: Claim, written: Letter) -> None:
    now, name, text = house.clock(), str(written.message["Message-ID"]), written.text

    def put_down(mail: Outgoing) -> None:
        mail.state, mail.sent_at, mail.message_id, mail.reason = OutboxState.SENT, now, name, ""

    def follow(session: Session, mail: Outgoing) -> None:
        if (
            mail.template is not Template.TASK
        ):  # what the desk tells its own people is no part of the conversation
            _on_timeline(session, mail, text, house.settings, now)
        audit.record(
            session,
            "mail sent",
            by=RULE,
            cause=mail.rule_key,
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
        house.desk.mail_sent(session, mail, now=now)

    if _record(house, claim, put_down, follow):
        log.sent(claim.number)


def _on_timeline(
    session: Session, mail: Outgoing, text: str, settings: Settings, now: datetime
) -> None:
    """Keep what was sent; of a letter to several, what was sent to the first of them."""
    said = Message(
        ticket_id=mail.ticket_id,
        direction="out",
        format="mail",
        external_id=compose.timeline_key(mail),
        message_id=mail.message_id.strip("<>"),
        from_name=settings.from_name,
        from_email=settings.sender,
        subject=mail.template,
        text=text,
        at=now,
    )
    if mail.written is not None:
        said.from_name, said.subject = mail.by, mail.written.subject
        said.attachments = answer.kept(mail.written)
    try:
        with session.begin_nested():
            session.add(said)
    except IntegrityError:  # another worker has sent it to another of them
        return


def _refused(
    house: House, claim: Claim, reason: str, code: int, *, unreachable: bool = True
) -> None:
    now = house.clock()

    def put_down(mail: Outgoing) -> None:
        mail.state, mail.reason = OutboxState.REFUSED, reason

    def follow(session: Session, mail: Outgoing) -> None:
        audit.record(
            session,
            "mail refused",
            by=RULE,
            cause=reason,
            now=now,
            ticket=mail.ticket_id,
            mail=mail.id,
        )
        house.desk.mail_failed(session, mail, reason, now=now, unreachable=unreachable)

    if _record(house, claim, put_down, follow):
        log.mail_refused(claim.number, code)


def _record(
    house: House,
    claim: Claim,
    put_down: Callable[[Outgoing], None],
    follow: Callable[[Session, Outgoing], None],
) -> bool:
    """Put down what the relay has said, and what follows from it.

    False if its bounce or another worker was faster.

    A database that is away is asked again for a while: giving up means that the mail goes out a
    second time. So would an error of ours in what follows, each time: then only what the relay has
    said is put down, and the clock makes up for the rest (stuck.py).
    """
    until, only = time.monotonic() + RECORD_SECONDS, False
    while True:
        try:
            with house.store.transaction() as session:
                mail = _held(session, claim.number)
                if mail is None:
                    return False
                put_down(mail)
                if not only:
                    follow(session, mail)
        except AWAY:
            if time.monotonic() >= until:
                raise
            time.sleep(RECORD_PAUSE)
        except Exception as error:
            log.fault(SEND, error)
            if only:
                raise
            only = True
        else:
            return True


def _held(session: Session, number: int) -> Outgoing | None:
    """The mail, if it still waits, kept to this transaction with its ticket; the ticket first.

    What follows from a mail changes its ticket, and whoever does something to a ticket holds that
    before they come to its mails, as undo does: the other way round the two would wait for each
    other until PostgreSQL ended one.
    """
    mail = session.get(Outgoing, number)
    if mail is None:
        return None
    hold(session, mail.ticket)
    session.refresh(mail, with_for_update=True)
    return mail if mail.state is OutboxState.WAITING else None


def _deferred(house: House, claim: Claim, why: str, code: int) -> None:
    """Have a mail wait for its next turn, or give it up.

    Two days old, and tried for more than one of them.
    """
    with house.store.reading() as session:
        age = house.clock() - session.get_one(Outgoing, claim.number).created_at
    # A mail from the future was promised before the clock was set back: its age says nothing, the
    # tries do.
    if claim.attempt >= TRIES and not timedelta() <= age < GIVE_UP:
        _refused(house, claim, f"{why}: given up after two days", code, unreachable=False)
    else:
        _later(house, [claim], why, code)


def _later(house: House, claims: list[Claim], why: str, code: int) -> None:
    with house.store.transaction() as session:
        for attempt, mine in _claimed(claims):
            reason = f"{why}{AGAIN}" if why else Outgoing.reason
            session.execute(mine.values(not_before=house.clock() + pause(attempt), reason=reason))
    for claim in claims:
        log.not_sent(claim.number, attempt=claim.attempt, code=code)


def pause(attempt: int) -> timedelta:
    """Return how long a mail waits after this attempt.

    30 seconds, twice as long each time, half an hour at most.
    """
    return min(FIRST_PAUSE * (1 << min(attempt - 1, 10)), LONGEST_PAUSE)


def _withhold(house: House, claim: Claim) -> None:
    values = {"state": OutboxState.WITHHELD, "reason": "the contact is unreachable or unsubscribed"}
    with house.store.transaction() as session:
        for _, mine in _claimed([claim]):
            session.execute(mine.values(values))
