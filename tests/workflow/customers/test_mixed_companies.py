"""Items of one practice never join the ticket of another, whatever would match them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import select

from ingest.replay.compare import apply_findings, compare
from parsers.item import Address, Format, InboundItem
from tests.support.context import (
    START,
    complete,
    create_company,
    create_staff,
    deliver,
    file_in,
    make_mail,
    make_row,
    open_ticket,
)
from tests.workflow.filing.test_bulk import add_delivery
from workflow.context import AppContext
from workflow.filing import threading
from workflow.filing.bulk import file_items
from workflow.mail import compose
from workflow.mail import sender as mail_sender
from workflow.models.core import CompanyDomain, Message, Ticket, TicketRelation
from workflow.models.states import Outcome, Status

OURS, THEIRS = "Harbor Clinic", "Meadow Dental"  # whose ticket it is, and who must not come onto it
OUR_NURSE = Address("Ida Bell", "ida@harbor.example")
THEIR_NURSE = Address("Tom Reed", "tom@meadow.example")
SECRET = "Mr. Q. of Meadow Dental has diabetes"


@pytest.fixture
def practices(any_context: AppContext) -> AppContext:
    """Two practices, each with its mail domain, and somebody on the desk."""
    with any_context.store.transaction() as session:
        for name, domain in ((OURS, "harbor.example"), (THEIRS, "meadow.example")):
            session.add(CompanyDomain(domain=domain, company=create_company(session, name)))
        create_staff(session, "Olga")
    return any_context


def make_our_row(**more: Any) -> InboundItem:
    return make_row("please call", **{"company": OURS, "sender": OUR_NURSE, **more})


def make_their_row(**more: Any) -> InboundItem:
    return make_row(SECRET, **{"company": THEIRS, "sender": THEIR_NURSE, **more})


def make_form(text: str, **more: Any) -> InboundItem:
    return InboundItem(format=Format.FORMSTACK, external_id="77/1", text=text, **more)


def call(text: str, **more: Any) -> InboundItem:
    return InboundItem(format=Format.PHONE, external_id="call-1", text=text, **more)


def get_notice_id(context: AppContext, number: int) -> str:
    """The Message-ID of the notice about a ticket, as the relay got it."""
    mail_sender.send_waiting(context)
    with context.store.read_only() as session:
        return session.get_one(Ticket, number).outbox[0].message_id


def get_first_message_id(context: AppContext, number: int) -> str:
    with context.store.read_only() as session:
        return f"<{session.get_one(Ticket, number).messages[0].message_id}>"


Second = Callable[[AppContext, int], tuple[InboundItem, dict[str, Any]]]


@dataclass(frozen=True)
class Join:
    """A way to join a ticket.

    What opens it, and what another practice sends that has the same sign.
    """

    first: InboundItem
    second: Second


def send_plain(item: InboundItem) -> Second:
    return lambda _context, _number: (item, {})


def make_their_mail(**more: Any) -> InboundItem:
    return make_mail(SECRET, sender=THEIR_NURSE, **more)


def make_reply_address_of(context: AppContext, number: int) -> str:
    return compose.make_reply_address(number, context.settings, context.signer)


SYSTEM = Address("System")  # who sends for many practices
NOBODYS = {"company": "", "sender": Address("Ida")}
ROWS = {
    "same id": Join(make_our_row(external_id="K-1"), send_plain(make_their_row(external_id="K-1"))),
    "same id and sender's name": Join(
        make_our_row(external_id="K-1", sender=SYSTEM),
        send_plain(make_their_row(external_id="K-1", sender=SYSTEM)),
    ),
    "same id and address": Join(
        make_our_row(external_id="K-1"),
        send_plain(make_their_row(external_id="K-1", sender=OUR_NURSE)),
    ),
    "same id, sender and words": Join(
        make_our_row(external_id="K-1", sender=SYSTEM),
        send_plain(make_our_row(external_id="K-1", sender=SYSTEM, company=THEIRS)),
    ),
    "same id, namesake by number": Join(
        make_our_row(external_id="K-1", company_number="1"),
        send_plain(make_their_row(external_id="K-1", company=OURS, company_number="2")),
    ),
    "no practice, other sender": Join(
        make_our_row(external_id="K-1", **NOBODYS),
        send_plain(make_their_row(external_id="K-1", company="", sender=Address("Tom"))),
    ),
    "same thread": Join(make_our_row(thread_id="T1"), send_plain(make_their_row(thread_id="T1"))),
    "same thread and address": Join(
        make_our_row(thread_id="T1"), send_plain(make_their_row(thread_id="T1", sender=OUR_NURSE))
    ),
    "same thread, by address alone": Join(
        make_our_row(thread_id="T1"), send_plain(make_their_row(thread_id="T1", company=""))
    ),
    "thread of nobody": Join(
        make_our_row(thread_id="T1", **NOBODYS), send_plain(make_their_row(thread_id="T1"))
    ),
    "thread of nobody, nobody else": Join(
        make_our_row(thread_id="T1", **NOBODYS),
        send_plain(make_their_row(thread_id="T1", company="", sender=Address("Tom"))),
    ),
}
OTHERS = {
    "token in the envelope": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_mail(), {"rcpt_to": [make_reply_address_of(h, n)]}),
    ),
    "token in To": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_mail(to=(Address("", make_reply_address_of(h, n)),)), {}),
    ),
    "our Message-ID": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_mail(in_reply_to=get_notice_id(h, n)), {}),
    ),
    "their Message-ID": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_mail(references=(get_first_message_id(h, n),)), {}),
    ),
    "same Message-ID": Join(
        make_mail(sender=OUR_NURSE, name="m@x.example"),
        send_plain(make_their_mail(name="m@x.example")),
    ),
    "same Message-ID, no sender": Join(
        make_mail(sender=Address(), name="m@x.example"),
        send_plain(replace(make_their_mail(name="m@x.example"), sender=Address())),
    ),
    "row with a token": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_row(to=(Address("", make_reply_address_of(h, n)),)), {}),
    ),
    "row that answers, by address": Join(
        make_mail(sender=OUR_NURSE),
        lambda h, n: (make_their_row(sender=OUR_NURSE, in_reply_to=get_first_message_id(h, n)), {}),
    ),
    "form of one number": Join(
        make_form("help", company=OURS), send_plain(make_form(SECRET, company=THEIRS))
    ),
    "form by address": Join(
        make_form("help", sender=OUR_NURSE), send_plain(make_form(SECRET, sender=THEIR_NURSE))
    ),
    "form of a contact": Join(
        make_form("help", company=OURS, sender=OUR_NURSE),
        send_plain(make_form(SECRET, company=THEIRS, sender=OUR_NURSE)),
    ),
    "form with the same words": Join(
        make_form(SECRET, company=OURS), send_plain(make_form(SECRET, company=THEIRS))
    ),
    "call of one number": Join(
        call("help", company=OURS), send_plain(call(SECRET, company=THEIRS))
    ),
}


def file_in_bulk(context: AppContext, item: InboundItem) -> int:
    """File an item the way a workbook is filed; the number of its ticket."""
    with context.store.transaction() as session:
        delivery = add_delivery(context, session)
        delivery.digest = f"d{delivery.id}"
        file_items(context.desk, session, [item], delivery, 0, context.clock())
        session.flush()
        session.expire(delivery)
        [filing] = delivery.filings
        assert filing.ticket_id is not None
        return filing.ticket_id


def assert_apart(context: AppContext, number: int, second: int, item: InboundItem) -> None:
    """The second item is on a ticket of its own, and no word of it on the first."""
    assert second != number
    with context.store.read_only() as session:
        assert [
            m.text for m in session.get_one(Ticket, second).messages if m.direction == "in"
        ] == [item.text]
        texts = [m.text for m in session.get_one(Ticket, number).messages if m.direction == "in"]
        assert len(texts) == 1


@pytest.mark.parametrize("way", ["one by one", "in bulk"])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_another_practice_opens_its_own_ticket(
    practices: AppContext, name: str, way: str
) -> None:
    join = ROWS[name]
    number = open_ticket(practices, join.first)
    item, envelope = join.second(practices, number)
    second = (
        open_ticket(practices, item, envelope)
        if way == "one by one"
        else file_in_bulk(practices, item)
    )
    assert_apart(practices, number, second, item)
    again = deliver(practices, item, envelope)
    assert (again.outcome, again.ticket_id) == (Outcome.DUPLICATE, second)


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_else_another_practice_sends_opens_its_own_ticket(
    practices: AppContext, name: str
) -> None:
    join = OTHERS[name]
    number = open_ticket(practices, join.first)
    item, envelope = join.second(practices, number)
    assert_apart(practices, number, open_ticket(practices, item, envelope), item)


@pytest.mark.parametrize("end", ["completed", "merged", "merged and completed", "spam"])
@pytest.mark.parametrize("name", [*ROWS, *OTHERS])
def test_nor_does_it_reopen_or_follow_a_ticket_of_another_practice(
    practices: AppContext, name: str, end: str
) -> None:
    join = (ROWS | OTHERS)[name]
    number = open_ticket(practices, join.first)
    item, envelope = join.second(practices, number)
    last = number
    with practices.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        if end == "spam":
            practices.desk.close(
                session, ticket, Status.SPAM, by="Olga", reason="r", now=practices.clock()
            )
    if end.startswith("merged"):
        last = open_ticket(practices, make_mail(sender=OUR_NURSE))
        with practices.store.transaction() as session:
            one, other = session.get_one(Ticket, number), session.get_one(Ticket, last)
            practices.desk.merge(
                session, one, other, by="Olga", now=practices.clock(), across_companies=True
            )
    if end.endswith("completed"):
        complete(practices, last)
    before = get_state(practices, last)
    second = open_ticket(practices, item, envelope)
    assert second not in {number, last}
    assert_apart(practices, last, second, item)
    assert get_state(practices, last) == before


def get_state(context: AppContext, number: int) -> tuple[Status, int]:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        return ticket.status, ticket.period


def test_who_belongs_still_joins_by_each_sign(practices: AppContext) -> None:
    number = open_ticket(practices, make_mail(sender=OUR_NURSE))
    colleague, desk = Address("", "kim@harbor.example"), Address("", "olga@desk.example")
    for sender in (OUR_NURSE, colleague, desk):
        for fields in (
            {"in_reply_to": get_first_message_id(practices, number)},
            {"in_reply_to": get_notice_id(practices, number)},
        ):
            assert open_ticket(practices, make_mail(sender=sender, **fields)) == number
    threaded_ticket = open_ticket(practices, make_our_row(thread_id="T1"))
    assert (
        open_ticket(practices, make_our_row(thread_id="T1", sender=Address("A Colleague")))
        == threaded_ticket
    )
    assert (
        file_in_bulk(practices, make_our_row(thread_id="T1", sender=Address("Another One")))
        == threaded_ticket
    )
    nobodys = {"company": "", "sender": Address("Ida"), "thread_id": "T2"}
    unknown = open_ticket(practices, make_our_row(**nobodys))
    assert open_ticket(practices, make_our_row(**nobodys)) == unknown
    assert file_in_bulk(practices, make_our_row(**nobodys)) == unknown


def test_a_reading_of_one_form_that_finds_no_practice_stays_with_the_other(
    practices: AppContext,
) -> None:
    number = open_ticket(practices, make_form("help", company=OURS))
    assert (
        open_ticket(practices, make_form("help", sender=Address("", "somebody@else.example")))
        == number
    )
    with practices.store.read_only() as session:
        assert session.scalars(select(TicketRelation)).all() == []


def test_a_second_reading_puts_no_words_onto_the_ticket_of_another_practice(
    practices: AppContext,
) -> None:
    """The same ids in another order: an earlier parser gave one id to rows of two practices."""
    rows = [
        make_our_row(external_id="7"),
        make_their_row(external_id="7#" + "a" * 16, unreliable_id="7"),
    ]
    with practices.store.transaction() as session:
        delivery = add_delivery(practices, session)
        file_items(practices.desk, session, rows, delivery, 0, practices.clock())
        session.flush()
        for message in session.scalars(select(Message)):
            message.message_id, message.external_id = "7", f"7#{message.id}"
        number = delivery.id
    changed_rows = [
        replace(r, external_id="7", unreliable_id="", text=f"{r.text}, read better")
        for r in reversed(rows)
    ]
    with practices.store.transaction() as session:
        again = session.get_one(type(delivery), number)
        apply_findings(
            practices.desk,
            session,
            again,
            compare(practices.desk, session, again, changed_rows, lambda _: None),
            by="O",
            now=START,
        )
    with practices.store.read_only() as session:
        for ticket in session.scalars(select(Ticket)):
            assert ticket.company is not None
            for text in (m.text for m in ticket.messages):
                assert (SECRET in text) == (ticket.company.name == THEIRS)


def test_one_by_one_and_bulk_race_to_one_ticket(practices: AppContext) -> None:
    """The unique index decides, also between two rows of one content with two ids."""
    some = [make_our_row(external_id=name) for name in ("K-1", "K-2")]
    with practices.store.transaction() as session:
        for item in some:
            file_in(practices, session, item)
        delivery = add_delivery(practices, session)
        file_items(
            practices.desk,
            session,
            [*some, make_our_row(external_id="row-" + "0" * 64)],
            delivery,
            0,
            practices.clock(),
        )
        session.expire(delivery)
        assert [f.outcome for f in delivery.filings] == [Outcome.DUPLICATE] * 3
    assert threading.build_message_key(some[0]) != threading.build_message_key(some[1])
