"""Merges of companies and contacts: what moves, what lands there later, and how they are undone."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import func, select

from console.perform import get_actions
from parsers.item import Address, Format, InboundItem
from tests.support.context import (
    START,
    complete,
    create_company,
    create_staff,
    deliver,
    list_audit_entries,
    make_mail,
    open_ticket,
)
from workflow.context import AppContext
from workflow.customers import directory, merging, records
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, CompanyDomain, Contact, CustomerMerge, Ticket
from workflow.operations import sweep
from workflow.tickets import views
from workflow.tickets.actions import Actor, UseNearCompany

BY = "Ann"
NORA, NORA_HOME = Address("Nora", "nora@quill.example"), Address("", "nora@gmail.com")
_ids = count(1)


def make_row(**values: Any) -> InboundItem:
    """A secure message as the parser gives it."""
    fields = {"external_id": f"MG-{next(_ids)}", "sent_at": START, "text": "help", **values}
    return InboundItem(format=Format.SECURE_MESSAGE, **fields)


def create_two(context: AppContext) -> tuple[int, int]:
    """Two companies: an old one with manager, number, domain, contact and tickets; a new one."""
    with context.store.transaction() as session:
        old = create_company(
            session, "Quill Kids", number="471", manager=create_staff(session, "Max")
        )
        session.add(CompanyDomain(domain="quill.example", company=old))
        return old.id, create_company(session, "Lantern Pediatrics").id


def merge(context: AppContext, source: int, target: int) -> None:
    with context.store.transaction() as session:
        merging.merge_companies(
            session,
            session.get_one(Company, source),
            session.get_one(Company, target),
            by=BY,
            now=context.clock(),
        )


def unmerge(context: AppContext, source: int) -> int:
    with context.store.transaction() as session:
        company = session.get_one(Company, source)
        return merging.unmerge_company(session, company, by=BY, now=context.clock()).id


def get_company_id(context: AppContext, ticket: int | None) -> int | None:
    with context.store.read_only() as session:
        return session.get_one(Ticket, ticket).company_id


def test_a_merge_moves_everything_and_is_undone(any_context: AppContext) -> None:
    old, new = create_two(any_context)
    opened = open_ticket(any_context, make_mail("hello", sender=NORA))
    ended = open_ticket(any_context, make_mail("other", sender=NORA))
    complete(any_context, ended)
    merge(any_context, old, new)
    for number in (opened, ended):
        assert get_company_id(any_context, number) == new
        assert list_audit_entries(any_context, number, "associated")
    with any_context.store.read_only() as session:
        ticket = session.get_one(Ticket, opened)
        assert ticket.name == "Support – Lantern Pediatrics"
        assert records.NO_MANAGER not in ticket.caveats  # the manager has followed
        target = session.get_one(Company, new)
        assert target.manager is not None
        assert target.manager.name == "Max"
        assert [d.domain for d in target.domains] == ["quill.example"]
        assert session.scalar(select(Contact.company_id)) == new
        assert [c.id for c in records.search_companies(session, "")] == [new]
    assert unmerge(any_context, old) == new
    for number in (opened, ended):
        assert get_company_id(any_context, number) == old
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, opened).name == "Support – Quill Kids"
        assert session.get_one(Company, new).manager_id is None
        assert [d.domain for d in session.get_one(Company, old).domains] == ["quill.example"]
        assert session.scalar(select(Contact.company_id)) == old
        assert session.scalars(select(CustomerMerge)).one().undone_at is not None


@pytest.mark.parametrize(
    "values",
    [
        {"company": "Quill Kids"},
        {"company": "QUILL KIDS, Inc.", "company_number": "00471"},
        {"company_number": "471"},
        {"company": "Something Else", "company_number": "471"},
        {"sender": Address("Jo", "jo@quill.example")},
    ],
)
def test_later_rows_and_mail_land_on_the_one_that_goes_on(
    any_context: AppContext, values: dict[str, Any]
) -> None:
    old, new = create_two(any_context)
    merge(any_context, old, new)
    later = deliver(any_context, make_row(**values)).ticket_id
    assert get_company_id(any_context, later) == new
    unmerge(any_context, old)
    assert get_company_id(any_context, later) == new  # it came to that one
    if "sender" in values:  # Jo has come to that one, too
        values = {"sender": Address("Ida", "ida@quill.example")}
    assert get_company_id(any_context, deliver(any_context, make_row(**values)).ticket_id) == old


def test_a_near_name_of_a_merged_company_suggests_the_one_that_goes_on(
    any_context: AppContext,
) -> None:
    with any_context.store.transaction() as session:
        old = create_company(session, "Quillfield Kids").id
        new = create_company(session, "Lantern Pediatrics").id
    merge(any_context, old, new)
    filing = deliver(any_context, make_row(company="Quillfeld Kids"))
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, filing.ticket_id).near_companies == [new]


def test_a_row_with_another_number_is_another_practice(any_context: AppContext) -> None:
    old, new = create_two(any_context)
    merge(any_context, old, new)
    row = make_row(company="Quill Kids", company_number="999")
    assert get_company_id(any_context, deliver(any_context, row).ticket_id) not in {old, new, None}


def test_merges_go_on_in_a_chain_and_are_undone_in_any_order(any_context: AppContext) -> None:
    old, middle = create_two(any_context)
    with any_context.store.transaction() as session:
        last = create_company(session, "Elmcrest Clinic").id
    ticket = open_ticket(any_context, make_mail("hello", sender=NORA))
    merge(any_context, old, middle)
    merge(any_context, middle, last)
    assert get_company_id(any_context, ticket) == last
    later = deliver(any_context, make_row(company="Quill Kids")).ticket_id
    assert get_company_id(any_context, later) == last
    unmerge(any_context, old)
    assert get_company_id(any_context, ticket) == old
    unmerge(any_context, middle)
    assert get_company_id(any_context, ticket) == old


def test_a_near_company_that_is_merged_meanwhile_is_taken_as_the_one_that_goes_on(
    any_context: AppContext,
) -> None:
    with any_context.store.transaction() as session:
        old = create_company(session, "Quillfield Kids").id
        new = create_company(session, "Lantern Pediatrics").id
        ann = Actor.person(create_staff(session, BY))
    first, second = (
        deliver(any_context, make_row(company="Quillfeld Kids")).ticket_id for _ in range(2)
    )
    assert first is not None
    assert second is not None
    merge(any_context, old, new)
    with any_context.store.read_only() as session:
        near = records.list_near_companies(session, session.get_one(Ticket, first))
        assert [one.id for one in near] == [new]
    # The page shows the one that goes on; a page of before shows the other one.
    for ticket, shown in ((first, new), (second, old)):
        command = UseNearCompany(shown)
        get_actions(any_context).perform(ticket, command, actor=ann, now=any_context.clock())
        assert get_company_id(any_context, ticket) == new


def test_searches_for_the_merged_one_find_the_one_that_goes_on(any_context: AppContext) -> None:
    old, middle = create_two(any_context)
    with any_context.store.transaction() as session:
        last = create_company(session, "Total Health Clinic").id
        contacts = [
            Contact(email=email, name="", created_at=any_context.clock())
            for email in (NORA_HOME.email, NORA.email)
        ]
        session.add_all(contacts)
        session.flush()
        merging.merge_contacts(session, *contacts, by=BY, now=any_context.clock())
        nora = contacts[1].id
    ticket = open_ticket(any_context, make_mail("hello", sender=NORA))
    merge(any_context, old, middle)
    merge(any_context, middle, last)
    with any_context.store.read_only() as session:
        for words in (
            "quill kids",
            "Quill Kids LLC",
            "471",
            "000471",
            "lantern",
            "total",
            "TOTAL h",
        ):
            assert [one.id for one in records.search_companies(session, words)] == [last], words
        assert records.search_companies(session, "47") == []
        assert [one.id for one in records.search_contacts(session, "nora@gmail")] == [nora]
        for words in ("Quill", "Lantern Pediatrics, Inc.", "total"):
            filters = views.Filters(company=words)
            query = views.build_select(
                session,
                views.TicketQuery("open", filters=filters),
                actor=BY,
                now=any_context.clock(),
            )
            assert [one.id for one in session.scalars(query).unique()] == [ticket], words


def test_who_wants_no_surveys_gets_none_under_the_other_address(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        home = Contact(email=NORA_HOME.email, unsubscribed=True, created_at=any_context.clock())
        work = Contact(email=NORA.email, created_at=any_context.clock())
        session.add_all([home, work])
        session.flush()
        merging.merge_contacts(session, home, work, by=BY, now=any_context.clock())
        assert work.unsubscribed
        merging.unmerge_contact(session, home, by=BY, now=any_context.clock())
        assert not work.unsubscribed


def test_contacts_are_given_to_the_company_that_goes_on(any_context: AppContext) -> None:
    old, new = create_two(any_context)
    merge(any_context, old, new)
    ticket = open_ticket(any_context, make_mail("hello", sender=NORA_HOME))
    with any_context.store.transaction() as session:
        contact = directory.CustomerLookup(session).find_contact(NORA_HOME.key)
        assert contact is not None
        stale = session.get_one(Company, old)  # chosen on a page from before the merge
        now = any_context.clock()
        records.set_contact_company(session, contact, stale, by=BY, now=now)
        assert contact.company_id == new
    assert get_company_id(any_context, ticket) == new


def test_a_number_of_the_merged_one_names_where_it_is(any_context: AppContext) -> None:
    old, new = create_two(any_context)
    merge(any_context, old, new)
    with any_context.store.transaction() as session:
        company = session.get_one(Company, new)
        data = records.CompanyData(name=company.name, number="00471")
        with pytest.raises(ActionNotAllowed, match=r"Quill Kids \(no. 471\), merged into Lantern"):
            records.save_company(session, company, data, by=BY, now=any_context.clock())


def test_what_is_filed_on_a_merged_record_at_that_moment_moves_with_the_next_sweep(
    any_context: AppContext,
) -> None:
    old, new = create_two(any_context)
    ticket = open_ticket(any_context, make_mail("hello", sender=NORA))
    other = open_ticket(any_context, make_mail("hello again", sender=NORA_HOME))
    merge(any_context, old, new)
    with any_context.store.transaction() as session:
        contacts = {c.email: c for c in session.scalars(select(Contact))}
        work, home = contacts[NORA.email], contacts[NORA_HOME.email]
        merging.merge_contacts(session, home, work, by=BY, now=any_context.clock())
        # As a worker leaves it that has read both records before the merges.
        late = session.get_one(Ticket, ticket)
        late.company_id = work.company_id = old
        session.get_one(Ticket, other).contacts[0].contact_id = home.id
        nora = work.id
    sweep.sweep(any_context, redis_away=lambda: False)
    assert get_company_id(any_context, ticket) == new
    with any_context.store.read_only() as session:
        assert session.get_one(Contact, nora).company_id == new
        assert [link.contact_id for link in session.get_one(Ticket, other).contacts] == [nora]
        assert session.get_one(Ticket, ticket).name == "Support – Lantern Pediatrics"


def test_what_cannot_be_merged_is_refused(any_context: AppContext) -> None:
    old, new = create_two(any_context)
    with pytest.raises(ActionNotAllowed, match="choose another"):
        merge(any_context, old, old)
    with pytest.raises(ActionNotAllowed, match="not merged"):
        unmerge(any_context, old)
    merge(any_context, old, new)
    for pair in ((old, new), (new, old)):
        with pytest.raises(ActionNotAllowed, match="merged into another one already"):
            merge(any_context, *pair)
    with any_context.store.transaction() as session:
        company = session.get_one(Company, old)
        data = records.CompanyData.from_company(company)
        with pytest.raises(ActionNotAllowed, match="merged"):
            records.save_company(session, company, data, by=BY, now=any_context.clock())


def test_a_person_with_two_addresses_is_one_contact(any_context: AppContext) -> None:
    work = open_ticket(any_context, make_mail("hello", sender=NORA))
    home = open_ticket(any_context, make_mail("hello again", sender=NORA_HOME))
    with any_context.store.transaction() as session:
        lookup = directory.CustomerLookup(session)
        source, target = lookup.find_contact(NORA_HOME.key), lookup.find_contact(NORA.key)
        assert source is not None
        assert target is not None
        source.phone = "555 0100"
        both = session.get_one(Ticket, home)
        any_context.desk.add_contact(session, both, target)
        now = any_context.clock()
        merging.merge_contacts(session, source, target, by=BY, now=now)
        source_id, target_id = source.id, target.id
    with any_context.store.read_only() as session:
        for number in (work, home):
            contacts = session.get_one(Ticket, number).contacts
            assert [link.contact_id for link in contacts] == [target_id]
            assert directory.may_join_ticket(
                session, NORA_HOME.key, session.get_one(Ticket, number)
            )
        assert session.get_one(Contact, target_id).phone == "555 0100"
    later = open_ticket(any_context, make_mail("a third", sender=NORA_HOME))
    with any_context.store.transaction() as session:
        contacts = session.get_one(Ticket, later).contacts
        assert [link.contact_id for link in contacts] == [target_id]
        merging.unmerge_contact(
            session, session.get_one(Contact, source_id), by=BY, now=any_context.clock()
        )
    with any_context.store.read_only() as session:
        of_home = {link.contact_id for link in session.get_one(Ticket, home).contacts}
        assert of_home == {source_id, target_id}
        of_work = {link.contact_id for link in session.get_one(Ticket, work).contacts}
        assert of_work == {target_id}
        assert session.get_one(Contact, target_id).phone == ""
        assert session.scalar(select(func.count(Contact.id))) == 2
