"""Phone numbers that came with a request are on its ticket and are found.

That does not depend on the contact's record.
"""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address, Format, InboundItem
from tests.support.context import (
    deliver,
    file_in,
    get_contact,
    make_mail,
    make_phone_call,
    make_row,
    open_ticket,
)
from workflow.context import AppContext
from workflow.customers.callers import list_callers
from workflow.filing import bulk
from workflow.models.core import Contact, Delivery, Message, Staff, Ticket
from workflow.models.states import Role
from workflow.tickets import notes, views


def find_tickets(context: AppContext, words: str) -> list[int]:
    with context.store.read_only() as session:
        page = views.load_page(
            session, views.TicketQuery("all", words=words), actor="", now=context.clock()
        )
        return [t.id for t in page.tickets]


def list_callers_of(context: AppContext, ticket: int) -> list[tuple[str, str]]:
    with context.store.read_only() as session:
        return [(c.name, c.phone) for c in list_callers(session, session.get_one(Ticket, ticket))]


def make_call_by(*others: Address, **more: Any) -> InboundItem:
    return replace(make_phone_call(*others), **more)


def make_form(**more: Any) -> InboundItem:
    return InboundItem(
        format=Format.FORMSTACK, external_id="f1", company="Sunrise", text="a form", **more
    )


@pytest.mark.parametrize("make", [make_phone_call, make_row, make_form])
def test_a_name_and_number_without_an_address_are_shown_and_found(
    any_context: AppContext, make: Any
) -> None:
    open_ticket(any_context, make_mail("something else", subject="else"))
    number = open_ticket(
        any_context, replace(make(), sender=Address("Quincy Vale"), phone="(212) 555-0142")
    )
    assert list_callers_of(any_context, number) == [("Quincy Vale", "(212) 555-0142")]
    for words in (
        "quincy vale",
        "2125550142",
        "212-555-0142",
        "+1 212.555.0142",
        "555 0142",
        "vale 2125550142",
    ):
        assert find_tickets(any_context, words) == [number], words
    assert find_tickets(any_context, "646-555-0142") == []


def test_rows_filed_together_keep_their_number_too(any_context: AppContext) -> None:
    first = open_ticket(any_context)
    items = [make_row(sender=Address(f"Caller {n}"), phone=f"212-555-01{n}") for n in range(10, 13)]
    with any_context.store.transaction() as session:
        delivery = file_in(any_context, session, make_mail("again", subject="b")).delivery_id
        bulk.file_items(
            any_context.desk,
            session,
            items,
            session.get_one(Delivery, delivery),
            1,
            any_context.clock(),
        )
    (number,) = find_tickets(any_context, "2125550111")
    assert number > first
    assert list_callers_of(any_context, number) == [("Caller 11", "212-555-0111")]


def test_another_number_of_a_known_contact_stays_beside_the_one_on_record(
    any_context: AppContext,
) -> None:
    ann = Address("Ann Lee", "ann@practice.example")
    open_ticket(any_context, make_call_by(sender=ann, phone="212-555-0100"))
    again = open_ticket(any_context, make_call_by(sender=ann, phone="212-555-0199"))
    assert get_contact(any_context, "ann@practice.example").phone == "212-555-0100"
    assert list_callers_of(any_context, again) == [("Ann Lee", "212-555-0199")]
    assert find_tickets(any_context, "2125550199") == [again]


def test_the_number_on_record_is_not_shown_twice(any_context: AppContext) -> None:
    ann = Address("Ann Lee", "ann@practice.example")
    number = open_ticket(any_context, make_call_by(sender=ann, phone="212-555-0100"))
    assert list_callers_of(any_context, number) == []
    with any_context.store.transaction() as session:
        record = session.scalars(select(Contact)).one()
        record.phone = "+1 (212) 555 0100"
    assert list_callers_of(any_context, number) == []


def test_the_number_of_one_caller_is_not_put_on_another_contacts_record(
    any_context: AppContext,
) -> None:
    jo = Address("Jo", "jo@practice.example")
    open_ticket(
        any_context, make_call_by(jo, sender=Address("Somebody Else"), phone="212-555-0142")
    )
    assert get_contact(any_context, "jo@practice.example").phone == ""


def test_a_call_sent_again_with_another_number_is_no_duplicate(any_context: AppContext) -> None:
    call = make_call_by(
        external_id="c-1",
        sender=Address("Jo"),
        phone="212-555-0100",
        details=(("Call back", "212-555-0100"),),
    )
    number = open_ticket(any_context, call)
    changed = replace(call, phone="212-555-0199", details=(("Call back", "212-555-0199"),))
    assert deliver(any_context, changed).ticket_id == number
    assert find_tickets(any_context, "2125550199") == [number]


def test_a_number_in_a_note_or_a_text_is_found_by_its_digits(any_context: AppContext) -> None:
    number = open_ticket(
        any_context, make_mail("Reach me at 212.555.0142 before noon", subject="call me")
    )
    assert find_tickets(any_context, "2125550142") == [number]
    with any_context.store.transaction() as session:
        one = Staff(name="Olga", role=Role.AGENT, created_at=any_context.clock())
        session.add(one)
        session.flush()
        ticket = session.get_one(Ticket, number)
        notes.add_note(
            session, ticket, "her mobile is (646) 555-0199", by=one.name, now=any_context.clock()
        )
    assert find_tickets(any_context, "646-555-0199") == [number]


def test_a_number_that_is_corrected_is_found_as_it_is_now(any_context: AppContext) -> None:
    number = open_ticket(any_context, make_call_by(sender=Address("Jo"), phone="212-555-0100"))
    with any_context.store.transaction() as session:
        message = session.scalars(select(Message)).one()
        message.phone, message.search_words = "212-555-0199", "2125550199"
    assert (find_tickets(any_context, "2125550100"), find_tickets(any_context, "2125550199")) == (
        [],
        [number],
    )
