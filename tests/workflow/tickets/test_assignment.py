"""Assignment of several tickets at once: those still unchanged, each with its undo."""

import pytest

from console.perform import get_actions
from tests.support.context import (
    HandClock,
    complete,
    create_staff,
    list_audit_entries,
    open_ticket,
    run_in_threads,
)
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed, NotPermitted
from workflow.models.core import Ticket
from workflow.models.states import Role
from workflow.operations import sweep
from workflow.permissions import RIGHTS_BY_ROLE
from workflow.tickets import saved_views
from workflow.tickets.actions import Actor, Assign, BulkResult, Order, SeenOwner, Undo

AGENT = RIGHTS_BY_ROLE[Role.AGENT]


def create_person(context: AppContext, name: str, role: Role = Role.AGENT) -> int:
    with context.store.transaction() as session:
        return create_staff(session, name, role).id


def assign_tickets(
    context: AppContext, seen: dict[int, int | None], owner: int, by: str = "Lena"
) -> BulkResult:
    orders = [Order(number, Assign(owner), SeenOwner(before)) for number, before in seen.items()]
    return get_actions(context).perform_each(orders, actor=Actor(by, AGENT), now=context.clock())


def undo_assignment(context: AppContext, result: BulkResult, by: str = "Lena") -> BulkResult:
    orders = [Order(done.ticket, Undo(done.undo_id)) for done in result.results]
    return get_actions(context).perform_each(orders, actor=Actor(by, AGENT), now=context.clock())


def list_numbers(result: BulkResult) -> list[int]:
    return [done.ticket for done in result.results]


def list_owners(context: AppContext, *numbers: int) -> list[int | None]:
    with context.store.read_only() as session:
        return [session.get_one(Ticket, n).owner_id for n in numbers]


def test_those_still_as_they_were_seen_are_given_and_the_others_say_why_not(
    any_context: AppContext,
) -> None:
    first, second, third, completed_ticket = (open_ticket(any_context) for _ in range(4))
    olga, dana = create_person(any_context, "Olga"), create_person(any_context, "Dana")
    assign_tickets(any_context, {second: None}, dana)
    complete(any_context, completed_ticket)
    result = assign_tickets(
        any_context,
        {first: None, second: None, third: None, completed_ticket: None, 999: None},
        olga,
    )
    assert list_numbers(result) == [
        first,
        third,
        completed_ticket,
    ]  # a completed one, as on its page
    assert result.refusals == {second: "somebody has changed what you saw", 999: "no ticket 999"}
    assert list_owners(any_context, first, second, third, completed_ticket) == [
        olga,
        dana,
        olga,
        olga,
    ]
    (row,) = list_audit_entries(any_context, first, "assigned")
    assert (row.actor, row.detail) == ("Lena", {"owner": olga, "before": None})
    again = assign_tickets(any_context, {first: olga}, olga)
    assert (list_numbers(again), again.refusals) == ([], {first: "Assigned to Olga already"})


def test_what_was_given_goes_back_to_whom_it_belonged_unless_somebody_was_faster(
    any_context: AppContext,
) -> None:
    first, second, third = (open_ticket(any_context) for _ in range(3))
    olga, dana = create_person(any_context, "Olga"), create_person(any_context, "Dana")
    assign_tickets(any_context, {first: None}, dana)
    result = assign_tickets(any_context, {first: dana, second: None, third: None}, olga)
    assign_tickets(any_context, {third: olga}, dana, by="Dana")
    assign_tickets(any_context, {third: dana}, olga, by="Dana")  # as it was, but not by us
    undone = undo_assignment(any_context, result)
    assert list_numbers(undone) == [first, second]
    assert "only Dana can undo this" not in undone.refusals[third]
    assert "assigned, by Dana" in undone.refusals[third]
    assert list_owners(any_context, first, second, third) == [dana, None, olga]
    assert [row.detail for row in list_audit_entries(any_context, second, "unassigned")] == [
        {"before": olga}
    ]
    assert list_numbers(undo_assignment(any_context, result)) == []


def test_only_who_gave_undoes_and_for_ten_minutes(
    any_context: AppContext, clock: HandClock
) -> None:
    number, olga = open_ticket(any_context), create_person(any_context, "Olga")
    made = assign_tickets(any_context, {number: None}, olga)
    assert list_numbers(undo_assignment(any_context, made, by="Olga")) == []
    clock.turn(minutes=11)
    assert list_numbers(undo_assignment(any_context, made)) == []
    assert list_owners(any_context, number) == [olga]


def test_the_owners_tasks_come_and_go_with_the_ticket(
    any_context: AppContext, clock: HandClock
) -> None:
    number, olga = open_ticket(any_context), create_person(any_context, "Olga")
    clock.turn(hours=49)
    sweep.raise_tasks(any_context, clock())

    def assignees() -> list[str]:
        with any_context.store.read_only() as session:
            return [task.assignee for task in session.get_one(Ticket, number).tasks]

    before = assignees()
    made = assign_tickets(any_context, {number: None}, olga)
    assert assignees() == ["Olga"]
    undo_assignment(any_context, made)
    assert assignees() == before


def test_of_two_who_take_the_same_ticket_one_gets_it(any_context: AppContext) -> None:
    numbers = [open_ticket(any_context) for _ in range(5)]
    two = [create_person(any_context, name) for name in ("Olga", "Dana")]
    results: list[BulkResult] = []
    seen: dict[int, int | None] = dict.fromkeys(numbers)
    assert (
        run_in_threads(
            *(lambda p=p: results.append(assign_tickets(any_context, seen, p)) for p in two)
        )
        == []
    )
    assert sorted(list_numbers(results[0]) + list_numbers(results[1])) == numbers


def test_who_only_looks_on_gives_nothing_and_is_given_nothing(any_context: AppContext) -> None:
    number, otto = open_ticket(any_context), create_person(any_context, "Otto", Role.AUDITOR)
    assert (
        "Otto only looks on" in assign_tickets(any_context, {number: None}, otto).refusals[number]
    )
    auditor = Actor("Otto", RIGHTS_BY_ROLE[Role.AUDITOR])
    with pytest.raises(NotPermitted):
        get_actions(any_context).perform_each(
            [Order(number, Assign(otto))], actor=auditor, now=any_context.clock()
        )
    assert list_owners(any_context, number) == [None]


def test_a_view_of_ones_own_is_saved_renamed_and_deleted(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        olga, dana = create_staff(session, "Olga"), create_staff(session, "Dana")
        view = saved_views.save_view(
            session, olga, "  my \x00 list ", "view=mine", now=any_context.clock()
        )
        assert view.name == "my list"
        for name, missing in (("my list", "name already"), (" ", "give the view a name")):
            with pytest.raises(ActionNotAllowed, match=missing):
                saved_views.save_view(session, olga, name, "view=open", now=any_context.clock())
        other = saved_views.save_view(
            session, olga, "another", "view=open", now=any_context.clock()
        )
        with pytest.raises(ActionNotAllowed):
            saved_views.rename_view(session, olga, other.id, "my list", now=any_context.clock())
        for work in (
            saved_views.get_own_view,
            lambda s, p, n: saved_views.delete_view(s, p, n, now=any_context.clock()),
        ):
            with pytest.raises(ActionNotAllowed):
                work(session, dana, view.id)
        saved_views.rename_view(session, olga, other.id, "Zebra", now=any_context.clock())
        assert [v.name for v in saved_views.list_saved_views(session, olga)] == ["my list", "Zebra"]
        saved_views.delete_view(session, olga, view.id, now=any_context.clock())
        assert [v.name for v in saved_views.list_saved_views(session, olga)] == ["Zebra"]
        assert saved_views.list_saved_views(session, dana) == []
