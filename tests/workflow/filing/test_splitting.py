"""A message that is split off a ticket: with its files, its people, its later answers; undone."""

import pytest
from sqlalchemy import select

from console.perform import get_actions
from parsers.item import Address, Attachment
from tests.support.context import (
    ANN,
    HandClock,
    complete,
    create_company,
    deliver,
    list_audit_entries,
    make_mail,
    open_ticket,
)
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.filing.corrections import ACTION_SPLIT
from workflow.mail import sender
from workflow.models.core import CompanyDomain, Filing, Message, OutgoingMail, Ticket
from workflow.models.states import OutboxState, Outcome, Status
from workflow.operations.ledger import compute_balance
from workflow.process import Stage
from workflow.tickets import search
from workflow.tickets.actions import Actor, AddNote, Result, SplitMessage, Undo

OLGA = Actor.operator("Olga")
BOB = Address("Bob", "bob@practice.example")
FILE = Attachment("scan.pdf", "application/pdf", b"%PDF another request")


def split(context: AppContext, number: int, message: int = 0, *, notify: bool = False) -> Result:
    return get_actions(context).perform(
        number, SplitMessage(message, notify), actor=OLGA, now=context.clock()
    )


def undo(context: AppContext, number: int) -> None:
    get_actions(context).perform(number, Undo(), actor=OLGA, now=context.clock())


def list_texts(context: AppContext, number: int) -> list[str]:
    with context.store.read_only() as session:
        return [m.text for m in session.get_one(Ticket, number).messages if m.direction == "in"]


def list_mails(context: AppContext, number: int) -> list[OutgoingMail]:
    with context.store.read_only() as session:
        mails = select(OutgoingMail).where(OutgoingMail.ticket_id == number)
        return list(session.scalars(mails.order_by(OutgoingMail.id)))


@pytest.fixture
def number(any_context: AppContext, clock: HandClock) -> int:
    """A ticket of Ann, on which Bob, of the same practice, has asked for something else."""
    with any_context.store.transaction() as session:
        company = create_company(session, "Sunrise")
        session.add(CompanyDomain(domain="practice.example", company=company))
    first = make_mail("claim 7 was denied")
    opened = open_ticket(any_context, first)
    sender.send_waiting(any_context)
    clock.turn(hours=2)
    more = make_mail(
        "a statement for zebra, please",
        sender=BOB,
        in_reply_to=first.message_id,
        name="more@practice.example",
        attachments=(FILE,),
    )
    assert deliver(any_context, more).ticket_id == opened
    return opened


def test_the_message_moves_with_its_file_contact_and_company(
    any_context: AppContext, clock: HandClock, number: int
) -> None:
    result = split(any_context, number)
    assert result.opened_ticket is not None
    assert list_texts(any_context, number) == ["claim 7 was denied"]
    with any_context.store.read_only() as session:
        target = session.get_one(Ticket, result.opened_ticket)
        [message] = target.messages
        assert message.text == "a statement for zebra, please"
        assert [file.name for file in message.attachments] == ["scan.pdf"]
        assert [link.contact.email for link in target.contacts] == [BOB.email]
        assert target.company is not None
        assert target.company.name == "Sunrise"
        assert target.created_at == clock.now, "deadlines count from the receipt of the message"
        assert target.due_at is not None
        assert target.stage is Stage.IN_PROGRESS, "no notice is waited for"
        filing = session.scalars(select(Filing).where(Filing.message_id == message.id)).one()
        assert (filing.ticket_id, filing.outcome) == (target.id, Outcome.OPENED)
        hits = session.scalars(select(Ticket.id).where(search.build_condition(session, "zebra")))
        assert list(hits) == [target.id]
    assert list_mails(any_context, result.opened_ticket) == []
    for one in (number, result.opened_ticket):
        [entry] = list_audit_entries(any_context, one, ACTION_SPLIT)
        assert (entry.actor, entry.detail["to"]) == ("Olga", result.opened_ticket)


def test_a_notice_goes_out_only_where_it_is_chosen(any_context: AppContext, number: int) -> None:
    result = split(any_context, number, notify=True)
    assert result.opened_ticket is not None
    assert [mail.to for mail in list_mails(any_context, result.opened_ticket)] == [BOB.email]


def test_later_answers_to_the_message_go_to_the_new_ticket(
    any_context: AppContext, number: int
) -> None:
    [notice] = list_mails(any_context, number)
    opened = split(any_context, number).opened_ticket
    answer = make_mail(
        "and for May",
        sender=ANN,
        in_reply_to="<more@practice.example>",
        # of all recipients of that message, the address of the ticket is one
        references=(notice.message_id, "<more@practice.example>"),
    )
    assert deliver(any_context, answer).ticket_id == opened
    to_notice = make_mail("about claim 7", sender=ANN, in_reply_to=notice.message_id)
    assert deliver(any_context, to_notice).ticket_id == number


def test_an_undo_moves_it_back_and_the_new_number_leads_there(
    any_context: AppContext, number: int
) -> None:
    opened = split(any_context, number, notify=True).opened_ticket
    assert opened is not None
    undo(any_context, number)
    assert list_texts(any_context, number) == [
        "claim 7 was denied",
        "a statement for zebra, please",
    ]
    with any_context.store.read_only() as session:
        target = session.get_one(Ticket, opened)
        assert target.status is Status.MERGED
        assert (target.merged_into_id, target.due_at) == (number, None)
        assert [task for task in target.tasks if task.done_at is None] == []
        message = session.scalars(select(Message).where(Message.from_email == BOB.email)).one()
        assert message.split_from_ticket_id is None
        filing = session.scalars(select(Filing).where(Filing.message_id == message.id)).one()
        assert (filing.ticket_id, filing.outcome) == (number, Outcome.APPENDED)
        hits = session.scalars(select(Ticket.id).where(search.build_condition(session, "zebra")))
        assert list(hits) == [number]
    assert [mail.state for mail in list_mails(any_context, opened)] == [OutboxState.WITHHELD]
    assert list_audit_entries(any_context, opened, "undone")
    later = make_mail("once more", sender=ANN, in_reply_to="<more@practice.example>")
    assert deliver(any_context, later).ticket_id == number


def test_what_was_done_on_the_new_ticket_stands_in_the_way_of_an_undo(
    any_context: AppContext, number: int
) -> None:
    opened = split(any_context, number).opened_ticket
    assert opened is not None
    note = AddNote("she called")
    get_actions(any_context).perform(opened, note, actor=OLGA, now=any_context.clock())
    with pytest.raises(ActionNotAllowed, match=f"Merge #{opened} into this ticket instead"):
        undo(any_context, number)
    assert len(list_texts(any_context, number)) == 1


def test_the_only_message_stays_and_a_wrong_number_is_named(
    any_context: AppContext, number: int
) -> None:
    with pytest.raises(ActionNotAllowed, match="no such message"):
        split(any_context, number, 999)
    split(any_context, number)
    with pytest.raises(ActionNotAllowed, match="the only message"):
        split(any_context, number)


def test_of_a_completed_ticket_the_message_becomes_an_open_one(
    any_context: AppContext, number: int
) -> None:
    complete(any_context, number)
    opened = split(any_context, number).opened_ticket
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, number).status is Status.COMPLETED
        assert session.get_one(Ticket, opened).status is Status.OPEN


def test_the_ledger_counts_the_message_as_opened_until_it_is_undone(
    any_context: AppContext, number: int
) -> None:
    for change, opened in ((split, 2), (undo, 1)):
        change(any_context, number)
        with any_context.store.read_only() as session:
            total = compute_balance(session).total
        assert (total.opened, total.appended) == (opened, 2 - opened)
