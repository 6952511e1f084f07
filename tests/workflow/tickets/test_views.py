"""Views: the tickets on each list, their order, and when each is due."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from console.cli.tickets import tickets as tickets_cli
from tests.support.context import (
    HandClock,
    complete,
    create_staff,
    make_mail,
    make_row,
    open_ticket,
    reach,
)
from workflow.context import AppContext
from workflow.models.core import Staff, Ticket
from workflow.models.states import Status
from workflow.operations import checks, sweep
from workflow.process import Milestone, Stage
from workflow.tickets import deadlines, views
from workflow.tickets.views import Filters, Sort, TicketQuery


def list_numbers(
    context: AppContext, view: str = "open", actor: str = "Olga", **more: Any
) -> list[int]:
    with context.store.read_only() as session:
        page = views.load_page(session, TicketQuery(view, **more), actor=actor, now=context.clock())
        assert views.count_tickets(
            session, TicketQuery(view, **more), actor=actor, now=context.clock()
        ).number >= len(page.tickets)
        return [t.id for t in page.tickets]


def assign(context: AppContext, number: int, name: str) -> int:
    with context.store.transaction() as session:
        person = session.query(Staff).where(Staff.name == name).one_or_none() or create_staff(
            session, name
        )
        context.desk.assign(
            session, session.get_one(Ticket, number), person, by="Lena", now=context.clock()
        )
        return person.id


def get_time_left(context: AppContext, number: int) -> timedelta | None:
    """Return the time until the ticket is due; None without a deadline."""
    with context.store.read_only() as session:
        at = session.get_one(Ticket, number).due_at
    return at - context.clock() if at else None


def test_each_view_has_its_tickets(any_context: AppContext, clock: HandClock) -> None:
    first, second, third, fourth = (open_ticket(any_context) for _ in range(4))
    assign(any_context, second, "Olga")
    reach(any_context, second, Milestone.CUSTOMER_NOTIFIED)
    complete(any_context, third)
    with any_context.store.transaction() as session:
        ticket = session.get_one(Ticket, fourth)
        any_context.desk.close(session, ticket, Status.SPAM, by="Olga", reason="spam", now=clock())
    assert list_numbers(any_context, "unassigned") == [first]
    assert list_numbers(any_context, "mine") == [second]
    assert list_numbers(any_context, "mine", "olga@desk.example") == [second]
    assert list_numbers(any_context, "open") == [first, second]
    assert list_numbers(any_context, "1-submitted") == [first]
    assert list_numbers(any_context, "4-in-progress") == [second]
    assert list_numbers(any_context, "completed") == [third]
    assert list_numbers(any_context, "spam") == [fourth]
    assert list_numbers(any_context, "all") == [fourth, third, second, first]
    clock.turn(hours=73)
    sweep.raise_tasks(any_context, clock())
    assert (
        list_numbers(any_context, "overdue")
        == list_numbers(any_context, "escalated")
        == [first, second]
    )


def test_every_stage_that_waits_for_something_has_a_view() -> None:
    assert {"1-submitted", "4-in-progress", "5-audit"} <= set(views.VIEWS)
    assert {name for _, names in views.GROUPS for name in names} == set(views.VIEWS) - {"all"}


def test_the_command_knows_every_view() -> None:
    assert set(views.VIEWS) == set(tickets_cli.VIEWS)


def test_filters_narrow_a_view(any_context: AppContext) -> None:
    plain = open_ticket(any_context, make_mail())
    sunrise = open_ticket(any_context, make_row(telemedicine=True), {})
    olga = assign(any_context, sunrise, "Olga")
    assert list_numbers(any_context, filters=Filters(company="  SUNRISE fam")) == [sunrise]
    # a filter without any character of a name filters nothing
    assert list_numbers(any_context, filters=Filters(company="%")) == [plain, sunrise]
    assert list_numbers(any_context, filters=Filters(company="100%_")) == []
    assert list_numbers(any_context, filters=Filters(owner=olga)) == [sunrise]
    assert list_numbers(any_context, filters=Filters(owner=views.NOBODY)) == [plain]
    assert list_numbers(any_context, filters=Filters(telemedicine=True)) == [sunrise]
    assert list_numbers(any_context, filters=Filters(channel="smtp")) == [plain, sunrise]
    assert list_numbers(any_context, filters=Filters(channel="imap")) == []
    assert list_numbers(any_context, filters=Filters(stage=Stage.AUDIT)) == []
    assert list_numbers(any_context, words="sunrise", filters=Filters(owner=olga)) == [sunrise]


def test_the_order_is_by_coming_or_by_what_is_due_first(any_context: AppContext) -> None:
    first, second, third = (open_ticket(any_context) for _ in range(3))
    reach(any_context, second, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)  # nothing is due of it
    reach(any_context, first, Milestone.FOLLOW_UP_SENT)
    assert list_numbers(any_context, sort=Sort.NEWEST) == [third, second, first]
    assert list_numbers(any_context, sort=Sort.DUE) == [third, first, second]


def test_pages_follow_one_another_and_end(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "PAGE", 2)
    monkeypatch.setattr(views, "MOST", 4)
    numbers = [open_ticket(any_context) for _ in range(5)]
    with any_context.store.read_only() as session:
        pages = [
            views.load_page(session, TicketQuery("open", page=n), actor="", now=any_context.clock())
            for n in (0, 1, 2, 3)
        ]
        how_many = views.count_tickets(
            session, TicketQuery("open"), actor="", now=any_context.clock()
        )
    assert [[t.id for t in p.tickets] for p in pages] == [
        numbers[:2],
        numbers[:2],
        numbers[2:4],
        numbers[2:4],
    ]
    assert [(p.first, p.further) for p in pages] == [(1, True), (1, True), (3, False), (3, False)]
    assert (str(how_many), how_many.more) == ("4+", True)


def test_a_ticket_says_when_it_is_due(any_context: AppContext, clock: HandClock) -> None:
    number = open_ticket(any_context)
    assert get_time_left(any_context, number) == timedelta(hours=48)
    reach(any_context, number, Milestone.FOLLOW_UP_SENT)
    assert get_time_left(any_context, number) == timedelta(hours=72)
    reach(any_context, number, Milestone.RESOLVED)
    assert get_time_left(any_context, number) is None
    with any_context.store.transaction() as session:
        any_context.desk.resolve(
            session, session.get_one(Ticket, number), yes=False, by="Olga", now=clock()
        )
    assert get_time_left(any_context, number) == timedelta(hours=72)
    with any_context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        any_context.desk.close(
            session, ticket, Status.WITHDRAWN, by="Olga", reason="withdrawn", now=clock()
        )
    assert get_time_left(any_context, number) is None
    clock.turn(hours=1)
    with any_context.store.transaction() as session:
        any_context.desk.reopen(
            session, session.get_one(Ticket, number), by="Olga", cause="it goes on", now=clock()
        )
    assert get_time_left(any_context, number) == timedelta(hours=71)
    reach(any_context, number, *Milestone)
    assert get_time_left(any_context, number) is None


def test_another_setting_makes_tickets_due_at_another_time_once_the_clock_starts_anew(
    any_context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(any_context)  # on a Monday
    clock.turn(days=4)
    late = open_ticket(any_context)
    context = replace(
        any_context, settings=any_context.settings.model_copy(update={"business_days": True})
    )
    assert get_time_left(any_context, late) == timedelta(hours=48)
    looks = checks.SelfChecks(context)
    looks.run_due()
    assert get_time_left(any_context, late) == timedelta(
        days=4, hours=-1
    )  # over a weekend, into summer time
    assert get_time_left(any_context, number) == timedelta(days=-2)
    looks.run_due()
    assert deadlines.recompute_due_dates(context.store, context.settings) == 0
