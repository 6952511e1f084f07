"""Many tickets given at once.

Only those still as they were seen, and back again where nobody was faster.
"""

import pytest

from tests.support.context import HandClock, audited, complete, staff, ticket_of, together
from workflow.context import AppContext
from workflow.models.core import Staff, Ticket
from workflow.operations import sweep
from workflow.tickets import assignment, saved_views
from workflow.tickets.desk import ActionNotAllowed


def person(context: AppContext, name: str) -> int:
    with context.store.transaction() as session:
        return staff(session, name).id


def give(
    context: AppContext, seen: dict[int, int | None], owner: int, by: str = "Lena"
) -> assignment.Assigned:
    with context.store.transaction() as session:
        return assignment.give(
            context.desk, session, seen, session.get_one(Staff, owner), by=by, now=context.clock()
        )


def take_back(context: AppContext, marks: list[int], by: str = "Lena") -> assignment.Assigned:
    with context.store.transaction() as session:
        return assignment.take_back(context.desk, session, marks, by=by, now=context.clock())


def owners(context: AppContext, *numbers: int) -> list[int | None]:
    with context.store.read_only() as session:
        return [session.get_one(Ticket, n).owner_id for n in numbers]


def test_only_those_still_as_they_were_seen_are_given(any_context: AppContext) -> None:
    first, second, third, done = (ticket_of(any_context) for _ in range(4))
    olga, dana = person(any_context, "Olga"), person(any_context, "Dana")
    give(any_context, {second: None}, dana)
    complete(any_context, done)
    made = give(any_context, {first: None, second: None, third: None, done: None, 999: None}, olga)
    assert (made.done, made.left) == ([first, third], [second, done, 999])
    assert owners(any_context, first, second, third, done) == [olga, dana, olga, None]
    (row,) = audited(any_context, first, "assigned")
    assert (row.actor, row.detail) == ("Lena", {"owner": olga, "before": None})


def test_what_was_given_goes_back_to_whom_it_belonged_unless_somebody_was_faster(
    any_context: AppContext,
) -> None:
    first, second, third = (ticket_of(any_context) for _ in range(3))
    olga, dana = person(any_context, "Olga"), person(any_context, "Dana")
    give(any_context, {first: None}, dana)
    made = give(any_context, {first: dana, second: None, third: None}, olga)
    give(any_context, {third: olga}, dana, by="Dana")
    give(any_context, {third: dana}, olga, by="Dana")  # as it was, but not by us
    undone = take_back(any_context, made.marks)
    assert (undone.done, undone.left) == ([first, second], [third])
    assert owners(any_context, first, second, third) == [dana, None, olga]
    assert take_back(any_context, made.marks).done == []


def test_only_who_gave_takes_back_and_for_ten_minutes(
    any_context: AppContext, clock: HandClock
) -> None:
    number, olga = ticket_of(any_context), person(any_context, "Olga")
    made = give(any_context, {number: None}, olga)
    assert take_back(any_context, made.marks, by="Olga").done == []
    clock.turn(minutes=11)
    assert take_back(any_context, made.marks).done == []
    assert owners(any_context, number) == [olga]


def test_the_owners_tasks_come_and_go_with_the_ticket(
    any_context: AppContext, clock: HandClock
) -> None:
    number, olga = ticket_of(any_context), person(any_context, "Olga")
    clock.turn(hours=49)
    sweep.raise_tasks(any_context, clock())
    made = give(any_context, {number: None}, olga)
    with any_context.store.read_only() as session:
        assert [t.assignee for t in session.get_one(Ticket, number).tasks] == ["Olga"]
    take_back(any_context, made.marks)
    with any_context.store.read_only() as session:
        assert [t.assignee for t in session.get_one(Ticket, number).tasks] == ["Lena"]


def test_of_two_who_take_the_same_ticket_one_gets_it(any_context: AppContext) -> None:
    numbers = [ticket_of(any_context) for _ in range(5)]
    two = [person(any_context, name) for name in ("Olga", "Dana")]
    made: list[assignment.Assigned] = []
    seen: dict[int, int | None] = dict.fromkeys(numbers)
    assert together(*(lambda p=p: made.append(give(any_context, seen, p)) for p in two)) == []
    assert sorted(made[0].done + made[1].done) == numbers


def test_a_view_of_ones_own_is_saved_renamed_and_deleted(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        olga, dana = staff(session, "Olga"), staff(session, "Dana")
        saved = saved_views.save_view(
            session, olga, "  my \x00 list ", "view=mine", now=any_context.clock()
        )
        assert saved.name == "my list"
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
                work(session, dana, saved.id)
        saved_views.rename_view(session, olga, other.id, "Zebra", now=any_context.clock())
        assert [v.name for v in saved_views.list_saved_views(session, olga)] == ["my list", "Zebra"]
        saved_views.delete_view(session, olga, saved.id, now=any_context.clock())
        assert [v.name for v in saved_views.list_saved_views(session, olga)] == ["Zebra"]
        assert saved_views.list_saved_views(session, dana) == []
