"""Many tickets assigned at once: those still as they were seen, each with its undo."""

import pytest

from console.perform import actions_of
from tests.support.context import HandClock, audited, complete, staff, ticket_of, together
from workflow.context import House
from workflow.errors import Missing, NotPermitted
from workflow.models.core import Ticket
from workflow.models.states import Role
from workflow.operations import sweep
from workflow.permissions import RIGHTS
from workflow.tickets import saved_views
from workflow.tickets.actions import Actor, Assign, BulkResult, Order, SeenOwner, Undo

AGENT = RIGHTS[Role.AGENT]


def person(house: House, name: str, role: Role = Role.AGENT) -> int:
    with house.store.transaction() as session:
        return staff(session, name, role).id


def give(house: House, seen: dict[int, int | None], owner: int, by: str = "Lena") -> BulkResult:
    orders = [Order(number, Assign(owner), SeenOwner(before)) for number, before in seen.items()]
    return actions_of(house).perform_each(orders, actor=Actor(by, AGENT), now=house.clock())


def take_back(house: House, given: BulkResult, by: str = "Lena") -> BulkResult:
    orders = [Order(done.ticket, Undo(done.undo_id)) for done in given.done]
    return actions_of(house).perform_each(orders, actor=Actor(by, AGENT), now=house.clock())


def numbers_of(result: BulkResult) -> list[int]:
    return [done.ticket for done in result.done]


def owners(house: House, *numbers: int) -> list[int | None]:
    with house.store.reading() as session:
        return [session.get_one(Ticket, n).owner_id for n in numbers]


def test_those_still_as_they_were_seen_are_given_and_the_others_say_why_not(
    any_house: House,
) -> None:
    first, second, third, done = (ticket_of(any_house) for _ in range(4))
    olga, dana = person(any_house, "Olga"), person(any_house, "Dana")
    give(any_house, {second: None}, dana)
    complete(any_house, done)
    made = give(any_house, {first: None, second: None, third: None, done: None, 999: None}, olga)
    assert numbers_of(made) == [first, third, done]  # a completed one, as on its page
    assert made.left == {second: "somebody has changed what you saw", 999: "no ticket 999"}
    assert owners(any_house, first, second, third, done) == [olga, dana, olga, olga]
    (row,) = audited(any_house, first, "assigned")
    assert (row.actor, row.detail) == ("Lena", {"owner": olga, "before": None})
    again = give(any_house, {first: olga}, olga)
    assert (numbers_of(again), again.left) == ([], {first: "Assigned to Olga already"})


def test_what_was_given_goes_back_to_whom_it_belonged_unless_somebody_was_faster(
    any_house: House,
) -> None:
    first, second, third = (ticket_of(any_house) for _ in range(3))
    olga, dana = person(any_house, "Olga"), person(any_house, "Dana")
    give(any_house, {first: None}, dana)
    made = give(any_house, {first: dana, second: None, third: None}, olga)
    give(any_house, {third: olga}, dana, by="Dana")
    give(any_house, {third: dana}, olga, by="Dana")  # as it was, but not by us
    undone = take_back(any_house, made)
    assert numbers_of(undone) == [first, second]
    assert "only Dana can take this back" not in undone.left[third]
    assert "assigned, by Dana" in undone.left[third]
    assert owners(any_house, first, second, third) == [dana, None, olga]
    assert [row.detail for row in audited(any_house, second, "unassigned")] == [{"before": olga}]
    assert numbers_of(take_back(any_house, made)) == []


def test_only_who_gave_takes_back_and_for_ten_minutes(any_house: House, clock: HandClock) -> None:
    number, olga = ticket_of(any_house), person(any_house, "Olga")
    made = give(any_house, {number: None}, olga)
    assert numbers_of(take_back(any_house, made, by="Olga")) == []
    clock.turn(minutes=11)
    assert numbers_of(take_back(any_house, made)) == []
    assert owners(any_house, number) == [olga]


def test_the_owners_tasks_come_and_go_with_the_ticket(any_house: House, clock: HandClock) -> None:
    number, olga = ticket_of(any_house), person(any_house, "Olga")
    clock.turn(hours=49)
    sweep.raise_tasks(any_house, clock())

    def assignees() -> list[str]:
        with any_house.store.reading() as session:
            return [task.assignee for task in session.get_one(Ticket, number).tasks]

    before = assignees()
    made = give(any_house, {number: None}, olga)
    assert assignees() == ["Olga"]
    take_back(any_house, made)
    assert assignees() == before


def test_of_two_who_take_the_same_ticket_one_gets_it(any_house: House) -> None:
    numbers = [ticket_of(any_house) for _ in range(5)]
    two = [person(any_house, name) for name in ("Olga", "Dana")]
    made: list[BulkResult] = []
    seen: dict[int, int | None] = dict.fromkeys(numbers)
    assert together(*(lambda p=p: made.append(give(any_house, seen, p)) for p in two)) == []
    assert sorted(numbers_of(made[0]) + numbers_of(made[1])) == numbers


def test_who_only_looks_on_gives_nothing_and_is_given_nothing(any_house: House) -> None:
    number, otto = ticket_of(any_house), person(any_house, "Otto", Role.AUDITOR)
    assert "Otto only looks on" in give(any_house, {number: None}, otto).left[number]
    auditor = Actor("Otto", RIGHTS[Role.AUDITOR])
    with pytest.raises(NotPermitted):
        actions_of(any_house).perform_each(
            [Order(number, Assign(otto))], actor=auditor, now=any_house.clock()
        )
    assert owners(any_house, number) == [None]


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
