"""Actions of people and rules on a ticket: readings 4 to 14, without those of test_process."""

from threading import Barrier

import pytest
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import (
    ANN,
    HandClock,
    complete,
    create_company,
    create_staff,
    deliver,
    get_contact,
    list_audit_entries,
    list_stages_passed,
    make_mail,
    make_phone_call,
    make_row,
    open_ticket,
    reach,
    run_in_threads,
)
from workflow import process
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.mail import sender
from workflow.models.core import AuditEntry, OutgoingMail, Ticket, TicketRelation
from workflow.models.milestones import list_reached
from workflow.models.states import OutboxState, Status
from workflow.process import Milestone, Stage, Template
from workflow.tickets.desk import get_staff, get_ticket


def call_desk(context: AppContext, number: int, action: str, **options: object) -> None:
    with context.store.transaction() as session:
        getattr(context.desk, action)(
            session, session.get_one(Ticket, number), by="Olga", now=context.clock(), **options
        )


def load_ticket(context: AppContext, number: int) -> Ticket:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert [
            ticket.milestones,
            ticket.tasks,
            ticket.outbox,
            ticket.messages,
            ticket.contacts,
            ticket.owner,
        ]
        return ticket


# -- 4: nothing moves back by itself ----


def test_taking_resolution_back_never_moves_a_ticket_back(context: AppContext) -> None:
    number = open_ticket(context)
    reach(
        context, number, Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED
    )
    call_desk(context, number, "resolve", yes=False)
    assert load_ticket(context, number).stage is Stage.AUDIT
    reach(context, number, Milestone.RECAP_SENT)
    assert load_ticket(context, number).stage is Stage.AUDIT
    call_desk(context, number, "resolve", yes=True)
    assert load_ticket(context, number).stage is Stage.COMPLETED
    call_desk(context, number, "resolve", yes=False)
    assert load_ticket(context, number).stage is Stage.COMPLETED


def test_a_person_moves_a_ticket_back_with_a_reason_and_what_followed_is_open_again(
    context: AppContext,
) -> None:
    number = open_ticket(context)
    complete(context, number)
    call_desk(
        context,
        number,
        "move_back",
        stage=Stage.IN_PROGRESS,
        reason="the wrong customer was called",
    )
    back = load_ticket(context, number)
    assert (back.stage, back.status, back.completed_at) == (Stage.IN_PROGRESS, Status.OPEN, None)
    assert list_reached(back) == {Milestone.CUSTOMER_NOTIFIED}
    assert back.resolution is None
    (row,) = list_audit_entries(context, number, "moved back")
    assert (row.actor, row.cause, row.detail) == (
        "Olga",
        "the wrong customer was called",
        {"stage": "IN_PROGRESS"},
    )
    reach(context, number, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED, Milestone.RECAP_SENT)
    assert load_ticket(context, number).status is Status.COMPLETED
    assert [m.template for m in load_ticket(context, number).outbox] == [
        Template.NOTICE,
        Template.SURVEY,
    ]


@pytest.mark.parametrize("stage", [Stage.IN_PROGRESS, Stage.AUDIT, Stage.COMPLETED])
def test_moving_back_goes_to_an_earlier_stage_only(context: AppContext, stage: Stage) -> None:
    number = open_ticket(context)
    reach(context, number, Milestone.CUSTOMER_NOTIFIED)
    with pytest.raises(ActionNotAllowed, match="is not before"):
        call_desk(context, number, "move_back", stage=stage, reason="r")


def test_a_ticket_moved_back_to_the_first_stage_does_not_stick_there(context: AppContext) -> None:
    number = open_ticket(context)
    sender.send_waiting(context)
    try:
        call_desk(context, number, "move_back", stage=Stage.SUBMITTED, reason="r")
    except ActionNotAllowed:  # refused is fine as well
        return
    sender.send_waiting(context)
    assert load_ticket(context, number).stage is Stage.IN_PROGRESS


# -- 5, 6, 7: notices ----


def test_a_ticket_waits_in_1_until_its_notice_has_been_taken(context: AppContext) -> None:
    number = open_ticket(context)
    assert load_ticket(context, number).stage is Stage.SUBMITTED
    sender.send_waiting(context)
    found = load_ticket(context, number)
    assert found.stage is Stage.IN_PROGRESS
    (notified,) = found.milestones
    assert (notified.milestone, notified.by) == (Milestone.CUSTOMER_NOTIFIED, "rule")


def test_without_an_address_there_is_a_task_instead_and_the_ticket_moves_on(
    context: AppContext,
) -> None:
    number = open_ticket(context, make_mail(sender=Address("Ann", "")))
    ticket = load_ticket(context, number)
    assert ticket.outbox == []
    assert ticket.stage is Stage.IN_PROGRESS
    assert ticket.milestones[0].note == "not possible: no address"
    assert [(t.text, t.assignee) for t in ticket.tasks] == [
        ("tell the customer by other means", "Lena")
    ]


def test_an_automatic_sender_is_never_mailed_not_even_a_survey(context: AppContext) -> None:
    number = open_ticket(context, make_mail(is_automated=True))
    assert load_ticket(context, number).stage is Stage.IN_PROGRESS
    complete(context, number)
    assert load_ticket(context, number).outbox == []


def test_a_ticket_made_by_hand_notifies_its_contacts_and_belongs_to_its_maker(
    context: AppContext,
) -> None:
    with context.store.transaction() as session:
        create_staff(session, "Olga")
    bob = Address("Bob", "bob@practice.example")
    number = open_ticket(context, make_phone_call(bob), {"owner": "Olga"})
    found = load_ticket(context, number)
    assert sorted(m.to for m in found.outbox) == ["ann@practice.example", "bob@practice.example"]
    assert found.owner is not None
    assert found.owner.name == "Olga"
    assert list_audit_entries(context, number, "assigned")[0].actor == "Olga"


def test_one_of_two_refused_contacts_does_not_stop_the_notice_of_the_other(
    context: AppContext,
) -> None:
    bob = Address("Bob", "bob@practice.example")
    number = open_ticket(context, make_phone_call(bob))
    with context.store.transaction() as session:
        first, second = session.get_one(Ticket, number).outbox
        first.state = OutboxState.REFUSED
        context.desk.record_mail_failed(session, first, "refused", now=context.clock())
        assert first.ticket.stage is Stage.SUBMITTED
        second.state = OutboxState.REFUSED
        context.desk.record_mail_failed(session, second, "refused", now=context.clock())
    found = load_ticket(context, number)
    assert found.stage is Stage.IN_PROGRESS
    assert found.milestones[0].note == "not possible: refused"
    assert get_contact(context, "bob@practice.example").unreachable


def test_a_failed_mail_makes_its_task_even_where_an_earlier_one_failed(context: AppContext) -> None:
    bob = Address("Bob", "bob@practice.example")
    number = open_ticket(context, make_phone_call(bob))
    with context.store.transaction() as session:
        first, second = session.get_one(Ticket, number).outbox
        context.desk.record_mail_failed(session, first, "refused", now=context.clock())
        context.desk.finish_task(session, first.ticket.tasks[0], by="Olga", now=context.clock())
        context.desk.record_mail_failed(session, second, "came back", now=context.clock())
    assert [t.done_at is None for t in load_ticket(context, number).tasks] == [False, True]


# -- 8: the recap ----


def test_sending_the_recap_ticks_its_box_by_itself(context: AppContext) -> None:
    number = open_ticket(context)
    reach(
        context, number, Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED
    )
    call_desk(context, number, "recap", text="We corrected the claim.")
    assert load_ticket(context, number).stage is Stage.AUDIT  # queued is not sent
    sender.send_waiting(context)
    found = load_ticket(context, number)
    assert found.stage is Stage.COMPLETED
    assert {m.milestone: m.by for m in found.milestones}[Milestone.RECAP_SENT] == "Olga"


def test_the_box_of_the_recap_can_be_left_to_people(context: AppContext) -> None:
    object.__setattr__(
        context, "settings", context.settings.model_copy(update={"recap_ticks_box": False})
    )
    number = open_ticket(context)
    call_desk(context, number, "recap", text="We corrected the claim.")
    sender.send_waiting(context)
    assert Milestone.RECAP_SENT not in list_reached(load_ticket(context, number))
    with context.store.transaction() as session:
        context.desk.record_milestone(
            session,
            session.get_one(Ticket, number),
            Milestone.RECAP_SENT,
            by="Olga",
            now=context.clock(),
            note="by phone",
        )
    assert [
        m.note
        for m in load_ticket(context, number).milestones
        if m.milestone is Milestone.RECAP_SENT
    ] == ["by phone"]


def test_a_recap_nobody_can_get_says_what_is_missing(context: AppContext) -> None:
    number = open_ticket(context, make_mail(sender=Address("Ann", "")))
    with pytest.raises(ActionNotAllowed, match="no contact with a working address"):
        call_desk(context, number, "recap", text="done")
    assert list_audit_entries(context, number, "recap promised") == []


def test_a_person_may_send_more_than_one_recap(context: AppContext) -> None:
    number = open_ticket(context)
    call_desk(context, number, "recap", text="first")
    call_desk(context, number, "recap", text="second")
    recaps = [m.text for m in load_ticket(context, number).outbox if m.template is Template.RECAP]
    assert recaps == ["first", "second"]


# -- 10: reopening ----


def reply(context: AppContext, number: int, **more: object) -> int:
    filing = deliver(
        context,
        make_mail(in_reply_to=f"<{load_ticket(context, number).messages[0].message_id}>", **more),
    ).ticket_id
    assert filing is not None
    return filing


def test_a_reply_within_14_days_reopens_to_4_with_a_new_period(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    complete(context, number)
    clock.turn(days=14)
    assert reply(context, number) == number
    ticket = load_ticket(context, number)
    assert (ticket.stage, ticket.status, ticket.period) == (Stage.IN_PROGRESS, Status.OPEN, 2)
    assert (ticket.period_started_at, ticket.completed_at, ticket.resolution) == (
        clock(),
        None,
        None,
    )
    assert list_reached(ticket) == {Milestone.CUSTOMER_NOTIFIED}
    assert ticket.created_at < clock()
    assert len([m for m in ticket.outbox if m.template is Template.NOTICE]) == 1
    assert list_audit_entries(context, number, "reopened")[0].actor == "rule"


def test_a_later_reply_opens_a_new_ticket_linked_to_the_old_one(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    complete(context, number)
    clock.turn(days=14, seconds=1)
    new = reply(context, number)
    assert new != number
    assert load_ticket(context, number).status is Status.COMPLETED
    with context.store.read_only() as session:
        assert session.get_one(TicketRelation, (new, number)).reason == f"follows #{number}"


def test_an_automatic_reply_to_a_completed_ticket_does_not_reopen_it(context: AppContext) -> None:
    number = open_ticket(context)
    complete(context, number)
    assert reply(context, number, is_automated=True, signs=("auto-submitted-answer",)) == number
    assert load_ticket(context, number).status is Status.COMPLETED
    assert reply(context, number, is_automated=True, signs=("precedence",)) == number
    assert load_ticket(context, number).status is Status.OPEN  # a hint keeps no ticket closed


def test_two_replies_at_once_reopen_once(postgres_context: AppContext) -> None:
    context = postgres_context
    number = open_ticket(context)
    complete(context, number)
    assert (
        run_in_threads(
            lambda: reply(context, number),
            lambda: reply(context, number, name="b@practice.example"),
        )
        == []
    )
    found = load_ticket(context, number)
    assert (found.period, len(found.messages)) == (2, 3)
    assert len(list_audit_entries(context, number, "reopened")) == 1


def test_reopening_an_open_ticket_is_refused(context: AppContext) -> None:
    with pytest.raises(ActionNotAllowed, match="open already"):
        call_desk(context, open_ticket(context), "reopen", cause="c")


# -- 11: side ends ----


def test_a_merged_ticket_hands_its_answers_and_contacts_on_and_can_be_undone(
    context: AppContext,
) -> None:
    old, into = (
        open_ticket(context, make_mail(sender=Address("", "bob@b.example"))),
        open_ticket(context),
    )
    with context.store.transaction() as session:
        one, other = session.get_one(Ticket, old), session.get_one(Ticket, into)
        context.desk.merge(session, one, other, by="O", now=context.clock(), across_companies=True)
    assert reply(context, old, sender=Address("", "bob@b.example")) == into
    assert {link.contact_id for link in load_ticket(context, into).contacts} >= {
        get_contact(context, "bob@b.example").id
    }
    complete(context, old)
    assert (
        load_ticket(context, old).status is Status.MERGED
    )  # milestones on a side end move nothing
    assert [m.template for m in load_ticket(context, old).outbox] == [Template.NOTICE]
    call_desk(context, old, "reopen", cause="not a duplicate")
    assert load_ticket(context, old).merged_into_id is None
    assert get_contact(context, "bob@b.example").id not in {
        link.contact_id for link in load_ticket(context, into).contacts
    }


def test_answers_follow_a_chain_of_merges_to_its_end(context: AppContext) -> None:
    first, second, third = (open_ticket(context) for _ in range(3))
    with context.store.transaction() as session:
        a, b, c = (session.get_one(Ticket, n) for n in (first, second, third))
        context.desk.merge(session, a, b, by="Olga", now=context.clock())
        context.desk.merge(session, b, c, by="Olga", now=context.clock())
        with pytest.raises(ActionNotAllowed):
            context.desk.merge(session, c, a, by="Olga", now=context.clock())  # a circle
        with pytest.raises(ActionNotAllowed):
            context.desk.merge(session, c, c, by="Olga", now=context.clock())
    assert reply(context, first) == third


def test_a_reused_id_on_a_merged_ticket_reaches_the_ticket_it_was_merged_into(
    context: AppContext,
) -> None:
    old, into = open_ticket(context, make_mail(name="same@practice.example")), open_ticket(context)
    with context.store.transaction() as session:
        context.desk.merge(
            session,
            session.get_one(Ticket, old),
            session.get_one(Ticket, into),
            by="O",
            now=context.clock(),
        )
    assert (
        deliver(context, make_mail("other words", name="same@practice.example")).ticket_id == into
    )


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN])
def test_an_answer_to_a_side_end_opens_a_new_ticket(context: AppContext, status: Status) -> None:
    number = open_ticket(context)
    call_desk(context, number, "close", status=status, reason="seen")
    assert reply(context, number) != number
    assert load_ticket(context, number).status is status


def test_a_completed_ticket_marked_as_spam_by_mistake_is_completed_again(
    context: AppContext,
) -> None:
    number = open_ticket(context)
    complete(context, number)
    call_desk(context, number, "close", status=Status.SPAM, reason="seen")
    call_desk(context, number, "reopen", cause="a mistake")
    found = load_ticket(context, number)
    assert (found.status, found.stage, found.period) == (Status.COMPLETED, Stage.COMPLETED, 1)
    assert found.completed_at is not None


def test_what_was_ticked_on_a_side_end_counts_when_it_is_undone(context: AppContext) -> None:
    number = open_ticket(context)
    call_desk(context, number, "close", status=Status.WITHDRAWN, reason="she said so")
    reach(context, number, *Milestone)
    assert list_stages_passed(context, number) == ["SUBMITTED"]
    call_desk(context, number, "reopen", cause="not after all")
    assert load_ticket(context, number).status is Status.COMPLETED


# -- 12: actor and cause ----


def test_every_move_task_and_mail_has_an_actor_and_a_cause(
    context: AppContext, clock: HandClock
) -> None:
    number = open_ticket(context)
    sender.send_waiting(context)
    clock.turn(hours=73)
    with context.store.transaction() as session:
        context.desk.raise_overdue_tasks(session, session.get_one(Ticket, number), clock())
        context.desk.assign(
            session,
            session.get_one(Ticket, number),
            create_staff(session, "Olga"),
            by="Lena",
            now=clock(),
        )
    call_desk(context, number, "recap", text="done")
    sender.send_waiting(context)
    complete(context, number)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        rows = list(session.scalars(select(AuditEntry)))
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


def test_two_milestones_recorded_at_once_both_count(postgres_context: AppContext) -> None:
    context = postgres_context
    number = open_ticket(context)
    both = Barrier(2)

    def record(milestone: Milestone) -> None:
        with context.store.transaction() as session:
            found = session.get_one(Ticket, number)
            assert found.milestones == []
            both.wait(10)  # both have looked before either writes
            context.desk.record_milestone(session, found, milestone, by="Olga", now=context.clock())

    work = [lambda m=m: record(m) for m in (Milestone.CUSTOMER_NOTIFIED, Milestone.FOLLOW_UP_SENT)]
    assert run_in_threads(*work) == []
    assert load_ticket(context, number).stage is Stage.AUDIT
    assert list_stages_passed(context, number) == ["SUBMITTED", "IN_PROGRESS", "AUDIT"]


def test_the_same_milestone_recorded_at_once_counts_once(postgres_context: AppContext) -> None:
    context = postgres_context
    number = open_ticket(context)
    both = Barrier(2)

    def record() -> None:
        with context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)
            assert ticket.milestones == []
            both.wait(10)
            context.desk.record_milestone(
                session, ticket, Milestone.FOLLOW_UP_SENT, by="Olga", now=context.clock()
            )

    assert run_in_threads(record, record) == []
    assert len(list_audit_entries(context, number, "reached")) == 1


def test_a_task_raised_while_an_owner_is_found_is_the_owners(
    postgres_context: AppContext, clock: HandClock
) -> None:
    context = postgres_context
    number = open_ticket(context)
    with context.store.transaction() as session:
        create_staff(session, "Olga")
    clock.turn(hours=48)
    look_barrier, both = Barrier(2), Barrier(2)

    def assign() -> None:
        with context.store.transaction() as session:
            found = get_ticket(session, number)
            context.desk.assign(session, found, get_staff(session, "Olga"), by="Olga", now=clock())
            session.flush()
            look_barrier.wait(10)
            both.wait(10)

    def raise_it() -> None:
        with context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)  # as the sweep does: without a lock
            assert ticket.owner is None
            look_barrier.wait(10)
            both.wait(10)
            context.desk.raise_overdue_tasks(session, ticket, clock())

    assert run_in_threads(assign, raise_it) == []
    assert [t.assignee for t in load_ticket(context, number).tasks] == ["Olga"]


def test_what_is_not_there_says_so_with_the_command_that_helps(context: AppContext) -> None:
    with context.store.transaction() as session:
        with pytest.raises(ActionNotAllowed, match="no ticket 99"):
            get_ticket(session, 99)
        with pytest.raises(ActionNotAllowed, match="intake user add Olga --role agent"):
            get_staff(session, "Olga")


def test_the_queue_is_open_and_without_owner(context: AppContext) -> None:
    taken_ticket, waiting_ticket, closed_ticket = (open_ticket(context) for _ in range(3))
    with context.store.transaction() as session:
        context.desk.assign(
            session,
            session.get_one(Ticket, taken_ticket),
            create_staff(session, "Olga"),
            by="Olga",
            now=context.clock(),
        )
    call_desk(context, closed_ticket, "close", status=Status.SPAM, reason="seen")
    with context.store.read_only() as session:
        queue = session.scalars(
            select(Ticket.id).where(Ticket.status == Status.OPEN, Ticket.owner_id.is_(None))
        )
        assert list(queue) == [waiting_ticket]


def test_a_new_ticket_carries_the_manuals_properties(context: AppContext) -> None:
    with context.store.transaction() as session:
        made = create_company(session, "Sunrise Family Practice")
        number = made.id
    known_ticket, unknown_ticket = (
        load_ticket(context, open_ticket(context, make_row())),
        load_ticket(context, open_ticket(context, make_mail())),
    )
    assert (known_ticket.name, known_ticket.company_id) == (
        "Support – Sunrise Family Practice",
        number,
    )
    assert (unknown_ticket.name, unknown_ticket.subject) == ("Support – Unknown", "a question")
    for found in (known_ticket, unknown_ticket):
        assert (found.pipeline, found.type) == (process.PIPELINE, "Billing Issue")
        assert (found.stage, found.owner_id) in {(Stage.SUBMITTED, None), (Stage.IN_PROGRESS, None)}
    assert "company not known: ask which practice this is about" in unknown_ticket.caveats


def test_the_notice_is_promised_to_the_address_that_wrote(context: AppContext) -> None:
    number = open_ticket(context)
    with context.store.read_only() as session:
        assert session.scalars(
            select(OutgoingMail.to).where(OutgoingMail.ticket_id == number)
        ).all() == [ANN.email]
