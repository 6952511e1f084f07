"""Deadlines (readings 1 to 3).

When each falls, whose task it becomes, and that it becomes one task only.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.support.context import (
    HandClock,
    complete,
    create_company,
    create_staff,
    deliver,
    list_audit_entries,
    make_mail,
    make_row,
    open_ticket,
    reach,
)
from workflow.context import AppContext
from workflow.models.core import Task, Ticket
from workflow.models.states import Status
from workflow.operations import sweep
from workflow.process import DEADLINES, Milestone, Stage
from workflow.settings.settings import Settings
from workflow.tickets.deadlines import compute_due_at

FOLLOW_UP, ESCALATION = DEADLINES
NEW_YORK = ZoneInfo("America/New_York")


def list_tasks(context: AppContext, number: int) -> list[Task]:
    with context.store.read_only() as session:
        return list(session.get_one(Ticket, number).tasks)


def raise_tasks_now(context: AppContext) -> int:
    return sweep.raise_tasks(context, context.clock())


@pytest.mark.parametrize("day", [(3, 7), (10, 31)], ids=["spring forward", "fall back"])
def test_two_days_are_48_elapsed_hours_whatever_the_wall_clock_does(day: tuple[int, int]) -> None:
    started = datetime(2026, *day, 12, 0, tzinfo=NEW_YORK).astimezone(UTC)
    due = compute_due_at(FOLLOW_UP, started, Settings())
    assert due - started == timedelta(hours=48)
    assert due.astimezone(NEW_YORK).hour != 12


@pytest.mark.parametrize(
    ("started", "due", "why"),
    [
        (
            "2026-03-05T15:00",
            "2026-03-09T14:00",
            "Thursday to Monday, over a weekend and into summer time",
        ),
        ("2026-03-07T16:00", "2026-03-10T15:00", "a Saturday counts from its own time of day"),
        ("2026-07-01T14:00", "2026-07-06T14:00", "Friday 3 July is the holiday observed"),
        ("2026-11-25T15:00", "2026-11-30T15:00", "Thanksgiving and a weekend"),
        ("2026-12-31T23:30", "2027-01-05T23:30", "New Year and a weekend"),
    ],
)
def test_business_days_leave_out_weekends_and_holidays(started: str, due: str, why: str) -> None:
    settings = Settings(business_days=True)
    moment = datetime.fromisoformat(started).replace(tzinfo=UTC)
    assert compute_due_at(FOLLOW_UP, moment, settings) == datetime.fromisoformat(due).replace(
        tzinfo=UTC
    ), why


def test_the_deadline_runs_from_our_receipt_and_not_from_the_senders_date(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context, make_mail(sent_at=clock() - timedelta(days=30)))
    clock.turn(hours=47, minutes=59)
    assert raise_tasks_now(context) == 0
    clock.turn(minutes=1)
    assert raise_tasks_now(context) == 1
    (task,) = list_tasks(context, number)
    assert task.milestone is Milestone.FOLLOW_UP_SENT
    assert task.text == "follow up with the customer"


def test_entering_a_later_stage_does_not_restart_the_clock(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    clock.turn(hours=40)
    reach(context, number, Milestone.CUSTOMER_NOTIFIED)
    clock.turn(hours=8)
    assert raise_tasks_now(context) == 1


@pytest.mark.parametrize(
    "reached",
    [(), (Milestone.CUSTOMER_NOTIFIED,), (Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT)],
    ids=["1-Submitted", "4-In Progress", "5-Audit"],
)
def test_the_escalation_runs_in_every_open_stage(
    context: AppContext, clock: HandClock, reached: tuple[Milestone, ...]
) -> None:
    number = open_ticket(context)
    reach(context, number, *reached)
    clock.turn(hours=72)
    raise_tasks_now(context)
    assert [t.text for t in list_tasks(context, number) if t.milestone is Milestone.RESOLVED] == [
        "escalate the ticket"
    ]


def test_a_completed_ticket_has_no_deadlines(context: AppContext, clock: HandClock) -> None:
    number = open_ticket(context)
    complete(context, number)
    with context.store.transaction() as session:
        context.desk.resolve(
            session, session.get_one(Ticket, number), yes=False, by="Olga", now=clock()
        )
    clock.turn(days=10)
    assert raise_tasks_now(context) == 0
    assert list_tasks(context, number) == []


@pytest.mark.parametrize("is_answered", [True, False], ids=["Resolution = No", "Resolution unset"])
def test_resolution_no_and_resolution_unset_both_escalate(
    context: AppContext, clock: HandClock, *, is_answered: bool
) -> None:
    number = open_ticket(context)
    reach(context, number, Milestone.FOLLOW_UP_SENT)
    if is_answered:
        with context.store.transaction() as session:
            context.desk.resolve(
                session, session.get_one(Ticket, number), yes=False, by="Olga", now=clock()
            )
    clock.turn(hours=72)
    assert raise_tasks_now(context) == 1


def test_resolution_yes_does_not_escalate_and_no_takes_it_back(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    reach(context, number, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    clock.turn(hours=72)
    assert raise_tasks_now(context) == 0
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.resolution == "Yes"
        context.desk.resolve(session, ticket, yes=False, by="Olga", now=clock())
        assert ticket.resolution == "No"
    assert raise_tasks_now(context) == 1


def test_the_escalation_goes_to_the_manager_on_the_company_record(
    context: AppContext, clock: HandClock
) -> None:
    with context.store.transaction() as session:
        create_company(session, "Sunrise Family Practice", manager=create_staff(session, "Mara"))
    number = open_ticket(context, make_row())
    clock.turn(hours=72)
    raise_tasks_now(context)
    (task,) = [t for t in list_tasks(context, number) if t.milestone is Milestone.RESOLVED]
    assert (task.assignee, task.follows_owner) == ("Mara", False)
    with context.store.read_only() as session:
        assert not any("manager" in c for c in session.get_one(Ticket, number).caveats)


@pytest.mark.parametrize("known", [True, False], ids=["company without manager", "no company"])
def test_without_a_manager_the_fallback_supervisor_is_escalated_to_and_the_ticket_says_so(
    context: AppContext, clock: HandClock, *, known: bool
) -> None:
    number = open_ticket(context, make_row(company="Sunrise" if known else ""))
    clock.turn(hours=72)
    raise_tasks_now(context)
    (task,) = [t for t in list_tasks(context, number) if t.milestone is Milestone.RESOLVED]
    assert task.assignee == "Sam"
    with context.store.read_only() as session:
        caveats = session.get_one(Ticket, number).caveats
    assert "no manager on the company record: escalated to the fallback supervisor" in caveats


def test_a_task_on_an_unowned_ticket_is_the_desk_leads_until_an_owner_appears(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    clock.turn(hours=72)
    raise_tasks_now(context)
    assert {t.milestone: t.assignee for t in list_tasks(context, number)} == {
        Milestone.FOLLOW_UP_SENT: "Lena",
        Milestone.RESOLVED: "Sam",
    }
    with context.store.transaction() as session:
        olga = create_staff(session, "Olga")
        context.desk.assign(session, session.get_one(Ticket, number), olga, by="Lena", now=clock())
    assert {t.milestone: t.assignee for t in list_tasks(context, number)} == {
        Milestone.FOLLOW_UP_SENT: "Olga",
        Milestone.RESOLVED: "Sam",  # the escalation is not the owner's
    }


def test_a_finished_task_stays_with_whoever_finished_it(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    clock.turn(hours=48)
    raise_tasks_now(context)
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        context.desk.finish_task(session, ticket.tasks[0], by="Lena", now=clock())
        context.desk.assign(session, ticket, create_staff(session, "Olga"), by="Lena", now=clock())
    (task,) = list_tasks(context, number)
    assert (task.assignee, task.done_by) == ("Lena", "Lena")


def test_a_task_of_an_owned_ticket_is_the_owners_at_once(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    with context.store.transaction() as session:
        context.desk.assign(
            session,
            session.get_one(Ticket, number),
            create_staff(session, "Olga"),
            by="Olga",
            now=clock(),
        )
    clock.turn(hours=48)
    raise_tasks_now(context)
    assert [t.assignee for t in list_tasks(context, number)] == ["Olga"]


def test_a_late_tick_leaves_the_task_for_a_person_to_close(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    clock.turn(hours=49)
    raise_tasks_now(context)
    reach(context, number, *Milestone)
    (task,) = list_tasks(context, number)
    assert task.done_at is None
    with context.store.transaction() as session:
        context.desk.finish_task(session, session.get_one(Task, task.id), by="Olga", now=clock())
        context.desk.finish_task(
            session, session.get_one(Task, task.id), by="Otto", now=clock.turn(hours=1)
        )
    (task,) = list_tasks(context, number)
    assert task.done_by == "Olga"
    assert len(list_audit_entries(context, number, "task done")) == 1


def test_after_long_downtime_each_task_is_raised_once_however_often_the_sweep_runs(
    any_context: AppContext, clock: HandClock
) -> None:
    context = any_context
    numbers = [open_ticket(context) for _ in range(3)]
    clock.turn(days=40)
    assert raise_tasks_now(context) == 6
    for _ in range(3):
        clock.turn(minutes=1)
        assert raise_tasks_now(context) == 0
    for number in numbers:
        assert [t.kind for t in list_tasks(context, number)] == [
            "deadline:FOLLOW_UP_SENT",
            "deadline:RESOLVED",
        ]
        assert len(list_audit_entries(context, number, "task")) == 2
        assert {a.actor for a in list_audit_entries(context, number, "task")} == {"rule"}


def test_the_sweep_looks_past_its_first_page(
    context: AppContext, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH_SIZE", 2)
    for _ in range(5):
        deliver(context, make_mail())
    clock.turn(hours=50)
    assert raise_tasks_now(context) == 5


def test_what_has_its_task_costs_the_sweep_no_write(context: AppContext, clock: HandClock) -> None:
    number = open_ticket(context)
    clock.turn(hours=50)
    raise_tasks_now(context)
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        assert context.desk.raise_overdue_tasks(session, ticket, clock()) == []
        assert not session.new
        assert not session.dirty


def test_a_reopened_ticket_has_new_deadlines_from_its_reopening(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    clock.turn(hours=50)
    raise_tasks_now(context)
    complete(context, number)
    clock.turn(days=3)
    with context.store.transaction() as session:
        context.desk.reopen(
            session, session.get_one(Ticket, number), by="Olga", cause="she called", now=clock()
        )
    clock.turn(hours=47)
    assert raise_tasks_now(context) == 0
    clock.turn(hours=1)
    assert raise_tasks_now(context) == 1
    assert [(t.period, t.kind) for t in list_tasks(context, number)] == [
        (1, "deadline:FOLLOW_UP_SENT"),
        (2, "deadline:FOLLOW_UP_SENT"),
    ]


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN])
def test_side_ends_have_no_deadlines_until_they_are_undone(
    context: AppContext, clock: HandClock, status: Status
) -> None:
    number = open_ticket(context)
    with context.store.transaction() as session:
        context.desk.close(
            session, session.get_one(Ticket, number), status, by="Olga", reason="seen", now=clock()
        )
    clock.turn(days=5)
    assert raise_tasks_now(context) == 0
    with context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        assert context.desk.raise_overdue_tasks(session, ticket, clock()) == []
        context.desk.reopen(session, ticket, by="Olga", cause="a mistake", now=clock())
        assert (ticket.status, ticket.stage, ticket.period) == (Status.OPEN, Stage.SUBMITTED, 1)
    assert raise_tasks_now(context) == 2


def test_many_overdue_tickets_do_not_hold_the_database(
    any_context: AppContext, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a stop of some days: several short transactions, and others write between them."""
    context = any_context
    numbers = [open_ticket(context) for _ in range(7)]
    clock.turn(days=5)
    monkeypatch.setattr(sweep, "HOLD_SECONDS", 0.0)  # then a ticket is enough
    monkeypatch.setattr(sweep, "BATCH_SIZE", 3)
    rests: list[int] = []

    def count_raised() -> None:
        """Write in a transaction of its own, as a listener does, while the tasks are raised."""
        open_ticket(context)
        rests.append(sum(len(list_tasks(context, number)) for number in numbers))

    monkeypatch.setattr(context.store, "pause_for_writers", count_raised)
    assert raise_tasks_now(context) == 2 * len(numbers)
    assert rests == [2, 4, 8, 10]  # not after the last ticket of a list
    assert raise_tasks_now(context) == 0
