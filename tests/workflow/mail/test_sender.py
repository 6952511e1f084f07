"""Sending the mails of the outbox, and retrying them.

None is lost, each goes once unless something crashed, and none holds up another.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread, Timer
from typing import Any

import pytest
from sqlalchemy import event, make_url, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from parsers.item import Address
from tests.support.bad_relay import GREETING, BadRelay, Do
from tests.support.context import (
    ANN,
    HandClock,
    Posts,
    RecordingNotifier,
    count_rows,
    get_contact,
    list_audit_entries,
    make_mail,
    make_phone_call,
    open_ticket,
    run_in_threads,
)
from tests.support.outgoing_mail import get_outgoing_mail, read, send_through
from tests.support.servers import Postgres, Relay, find_free_port
from tests.support.smtp_client import until
from workflow import background_jobs
from workflow.audit.webhook_events import EventType
from workflow.context import AppContext
from workflow.database.locks import lock_ticket
from workflow.mail import claims, compose, outcomes, sender, transport
from workflow.mail.sender import SLICE_SECONDS
from workflow.mail.sent_journal import SentJournal
from workflow.models.core import Message, OutgoingMail, Ticket
from workflow.models.states import OutboxState
from workflow.models.webhooks import WebhookEvent
from workflow.operations import sweep
from workflow.process import Stage
from workflow.tickets.outbox import SEND
from workflow.webhooks import deliver

WAITING, SENT, REFUSED = OutboxState.WAITING, OutboxState.SENT, OutboxState.REFUSED


@pytest.fixture
def relay_context(context: AppContext, relay: Relay) -> Iterator[AppContext]:
    """A context that sends through the relay."""
    with send_through(context, relay.url) as opened:
        yield opened


@pytest.fixture
def bad() -> Iterator[BadRelay]:
    relay = BadRelay()
    yield relay
    relay.stop()


@pytest.fixture(autouse=True)
def long_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take longer than a worker's slice over two mails."""
    monkeypatch.setattr(sender, "SLICE_SECONDS", 60.0)


@pytest.fixture
def misled_context(context: AppContext, bad: BadRelay) -> Iterator[AppContext]:
    """A context that sends through the misbehaving relay."""
    with send_through(context, bad.url) as opened:
        yield opened


def list_journals(context: AppContext) -> list[Path]:
    return list((context.settings.home / "outbox-journal").iterdir())


def add_customers(context: AppContext, many: int) -> None:
    """So many tickets of c0@practice.example, c1@… with a notice each."""
    for n in range(many):
        open_ticket(context, make_mail(sender=Address("", f"c{n}@practice.example")))


def list_states(context: AppContext) -> list[OutboxState]:
    return [
        get_outgoing_mail(context, n + 1).state for n in range(count_rows(context, OutgoingMail))
    ]


def list_waits(context: AppContext) -> list[float]:
    """Seconds until each mail that waits is due."""
    found = [get_outgoing_mail(context, n + 1) for n in range(count_rows(context, OutgoingMail))]
    return [(m.not_before - context.clock()).total_seconds() for m in found if m.state is WAITING]


def list_tasks(context: AppContext, ticket: int = 1) -> list[str]:
    with context.store.read_only() as session:
        return [t.text for t in session.get_one(Ticket, ticket).tasks]


def test_many_mails_go_over_one_connection(relay_context: AppContext, relay: Relay) -> None:
    add_customers(relay_context, 5)
    assert sender.send_waiting(relay_context) == 5
    assert (len(relay.taken), relay.connections) == (5, 1)


def test_a_450_is_tried_again_with_growing_pauses(
    relay_context: AppContext, relay: Relay, clock: HandClock
) -> None:
    number = open_ticket(relay_context)
    relay.answers = ["450 4.2.0 later"] * 4
    waits = []
    for _ in range(4):
        assert sender.send_waiting(relay_context) == 1
        assert sender.send_waiting(relay_context) == 0
        waits.append((get_outgoing_mail(relay_context).not_before - clock()).total_seconds())
        clock.turn(seconds=waits[-1] - 1)
        assert sender.send_waiting(relay_context) == 0
        clock.turn(seconds=1)
    assert waits == [30, 60, 120, 240]
    assert get_outgoing_mail(relay_context).reason == "not taken by the relay (450): tried again"
    assert sender.send_waiting(relay_context) == 1
    sent = get_outgoing_mail(relay_context)
    assert (sent.state, sent.attempts, sent.reason) == (OutboxState.SENT, 5, "")
    with relay_context.store.read_only() as session:
        assert session.get_one(Ticket, number).tasks == []
    assert not get_contact(relay_context, ANN.email).unreachable


@pytest.mark.parametrize("answer", ["421 4.3.2 closing", "450 4.2.0 busy", "hang up"])
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
def test_whatever_passes_is_waited_out_and_the_next_mail_still_goes(
    relay_context: AppContext, relay: Relay, clock: HandClock, at: str, answer: str
) -> None:
    relay.at, relay.answers = at, [answer]
    add_customers(relay_context, 2)
    sender.send_waiting(relay_context)
    assert [get_outgoing_mail(relay_context, n).state for n in (1, 2)] == [
        OutboxState.WAITING,
        OutboxState.SENT,
    ]
    clock.turn(seconds=30)
    sender.send_waiting(relay_context)
    assert [t.rcpt_tos for t in relay.taken] == [["c1@practice.example"], ["c0@practice.example"]]


@pytest.mark.parametrize("at", ["RCPT", "DATA"])
def test_a_550_is_not_tried_again_but_told_to_a_person(
    relay_context: AppContext, relay: Relay, clock: HandClock, at: str
) -> None:
    relay.at, relay.answers = at, ["550 5.1.1 no such mailbox"]
    number = open_ticket(relay_context)
    sender.send_waiting(relay_context)
    clock.turn(days=3)
    assert sender.send_waiting(relay_context) == 0
    refused = get_outgoing_mail(relay_context)
    assert (refused.state, refused.attempts) == (OutboxState.REFUSED, 1)
    assert refused.reason == "refused by the relay with 550"
    assert get_contact(relay_context, ANN.email).unreachable
    with relay_context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert [t.text for t in ticket.tasks] == ["tell the customer by other means"]
        assert ticket.stage is Stage.IN_PROGRESS  # recorded as not possible
        assert ticket.milestones[0].note == "not possible: refused by the relay with 550"


def test_a_relay_that_refuses_us_as_the_sender_says_nothing_of_the_customer(
    relay_context: AppContext, relay: Relay, clock: HandClock
) -> None:
    open_ticket(relay_context)
    relay.at, relay.answers = "MAIL", ["530 5.7.0 authentication required"]
    sender.send_waiting(relay_context)
    assert get_outgoing_mail(relay_context).state is OutboxState.WAITING
    assert not get_contact(relay_context, ANN.email).unreachable
    clock.turn(minutes=1)
    sender.send_waiting(relay_context)
    assert get_outgoing_mail(relay_context).state is OutboxState.SENT


def test_a_relay_that_is_away_for_two_days_is_given_up_without_blaming_the_customer(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    (context.settings.home / "outbox").write_text("nothing can be handed over here")
    while get_outgoing_mail(context).state is OutboxState.WAITING:
        assert sender.send_waiting(context) == 1
        clock.now = max(clock.now, get_outgoing_mail(context).not_before)
    lost = get_outgoing_mail(context)
    assert lost.reason == "not taken by the relay (no answer): given up after two days"
    assert (clock() - lost.created_at).days == 2
    assert lost.attempts < 120
    assert not get_contact(context, ANN.email).unreachable
    with context.store.read_only() as session:
        assert len(session.get_one(Ticket, number).tasks) == 1


def test_a_relay_nobody_listens_at_is_waited_out(context: AppContext) -> None:
    with send_through(context, f"smtp://127.0.0.1:{find_free_port()}") as away:
        open_ticket(away)
        sender.send_waiting(away)
        assert get_outgoing_mail(away).reason == "not taken by the relay (no answer): tried again"


@pytest.mark.parametrize("email", ["jörg@practice.example", "x@bücher.example"])
def test_an_address_the_relay_cannot_write_to_is_told_to_a_person_at_once(
    relay_context: AppContext, relay: Relay, email: str
) -> None:
    number = open_ticket(relay_context, make_mail(sender=Address("", email)))
    sender.send_waiting(relay_context)
    if relay.taken:  # a domain has an ASCII form
        assert relay.taken[0].rcpt_tos == ["x@xn--bcher-kva.example"]
        return
    assert get_outgoing_mail(relay_context).state is OutboxState.REFUSED
    with relay_context.store.read_only() as session:
        assert [t.kind for t in session.get_one(Ticket, number).tasks] == ["tell-customer:1"]


class Crash(BaseException):
    """The process is gone."""


@contextmanager
def crash_before_commit() -> Iterator[None]:
    """End the worker when it wants to record a sent mail."""

    def crash(session: Any, *_: Any) -> None:
        if any(isinstance(o, Message) and o.direction == "out" for o in session.new):
            raise Crash

    event.listen(Session, "before_flush", crash)
    try:
        with pytest.raises(Crash):
            yield
    finally:
        event.remove(Session, "before_flush", crash)


@pytest.mark.parametrize("count", [1, 12])
def test_a_worker_that_dies_between_relay_and_commit_has_nothing_sent_again(
    relay_context: AppContext, relay: Relay, clock: HandClock, count: int
) -> None:
    add_customers(relay_context, count)
    with crash_before_commit():
        sender.send_waiting(relay_context)
    sent_count = len(relay.taken)
    assert 1 <= sent_count <= sender.GROUP_SIZE
    assert list_states(relay_context) == [WAITING] * count
    sender.send_waiting(relay_context)  # records what the other sent, whose leases run
    assert list_states(relay_context)[:sent_count] == [SENT] * sent_count
    assert len(relay.taken) == sent_count
    clock.turn(seconds=120)
    sender.send_waiting(relay_context)
    assert list_states(relay_context) == [SENT] * count
    ids = [read(bytes(t.content or b""))["Message-ID"] for t in relay.taken]
    assert len(set(ids)) == len(ids) == count
    assert list_journals(relay_context) == []
    with relay_context.store.read_only() as session:
        for ticket in session.scalars(select(Ticket)):
            assert [m.direction for m in ticket.messages] == ["in", "out"]
            assert ticket.stage is Stage.IN_PROGRESS


def test_a_machine_that_loses_its_power_sends_it_again_under_the_same_message_id(
    relay_context: AppContext, relay: Relay, clock: HandClock
) -> None:
    number = open_ticket(relay_context)
    with crash_before_commit():
        sender.send_waiting(relay_context)
    for journal in list_journals(relay_context):
        journal.unlink()
    assert get_outgoing_mail(relay_context).state is OutboxState.WAITING
    assert sender.send_waiting(relay_context) == 0  # its lease runs
    clock.turn(seconds=120)
    assert sender.send_waiting(relay_context) == 1
    ids = [read(bytes(t.content or b""))["Message-ID"] for t in relay.taken]
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert bytes(relay.taken[0].content or b"") == bytes(relay.taken[1].content or b"")
    with relay_context.store.read_only() as session:
        assert len(session.get_one(Ticket, number).messages) == 2


def test_without_a_folder_for_the_journal_each_mail_is_recorded_by_itself(
    relay_context: AppContext, relay: Relay
) -> None:
    add_customers(relay_context, 3)
    (relay_context.settings.home / "outbox-journal").write_bytes(b"no folder")
    with crash_before_commit():
        sender.send_waiting(relay_context)
    assert len(relay.taken) == 1


def test_the_journal_of_a_restored_backup_says_nothing_about_its_mails(
    relay_context: AppContext, relay: Relay
) -> None:
    open_ticket(relay_context)
    with crash_before_commit():
        sender.send_waiting(relay_context)
    with relay_context.store.transaction() as session:  # another mail has the number now
        mail_row = session.get_one(OutgoingMail, 1)
        mail_row.created_at += timedelta(seconds=1)
    sender.send_waiting(relay_context)
    assert get_outgoing_mail(relay_context).state is WAITING
    assert len(relay.taken) == 1


def test_the_journal_of_a_living_worker_is_left_to_it(
    relay_context: AppContext, clock: HandClock
) -> None:
    open_ticket(relay_context)
    with closing(SentJournal(relay_context.settings.home / "outbox-journal")) as journal:
        journal.add(1, get_outgoing_mail(relay_context).created_at)
        clock.turn(seconds=-1)  # the mail is not due yet
        sender.send_waiting(relay_context)
        assert get_outgoing_mail(relay_context).state is WAITING
    sender.send_waiting(relay_context)
    assert get_outgoing_mail(relay_context).state is SENT


def test_a_journal_that_cannot_be_read_stops_no_mail(relay_context: AppContext) -> None:
    folder = relay_context.settings.home / "outbox-journal"
    (folder / "a folder.journal").mkdir(parents=True)
    (folder / "garbled.journal").write_bytes(b"\xff\x00 nonsense\n1 2026\n")
    open_ticket(relay_context)
    sender.send_waiting(relay_context)
    assert list_states(relay_context) == [SENT]
    assert [path.name for path in list_journals(relay_context)] == ["a folder.journal"]


def test_each_mail_of_a_group_has_its_event_for_a_webhook(
    any_context: AppContext, relay: Relay
) -> None:
    with send_through(any_context, relay.url) as context:
        with context.store.transaction() as session:
            deliver.create_webhook(
                context,
                session,
                "https://a.example/",
                [EventType.MAIL_SENT, EventType.STAGE],
                by="Olga",
                now=context.clock(),
            )
        add_customers(context, 4)
        sender.send_waiting(context)
        with context.store.read_only() as session:
            events = session.scalars(select(WebhookEvent).order_by(WebhookEvent.id)).all()
        sent = [e.body["ticket"] for e in events if e.event == "mail.sent"]
        assert sorted(sent) == [1, 2, 3, 4]
        moved = [e.body["ticket"] for e in events if e.body.get("stage") == Stage.IN_PROGRESS]
        assert sorted(moved) == [1, 2, 3, 4]
        assert len({e.id for e in events}) == len(events)


def test_mails_whose_ticket_somebody_holds_are_recorded_after_the_others(
    postgres_context: AppContext, relay: Relay
) -> None:
    with send_through(postgres_context, relay.url) as context:
        add_customers(context, 3)
        with context.store.transaction() as session:
            lock_ticket(session, session.get_one(Ticket, 2))
            worker = Thread(target=sender.send_waiting, args=[context])
            worker.start()
            until(lambda: list_states(context) == [SENT, WAITING, SENT])
        worker.join()
        assert list_states(context) == [SENT] * 3


def test_a_relay_slower_than_the_lease_does_not_have_mail_sent_twice(
    relay_context: AppContext, relay: Relay, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_customers(relay_context, 6)
    handle_data = relay.handle_DATA
    with send_through(relay_context, relay.url) as other:

        async def slowly(*args: Any) -> str:
            clock.turn(seconds=50)
            return await handle_data(*args)

        monkeypatch.setattr(relay, "handle_DATA", slowly)
        sender.send_waiting(relay_context)
        assert len(relay.taken) == 1  # the second would have come close to the end of its lease
        while count_rows(relay_context, OutgoingMail, OutgoingMail.state == OutboxState.WAITING):
            sender.send_waiting(other)
            sender.send_waiting(relay_context)
            clock.turn(seconds=120)
    assert sorted(t.rcpt_tos[0] for t in relay.taken) == [
        f"c{n}@practice.example" for n in range(6)
    ]


def test_two_workers_at_once_send_each_mail_once(
    postgres_context: AppContext, relay: Relay
) -> None:
    with send_through(postgres_context, relay.url) as context:
        add_customers(context, 8)
        assert run_in_threads(*[lambda: sender.send_waiting(context)] * 4) == []
        assert len(relay.taken) == 8
        assert count_rows(context, OutgoingMail, OutgoingMail.state == OutboxState.SENT) == 8


def test_two_workers_that_send_the_notices_of_one_ticket_at_once_record_it_once(
    postgres_context: AppContext,
) -> None:
    context = postgres_context
    number = open_ticket(context, make_phone_call(Address("", "bob@practice.example")))
    posts = Posts()
    batch = claims.claim_batch(context)
    assert run_in_threads(*(lambda c=c: sender.send(context, posts, [c]) for c in batch)) == []
    assert len(posts.taken) == 2
    assert len(list_audit_entries(context, number, "reached")) == 1
    assert count_rows(context, OutgoingMail, OutgoingMail.state == OutboxState.SENT) == 2


def test_a_mail_that_was_sent_is_not_sent_by_a_late_worker(context: AppContext) -> None:
    open_ticket(context)
    posts = Posts()
    (claim,) = claims.claim_batch(context)
    sender.send(context, posts, [claim])
    sender.send(context, posts, [claim])
    assert len(posts.taken) == 1


def test_one_mail_that_cannot_be_written_stops_no_other(context: AppContext) -> None:
    add_customers(context, 2)
    with context.store.transaction() as session:
        session.get_one(OutgoingMail, 1).to = "two@x.example, three@y.example"
    sender.send_waiting(context)
    assert [get_outgoing_mail(context, n).state for n in (1, 2)] == [
        OutboxState.REFUSED,
        OutboxState.SENT,
    ]
    assert get_outgoing_mail(context).reason == "the address cannot be used"


# -- a relay that does not answer ----


@pytest.mark.parametrize("point", [GREETING, "MAIL", "."])
def test_a_relay_that_hangs_is_asked_once_a_turn_and_the_turns_grow_apart(
    misled_context: AppContext,
    bad: BadRelay,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
) -> None:
    monkeypatch.setattr(claims, "BATCH_SIZE", 3)
    add_customers(misled_context, 7)
    bad.at[point] = [Do.HANG] * 4
    for turn, pause in enumerate([30, 60, 120, 240], 1):
        assert sender.send_waiting(misled_context, 0.5) == 7
        until(lambda turn=turn: bad.connections == turn)
        assert list_waits(misled_context) == [pause] * 7
        clock.turn(seconds=pause)
    assert {get_outgoing_mail(misled_context, n).attempts for n in range(1, 8)} == {4}
    bad.at.clear()  # a busy machine may have used up the time before this point
    assert sender.send_waiting(misled_context) == 7
    assert list_states(misled_context) == [SENT] * 7
    assert len(bad.taken) == 7


def test_a_relay_that_opens_no_session_is_asked_once_a_batch_and_leaves_the_rest_to_others(
    misled_context: AppContext, bad: BadRelay, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "BATCH_SIZE", 3)
    add_customers(misled_context, 7)
    bad.at[GREETING] = [b"421 4.7.0 too many connections\r\n"]
    assert sender.send_waiting(misled_context) == 3
    assert bad.connections == 1
    assert list_waits(misled_context) == [30] * 3 + [0] * 4
    assert [get_outgoing_mail(misled_context, n).reason for n in (1, 2)] == [
        "not taken by the relay (421): tried again",
        "the relay took no mail: tried again",
    ]
    assert sender.send_waiting(misled_context) == 4
    clock.turn(seconds=30)
    assert sender.send_waiting(misled_context) == 3
    assert list_states(misled_context) == [SENT] * 7


def test_a_mail_that_makes_the_relay_hang_holds_up_the_others_for_one_turn(
    misled_context: AppContext, bad: BadRelay, clock: HandClock
) -> None:
    bad.hangs_for = {"c0@practice.example", "c1@practice.example"}
    add_customers(misled_context, 4)
    for _ in range(4):
        sender.send_waiting(misled_context, 1.0)
        clock.turn(seconds=max(list_waits(misled_context)))
    assert list_states(misled_context) == [WAITING, WAITING, SENT, SENT]
    assert [to[:2] for to in bad.offered[:6]] == ["c0", "c1", "c2", "c3", "c0", "c0"]
    bad.hangs_for = set()
    sender.send_waiting(misled_context)
    assert list_states(misled_context) == [SENT] * 4


def test_what_a_crash_left_behind_is_taken_up_after_all_others_and_one_by_one(
    context: AppContext, clock: HandClock
) -> None:
    add_customers(context, 3)
    claims.claim_batch(context)  # and the worker dies
    clock.turn(seconds=120)
    open_ticket(context, make_mail(sender=Address("", "late@practice.example")))
    taken_up = [[c.number for c in claims.claim_batch(context)] for _ in range(5)]
    assert taken_up == [[4], [1], [2], [3], []]


def test_a_worker_looks_at_its_other_work_in_between(
    relay_context: AppContext, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "SLICE_SECONDS", 0)
    add_customers(relay_context, 3)
    notified_queues = relay_context.store.notify
    assert isinstance(notified_queues, RecordingNotifier)
    for sent_count in (1, 2, 3):
        notified_queues.clear()
        sender.send_waiting(relay_context)
        assert (len(relay.taken), notified_queues) == (sent_count, [SEND])
        rest = [get_outgoing_mail(relay_context, n) for n in range(sent_count + 1, 4)]
        assert [(m.attempts, m.not_before, m.reason) for m in rest] == [
            (0, relay_context.clock(), "")
        ] * len(rest)
    assert sender.send_waiting(relay_context) == 0


def test_a_relay_that_cannot_be_meant_leaves_the_mail_where_it_is(context: AppContext) -> None:
    with send_through(context, "http://relay.example") as wrong:
        open_ticket(wrong)
        assert sender.send_waiting(wrong) == 0
        assert (get_outgoing_mail(wrong).state, get_outgoing_mail(wrong).attempts) == (WAITING, 0)


# -- one mail in one hand ----


def test_a_lease_outlasts_the_slowest_relay_and_the_slowest_record() -> None:
    assert transport.SECONDS_PER_MAIL <= 55
    assert (
        sender.MIN_LEASE_LEFT.total_seconds()
        >= transport.SECONDS_PER_MAIL + outcomes.RECORD_SECONDS + outcomes.LAST_COMMIT_SECONDS
    )
    assert sender.MIN_LEASE_LEFT + timedelta(seconds=SLICE_SECONDS + 20) <= claims.CLAIM_LEASE
    assert (
        SLICE_SECONDS + sender.MIN_LEASE_LEFT.total_seconds() < background_jobs.JOB_TIMEOUT_SECONDS
    )


def test_a_worker_that_was_held_up_does_not_begin_a_mail_that_may_be_anothers(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    posts = Posts()
    (claim,) = claims.claim_batch(context)
    clock.turn(seconds=31)  # less than the slowest sending is left of its lease
    assert sender.send(context, posts, [claim])
    assert not posts.taken
    clock.turn(seconds=89)
    (other,) = claims.claim_batch(context)
    assert (other.number, other.attempt) == (1, 2)
    sender.send(context, posts, [claim])
    assert not posts.taken
    claims.schedule_retry(context, [claim], "too late to say", 450)
    assert list_waits(context) == [120]
    sender.send(context, posts, [other])
    assert len(posts.taken) == 1


# -- how long, by which clock ----


def fail_until(context: AppContext, clock: HandClock, *, until: Callable[[], bool]) -> int:
    """Try and fail, as often as a mail is due; how often."""
    posts, tries = Posts(answers=[451] * 1000), 0
    while not until():
        for claim in claims.claim_batch(context):
            sender.send(context, posts, [claim])
            tries += 1
        clock.now = max(clock.now, get_outgoing_mail(context).not_before)
    return tries


def test_the_pauses_grow_to_half_an_hour_and_so_many_tries_take_more_than_a_day() -> None:
    pauses = [claims.BACKOFF.delay(n) for n in range(1, outcomes.MIN_ATTEMPTS)]
    assert [p.total_seconds() for p in pauses[:8]] == [30, 60, 120, 240, 480, 960, 1800, 1800]
    assert timedelta(hours=24) <= sum(pauses, timedelta()) < outcomes.GIVE_UP_AFTER
    # `is_due` takes the maximum for the longest wait.
    assert claims.BACKOFF.maximum >= claims.CLAIM_LEASE


@pytest.mark.parametrize(
    "days", [3, -3], ids=["off for days", "queued before the clock was set back"]
)
def test_giving_up_takes_a_day_of_tries_whatever_the_clock_says(
    context: AppContext, clock: HandClock, days: int
) -> None:
    number = open_ticket(context)
    clock.turn(days=days)
    began = clock.now
    tries = fail_until(
        context, clock, until=lambda: get_outgoing_mail(context).state is not WAITING
    )
    assert tries == outcomes.MIN_ATTEMPTS
    assert clock.now - began > timedelta(hours=24)
    assert (
        get_outgoing_mail(context).reason == "not taken by the relay (451): given up after two days"
    )
    assert list_tasks(context, number) == ["tell the customer by other means"]
    assert not get_contact(context, ANN.email).unreachable


def test_mail_that_was_only_put_off_is_given_up_as_well(
    misled_context: AppContext, bad: BadRelay, clock: HandClock
) -> None:
    add_customers(misled_context, 3)
    with misled_context.store.transaction() as session:
        for n in (1, 2, 3):
            session.get_one(OutgoingMail, n).attempts = outcomes.MIN_ATTEMPTS
    clock.turn(days=2)
    bad.at[GREETING] = [Do.HANG_UP]
    sender.send_waiting(misled_context)
    assert bad.connections == 1
    assert list_states(misled_context) == [REFUSED] * 3
    assert [list_tasks(misled_context, n) for n in (1, 2, 3)] == [
        ["tell the customer by other means"]
    ] * 3


def test_a_clock_that_was_set_back_holds_no_mail_back(
    any_context: AppContext, clock: HandClock
) -> None:
    context, posts = any_context, Posts()
    open_ticket(context)
    fail_until(context, clock, until=lambda: get_outgoing_mail(context).attempts == 10)
    assert claims.claim_batch(context) != []
    clock.turn(days=-400)
    (claim,) = claims.claim_batch(context)
    sender.send(context, posts, [claim])
    assert len(posts.taken) == 1


def test_hosts_whose_clocks_differ_a_little_leave_each_others_mail_alone(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    tries = fail_until(context, clock, until=lambda: get_outgoing_mail(context).attempts == 10)
    assert tries == 10
    clock.turn(minutes=-30, seconds=-10)  # the other host's: ten seconds behind
    assert claims.claim_batch(context) == []


# -- what is wrong with one mail ----


def test_a_mail_that_cannot_be_written_stops_no_other_and_goes_once_that_is_corrected(
    relay_context: AppContext, relay: Relay, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    render = compose.render

    def render_with_line_break(mail: OutgoingMail, *args: Any) -> tuple[str, str]:
        subject, text = render(mail, *args)
        return (f"{subject}\r\nBcc: x@y.example" if mail.id == 1 else subject), text

    add_customers(relay_context, 3)
    monkeypatch.setattr(compose, "render", render_with_line_break)
    sender.send_waiting(relay_context)
    assert list_states(relay_context) == [WAITING, SENT, SENT]
    assert list_waits(relay_context) == [30]
    assert (
        get_outgoing_mail(relay_context).reason
        == "not written: an error of ours (ValueError): tried again"
    )
    monkeypatch.setattr(compose, "render", render)
    clock.turn(seconds=30)
    sender.send_waiting(relay_context)
    assert [t.rcpt_tos[0][:2] for t in relay.taken] == ["c1", "c2", "c0"]


def test_a_mail_that_can_never_be_written_is_told_to_a_person(
    context: AppContext, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = open_ticket(context)

    def raise_error(*_: Any) -> None:
        raise KeyError("Jane Roe")

    monkeypatch.setattr(compose, "render", raise_error)
    fail_until(context, clock, until=lambda: get_outgoing_mail(context).state is not WAITING)
    assert (
        get_outgoing_mail(context).reason
        == "not written: an error of ours (KeyError): given up after two days"
    )
    assert list_tasks(context, number) == ["tell the customer by other means"]
    assert not get_contact(context, ANN.email).unreachable


@pytest.mark.parametrize(
    ("answer", "step"), [("250 OK", "record_mail_sent"), ("550 no", "record_mail_failed")]
)
def test_an_error_of_ours_after_the_relays_answer_does_not_ask_it_again(
    relay_context: AppContext,
    relay: Relay,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    step: str,
) -> None:
    def raise_error(*_: Any, **__: Any) -> None:
        raise RuntimeError("Jane Roe")

    add_customers(relay_context, 2)
    monkeypatch.setattr(relay_context.desk, step, raise_error)
    relay.at, relay.answers = "RCPT", [answer] if answer.startswith("5") else []
    sender.send_waiting(relay_context)
    assert list_states(relay_context) == [REFUSED if answer.startswith("5") else SENT, SENT]
    clock.turn(days=1)
    assert sender.send_waiting(relay_context) == 0
    assert relay.answers == []


@pytest.mark.parametrize(
    ("answer", "step"), [("250 OK", "record_mail_sent"), ("550 no", "record_mail_failed")]
)
def test_a_ticket_that_an_error_of_ours_left_in_the_first_stage_is_moved_on_by_the_clock(
    relay_context: AppContext, relay: Relay, monkeypatch: pytest.MonkeyPatch, answer: str, step: str
) -> None:
    add_customers(relay_context, 2)
    copies = 2 - answer.startswith("5")
    with monkeypatch.context() as patched:
        patched.setattr(relay_context.desk, step, lambda *_, **__: 1 / 0)
        relay.at, relay.answers = "RCPT", [answer] if answer.startswith("5") else []
        sender.send_waiting(relay_context)
        assert (
            sweep.advance_stuck_tickets(relay_context) > 0
        )  # the error is still there, and stops neither clock nor relay
    assert count_rows(relay_context, Ticket, Ticket.stage == Stage.SUBMITTED) > 0
    sweep.sweep(relay_context, redis_away=lambda: False)
    assert count_rows(relay_context, Ticket, Ticket.stage == Stage.IN_PROGRESS) == 2
    assert len(relay.taken) == copies
    assert get_contact(relay_context, "c0@practice.example").unreachable == answer.startswith("5")
    assert bool(list_tasks(relay_context, 1)) == answer.startswith("5")
    assert sweep.advance_stuck_tickets(relay_context) == 0


# -- the database goes away in between ----


def close_database(context: AppContext, postgres: Postgres) -> str:
    """End all connections to the database and allow no new ones; return its name."""
    name = make_url(context.settings.database).database
    postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres.run(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"  # noqa: S608  # our own name
        f" WHERE datname = '{name}'"
    )
    return str(name)


@pytest.fixture
def outage(
    postgres_context: AppContext, postgres: Postgres, relay: Relay
) -> Iterator[tuple[AppContext, Callable[[], None]]]:
    """A context whose database closes when the relay has the first mail.

    The second value waits until the database is open again.
    """
    handle_data = relay.handle_DATA

    def opens() -> None:
        name = make_url(postgres_context.settings.database).database
        postgres.run(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    async def then_closes(*args: Any) -> str:
        if not relay.taken:
            close_database(postgres_context, postgres)
            timer.start()
        return await handle_data(*args)

    timer = Timer(0.6, opens)
    relay.handle_DATA = then_closes  # type: ignore[method-assign]
    with send_through(postgres_context, relay.url) as context:
        yield context, timer.join
    timer.join()


def test_a_database_that_is_away_for_a_moment_costs_no_second_copy(
    outage: tuple[AppContext, Callable[[], None]], relay: Relay
) -> None:
    context, _ = outage
    add_customers(context, 2)
    sender.send_waiting(context)
    assert list_states(context) == [SENT, SENT]
    assert len(relay.taken) == 2


def test_a_database_that_stays_away_costs_no_second_copy(
    outage: tuple[AppContext, Callable[[], None]],
    relay: Relay,
    clock: HandClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    context, back = outage
    open_ticket(context)
    monkeypatch.setattr(outcomes, "RECORD_SECONDS", 0.1)
    monkeypatch.setattr(outcomes, "RECORD_PAUSE_SECONDS", 0.05)
    with pytest.raises(OperationalError):
        sender.send_waiting(context)
    back()
    sender.send_waiting(context)
    assert list_states(context) == [SENT]
    clock.turn(seconds=120)
    assert sender.send_waiting(context) == 0
    assert len(relay.taken) == 1
