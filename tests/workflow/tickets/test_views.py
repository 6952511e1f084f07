"""Which tickets are on which list, in which order, and that a ticket says itself when it is due."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from console.cli import tickets as tickets_cli
from tests.support.context import HandClock, complete, mail, reach, row, staff, ticket_of
from workflow.context import House
from workflow.models.core import Staff, Ticket
from workflow.models.states import Status
from workflow.operations import checks, sweep
from workflow.process import Milestone, Stage
from workflow.tickets import deadlines, views
from workflow.tickets.views import Asked, Filters, Sort


def listed(house: House, view: str = "open", actor: str = "Olga", **more: Any) -> list[int]:
    with house.store.reading() as session:
        page = views.page(session, Asked(view, **more), actor=actor, now=house.clock())
        assert views.count(
            session, Asked(view, **more), actor=actor, now=house.clock()
        ).number >= len(page.tickets)
        return [t.id for t in page.tickets]


def give(house: House, number: int, name: str) -> int:
    with house.store.transaction() as session:
        person = session.query(Staff).where(Staff.name == name).one_or_none() or staff(
            session, name
        )
        house.desk.assign(
            session, session.get_one(Ticket, number), person, by="Lena", now=house.clock()
        )
        return person.id


def due(house: House, number: int) -> timedelta | None:
    """How long from now the ticket is due."""
    with house.store.reading() as session:
        at = session.get_one(Ticket, number).due_at
    return at - house.clock() if at else None


def test_each_view_has_its_tickets(any_house: House, clock: HandClock) -> None:
    first, second, third, fourth = (ticket_of(any_house) for _ in range(4))
    give(any_house, second, "Olga")
    reach(any_house, second, Milestone.CUSTOMER_NOTIFIED)
    complete(any_house, third)
    with any_house.store.transaction() as session:
        ticket = session.get_one(Ticket, fourth)
        any_house.desk.end(session, ticket, Status.SPAM, by="Olga", reason="spam", now=clock())
    assert listed(any_house, "unassigned") == [first]
    assert listed(any_house, "mine") == [second]
    assert listed(any_house, "mine", "olga@desk.example") == [second]
    assert listed(any_house, "open") == [first, second]
    assert listed(any_house, "1-submitted") == [first]
    assert listed(any_house, "4-in-progress") == [second]
    assert listed(any_house, "completed") == [third]
    assert listed(any_house, "spam") == [fourth]
    assert listed(any_house, "all") == [fourth, third, second, first]
    clock.turn(hours=73)
    sweep.raise_tasks(any_house, clock())
    assert listed(any_house, "overdue") == listed(any_house, "escalated") == [first, second]


def test_every_stage_that_waits_for_something_has_a_view() -> None:
    assert {"1-submitted", "4-in-progress", "5-audit"} <= set(views.VIEWS)
    assert {name for _, names in views.GROUPS for name in names} == set(views.VIEWS) - {"all"}


def test_the_command_knows_every_view() -> None:
    assert set(views.VIEWS) == set(tickets_cli.VIEWS)


def test_filters_narrow_a_view(any_house: House) -> None:
    plain = ticket_of(any_house, mail())
    sunrise = ticket_of(any_house, row(telemedicine=True), {})
    olga = give(any_house, sunrise, "Olga")
    assert listed(any_house, filters=Filters(company="  SUNRISE fam")) == [sunrise]
    assert listed(any_house, filters=Filters(company="%")) == [
        plain,
        sunrise,
    ]  # no letter of it is a name's
    assert listed(any_house, filters=Filters(company="100%_")) == []
    assert listed(any_house, filters=Filters(owner=olga)) == [sunrise]
    assert listed(any_house, filters=Filters(owner=views.NOBODY)) == [plain]
    assert listed(any_house, filters=Filters(telemedicine=True)) == [sunrise]
    assert listed(any_house, filters=Filters(door="smtp")) == [plain, sunrise]
    assert listed(any_house, filters=Filters(door="imap")) == []
    assert listed(any_house, filters=Filters(stage=Stage.AUDIT)) == []
    assert listed(any_house, words="sunrise", filters=Filters(owner=olga)) == [sunrise]


def test_the_order_is_by_coming_or_by_what_is_due_first(any_house: House) -> None:
    first, second, third = (ticket_of(any_house) for _ in range(3))
    reach(any_house, second, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)  # nothing is due of it
    reach(any_house, first, Milestone.FOLLOW_UP_SENT)
    assert listed(any_house, sort=Sort.NEWEST) == [third, second, first]
    assert listed(any_house, sort=Sort.DUE) == [third, first, second]


def test_pages_follow_one_another_and_end(
    any_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PAGE", 2)
    monkeypatch.setattr(views, "MOST", 4)
    numbers = [ticket_of(any_house) for _ in range(5)]
    with any_house.store.reading() as session:
        got = [
            views.page(session, Asked("open", page=n), actor="", now=any_house.clock())
            for n in (0, 1, 2, 3)
        ]
        how_many = views.count(session, Asked("open"), actor="", now=any_house.clock())
    assert [[t.id for t in p.tickets] for p in got] == [
        numbers[:2],
        numbers[:2],
        numbers[2:4],
        numbers[2:4],
    ]
    assert [(p.first, p.further) for p in got] == [(1, True), (1, True), (3, False), (3, False)]
    assert (str(how_many), how_many.more) == ("4+", True)


def test_a_ticket_says_when_it_is_due(any_house: House, clock: HandClock) -> None:
    number = ticket_of(any_house)
    assert due(any_house, number) == timedelta(hours=48)
    reach(any_house, number, Milestone.FOLLOW_UP_SENT)
    assert due(any_house, number) == timedelta(hours=72)
    reach(any_house, number, Milestone.RESOLVED)
    assert due(any_house, number) is None
    with any_house.store.transaction() as session:
        any_house.desk.resolve(
            session, session.get_one(Ticket, number), yes=False, by="Olga", now=clock()
        )
    assert due(any_house, number) == timedelta(hours=72)
    with any_house.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        any_house.desk.end(
            session, ticket, Status.WITHDRAWN, by="Olga", reason="withdrawn", now=clock()
        )
    assert due(any_house, number) is None
    clock.turn(hours=1)
    with any_house.store.transaction() as session:
        any_house.desk.reopen(
            session, session.get_one(Ticket, number), by="Olga", cause="it goes on", now=clock()
        )
    assert due(any_house, number) == timedelta(hours=71)
    reach(any_house, number, *Milestone)
    assert due(any_house, number) is None


def test_another_setting_makes_tickets_due_at_another_time_once_the_clock_starts_anew(
    any_house: House, clock: HandClock
) -> None:
    number = ticket_of(any_house)  # on a Monday
    clock.turn(days=4)
    late = ticket_of(any_house)
    house = replace(
        any_house, settings=any_house.settings.model_copy(update={"business_days": True})
    )
    assert due(any_house, late) == timedelta(hours=48)
    looks = checks.Checks(house)
    looks.round()
    assert due(any_house, late) == timedelta(days=4, hours=-1)  # over a weekend, into summer time
    assert due(any_house, number) == timedelta(days=-2)
    looks.round()
    assert deadlines.recompute_due_dates(house.store, house.settings) == 0
