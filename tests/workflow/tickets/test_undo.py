"""What a person just did can be taken back, whole, while nothing else has happened.

What was promised is not sent.
"""

import time
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from parsers.item import Address
from tests.support.context import HandClock, Posts, audited, counted, mail, reach, staff, ticket_of
from workflow.context import House
from workflow.errors import Missing
from workflow.mail import sender
from workflow.mail.sender import Claim
from workflow.models.core import (
    Outgoing,
    Reached,
    Survey,
    Task,
    Ticket,
    TicketContact,
    TicketRelation,
)
from workflow.models.presence import Undo
from workflow.models.states import OutboxState, Status, Verdict
from workflow.process import Milestone, Stage, Template
from workflow.tickets import presence, relations, undo
from workflow.tickets.desk import ticket_or_missing

ME = "Ann Lee"
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def ticket(any_house: House) -> int:
    number = ticket_of(any_house)
    reach(any_house, number, Milestone.CUSTOMER_NOTIFIED, by="rule")
    return number


def picture(house: House, number: int) -> dict[str, Any]:
    """Return the ticket's rows.

    Without mails, and without the rows that only record what happened.
    """
    with house.store.reading() as session:
        found = session.get_one(Ticket, number)
        columns = {c.name: getattr(found, c.name) for c in Ticket.__table__.columns}
        tasks = {
            t.kind: (t.assignee, t.done_at, t.done_by)
            for t in found.tasks
            if ":undone:" not in t.kind
        }
        done = {(r.period, r.milestone, r.at, r.by, r.note) for r in found.milestones}
        links = {link.contact_id for link in found.contacts}
        related = {
            (r.ticket_id, r.other_id, r.verdict) for r in session.scalars(select(TicketRelation))
        }
        return {**columns, "tasks": tasks, "done": done, "links": links, "related": related}


def act(house: House, number: int, words: str, action: Any, other: int = 0) -> int:
    """Do something that can be taken back; the number of its undo, 0 if there is none."""
    with house.store.transaction() as session:
        found = ticket_or_missing(session, number)
        second = session.get(Ticket, other) if other else None
        with undo.reversible(session, found, words, by=ME, now=house.clock(), other=second):
            action(session, found)
    with house.store.reading() as session:
        last = undo.latest(session, number, ME, house.clock())
    return last.id if last else 0


def take_back(house: House, number: int, which: int, by: str = ME) -> str:
    with house.store.transaction() as session:
        return undo.take_back(
            session, ticket_or_missing(session, number), which, by=by, now=house.clock()
        )


def actions(house: House) -> dict[str, Any]:
    """Every kind of thing the page offers to take back."""
    desk, now = house.desk, house.clock()
    by: dict[str, Any] = {"by": ME, "now": now}
    return {
        "assign": lambda s, t: desk.assign(s, t, staff(s, "Bob"), **by),
        "tick": lambda s, t: desk.reach(s, t, Milestone.FOLLOW_UP_SENT, note="phone", **by),
        "untick": lambda s, t: desk.untick(s, t, Milestone.CUSTOMER_NOTIFIED, **by),
        "resolve yes": lambda s, t: desk.resolve(s, t, yes=True, **by),
        "resolve no": lambda s, t: desk.resolve(s, t, yes=False, **by),
        "spam": lambda s, t: desk.end(s, t, Status.SPAM, reason="advert", **by),
        "telemedicine": lambda s, t: desk.task_telemedicine(s, t, **by),
        "finish task": lambda s, t: desk.finish_task(s, t.tasks[0], **by),
    }


@pytest.mark.parametrize(
    "name",
    [
        "assign",
        "tick",
        "untick",
        "resolve yes",
        "resolve no",
        "spam",
        "telemedicine",
        "finish task",
    ],
)
def test_everything_is_as_it_was(
    any_house: House, ticket: int, name: str, clock: HandClock
) -> None:
    with any_house.store.transaction() as session:
        any_house.desk.task(
            session, session.get_one(Ticket, ticket), "k", "call", now=clock(), cause="c"
        )
    before = picture(any_house, ticket)
    number = act(any_house, ticket, name, actions(any_house)[name])
    assert picture(any_house, ticket) != before
    clock.turn(minutes=9)
    assert take_back(any_house, ticket, number) == name
    assert picture(any_house, ticket) == before
    undone = audited(any_house, ticket, "undone")
    assert [(a.actor, a.cause) for a in undone] == [(ME, name)]


def test_a_stage_moved_back_or_a_ticket_reopened_goes_forward_again(
    any_house: House, ticket: int
) -> None:
    desk, now = any_house.desk, any_house.clock()
    reach(any_house, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    before = picture(any_house, ticket)
    back = act(
        any_house,
        ticket,
        "back",
        lambda s, t: desk.move_back(s, t, Stage.IN_PROGRESS, by=ME, reason="r", now=now),
    )
    take_back(any_house, ticket, back)
    assert picture(any_house, ticket) == before
    reach(any_house, ticket, Milestone.RECAP_SENT)
    before = picture(any_house, ticket)
    again = act(
        any_house, ticket, "reopen", lambda s, t: desk.reopen(s, t, by=ME, cause="r", now=now)
    )
    assert picture(any_house, ticket)["period"] == 2
    take_back(any_house, ticket, again)
    assert picture(any_house, ticket) == before


def test_a_merge_is_taken_back_on_both_tickets(any_house: House, ticket: int) -> None:
    other = ticket_of(any_house, mail(sender=Address("Eve", "eve@elsewhere.example")))
    before, its = picture(any_house, ticket), picture(any_house, other)
    now = any_house.clock()

    def merge(session: Any, found: Ticket) -> None:
        into = session.get_one(Ticket, other)
        any_house.desk.merge(session, found, into, by=ME, now=now, across_companies=True)

    number = act(any_house, ticket, "merge", merge, other)
    assert counted(any_house, TicketContact, TicketContact.ticket_id == other) == 2
    take_back(any_house, ticket, number)
    assert picture(any_house, ticket) == before
    assert picture(any_house, other) == its


def test_not_related_is_taken_back(any_house: House, ticket: int) -> None:
    other = ticket_of(any_house)
    now = any_house.clock()
    with any_house.store.transaction() as session:
        any_house.desk.relate(
            session, session.get_one(Ticket, ticket), session.get_one(Ticket, other), "possibly"
        )
    before = picture(any_house, ticket)
    number = act(
        any_house,
        ticket,
        "judge",
        lambda s, t: relations.relate(s, t, other, Verdict.UNRELATED, by=ME, now=now),
    )
    assert (ticket, other, Verdict.UNRELATED) in picture(any_house, ticket)["related"]
    take_back(any_house, ticket, number)
    assert picture(any_house, ticket) == before


def surveys(house: House) -> list[Outgoing]:
    with house.store.reading() as session:
        rows = select(Outgoing).where(Outgoing.template == Template.SURVEY)
        return list(session.scalars(rows.order_by(Outgoing.id)))


def finish(house: House, ticket: int) -> int:
    """The last box of a ticket: the survey is promised."""
    now = house.clock()
    return act(
        house,
        ticket,
        "tick",
        lambda s, t: house.desk.reach(s, t, Milestone.RECAP_SENT, by=ME, now=now, note="told"),
    )


def waiting_now(house: House) -> list[str]:
    with house.store.reading() as session:
        return [
            str(t)
            for t in session.scalars(select(Outgoing.template).where(sender.waits(house.clock())))
        ]


def test_a_completion_taken_back_takes_its_survey_back_and_a_second_one_sends_it(
    any_house: House, ticket: int, clock: HandClock
) -> None:
    reach(any_house, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    number = finish(any_house, ticket)
    assert Template.SURVEY not in waiting_now(any_house)  # held up for ten seconds
    clock.turn(seconds=5)
    take_back(any_house, ticket, number)
    assert [m.state for m in surveys(any_house)] == [OutboxState.WITHHELD]
    assert counted(any_house, Survey) == 0
    finish(any_house, ticket)
    clock.turn(seconds=11)
    assert [m.state for m in surveys(any_house)] == [OutboxState.WITHHELD, OutboxState.WAITING]
    assert Template.SURVEY in waiting_now(any_house)


def test_what_is_with_the_relay_cannot_be_taken_back(
    any_house: House, ticket: int, clock: HandClock
) -> None:
    reach(any_house, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    number = finish(any_house, ticket)
    clock.turn(seconds=11)
    with any_house.store.transaction() as session:
        session.execute(
            update(Outgoing)
            .where(Outgoing.template != Template.SURVEY)
            .values(state=OutboxState.SENT)
        )
    claims = sender._claim(any_house)
    assert len(claims) == 1
    with pytest.raises(Missing, match="on the way"):
        take_back(any_house, ticket, number)
    sender.send(any_house, Posts(), claims[0])
    with pytest.raises(Missing, match="mail sent"):
        take_back(any_house, ticket, number)
    assert picture(any_house, ticket)["stage"] is Stage.COMPLETED


def test_only_while_nothing_else_has_happened(
    any_house: House, ticket: int, clock: HandClock
) -> None:
    number = act(any_house, ticket, "tick", actions(any_house)["tick"])
    with any_house.store.transaction() as session:
        bob = staff(session, "Bob")
        presence.look(session, ticket, bob, clock())  # looking is no happening
    with any_house.store.reading() as session:
        assert undo.latest(session, ticket, "Bob", clock()) is None
        assert undo.latest(session, ticket, ME, clock()) is not None
    with pytest.raises(Missing, match="only Ann Lee"):
        take_back(any_house, ticket, number, by="Bob")
    with any_house.store.transaction() as session:
        any_house.desk.resolve(
            session, session.get_one(Ticket, ticket), yes=False, by="Bob", now=clock()
        )
    with any_house.store.reading() as session:
        assert undo.latest(session, ticket, ME, clock()) is None
    with pytest.raises(Missing, match="resolution no, by Bob"):
        take_back(any_house, ticket, number)


def test_ten_minutes_and_once(any_house: House, ticket: int, clock: HandClock) -> None:
    number = act(any_house, ticket, "tick", actions(any_house)["tick"])
    take_back(any_house, ticket, number)
    with pytest.raises(Missing, match="already"):
        take_back(any_house, ticket, number)
    number = act(any_house, ticket, "tick", actions(any_house)["tick"])
    clock.turn(minutes=11)
    with pytest.raises(Missing, match="ten minutes"):
        take_back(any_house, ticket, number)
    with pytest.raises(Missing, match="nothing"):
        take_back(any_house, ticket_of(any_house), number)


def test_doing_nothing_leaves_nothing_to_take_back(
    any_house: House, ticket: int, clock: HandClock
) -> None:
    now = clock()
    assert not act(
        any_house,
        ticket,
        "tick",
        lambda s, t: any_house.desk.reach(s, t, Milestone.CUSTOMER_NOTIFIED, by=ME, now=now),
    )
    assert counted(any_house, Undo) == 0
    act(any_house, ticket, "tick", actions(any_house)["tick"])
    clock.turn(days=2)
    act(any_house, ticket, "no", actions(any_house)["resolve no"])
    assert counted(any_house, Undo) == 1  # the old picture is gone


def test_a_failed_undo_changes_nothing(any_house: House, ticket: int, clock: HandClock) -> None:
    number = act(any_house, ticket, "tick", actions(any_house)["tick"])
    clock.turn(minutes=11)
    before = picture(any_house, ticket)
    with pytest.raises(Missing):
        take_back(any_house, ticket, number)
    assert picture(any_house, ticket) == before
    assert counted(any_house, Reached, Reached.ticket_id == ticket) == 2
    assert counted(any_house, Task) == 0


def test_whoever_sends_a_mail_and_whoever_takes_it_back_do_not_wait_for_each_other(
    postgres_house: House,
) -> None:
    house, number = postgres_house, ticket_of(postgres_house)
    which = act(
        house,
        number,
        "Recap",
        lambda s, t: house.desk.recap(s, t, "done", by=ME, now=house.clock()),
    )
    with house.store.reading() as session:
        (promised,) = session.scalars(
            select(Outgoing.id).where(Outgoing.template == Template.RECAP)
        )
    refused: list[str] = []

    def undone() -> None:
        try:
            take_back(house, number, which)
        except Missing as missing:
            refused.append(str(missing))

    other = Thread(target=undone)

    def put_down(mail: Outgoing) -> None:
        mail.state = OutboxState.SENT

    def follow(session: Session, mail: Outgoing) -> None:
        other.start()
        with house.store.engine.connect() as looking:
            end = time.monotonic() + 20
            while not looking.scalar(text(WAITS)):
                assert time.monotonic() < end, "nobody waits"
        house.desk.mail_sent(session, mail, now=house.clock())

    assert sender._record(house, Claim(promised, 1), put_down, follow)
    other.join(20)
    assert not other.is_alive()
    assert [words.partition(":")[0] for words in refused] == ["since then"]
    with house.store.reading() as session:
        assert session.get_one(Outgoing, promised).state is OutboxState.SENT
