"""Many tickets given at once.

Only those still as they were seen, and back again where nobody was faster.
"""

import pytest

from tests.house import HandClock, audited, complete, staff, ticket_of, together
from workflow.context import House
from workflow.errors import Missing
from workflow.models.core import Staff, Ticket
from workflow.operations import sweep
from workflow.tickets import assignment, saved_views


def person(house: House, name: str) -> int:
    with house.store.transaction() as session:
        return staff(session, name).id


def give(
    house: House, seen: dict[int, int | None], owner: int, by: str = "Lena"
) -> assignment.Assigned:
    with house.store.transaction() as session:
        return assignment.give(
            house.desk, session, seen, session.get_one(Staff, owner), by=by, now=house.clock()
        )


def take_back(house: House, marks: list[int], by: str = "Lena") -> assignment.Assigned:
    with house.store.transaction() as session:
        return assignment.take_back(house.desk, session, marks, by=by, now=house.clock())


def owners(house: House, *numbers: int) -> list[int | None]:
    with house.store.reading() as session:
        return [session.get_one(Ticket, n).owner_id for n in numbers]


def test_only_those_still_as_they_were_seen_are_given(any_house: House) -> None:
    first, second, third, done = (ticket_of(any_house) for _ in range(4))
    olga, dana = person(any_house, "Olga"), person(any_house, "Dana")
    give(any_house, {second: None}, dana)
    complete(any_house, done)
    made = give(any_house, {first: None, second: None, third: None, done: None, 999: None}, olga)
    assert (made.done, made.left) == ([first, third], [second, done, 999])
    assert owners(any_house, first, second, third, done) == [olga, dana, olga, None]
    (row,) = audited(any_house, first, "assigned")
    assert (row.actor, row.detail) == ("Lena", {"owner": olga, "before": None})


def test_what_was_given_goes_back_to_whom_it_belonged_unless_somebody_was_faster(
    any_house: House,
) -> None:
    first, second, third = (ticket_of(any_house) for _ in range(3))
    olga, dana = person(any_house, "Olga"), person(any_house, "Dana")
    give(any_house, {first: None}, dana)
    made = give(any_house, {first: dana, second: None, third: None}, olga)
    give(any_house, {third: olga}, dana, by="Dana")
    give(any_house, {third: dana}, olga, by="Dana")  # as it was, but not by us
    undone = take_back(any_house, made.marks)
    assert (undone.done, undone.left) == ([first, second], [third])
    assert owners(any_house, first, second, third) == [dana, None, olga]
    assert take_back(any_house, made.marks).done == []


def test_only_who_gave_takes_back_and_for_ten_minutes(any_house: House, clock: HandClock) -> None:
    number, olga = ticket_of(any_house), person(any_house, "Olga")
    made = give(any_house, {number: None}, olga)
    assert take_back(any_house, made.marks, by="Olga").done == []
    clock.turn(minutes=11)
    assert take_back(any_house, made.marks).done == []
    assert owners(any_house, number) == [olga]


def test_the_owners_tasks_come_and_go_with_the_ticket(any_house: House, clock: HandClock) -> None:
    number, olga = ticket_of(any_house), person(any_house, "Olga")
    clock.turn(hours=49)
    sweep.raise_tasks(any_house, clock())
    made = give(any_house, {number: None}, olga)
    with any_house.store.reading() as session:
        assert [t.assignee for t in session.get_one(Ticket, number).tasks] == ["Olga"]
    take_back(any_house, made.marks)
    with any_house.store.reading() as session:
        assert [t.assignee for t in session.get_one(Ticket, number).tasks] == ["Lena"]


def test_of_two_who_take_the_same_ticket_one_gets_it(any_house: House) -> None:
    numbers = [ticket_of(any_house) for _ in range(5)]
    two = [person(any_house, name) for name in ("Olga", "Dana")]
    made: list[assignment.Assigned] = []
    seen: dict[int, int | None] = dict.fromkeys(numbers)
    assert together(*(lambda p=p: made.append(give(any_house, seen, p)) for p in two)) == []
    assert sorted(made[0].done + made[1].done) == numbers


def test_a_view_of_ones_own_is_saved_renamed_and_deleted(any_house: House) -> None:
    with any_house.store.transaction() as session:
        olga, dana = staff(session, "Olga"), staff(session, "Dana")
        saved = saved_views.save(
            session, olga, "  my \x00 list ", "view=mine", now=any_house.clock()
        )
        assert saved.name == "my list"
        for name, missing in (("my list", "name already"), (" ", "give the view a name")):
            with pytest.raises(Missing, match=missing):
                saved_views.save(session, olga, name, "view=open", now=any_house.clock())
        other = saved_views.save(session, olga, "another", "view=open", now=any_house.clock())
        with pytest.raises(Missing):
            saved_views.rename(session, olga, other.id, "my list", now=any_house.clock())
        for work in (
            saved_views.mine,
            lambda s, p, n: saved_views.remove(s, p, n, now=any_house.clock()),
        ):
            with pytest.raises(Missing):
                work(session, dana, saved.id)
        saved_views.rename(session, olga, other.id, "Zebra", now=any_house.clock())
        assert [v.name for v in saved_views.of(session, olga)] == ["my list", "Zebra"]
        saved_views.remove(session, olga, saved.id, now=any_house.clock())
        assert [v.name for v in saved_views.of(session, olga)] == ["Zebra"]
        assert saved_views.of(session, dana) == []
