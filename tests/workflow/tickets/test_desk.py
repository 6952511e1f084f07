"""What people and rules do to a ticket: readings 4 to 14, beyond the orderings of test_process."""

from threading import Barrier

import pytest
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import (
    ANN,
    HandClock,
    audited,
    company,
    complete,
    contact,
    deliver,
    mail,
    phoned,
    reach,
    row,
    staff,
    stages_passed,
    ticket_of,
    together,
)
from workflow import process
from workflow.context import House
from workflow.errors import Missing
from workflow.mail import sender
from workflow.models.core import Audit, Outgoing, Ticket, TicketRelation
from workflow.models.milestones import reached
from workflow.models.states import OutboxState, Status
from workflow.process import Milestone, Stage, Template
from workflow.tickets.desk import owner_or_missing, ticket_or_missing


def desk_of(house: House, number: int, what: str, **given: object) -> None:
    with house.store.transaction() as session:
        getattr(house.desk, what)(
            session, session.get_one(Ticket, number), by="Olga", now=house.clock(), **given
        )


def ticket(house: House, number: int) -> Ticket:
    with house.store.reading() as session:
        found = session.get_one(Ticket, number)
        assert [
            found.milestones,
            found.tasks,
            found.outbox,
            found.messages,
            found.contacts,
            found.owner,
        ]
        return found


# -- 4: nothing moves back by itself ----


def test_taking_resolution_back_never_moves_a_ticket_back(house: House) -> None:
    number = ticket_of(house)
    reach(house, number, Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    desk_of(house, number, "resolve", yes=False)
    assert ticket(house, number).stage is Stage.AUDIT
    reach(house, number, Milestone.RECAP_SENT)
    assert ticket(house, number).stage is Stage.AUDIT
    desk_of(house, number, "resolve", yes=True)
    assert ticket(house, number).stage is Stage.COMPLETED
    desk_of(house, number, "resolve", yes=False)
    assert ticket(house, number).stage is Stage.COMPLETED


def test_a_person_moves_a_ticket_back_with_a_reason_and_what_followed_is_open_again(
    house: House,
) -> None:
    number = ticket_of(house)
    complete(house, number)
    desk_of(
        house, number, "move_back", stage=Stage.IN_PROGRESS, reason="the wrong customer was called"
    )
    back = ticket(house, number)
    assert (back.stage, back.status, back.completed_at) == (Stage.IN_PROGRESS, Status.OPEN, None)
    assert reached(back) == {Milestone.CUSTOMER_NOTIFIED}
    assert back.resolution is None
    (row,) = audited(house, number, "moved back")
    assert (row.actor, row.cause, row.detail) == (
        "Olga",
        "the wrong customer was called",
        {"stage": "IN_PROGRESS"},
    )
    reach(house, number, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED, Milestone.RECAP_SENT)
    assert ticket(house, number).status is Status.COMPLETED
    assert [m.template for m in ticket(house, number).outbox] == [Template.NOTICE, Template.SURVEY]


@pytest.mark.parametrize("stage", [Stage.IN_PROGRESS, Stage.AUDIT, Stage.COMPLETED])
def test_moving_back_goes_to_an_earlier_stage_only(house: House, stage: Stage) -> None:
    number = ticket_of(house)
    reach(house, number, Milestone.CUSTOMER_NOTIFIED)
    with pytest.raises(Missing, match="is not before"):
        desk_of(house, number, "move_back", stage=stage, reason="r")


def test_a_ticket_moved_back_to_the_first_stage_does_not_stick_there(house: House) -> None:
    number = ticket_of(house)
    sender.send_waiting(house)
    try:
        desk_of(house, number, "move_back", stage=Stage.SUBMITTED, reason="r")
    except Missing:  # refused is fine as well
        return
    sender.send_waiting(house)
    assert ticket(house, number).stage is Stage.IN_PROGRESS


# -- 5, 6, 7: notices ----


def test_a_ticket_waits_in_1_until_its_notice_has_been_taken(house: House) -> None:
    number = ticket_of(house)
    assert ticket(house, number).stage is Stage.SUBMITTED
    sender.send_waiting(house)
    found = ticket(house, number)
    assert found.stage is Stage.IN_PROGRESS
    (notified,) = found.milestones
    assert (notified.milestone, notified.by) == (Milestone.CUSTOMER_NOTIFIED, "rule")


def test_without_an_address_there_is_a_task_instead_and_the_ticket_moves_on(house: House) -> None:
    number = ticket_of(house, mail(sender=Address("Ann", "")))
    found = ticket(house, number)
    assert found.outbox == []
    assert found.stage is Stage.IN_PROGRESS
    assert found.milestones[0].note == "not possible: no address"
    assert [(t.text, t.assignee) for t in found.tasks] == [
        ("tell the customer by other means", "Lena")
    ]


def test_an_automatic_sender_is_never_mailed_not_even_a_survey(house: House) -> None:
    number = ticket_of(house, mail(is_automated=True))
    assert ticket(house, number).stage is Stage.IN_PROGRESS
    complete(house, number)
    assert ticket(house, number).outbox == []


def test_a_ticket_made_by_hand_notifies_its_contacts_and_belongs_to_its_maker(house: House) -> None:
    with house.store.transaction() as session:
        staff(session, "Olga")
    bob = Address("Bob", "bob@practice.example")
    number = ticket_of(house, phoned(bob), {"owner": "Olga"})
    found = ticket(house, number)
    assert sorted(m.to for m in found.outbox) == ["ann@practice.example", "bob@practice.example"]
    assert found.owner is not None
    assert found.owner.name == "Olga"
    assert audited(house, number, "assigned")[0].actor == "Olga"


def test_one_of_two_refused_contacts_does_not_stop_the_notice_of_the_other(house: House) -> None:
    bob = Address("Bob", "bob@practice.example")
    number = ticket_of(house, phoned(bob))
    with house.store.transaction() as session:
        first, second = session.get_one(Ticket, number).outbox
        first.state = OutboxState.REFUSED
        house.desk.mail_failed(session, first, "refused", now=house.clock())
        assert first.ticket.stage is Stage.SUBMITTED
        second.state = OutboxState.REFUSED
        house.desk.mail_failed(session, second, "refused", now=house.clock())
    found = ticket(house, number)
    assert found.stage is Stage.IN_PROGRESS
    assert found.milestones[0].note == "not possible: refused"
    assert contact(house, "bob@practice.example").unreachable


def test_a_failed_mail_makes_its_task_even_where_an_earlier_one_failed(house: House) -> None:
    bob = Address("Bob", "bob@practice.example")
    number = ticket_of(house, phoned(bob))
    with house.store.transaction() as session:
        first, second = session.get_one(Ticket, number).outbox
        house.desk.mail_failed(session, first, "refused", now=house.clock())
        house.desk.finish_task(session, first.ticket.tasks[0], by="Olga", now=house.clock())
        house.desk.mail_failed(session, second, "came back", now=house.clock())
    assert [t.done_at is None for t in ticket(house, number).tasks] == [False, True]


# -- 8: the recap ----


def test_sending_the_recap_ticks_its_box_by_itself(house: House) -> None:
    number = ticket_of(house)
    reach(house, number, Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    desk_of(house, number, "recap", text="We mended the claim.")
    assert ticket(house, number).stage is Stage.AUDIT  # promised is not sent
    sender.send_waiting(house)
    found = ticket(house, number)
    assert found.stage is Stage.COMPLETED
    assert {m.milestone: m.by for m in found.milestones}[Milestone.RECAP_SENT] == "Olga"


def test_the_box_of_the_recap_can_be_left_to_people(house: House) -> None:
    object.__setattr__(
        house, "settings", house.settings.model_copy(update={"recap_ticks_box": False})
    )
    number = ticket_of(house)
    desk_of(house, number, "recap", text="We mended the claim.")
    sender.send_waiting(house)
    assert Milestone.RECAP_SENT not in reached(ticket(house, number))
    with house.store.transaction() as session:
        house.desk.reach(
            session,
            session.get_one(Ticket, number),
            Milestone.RECAP_SENT,
            by="Olga",
            now=house.clock(),
            note="by phone",
        )
    assert [
        m.note for m in ticket(house, number).milestones if m.milestone is Milestone.RECAP_SENT
    ] == ["by phone"]


def test_a_recap_nobody_can_get_says_what_is_missing(house: House) -> None:
    number = ticket_of(house, mail(sender=Address("Ann", "")))
    with pytest.raises(Missing, match="no contact with a working address"):
        desk_of(house, number, "recap", text="done")
    assert audited(house, number, "recap promised") == []


def test_a_person_may_send_more_than_one_recap(house: House) -> None:
    number = ticket_of(house)
    desk_of(house, number, "recap", text="first")
    desk_of(house, number, "recap", text="second")
    recaps = [m.text for m in ticket(house, number).outbox if m.template is Template.RECAP]
    assert recaps == ["first", "second"]


# -- 10: reopening ----


def reply(house: House, number: int, **more: object) -> int:
    found = deliver(
        house, mail(in_reply_to=f"<{ticket(house, number).messages[0].message_id}>", **more)
    ).ticket_id
    assert found is not None
    return found


def test_a_reply_within_14_days_reopens_to_4_with_a_new_period(
    house: House, clock: HandClock
) -> None:
    number = ticket_of(house)
    complete(house, number)
    clock.turn(days=14)
    assert reply(house, number) == number
    found = ticket(house, number)
    assert (found.stage, found.status, found.period) == (Stage.IN_PROGRESS, Status.OPEN, 2)
    assert (found.period_started_at, found.completed_at, found.resolution) == (clock(), None, None)
    assert reached(found) == {Milestone.CUSTOMER_NOTIFIED}
    assert found.created_at < clock()
    assert len([m for m in found.outbox if m.template is Template.NOTICE]) == 1
    assert audited(house, number, "reopened")[0].actor == "rule"


def test_a_later_reply_opens_a_new_ticket_linked_to_the_old_one(
    house: House, clock: HandClock
) -> None:
    number = ticket_of(house)
    complete(house, number)
    clock.turn(days=14, seconds=1)
    new = reply(house, number)
    assert new != number
    assert ticket(house, number).status is Status.COMPLETED
    with house.store.reading() as session:
        assert session.get_one(TicketRelation, (new, number)).reason == f"follows #{number}"


def test_an_automatic_reply_to_a_completed_ticket_does_not_reopen_it(house: House) -> None:
    number = ticket_of(house)
    complete(house, number)
    assert reply(house, number, is_automated=True, signs=("auto-submitted-answer",)) == number
    assert ticket(house, number).status is Status.COMPLETED
    assert reply(house, number, is_automated=True, signs=("precedence",)) == number
    assert ticket(house, number).status is Status.OPEN  # a hint keeps no ticket closed


def test_two_replies_at_once_reopen_once(postgres_house: House) -> None:
    house = postgres_house
    number = ticket_of(house)
    complete(house, number)
    assert (
        together(
            lambda: reply(house, number), lambda: reply(house, number, name="b@practice.example")
        )
        == []
    )
    found = ticket(house, number)
    assert (found.period, len(found.messages)) == (2, 3)
    assert len(audited(house, number, "reopened")) == 1


def test_reopening_an_open_ticket_is_refused(house: House) -> None:
    with pytest.raises(Missing, match="open already"):
        desk_of(house, ticket_of(house), "reopen", cause="c")


# -- 11: side ends ----


def test_a_merged_ticket_hands_its_answers_and_contacts_on_and_can_be_taken_back(
    house: House,
) -> None:
    old, into = ticket_of(house, mail(sender=Address("", "bob@b.example"))), ticket_of(house)
    with house.store.transaction() as session:
        one, other = session.get_one(Ticket, old), session.get_one(Ticket, into)
        house.desk.merge(session, one, other, by="O", now=house.clock(), across_companies=True)
    assert reply(house, old, sender=Address("", "bob@b.example")) == into
    assert {link.contact_id for link in ticket(house, into).contacts} >= {
        contact(house, "bob@b.example").id
    }
    complete(house, old)
    assert ticket(house, old).status is Status.MERGED  # milestones on a side end move nothing
    assert [m.template for m in ticket(house, old).outbox] == [Template.NOTICE]
    desk_of(house, old, "reopen", cause="not a duplicate")
    assert ticket(house, old).merged_into_id is None
    assert contact(house, "bob@b.example").id not in {
        link.contact_id for link in ticket(house, into).contacts
    }


def test_answers_follow_a_chain_of_merges_to_its_end(house: House) -> None:
    first, second, third = (ticket_of(house) for _ in range(3))
    with house.store.transaction() as session:
        a, b, c = (session.get_one(Ticket, n) for n in (first, second, third))
        house.desk.merge(session, a, b, by="Olga", now=house.clock())
        house.desk.merge(session, b, c, by="Olga", now=house.clock())
        with pytest.raises(Missing):
            house.desk.merge(session, c, a, by="Olga", now=house.clock())  # a circle
        with pytest.raises(Missing):
            house.desk.merge(session, c, c, by="Olga", now=house.clock())
    assert reply(house, first) == third


def test_a_reused_id_on_a_merged_ticket_reaches_the_ticket_it_was_merged_into(house: House) -> None:
    old, into = ticket_of(house, mail(name="same@practice.example")), ticket_of(house)
    with house.store.transaction() as session:
        house.desk.merge(
            session,
            session.get_one(Ticket, old),
            session.get_one(Ticket, into),
            by="O",
            now=house.clock(),
        )
    assert deliver(house, mail("other words", name="same@practice.example")).ticket_id == into


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN])
def test_an_answer_to_a_side_end_opens_a_new_ticket(house: House, status: Status) -> None:
    number = ticket_of(house)
    desk_of(house, number, "end", status=status, reason="seen")
    assert reply(house, number) != number
    assert ticket(house, number).status is status


def test_a_completed_ticket_marked_as_spam_by_mistake_is_completed_again(house: House) -> None:
    number = ticket_of(house)
    complete(house, number)
    desk_of(house, number, "end", status=Status.SPAM, reason="seen")
    desk_of(house, number, "reopen", cause="a mistake")
    found = ticket(house, number)
    assert (found.status, found.stage, found.period) == (Status.COMPLETED, Stage.COMPLETED, 1)
    assert found.completed_at is not None


def test_what_was_ticked_on_a_side_end_counts_when_it_is_taken_back(house: House) -> None:
    number = ticket_of(house)
    desk_of(house, number, "end", status=Status.WITHDRAWN, reason="she said so")
    reach(house, number, *Milestone)
    assert stages_passed(house, number) == ["SUBMITTED"]
    desk_of(house, number, "reopen", cause="not after all")
    assert ticket(house, number).status is Status.COMPLETED


# -- 12: actor and cause ----


def test_every_move_task_and_mail_has_an_actor_and_a_cause(house: House, clock: HandClock) -> None:
    number = ticket_of(house)
    sender.send_waiting(house)
    clock.turn(hours=73)
    with house.store.transaction() as session:
        house.desk.raise_tasks(session, session.get_one(Ticket, number), clock())
        house.desk.assign(
            session, session.get_one(Ticket, number), staff(session, "Olga"), by="Lena", now=clock()
        )
    desk_of(house, number, "recap", text="done")
    sender.send_waiting(house)
    complete(house, number)
    sender.send_waiting(house)
    with house.store.reading() as session:
        rows = list(session.scalars(select(Audit)))
    assert {r.action for r in rows} == {
        "opened",
        "stage",
        "mail sent",
        "reached",
        "task",
        "assigned",
        "recap promised",
    }
    assert all(r.actor and r.cause and r.at for r in rows)
    assert [r.cause for r in rows if r.action == "task"] == [
        "4-Support Follow Up Sent not recorded within 2 days",
        "Resolution not recorded within 3 days",
    ]


# -- 14, and what overlapping transactions must not lose ----


def test_two_milestones_recorded_at_once_both_count(postgres_house: House) -> None:
    house = postgres_house
    number = ticket_of(house)
    both = Barrier(2)

    def record(milestone: Milestone) -> None:
        with house.store.transaction() as session:
            found = session.get_one(Ticket, number)
            assert found.milestones == []
            both.wait(10)  # both have looked before either writes
            house.desk.reach(session, found, milestone, by="Olga", now=house.clock())

    work = [lambda m=m: record(m) for m in (Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT)]
    assert together(*work) == []
    assert ticket(house, number).stage is Stage.AUDIT
    assert stages_passed(house, number) == ["SUBMITTED", "IN_PROGRESS", "AUDIT"]


def test_the_same_milestone_recorded_at_once_counts_once(postgres_house: House) -> None:
    house = postgres_house
    number = ticket_of(house)
    both = Barrier(2)

    def record() -> None:
        with house.store.transaction() as session:
            found = session.get_one(Ticket, number)
            assert found.milestones == []
            both.wait(10)
            house.desk.reach(session, found, Milestone.FOLLOW_UP_SENT, by="Olga", now=house.clock())

    assert together(record, record) == []
    assert len(audited(house, number, "reached")) == 1


def test_a_task_raised_while_an_owner_is_found_is_the_owners(
    postgres_house: House, clock: HandClock
) -> None:
    house = postgres_house
    number = ticket_of(house)
    with house.store.transaction() as session:
        staff(session, "Olga")
    clock.turn(hours=48)
    looked, both = Barrier(2), Barrier(2)

    def assign() -> None:
        with house.store.transaction() as session:
            found = ticket_or_missing(session, number)
            house.desk.assign(
                session, found, owner_or_missing(session, "Olga"), by="Olga", now=clock()
            )
            session.flush()
            looked.wait(10)
            both.wait(10)

    def raise_it() -> None:
        with house.store.transaction() as session:
            found = session.get_one(Ticket, number)  # as the sweep does: without a lock
            assert found.owner is None
            looked.wait(10)
            both.wait(10)
            house.desk.raise_tasks(session, found, clock())

    assert together(assign, raise_it) == []
    assert [t.assignee for t in ticket(house, number).tasks] == ["Olga"]


def test_what_is_not_there_says_so_with_the_command_that_helps(house: House) -> None:
    with house.store.transaction() as session:
        with pytest.raises(Missing, match="no ticket 99"):
            ticket_or_missing(session, 99)
        with pytest.raises(Missing, match="intake user add Olga --role agent"):
            owner_or_missing(session, "Olga")


def test_the_queue_is_open_and_without_owner(house: House) -> None:
    taken, left, gone = (ticket_of(house) for _ in range(3))
    with house.store.transaction() as session:
        house.desk.assign(
            session,
            session.get_one(Ticket, taken),
            staff(session, "Olga"),
            by="Olga",
            now=house.clock(),
        )
    desk_of(house, gone, "end", status=Status.SPAM, reason="seen")
    with house.store.reading() as session:
        queue = session.scalars(
            select(Ticket.id).where(Ticket.status == Status.OPEN, Ticket.owner_id.is_(None))
        )
        assert list(queue) == [left]


def test_a_new_ticket_carries_the_manuals_properties(house: House) -> None:
    with house.store.transaction() as session:
        made = company(session, "Sunrise Family Practice")
        number = made.id
    known, unknown = ticket(house, ticket_of(house, row())), ticket(house, ticket_of(house, mail()))
    assert (known.name, known.company_id) == ("Support – Sunrise Family Practice", number)
    assert (unknown.name, unknown.subject) == ("Support – Unknown", "a question")
    for found in (known, unknown):
        assert (found.pipeline, found.type) == (process.PIPELINE, "Billing Issue")
        assert (found.stage, found.owner_id) in {(Stage.SUBMITTED, None), (Stage.IN_PROGRESS, None)}
    assert "company not known: ask which practice this is about" in unknown.caveats


def test_the_notice_is_promised_to_the_address_that_wrote(house: House) -> None:
    number = ticket_of(house)
    with house.store.reading() as session:
        assert session.scalars(select(Outgoing.to).where(Outgoing.ticket_id == number)).all() == [
            ANN.email
        ]
