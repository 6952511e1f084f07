"""Records of customers, edited while other transactions change the same tickets."""

from collections.abc import Callable
from threading import Barrier

import pytest
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import make_mail, open_ticket, run_in_threads
from workflow.context import AppContext
from workflow.customers import records
from workflow.customers.records import CompanyData
from workflow.models.core import Contact, Ticket
from workflow.models.states import Status
from workflow.tickets.desk import get_ticket

JO = Address("Jo", "jo@acme.example")
CAVEAT = "a file is missing"
PATIENCE = 10  # seconds until a barrier counts as broken


def set_company_while(context: AppContext, number: int, change: Callable[[Ticket], None]) -> int:
    """Give Jo a company while another transaction changes Jo's ticket; return how many got it."""
    counts: list[int] = []
    look_barrier, write_barrier = Barrier(2), Barrier(2)

    def set_company() -> None:
        with context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)  # without a lock, and kept in the session
            jo = session.scalars(select(Contact).where(Contact.email == JO.email)).one()
            company = records.save_company(
                session, None, CompanyData(name="Acme"), by="Olga", now=context.clock()
            )
            look_barrier.wait(PATIENCE)
            write_barrier.wait(PATIENCE)
            counts.append(
                records.set_contact_company(session, jo, company, by="Olga", now=context.clock())
            )
            assert ticket in session

    def change_ticket() -> None:
        with context.store.transaction() as session:
            ticket = get_ticket(session, number)
            look_barrier.wait(PATIENCE)
            change(ticket)
            session.flush()
            write_barrier.wait(PATIENCE)

    assert run_in_threads(set_company, change_ticket) == []
    return counts[0]


@pytest.fixture
def number(postgres_context: AppContext) -> int:
    """A ticket of Jo, whose company is not known."""
    return open_ticket(postgres_context, make_mail("hello", sender=JO))


def test_a_caveat_added_meanwhile_is_kept(postgres_context: AppContext, number: int) -> None:
    def add_caveat(ticket: Ticket) -> None:
        ticket.caveats = [*ticket.caveats, CAVEAT]

    assert set_company_while(postgres_context, number, add_caveat) == 1
    with postgres_context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.name == "Support – Acme"
        assert CAVEAT in ticket.caveats
        assert records.NO_COMPANY not in ticket.caveats


def test_a_ticket_that_ended_meanwhile_is_left(postgres_context: AppContext, number: int) -> None:
    def end(ticket: Ticket) -> None:
        ticket.status = Status.SPAM

    assert set_company_while(postgres_context, number, end) == 0
    with postgres_context.store.read_only() as session:
        assert session.get_one(Ticket, number).company_id is None
