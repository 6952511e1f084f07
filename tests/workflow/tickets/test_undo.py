"""An action can be undone as a whole while nothing else has happened.

Mail that waits is then not sent.
"""

import time
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from parsers.item import Address
from tests.support.context import (
    HandClock,
    Posts,
    count_rows,
    create_staff,
    list_audit_entries,
    make_mail,
    open_ticket,
    reach,
)
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.mail import claims, sender
from workflow.mail.claims import claim_batch
from workflow.mail.outcomes import record_answer
from workflow.models.core import (
    LastSurvey,
    OutgoingMail,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
    TicketRelation,
)
from workflow.models.presence import UndoRecord
from workflow.models.states import OutboxState, Status, Verdict
from workflow.process import Milestone, Stage, Template
from workflow.tickets import presence, relations, undo
from workflow.tickets.desk import get_ticket

ME = "Ann Lee"
WAITS = "SELECT count(*) FROM pg_locks WHERE NOT granted"


@pytest.fixture
def ticket(any_context: AppContext) -> int:
    number = open_ticket(any_context)
    reach(any_context, number, Milestone.CUSTOMER_NOTIFIED, by="rule")
    return number


def take_snapshot(context: AppContext, number: int) -> dict[str, Any]:
    """Return the ticket's rows.

    Without mails, and without the rows that only record what happened.
    """
    with context.store.read_only() as session:
        row = session.get_one(Ticket, number)
        columns = {c.name: getattr(row, c.name) for c in Ticket.__table__.columns}
        tasks = {
            t.kind: (t.assignee, t.done_at, t.done_by)
            for t in row.tasks
            if ":undone:" not in t.kind
        }
        milestones = {(r.period, r.milestone, r.at, r.by, r.note) for r in row.milestones}
        links = {link.contact_id for link in row.contacts}
        related = {
            (r.ticket_id, r.other_id, r.verdict) for r in session.scalars(select(TicketRelation))
        }
        return {**columns, "tasks": tasks, "done": milestones, "links": links, "related": related}


def do_reversibly(context: AppContext, number: int, words: str, action: Any, other: int = 0) -> int:
    """Do something that can be undone; the number of its undo, 0 if there is none."""
    with context.store.transaction() as session:
        found = get_ticket(session, number)
        second = session.get(Ticket, other) if other else None
        with undo.record_undo(session, found, words, by=ME, now=context.clock(), other=second):
            action(session, found)
    with context.store.read_only() as session:
        last = undo.find_undo(session, number, ME, context.clock())
    return last.id if last else 0


def undo_by_id(context: AppContext, number: int, which: int, by: str = ME) -> str:
    with context.store.transaction() as session:
        return undo.undo_action(
            session, get_ticket(session, number), which, by=by, now=context.clock()
        )


def list_actions(context: AppContext) -> dict[str, Any]:
    """Every kind of thing the page offers to undo."""
    desk, now = context.desk, context.clock()
    by: dict[str, Any] = {"by": ME, "now": now}
    return {
        "assign": lambda s, t: desk.assign(s, t, create_staff(s, "Bob"), **by),
        "tick": lambda s, t: desk.record_milestone(
            s, t, Milestone.FOLLOW_UP_SENT, note="phone", **by
        ),
        "untick": lambda s, t: desk.retract_milestone(s, t, Milestone.CUSTOMER_NOTIFIED, **by),
        "resolve yes": lambda s, t: desk.resolve(s, t, yes=True, **by),
        "resolve no": lambda s, t: desk.resolve(s, t, yes=False, **by),
        "spam": lambda s, t: desk.close(s, t, Status.SPAM, reason="advert", **by),
        "telemedicine": lambda s, t: desk.create_telemedicine_task(s, t, **by),
        "finish task": lambda s, t: desk.finish_task(s, t.tasks[0], **by),
    }


@pytest.mark.parametrize(
    "name",
    [
        "assign",
        "tick",
        "untick",
        "resolve yes",
        "resolve no",
        "spam",
        "telemedicine",
        "finish task",
    ],
)
def test_everything_is_as_it_was(
    any_context: AppContext, ticket: int, name: str, clock: HandClock
) -> None:
    with any_context.store.transaction() as session:
        any_context.desk.raise_task(
            session, session.get_one(Ticket, ticket), "k", "call", now=clock(), cause="c"
        )
    before = take_snapshot(any_context, ticket)
    number = do_reversibly(any_context, ticket, name, list_actions(any_context)[name])
    assert take_snapshot(any_context, ticket) != before
    clock.turn(minutes=9)
    assert undo_by_id(any_context, ticket, number) == name
    assert take_snapshot(any_context, ticket) == before
    undone = list_audit_entries(any_context, ticket, "undone")
    assert [(a.actor, a.cause) for a in undone] == [(ME, name)]


def test_a_stage_moved_back_or_a_ticket_reopened_goes_forward_again(
    any_context: AppContext, ticket: int
) -> None:
    desk, now = any_context.desk, any_context.clock()
    reach(any_context, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    before = take_snapshot(any_context, ticket)
    back = do_reversibly(
        any_context,
        ticket,
        "back",
        lambda s, t: desk.move_back(s, t, Stage.IN_PROGRESS, by=ME, reason="r", now=now),
    )
    undo_by_id(any_context, ticket, back)
    assert take_snapshot(any_context, ticket) == before
    reach(any_context, ticket, Milestone.RECAP_SENT)
    before = take_snapshot(any_context, ticket)
    again = do_reversibly(
        any_context, ticket, "reopen", lambda s, t: desk.reopen(s, t, by=ME, cause="r", now=now)
    )
    assert take_snapshot(any_context, ticket)["period"] == 2
    undo_by_id(any_context, ticket, again)
    assert take_snapshot(any_context, ticket) == before


def test_a_merge_is_undone_on_both_tickets(any_context: AppContext, ticket: int) -> None:
    other = open_ticket(any_context, make_mail(sender=Address("Eve", "eve@elsewhere.example")))
    before, its = take_snapshot(any_context, ticket), take_snapshot(any_context, other)
    now = any_context.clock()

    def merge(session: Any, found: Ticket) -> None:
        into = session.get_one(Ticket, other)
        any_context.desk.merge(session, found, into, by=ME, now=now, across_companies=True)

    number = do_reversibly(any_context, ticket, "merge", merge, other)
    assert count_rows(any_context, TicketContact, TicketContact.ticket_id == other) == 2
    undo_by_id(any_context, ticket, number)
    assert take_snapshot(any_context, ticket) == before
    assert take_snapshot(any_context, other) == its


def test_not_related_is_undone(any_context: AppContext, ticket: int) -> None:
    other = open_ticket(any_context)
    now = any_context.clock()
    with any_context.store.transaction() as session:
        any_context.desk.relate(
            session, session.get_one(Ticket, ticket), session.get_one(Ticket, other), "possibly"
        )
    before = take_snapshot(any_context, ticket)
    number = do_reversibly(
        any_context,
        ticket,
        "judge",
        lambda s, t: relations.relate_tickets(s, t, other, Verdict.UNRELATED, by=ME, now=now),
    )
    assert (ticket, other, Verdict.UNRELATED) in take_snapshot(any_context, ticket)["related"]
    undo_by_id(any_context, ticket, number)
    assert take_snapshot(any_context, ticket) == before


def list_surveys(context: AppContext) -> list[OutgoingMail]:
    with context.store.read_only() as session:
        rows = select(OutgoingMail).where(OutgoingMail.template == Template.SURVEY)
        return list(session.scalars(rows.order_by(OutgoingMail.id)))


def finish(context: AppContext, ticket: int) -> int:
    """Tick the last box of a ticket, which queues the survey."""
    now = context.clock()
    return do_reversibly(
        context,
        ticket,
        "tick",
        lambda s, t: context.desk.record_milestone(
            s, t, Milestone.RECAP_SENT, by=ME, now=now, note="by phone"
        ),
    )


def list_due_mails(context: AppContext) -> list[str]:
    with context.store.read_only() as session:
        return [
            str(t)
            for t in session.scalars(
                select(OutgoingMail.template).where(claims.is_due(context.clock()))
            )
        ]


def test_undoing_a_completion_withholds_its_survey_and_a_second_one_sends_it(
    any_context: AppContext, ticket: int, clock: HandClock
) -> None:
    reach(any_context, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    number = finish(any_context, ticket)
    assert Template.SURVEY not in list_due_mails(any_context)  # held up for ten seconds
    clock.turn(seconds=5)
    undo_by_id(any_context, ticket, number)
    assert [m.state for m in list_surveys(any_context)] == [OutboxState.WITHHELD]
    assert count_rows(any_context, LastSurvey) == 0
    finish(any_context, ticket)
    clock.turn(seconds=11)
    assert [m.state for m in list_surveys(any_context)] == [
        OutboxState.WITHHELD,
        OutboxState.WAITING,
    ]
    assert Template.SURVEY in list_due_mails(any_context)


def test_what_is_with_the_relay_cannot_be_undone(
    any_context: AppContext, ticket: int, clock: HandClock
) -> None:
    reach(any_context, ticket, Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED)
    number = finish(any_context, ticket)
    clock.turn(seconds=11)
    with any_context.store.transaction() as session:
        session.execute(
            update(OutgoingMail)
            .where(OutgoingMail.template != Template.SURVEY)
            .values(state=OutboxState.SENT)
        )
    batch = claim_batch(any_context)
    assert len(batch) == 1
    with pytest.raises(ActionNotAllowed, match="on the way"):
        undo_by_id(any_context, ticket, number)
    sender.send(any_context, Posts(), batch[:1])
    with pytest.raises(ActionNotAllowed, match="mail sent"):
        undo_by_id(any_context, ticket, number)
    assert take_snapshot(any_context, ticket)["stage"] is Stage.COMPLETED


def test_only_while_nothing_else_has_happened(
    any_context: AppContext, ticket: int, clock: HandClock
) -> None:
    number = do_reversibly(any_context, ticket, "tick", list_actions(any_context)["tick"])
    with any_context.store.transaction() as session:
        bob = create_staff(session, "Bob")
        presence.record_look(session, ticket, bob, clock())  # looking is no happening
    with any_context.store.read_only() as session:
        assert undo.find_undo(session, ticket, "Bob", clock()) is None
        assert undo.find_undo(session, ticket, ME, clock()) is not None
    with pytest.raises(ActionNotAllowed, match="only Ann Lee"):
        undo_by_id(any_context, ticket, number, by="Bob")
    with any_context.store.transaction() as session:
        any_context.desk.resolve(
            session, session.get_one(Ticket, ticket), yes=False, by="Bob", now=clock()
        )
    with any_context.store.read_only() as session:
        assert undo.find_undo(session, ticket, ME, clock()) is None
    with pytest.raises(ActionNotAllowed, match="resolution no, by Bob"):
        undo_by_id(any_context, ticket, number)


def test_ten_minutes_and_once(any_context: AppContext, ticket: int, clock: HandClock) -> None:
    number = do_reversibly(any_context, ticket, "tick", list_actions(any_context)["tick"])
    undo_by_id(any_context, ticket, number)
    with pytest.raises(ActionNotAllowed, match="already"):
        undo_by_id(any_context, ticket, number)
    number = do_reversibly(any_context, ticket, "tick", list_actions(any_context)["tick"])
    clock.turn(minutes=11)
    with pytest.raises(ActionNotAllowed, match="ten minutes"):
        undo_by_id(any_context, ticket, number)
    with pytest.raises(ActionNotAllowed, match="nothing"):
        undo_by_id(any_context, open_ticket(any_context), number)


def test_doing_nothing_leaves_nothing_to_undo(
    any_context: AppContext, ticket: int, clock: HandClock
) -> None:
    now = clock()
    assert not do_reversibly(
        any_context,
        ticket,
        "tick",
        lambda s, t: any_context.desk.record_milestone(
            s, t, Milestone.CUSTOMER_NOTIFIED, by=ME, now=now
        ),
    )
    assert count_rows(any_context, UndoRecord) == 0
    do_reversibly(any_context, ticket, "tick", list_actions(any_context)["tick"])
    clock.turn(days=2)
    do_reversibly(any_context, ticket, "no", list_actions(any_context)["resolve no"])
    assert count_rows(any_context, UndoRecord) == 1  # the old picture is gone


def test_a_failed_undo_changes_nothing(
    any_context: AppContext, ticket: int, clock: HandClock
) -> None:
    number = do_reversibly(any_context, ticket, "tick", list_actions(any_context)["tick"])
    clock.turn(minutes=11)
    before = take_snapshot(any_context, ticket)
    with pytest.raises(ActionNotAllowed):
        undo_by_id(any_context, ticket, number)
    assert take_snapshot(any_context, ticket) == before
    assert count_rows(any_context, TicketMilestone, TicketMilestone.ticket_id == ticket) == 2
    assert count_rows(any_context, Task) == 0


def test_whoever_sends_a_mail_and_whoever_takes_it_back_do_not_wait_for_each_other(
    postgres_context: AppContext,
) -> None:
    context, number = postgres_context, open_ticket(postgres_context)
    which = do_reversibly(
        context,
        number,
        "Recap",
        lambda s, t: context.desk.recap(s, t, "done", by=ME, now=context.clock()),
    )
    with context.store.read_only() as session:
        (mail_id,) = session.scalars(
            select(OutgoingMail.id).where(OutgoingMail.template == Template.RECAP)
        )
    refusals: list[str] = []

    def undone() -> None:
        try:
            undo_by_id(context, number, which)
        except ActionNotAllowed as missing:
            refusals.append(str(missing))

    other = Thread(target=undone)

    def put_down(mail: OutgoingMail) -> None:
        mail.state = OutboxState.SENT

    def follow(session: Session, mail: OutgoingMail) -> None:
        other.start()
        with context.store.engine.connect() as looking:
            end = time.monotonic() + 20
            while not looking.scalar(text(WAITS)):
                assert time.monotonic() < end, "nobody waits"
        context.desk.record_mail_sent(session, mail, now=context.clock())

    assert record_answer(context, mail_id, put_down, follow)
    other.join(20)
    assert not other.is_alive()
    assert [words.partition(":")[0] for words in refusals] == ["since then"]
    with context.store.read_only() as session:
        assert session.get_one(OutgoingMail, mail_id).state is OutboxState.SENT
