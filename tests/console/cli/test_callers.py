"""A caller's details are on the ticket and found.

Whichever way the call was written down.
"""

import json
import re
from typing import Any

import pytest
from sqlalchemy import select

from console.app import create_app
from tests.console.api.test_api import Program
from tests.support.command import Intake
from tests.support.context import get_contact, open_ticket
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.customers.directory import build_company_key
from workflow.models.core import Company, Contact
from workflow.models.states import Role
from workflow.tickets import views

NAME, PHONE = "Quincy Vale", "(212) 555-0142 x9"


def find_contacts(context: AppContext, words: str) -> list[int]:
    with context.store.read_only() as session:
        page = views.load_page(
            session, views.TicketQuery("all", words=words), actor="", now=context.clock()
        )
        return [t.id for t in page.tickets]


@pytest.fixture
def desk(any_context: AppContext) -> Desk:
    return sign_in_at_desk(any_context, Role.LEAD)


def create_company_with(
    context: AppContext, *people: tuple[str, str, str]
) -> tuple[int, list[int]]:
    """Put a company with contacts on record (name, address, number); the numbers of their rows."""
    with context.store.transaction() as session:
        company = Company(
            name="Sunrise", key=build_company_key("Sunrise"), created_at=context.clock()
        )
        session.add(company)
        session.flush()
        rows = [
            Contact(name=n, email=e, phone=p, company_id=company.id, created_at=context.clock())
            for n, e, p in people
        ]
        session.add_all(rows)
        session.flush()
        return company.id, [r.id for r in rows]


def add_ticket(desk: Desk, company: int, **fields: object) -> int:
    page = desk.get(f"/companies/{company}/add-ticket").text
    call = re.search(r'name="call_id" value="(\w+)"', page)
    assert call
    given = {"call_id": call[1], "text": "they called", **fields}
    answer = desk.post(f"/companies/{company}/add-ticket", given)
    assert answer.status_code == 302, answer.text
    return int(answer.headers["Location"].rpartition("/")[2])


def test_by_command_a_name_and_number_without_an_address(intake: Intake) -> None:
    number = intake(
        "ticket", "new", "--name", NAME, "--phone", PHONE, "--text", "Asks about a claim"
    ).stdout.strip()
    shown = json.loads(intake("ticket", number, "--json").stdout)
    (message,) = shown["messages"]
    assert (message["from"], message["phone"]) == (NAME, PHONE)
    assert {("Caller", NAME), ("Call back", PHONE)} <= {tuple(d) for d in message["details"]}
    printed = intake("ticket", number).stdout
    assert NAME in printed
    assert PHONE in printed


def test_by_command_the_number_of_a_known_contact_stays_on_record(
    intake: Intake, at_home: AppContext
) -> None:
    call = ("ticket", "new", "--contact", "jo@acme.example", "--text", "x")
    intake(*call, "--phone", "212-555-0100")
    second = intake(*call, "--phone", "212-555-0199").stdout.strip()
    with at_home.store.read_only() as session:
        assert session.scalars(select(Contact.phone)).all() == ["212-555-0100"]
    shown = json.loads(intake("ticket", second, "--json").stdout)
    assert [m["phone"] for m in shown["messages"]] == ["212-555-0199"]


@pytest.mark.parametrize("typed_fields", [{"name": NAME}, {"new_name": NAME}])
def test_by_the_page_a_name_and_number_without_an_address(
    any_context: AppContext, desk: Desk, typed_fields: dict[str, str]
) -> None:
    open_ticket(any_context)
    company, _ = create_company_with(any_context)
    number = add_ticket(desk, company, phone=PHONE, **typed_fields)
    page = desk.get(f"/tickets/{number}").text
    assert NAME in page
    assert page.count(PHONE) >= 2, "beside the customer's record and on the message"
    assert PHONE in desk.get(f"/tickets/{number}/answer").text, (
        "where it says that nobody has a mail address"
    )
    for words in (NAME, "2125550142", "212.555.0142"):
        assert find_contacts(any_context, words) == [number]
        assert (
            f"/tickets/{number}"
            in desk.get("/search", query_string={"q": words}, follow_redirects=True).text
        )


def test_by_the_page_a_new_number_of_a_contact_is_beside_the_one_on_record(
    any_context: AppContext, desk: Desk
) -> None:
    company, (jo,) = create_company_with(any_context, ("Jo Lee", "jo@x.example", "212-555-0100"))
    number = add_ticket(desk, company, contact=[jo], phone="212-555-0199")
    page = desk.get(f"/tickets/{number}").text
    assert "212-555-0100" in page
    assert "212-555-0199" in page
    assert get_contact(any_context, "jo@x.example").phone == "212-555-0100"
    assert find_contacts(any_context, "2125550199") == [number]


def test_by_the_page_who_called_among_several_contacts_is_the_one_named(
    any_context: AppContext, desk: Desk
) -> None:
    company, rows = create_company_with(
        any_context, ("Al Roe", "al@x.example", ""), ("Jo Lee", "jo@x.example", "")
    )
    add_ticket(desk, company, contact=rows, name="jo  lee", phone="212-555-0142")
    assert get_contact(any_context, "jo@x.example").phone == "212-555-0142"
    assert get_contact(any_context, "al@x.example").phone == ""


def test_by_the_page_a_stranger_who_called_changes_no_record(
    any_context: AppContext, desk: Desk
) -> None:
    company, rows = create_company_with(
        any_context, ("Al Roe", "al@x.example", ""), ("Jo Lee", "jo@x.example", "")
    )
    number = add_ticket(desk, company, contact=rows, name=NAME, phone=PHONE)
    assert [get_contact(any_context, f"{n}@x.example").phone for n in ("al", "jo")] == ["", ""]
    assert find_contacts(any_context, NAME) == [number]


def test_by_the_page_a_name_typed_beside_one_new_address_is_theirs(
    any_context: AppContext, desk: Desk
) -> None:
    company, _ = create_company_with(any_context)
    number = add_ticket(desk, company, name=NAME, new_email="q@x.example", phone=PHONE)
    assert (
        get_contact(any_context, "q@x.example").name,
        get_contact(any_context, "q@x.example").phone,
    ) == (
        NAME,
        PHONE,
    )
    assert find_contacts(any_context, "2125550142") == [number]


def test_by_the_page_a_fault_unticks_nothing(any_context: AppContext, desk: Desk) -> None:
    company, (jo,) = create_company_with(any_context, ("Jo Lee", "jo@x.example", ""))
    form = {
        "text": "x",
        "contact": [jo],
        "telemedicine": "yes",
        "new_email": "nonsense",
        "name": NAME,
        "phone": PHONE,
    }
    desk.get(f"/companies/{company}/add-ticket")
    page = desk.post(f"/companies/{company}/add-ticket", form)
    assert page.status_code == 409
    ticked = re.findall(r'<input [^>]*id="([\w-]+)"[^>]* checked', page.text)
    assert ticked == [f"contact-{jo}", "telemedicine"]
    assert NAME in page.text
    assert PHONE in page.text


def test_by_the_api_a_name_and_number_without_an_address(any_context: AppContext) -> None:
    program = Program(any_context, create_app(any_context))
    made = program.post("/tickets", {"text": "x", "name": NAME, "phone": PHONE}, 201)
    (message,) = program.get(f"/tickets/{made['id']}")["messages"]
    assert (message["from"], message["phone"]) == (NAME, PHONE)
    assert [t["id"] for t in program.get("/tickets?q=2125550142")["items"]] == [made["id"]]


def test_by_the_api_the_name_is_that_of_the_first_contact(any_context: AppContext) -> None:
    program = Program(any_context, create_app(any_context))
    call: dict[str, Any] = {
        "text": "x",
        "name": NAME,
        "phone": PHONE,
        "contacts": ["q@x.example", "z@x.example"],
    }
    made = program.post("/tickets", call, 201)
    assert made["messages"][0]["from"] == f"{NAME} <q@x.example>"
    assert [c["name"] for c in made["contacts"]] == [NAME, ""]
    assert [get_contact(any_context, e).phone for e in call["contacts"]] == [PHONE, ""]


def test_by_the_api_the_same_call_with_another_number_keeps_both(any_context: AppContext) -> None:
    program = Program(any_context, create_app(any_context))
    call = {"text": "x", "name": NAME, "phone": "212-555-0100"}
    made = program.post("/tickets", call, 201, Idempotency_Key="k")
    program.post("/tickets", {**call, "phone": "212-555-0199"}, 409, Idempotency_Key="k")
    shown = program.get(f"/tickets/{made['id']}")
    assert [m["phone"] for m in shown["messages"]] == ["212-555-0100", "212-555-0199"]
