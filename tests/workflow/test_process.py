"""The process: every ordering of the milestones, on the table itself and on the desk."""

from itertools import combinations, permutations

import pytest

from tests.support.context import (
    HandClock,
    complete,
    file_in,
    list_audit_entries,
    list_stages_passed,
    make_mail,
    open_ticket,
    reach,
)
from workflow import process
from workflow.context import AppContext
from workflow.models.core import Task, Ticket
from workflow.models.milestones import list_reached
from workflow.models.states import Status
from workflow.process import DEADLINES, STEPS, Milestone, Person, Stage, Template

ORDERINGS = list(permutations(Milestone))
INCOMPLETE = [
    o
    for size in range(len(Milestone))
    for some in combinations(Milestone, size)
    for o in permutations(some)
]
MANUAL = ["SUBMITTED", "IN_PROGRESS", "AUDIT", "COMPLETED"]
SAMPLE = [ORDERINGS[0], ORDERINGS[9], ORDERINGS[23]]


def walk(milestones: tuple[Milestone, ...]) -> list[Stage]:
    """The stages the pure functions pass when milestones are recorded one by one."""
    stages, done = [Stage.SUBMITTED], set()
    for milestone in milestones:
        done.add(milestone)
        stages += [step.stage for step in process.list_next_steps(stages[-1], done)]
    return stages


def test_the_table_says_what_the_manual_says() -> None:
    assert [(s.stage.value, s.on_entry, [m.value for m in s.waits_for]) for s in STEPS] == [
        ("1-Submitted", Template.NOTICE, ["Customer notified"]),
        ("4-In Progress", None, ["4-Support Follow Up Sent"]),
        ("5-Audit", None, ["Resolution", "5-Recap of Resolution Sent"]),
        ("6-Completed", Template.SURVEY, []),
    ]
    assert [(d.milestone, d.within.days, d.person, d.task) for d in DEADLINES] == [
        (Milestone.FOLLOW_UP_SENT, 2, Person.OWNER, "follow up with the customer"),
        (Milestone.RESOLVED, 3, Person.MANAGER, "escalate the ticket"),
    ]
    assert process.QUEUE_NAME == "PMB Support Unassigned/Open Tickets"
    assert process.PIPELINE == "Service Pipeline 2 [Blitz/FTE, Billing Support, WC/Auto]"
    assert Template.RECAP.value == "Billing Support Recap of Resolution"


def test_the_printed_tables_have_a_row_for_every_stage_and_deadline() -> None:
    lines = process.render_markdown().splitlines()
    for step in STEPS:
        assert sum(line.startswith(f"| {step.stage} |") for line in lines) == 1
    for deadline in DEADLINES:
        assert any(
            str(deadline.milestone) in line
            and f"{deadline.within.days} days" in line
            and deadline.task in line
            for line in lines
        )


def test_every_milestone_is_waited_for_by_exactly_one_stage() -> None:
    assert sorted(m for s in STEPS for m in s.waits_for) == sorted(Milestone)


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda o: "-".join(m.name for m in o))
def test_every_ordering_of_all_milestones_passes_the_stages_in_order(
    ordering: tuple[Milestone, ...],
) -> None:
    assert walk(ordering) == [s.stage for s in STEPS]


def test_no_ordering_that_leaves_a_milestone_out_ever_completes() -> None:
    assert len(INCOMPLETE) == 41
    for ordering in INCOMPLETE:
        passed = walk(ordering)
        assert passed == [s.stage for s in STEPS][: len(passed)]
        assert passed[-1] is not Stage.COMPLETED
        left = process.list_missing(passed[-1], ordering)
        assert left
        assert not set(left) & set(ordering)


def test_a_reopened_ticket_keeps_only_what_belongs_to_the_stages_before() -> None:
    assert process.list_carried_on_reopening() == (Milestone.CUSTOMER_NOTIFIED,)


def run_on_the_desk(context: AppContext, ordering: tuple[Milestone, ...]) -> None:
    number = open_ticket(context)
    reach(context, number, *ordering[:-1])
    with context.store.read_only() as session:
        assert session.get_one(Ticket, number).status is Status.OPEN
    reach(context, number, ordering[-1])
    assert list_stages_passed(context, number) == MANUAL
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert (ticket.stage, ticket.status) == (Stage.COMPLETED, Status.COMPLETED)
        assert ticket.completed_at == context.clock()
        assert [m.template for m in ticket.outbox] == [Template.NOTICE, Template.SURVEY]
    assert [a.actor for a in list_audit_entries(context, number, "reached")] == ["Olga"] * 4


@pytest.mark.parametrize("ordering", ORDERINGS, ids=lambda o: "-".join(m.name for m in o))
def test_every_ordering_completes_a_ticket_on_the_desk(
    context: AppContext, ordering: tuple[Milestone, ...]
) -> None:
    run_on_the_desk(context, ordering)


@pytest.mark.parametrize("ordering", SAMPLE, ids=lambda o: "-".join(m.name for m in o))
def test_orderings_complete_a_ticket_on_postgresql_too(
    postgres_context: AppContext, ordering: tuple[Milestone, ...]
) -> None:
    run_on_the_desk(postgres_context, ordering)


def test_no_incomplete_ordering_completes_a_ticket_on_the_desk(
    context: AppContext, clock: HandClock
) -> None:
    with context.store.transaction() as session:
        for ordering in INCOMPLETE:
            ticket = session.get_one(Ticket, file_in(context, session, make_mail()).ticket_id)
            for milestone in ordering:
                context.desk.record_milestone(session, ticket, milestone, by="Olga", now=clock())
            clock.turn(hours=2)  # the budget of notices to one address is an hour's
            assert ticket.status is Status.OPEN
            assert ticket.stage is not Stage.COMPLETED
            assert process.list_missing(ticket.stage, list_reached(ticket))


def test_recap_and_resolution_before_the_follow_up_stay_in_4_and_show_what_is_missing(
    any_context: AppContext,
) -> None:
    context = any_context
    number = open_ticket(context)
    reach(context, number, Milestone.CUSTOMER_NOTIFIED, Milestone.RECAP_SENT, Milestone.RESOLVED)
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.stage is Stage.IN_PROGRESS
        assert process.list_missing(ticket.stage, list_reached(ticket)) == [
            Milestone.FOLLOW_UP_SENT
        ]
    reach(context, number, Milestone.FOLLOW_UP_SENT)
    assert list_stages_passed(context, number) == MANUAL
    causes = [a.cause for a in list_audit_entries(context, number, "stage")]
    assert (
        causes[2:] == ["reached 4-Support Follow Up Sent"] * 2
    )  # one tick carried it through both


def test_a_milestone_is_recorded_once_and_by_the_first(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    reach(context, number, Milestone.FOLLOW_UP_SENT, by="Olga")
    first = clock()
    clock.turn(hours=1)
    reach(context, number, Milestone.FOLLOW_UP_SENT, by="Otto")
    with context.store.read_only() as session:
        (row,) = session.get_one(Ticket, number).milestones
        assert (row.by, row.at) == ("Olga", first)
    assert len(list_audit_entries(context, number, "reached")) == 1


def test_nothing_is_sent_or_raised_twice_by_walking_a_ticket_through(context: AppContext) -> None:
    number = open_ticket(context)
    complete(context, number)
    complete(context, number)
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert len(ticket.outbox) == 2
        assert session.query(Task).count() == 0
