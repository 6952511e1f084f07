"""Companies, contacts, tickets made by hand and tasks, as people at the desk keep them."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import select

from parsers.item import Address, Format, InboundItem
from tests.support.context import (
    HandClock,
    count_rows,
    deliver,
    get_contact,
    make_mail,
    open_ticket,
)
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.customers import directory, records
from workflow.customers.records import NO_MANAGER, CompanyData
from workflow.models.core import Company, Contact, OutgoingMail, Staff, Task, Ticket
from workflow.models.states import Role, Status
from workflow.operations.sweep import raise_tasks
from workflow.process import Template
from workflow.tickets import notes
from workflow.tickets.desk import get_staff


@pytest.fixture
def desk(any_context: AppContext) -> Desk:
    return sign_in_at_desk(any_context, Role.LEAD)


def create_contact(context: AppContext, name: str, email: str = "") -> int:
    with context.store.transaction() as session:
        one = Staff(name=name, email=email, role=Role.AGENT, created_at=context.clock())
        session.add(one)
        session.flush()
        return one.id


def create_practice(context: AppContext, name: str = "Sunrise", **says: object) -> int:
    with context.store.transaction() as session:
        says = {k: get_staff(session, str(v)) if k == "manager" else v for k, v in says.items()}
        kept = CompanyData(name=name, **says)  # type: ignore[arg-type]
        return records.save_company(session, None, kept, by="test", now=context.clock()).id


def get_company(context: AppContext, number: int) -> Company:
    with context.store.read_only() as session:
        found = session.get_one(Company, number)
        _ = found.domains, found.manager
        return found


def test_a_company_is_kept_with_its_domains_and_manager(
    any_context: AppContext, desk: Desk
) -> None:
    berg = create_contact(any_context, "Max Berg")
    desk.get("/companies/new")
    answer = desk.post(
        "/companies/new",
        {"name": "Sunrise", "number": "47", "domains": "@sun.example, x.example", "manager": berg},
    )
    number = int(answer.headers["Location"].rpartition("/")[2])
    company = get_company(any_context, number)
    assert (company.number, company.manager_id, {d.domain for d in company.domains}) == (
        "47",
        berg,
        {"sun.example", "x.example"},
    )
    desk.get(f"/companies/{number}/edit")
    desk.post(f"/companies/{number}/edit", {"name": "Sunset", "domains": "x.example"})
    company = get_company(any_context, number)
    assert (company.name, company.number, [d.domain for d in company.domains]) == (
        "Sunset",
        None,
        ["x.example"],
    )


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"name": "sunrise!"}, "another company has this name: Sunrise"),
        ({"name": "New", "domains": "sun.example"}, "belongs to Sunrise"),
        ({"name": " "}, "needs a name"),
        ({"name": "New", "domains": "no domain"}, "no mail domain"),
    ],
)
def test_what_cannot_be_kept_says_why_and_keeps_what_was_typed(
    any_context: AppContext, desk: Desk, form: dict[str, str], why: str
) -> None:
    create_practice(any_context, domains=["sun.example"])
    desk.get("/companies/new")
    page = desk.post("/companies/new", {"number": "99", **form})
    assert page.status_code == 409
    assert why in page.text
    assert 'value="99"' in page.text
    assert count_rows(any_context, Company) == 1


def test_an_unknown_senders_click_gives_their_tickets_a_company(
    any_context: AppContext, desk: Desk
) -> None:
    number = create_practice(any_context)
    mine = open_ticket(any_context, make_mail("hello", sender=Address("Jo", "jo@acme.example")))
    other = open_ticket(any_context, make_mail("hello", sender=Address("Al", "al@acme.example")))
    jo = get_contact(any_context, "jo@acme.example").id
    assert "jo@acme.example" in desk.get("/senders").text
    desk.post(f"/senders/{jo}", {"company": number})
    assert get_ticket(any_context, mine).name == "Support – Sunrise"
    assert get_ticket(any_context, other).name == "Support – Unknown"
    desk.get("/senders")
    desk.post(f"/senders/{jo}", {"company": number, "domain": "yes"})
    assert get_ticket(any_context, other).name == "Support – Sunrise"
    assert not any("company not known" in c for c in get_ticket(any_context, other).caveats)
    assert "jo@" not in desk.get("/senders").text


def get_ticket(context: AppContext, number: int) -> Ticket:
    with context.store.read_only() as session:
        return session.get_one(Ticket, number)


def test_a_domain_where_anybody_has_mail_is_nobodys(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context)
    mine = open_ticket(any_context, make_mail("hello", sender=Address("Jo", "jo@gmail.com")))
    other = open_ticket(any_context, make_mail("hello", sender=Address("Al", "al@gmail.com")))
    desk.get("/senders")
    jo = get_contact(any_context, "jo@gmail.com").id
    assert (
        "anybody can have mail there"
        in desk.post(
            f"/senders/{jo}", {"company": number, "domain": "yes"}, follow_redirects=True
        ).text
    )
    assert {get_ticket(any_context, n).company_id for n in (mine, other)} == {None}
    desk.post(f"/senders/{jo}", {"company": number})
    assert (
        get_ticket(any_context, mine).company_id,
        get_ticket(any_context, other).company_id,
    ) == (
        number,
        None,
    )


def test_a_practice_told_from_its_namesake_by_its_number_can_be_changed(
    any_context: AppContext, desk: Desk
) -> None:
    create_practice(any_context, number="1")
    with any_context.store.transaction() as session:
        twin = directory.create_company(
            directory.CustomerLookup(session), "Sunrise", "2", any_context.clock()
        )
        assert twin is not None
        session.flush()
        number = twin.id
    desk.get(f"/companies/{number}/edit")
    form = {"name": "Sunrise", "number": "2", "domains": "two.example"}
    assert desk.post(f"/companies/{number}/edit", form).status_code == 302
    assert [d.domain for d in get_company(any_context, number).domains] == ["two.example"]


def test_who_says_that_they_are_away_has_their_tasks_covered(
    any_context: AppContext, desk: Desk, clock: HandClock
) -> None:
    eva = create_contact(any_context, "Eva Lind")
    desk.get("/account")
    form = {"since": f"{clock.now:%Y-%m-%d}", "until": f"{clock.now + timedelta(days=5):%Y-%m-%d}"}
    assert "say who covers" in desk.post("/account/away", form, follow_redirects=True).text
    assert (
        "Eva Lind covers"
        in desk.post("/account/away", {**form, "cover": eva}, follow_redirects=True).text
    )
    number = open_ticket(any_context)
    with any_context.store.transaction() as session:
        found = session.get_one(Ticket, number)
        any_context.desk.assign(
            session, found, get_staff(session, "Ann Lee"), by="Ann Lee", now=clock.now
        )
    clock.turn(days=2, hours=1)
    raise_tasks(any_context, clock.now)
    with any_context.store.read_only() as session:
        assert session.scalars(select(Task.assignee).where(Task.ticket_id == number)).all() == [
            "Eva Lind"
        ]
    desk.sign_in("ann@pmb.example")
    desk.get("/account")
    assert "You are here" in desk.post("/account/away", {}, follow_redirects=True).text


def record_call(desk: Desk, number: int, **fields: object) -> str:
    page = desk.get(f"/companies/{number}/add-ticket").text
    call = re.search(r'name="call_id" value="(\w+)"', page)
    assert call
    answer = desk.post(
        f"/companies/{number}/add-ticket", {"call_id": call[1], "text": "they called", **fields}
    )
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"]


def test_a_ticket_by_hand_has_the_manuals_defaults(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context)
    with any_context.store.transaction() as session:
        session.add(
            Contact(
                email="jo@x.example", name="Jo", company_id=number, created_at=any_context.clock()
            )
        )
        session.flush()
    jo = get_contact(any_context, "jo@x.example").id
    where = record_call(
        desk, number, contact=[jo], new_email="al@x.example", share="new", phone="555-0100"
    )
    made = get_ticket(any_context, int(where.rpartition("/")[2]))
    with any_context.store.read_only() as session:
        row = session.get_one(Ticket, made.id)
        assert (row.name, row.type, row.owner and row.owner.name) == (
            "Support – Sunrise",
            "Billing Issue",
            "Ann Lee",
        )
        assert {c.contact.email: c.share_activity for c in row.contacts} == {
            "jo@x.example": False,
            "al@x.example": True,
        }
        assert not row.share_activity, "the company's box was off"
    assert "they called" not in desk.get(f"/companies/{number}").text


def test_pressing_twice_is_one_call(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context)
    first = record_call(desk, number, call_id="c1", on_company="yes")
    assert record_call(desk, number, call_id="c1", on_company="yes") == first
    assert count_rows(any_context, Ticket) == 1


def test_a_timeline_shows_what_its_box_allows(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context)
    shown = record_call(desk, number, on_company="yes")
    hidden = record_call(desk, number)
    timeline = desk.get(f"/companies/{number}").text.rpartition("Timeline")[2]
    assert shown in timeline
    assert hidden not in timeline


def test_a_bad_address_costs_nothing_that_was_typed(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context)
    desk.get(f"/companies/{number}/add-ticket")
    page = desk.post(
        f"/companies/{number}/add-ticket", {"text": "keep me", "new_email": "nonsense"}
    )
    assert page.status_code == 409
    assert "keep me" in page.text


def test_tasks_are_ticked_and_opened_again(
    any_context: AppContext, desk: Desk, clock: HandClock
) -> None:
    number = open_ticket(any_context)
    clock.turn(days=3)
    raise_tasks(any_context, clock.now)
    desk.sign_in("ann@pmb.example")
    assert "follow up with the customer" in desk.get("/tasks?view=team").text
    with any_context.store.read_only() as session:
        task = session.scalars(select(Task).where(Task.ticket_id == number)).first()
    assert task
    desk.post(f"/tasks/{task.id}/done")
    assert "Ann Lee" in desk.get("/tasks?view=done").text
    desk.post(f"/tasks/{task.id}/again")
    with any_context.store.read_only() as session:
        assert session.get_one(Task, task.id).done_at is None


def test_who_is_away_has_a_cover_who_is_told_by_mail_without_customer_text(
    any_context: AppContext, clock: HandClock
) -> None:
    create_contact(any_context, "Max Berg", "max@pmb.example")
    create_contact(any_context, "Eva Lind", "eva@pmb.example")
    number = create_practice(any_context, manager="Max Berg", domains=["practice.example"])
    open_ticket(any_context, make_mail("Mrs Example", subject="Mrs Example"))
    with any_context.store.transaction() as session:
        away, cover = get_staff(session, "Max Berg"), get_staff(session, "Eva Lind")
        records.set_absence(
            session,
            away,
            since=clock.now,
            until=clock.now + timedelta(days=9),
            cover=cover,
            by="test",
            now=clock.now,
        )
    assert get_company(any_context, number).manager
    clock.turn(days=4)
    raise_tasks(any_context, clock.now)
    with any_context.store.read_only() as session:
        escalation = session.scalars(select(Task).where(Task.text == "escalate the ticket")).one()
        mails = session.scalars(
            select(OutgoingMail).where(OutgoingMail.template == Template.TASK)
        ).all()
    assert escalation.assignee == "Eva Lind"
    assert [m.to for m in mails] == ["eva@pmb.example"]


def test_a_manager_who_comes_later_answers_the_caveat_of_open_tickets(
    any_context: AppContext, desk: Desk
) -> None:
    max_berg = create_contact(any_context, "Max Berg")
    number = create_practice(any_context, domains=["practice.example"])
    ended_ticket, opened_ticket = (
        open_ticket(any_context, make_mail("help", subject=subject)) for subject in ("one", "two")
    )
    with any_context.store.transaction() as session:
        any_context.desk.close(
            session,
            session.get_one(Ticket, ended_ticket),
            Status.SPAM,
            by="test",
            reason="x",
            now=any_context.clock(),
        )

    def says() -> list[bool]:
        with any_context.store.read_only() as session:
            return [
                NO_MANAGER in session.get_one(Ticket, n).caveats
                for n in (ended_ticket, opened_ticket)
            ]

    assert says() == [True, True]
    desk.get(f"/companies/{number}/edit")
    desk.post(
        f"/companies/{number}/edit",
        {"name": "Sunrise", "domains": "practice.example", "manager": max_berg},
    )
    assert says() == [True, False], "what has ended stays as it was"
    assert "Its company is managed by Max Berg now" in desk.get(f"/tickets/{opened_ticket}").text
    desk.post(
        f"/companies/{number}/edit",
        {"name": "Sunrise", "domains": "practice.example", "manager": ""},
    )
    assert says() == [True, True]
    assert "Its company has no manager any more" in desk.get(f"/tickets/{opened_ticket}").text


def test_what_was_settled_about_the_manager_stays_so_while_there_is_none(
    any_context: AppContext, desk: Desk
) -> None:
    number = create_practice(any_context, domains=["practice.example"])
    ticket = open_ticket(any_context, make_mail("help"))
    with any_context.store.transaction() as session:
        notes.settle_question(
            session, session.get_one(Ticket, ticket), NO_MANAGER, by="test", now=any_context.clock()
        )
    desk.get(f"/companies/{number}/edit")
    desk.post(f"/companies/{number}/edit", {"name": "Sunrise & Co", "domains": "practice.example"})
    with any_context.store.read_only() as session:
        assert NO_MANAGER not in session.get_one(Ticket, ticket).caveats


def test_a_number_wider_than_the_databases_is_nothing(desk: Desk) -> None:
    for path in ("/companies/{}", "/companies/{}/edit", "/companies/{}/add-ticket", "/contacts/{}"):
        assert desk.get(path.format(2**63)).status_code == 404
    assert desk.post(f"/tasks/{2**63}/done").status_code == 404


def test_an_auditor_looks_and_changes_nothing(any_context: AppContext) -> None:
    number = create_practice(any_context)
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    assert desk.get(f"/companies/{number}").status_code == 200
    assert desk.get(f"/companies/{number}/edit").status_code == 403
    assert desk.post("/companies/new", {"name": "X"}).status_code == 403


def test_a_company_is_merged_and_separated_on_its_page(any_context: AppContext, desk: Desk) -> None:
    old, new = create_practice(any_context, number="471"), create_practice(any_context, "Lantern")
    ticket = open_ticket(any_context, make_mail("hello", sender=Address("Jo", "jo@sun.example")))
    with any_context.store.transaction() as session:
        records.add_domain(session, "sun.example", session.get_one(Company, old))
        found, company = session.get_one(Ticket, ticket), session.get_one(Company, old)
        records.set_ticket_company(session, found, company, by="test", now=any_context.clock())
    assert f"/companies/{old}/merge" in desk.get(f"/companies/{old}").text
    page = desk.get(f"/companies/{old}/merge").text
    assert "1 ticket, 1 open" in page
    assert "1 mail domain" in page
    assert "Lantern" in page
    nothing = desk.post(f"/companies/{old}/merge", {"into": ""}, follow_redirects=True)
    assert "choose a company" in nothing.text
    page = desk.post(f"/companies/{old}/merge", {"into": new}, follow_redirects=True).text
    assert "Sunrise is merged into Lantern" in page
    assert "Sunrise (no. 471)" in page
    assert get_ticket(any_context, ticket).company_id == new
    assert desk.get(f"/companies/{old}").headers["Location"] == f"/companies/{new}"
    page = desk.post(f"/companies/{old}/unmerge", {}, follow_redirects=True).text
    assert "separate from Lantern again" in page
    assert get_ticket(any_context, ticket).company_id == old
    assert "not merged" in desk.post(f"/companies/{old}/unmerge", {}, follow_redirects=True).text


def test_a_contact_is_merged_and_separated_on_their_page(
    any_context: AppContext, desk: Desk
) -> None:
    for email in ("jo@sun.example", "jo@gmail.com"):
        open_ticket(any_context, make_mail(email, sender=Address("Jo Lee", email)))
    source, target = (get_contact(any_context, f"jo@{d}").id for d in ("gmail.com", "sun.example"))
    page = desk.get(f"/contacts/{source}/merge").text
    assert "1 ticket, 1 open" in page
    assert "jo@sun.example" in page
    page = desk.post(f"/contacts/{source}/merge", {"into": target}, follow_redirects=True).text
    assert "jo@gmail.com is merged into jo@sun.example" in page
    assert desk.get(f"/contacts/{source}").headers["Location"] == f"/contacts/{target}"
    page = desk.post(f"/contacts/{source}/unmerge", {}, follow_redirects=True).text
    assert "separate from jo@sun.example again" in page


def test_a_company_s_page_names_the_near_ones(any_context: AppContext, desk: Desk) -> None:
    known = create_practice(any_context, "Quillfield Pediatrics", number="00471")
    other = create_practice(any_context, "Quillfeld Pediatrics")
    page = desk.get(f"/companies/{other}").text
    assert "Perhaps the same practice" in page
    assert "Quillfield Pediatrics (no. 00471)" in page
    page = desk.post(f"/companies/{other}/merge", {"into": known}, follow_redirects=True).text
    assert "Quillfeld Pediatrics is merged into Quillfield Pediatrics" in page
    assert "Perhaps the same practice" not in page


def test_a_near_name_is_taken_by_one_click(any_context: AppContext, desk: Desk) -> None:
    number = create_practice(any_context, "Quillfield Pediatrics", number="00471")
    item = InboundItem(
        format=Format.FORMSTACK, external_id="f-1", company="Quillfeld Pediatrics", text="help"
    )
    ticket = deliver(any_context, item).ticket_id
    page = desk.get(f"/tickets/{ticket}").text
    assert "Quillfield Pediatrics (no. 00471)" in page
    assert "It is this one" in page
    form = {"seen": "0", "company": number}
    assert desk.post(f"/tickets/{ticket}/do/use-company", form).status_code == 302
    assert ticket is not None
    assert get_ticket(any_context, ticket).company_id == number
    assert "It is this one" not in desk.get(f"/tickets/{ticket}").text
