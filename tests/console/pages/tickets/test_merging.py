"""Merging and answering across companies, by every caller.

Page, API and command ask, and name both.
"""

import re
from typing import Any

import pytest
from sqlalchemy import select

from console.app import create_app
from console.pages.tickets.ticket import ACROSS
from parsers.item import Address
from tests.console.api.test_api import Program
from tests.console.pages.tickets.test_answer import do as answer_do
from tests.console.pages.tickets.test_answer import read_form as answer_form
from tests.console.pages.tickets.test_ticket import do
from tests.support.command import Intake
from tests.support.context import complete, create_company, make_mail, open_ticket
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.context import AppContext
from workflow.models.core import CompanyDomain, OutgoingMail, Ticket
from workflow.models.states import Status
from workflow.process import Template

OURS, THEIRS = "Harbor Clinic", "Meadow Dental"
IDA, TOM = Address("Ida Bell", "ida@harbor.example"), Address("Tom Reed", "tom@meadow.example")


def open_two_tickets(context: AppContext) -> tuple[int, int]:
    """A ticket of each of two companies: theirs, which ends, and ours, which goes on."""
    with context.store.transaction() as session:
        for name, domain in ((OURS, "harbor.example"), (THEIRS, "meadow.example")):
            session.add(CompanyDomain(domain=domain, company=create_company(session, name)))
    return open_ticket(context, make_mail(sender=TOM)), open_ticket(context, make_mail(sender=IDA))


def get_status(context: AppContext, number: int) -> Status:
    with context.store.read_only() as session:
        return session.get_one(Ticket, number).status


def list_recipients(context: AppContext, template: Template) -> list[str]:
    with context.store.read_only() as session:
        return sorted(
            session.scalars(select(OutgoingMail.to).where(OutgoingMail.template == template))
        )


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context)


@pytest.fixture
def program(context: AppContext) -> Program:
    return Program(context, create_app(context))


def read_hidden_fields(page: str) -> dict[str, str]:
    """The hidden fields of the question's form."""
    asked = page[page.index('id="both"') :]
    found = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', asked))
    return {name: value for name, value in found.items() if name != "csrf_token"}


def test_the_page_asks_before_two_companies_are_merged(context: AppContext, desk: Desk) -> None:
    number, into = open_two_tickets(context)
    answer = do(desk, number, "merge", into=f"#{into}")
    assert answer.status_code == 409
    assert OURS in answer.text
    assert THEIRS in answer.text
    assert get_status(context, number) is Status.OPEN
    done = desk.post(f"/tickets/{number}/do/merge", read_hidden_fields(answer.text))
    assert done.status_code == 302
    assert get_status(context, number) is Status.MERGED


def test_the_api_refuses_until_it_is_confirmed(context: AppContext, program: Program) -> None:
    number, into = open_two_tickets(context)
    refused = program.post(f"/tickets/{number}/merge", {"into": into}, 409)
    assert refused["fields"].keys() == {"across_companies"}
    assert OURS in refused["detail"]
    assert THEIRS in refused["detail"]
    assert program.post(f"/tickets/{number}/merge", {"into": into, "across_companies": False}, 409)
    assert (
        program.post(f"/tickets/{number}/merge", {"into": into, "across_companies": True})["status"]
        == "merged"
    )


def test_the_command_refuses_until_it_is_confirmed(intake: Intake, at_home: AppContext) -> None:
    number, into = open_two_tickets(at_home)
    refused = intake("ticket", number, "merge", into, code=1).stderr
    assert OURS in refused
    assert THEIRS in refused
    assert "--across-companies" in refused
    assert get_status(at_home, number) is Status.OPEN
    intake("ticket", number, "merge", into, "--across-companies")
    assert get_status(at_home, number) is Status.MERGED


def test_every_caller_reopens_or_refuses_what_has_ended(
    context: AppContext, desk: Desk, program: Program
) -> None:
    completed_ticket, spam, open_one, another = (open_ticket(context) for _ in range(4))
    complete(context, completed_ticket)
    do(desk, spam, "end", status="spam", reason="an advert")
    assert do(desk, open_one, "merge", into=str(spam)).status_code == 422
    assert (
        "reopen it first"
        in program.post(f"/tickets/{open_one}/merge", {"into": spam}, 409)["detail"]
    )
    assert do(desk, open_one, "merge", into=str(completed_ticket)).status_code == 302
    assert (get_status(context, open_one), get_status(context, completed_ticket)) == (
        Status.MERGED,
        Status.OPEN,
    )
    program.post(f"/tickets/{another}/merge", {"into": completed_ticket})
    assert get_status(context, completed_ticket) is Status.OPEN


def test_undo_on_the_page_puts_both_back(context: AppContext, desk: Desk) -> None:
    into, number = open_ticket(context), open_ticket(context)
    complete(context, into)
    do(desk, number, "merge", into=str(into))
    page = desk.get(f"/tickets/{number}").text
    which = re.search(r'name="undo" value="(\d+)"', page)
    assert which
    do(desk, number, "undo", undo=which[1])
    assert (get_status(context, number), get_status(context, into)) == (
        Status.OPEN,
        Status.COMPLETED,
    )


# -- answering ----


@pytest.fixture
def merged_ticket(context: AppContext) -> int:
    """A ticket with contacts of two companies."""
    number, into = open_two_tickets(context)
    with context.store.transaction() as session:
        one, other = session.get_one(Ticket, number), session.get_one(Ticket, into)
        context.desk.merge(
            session, one, other, by="Ann Lee", now=context.clock(), across_companies=True
        )
    return into


def test_the_answer_page_ticks_one_company_and_asks_before_both(
    context: AppContext, desk: Desk, merged_ticket: int
) -> None:
    form: dict[str, Any] = answer_form(desk, merged_ticket) | {"text": "It is done."}
    assert form["to"] == [IDA.email]
    assert THEIRS in desk.get(f"/tickets/{merged_ticket}/answer").text
    answer = answer_do(desk, merged_ticket, "send", form, to=[IDA.email, TOM.email])
    assert answer.status_code == 409
    assert "Not sent yet: it goes to two customers" in answer.text
    assert list_recipients(context, Template.ANSWER) == []
    confirmed = re.search(r'name="across_companies" value="(\w+)"', answer.text)
    assert confirmed
    more = {"across_companies": confirmed[1]}
    refused_answer = answer_do(
        desk,
        merged_ticket,
        "send",
        form,
        to=[IDA.email, TOM.email],
        cc="kim@meadow.example",
        **more,
    )
    assert refused_answer.status_code == 409  # the confirmation was for other people
    done = answer_do(desk, merged_ticket, "send", form, to=[IDA.email, TOM.email], **more)
    assert done.status_code == 302
    assert list_recipients(context, Template.ANSWER) == [IDA.email, TOM.email]


def test_the_answer_page_asks_about_patient_data_and_companies_at_once(
    context: AppContext, desk: Desk, merged_ticket: int
) -> None:
    form: dict[str, Any] = answer_form(desk, merged_ticket) | {"text": "DOB 04/12/1961"}
    form["to"] = [IDA.email, TOM.email]
    answer = answer_do(desk, merged_ticket, "send", form)
    assert answer.status_code == 409
    names = ("agreed", ACROSS)
    found = {name: re.search(rf'name="{name}" value="(\w+)"', answer.text) for name in names}
    confirmations = {name: match[1] for name, match in found.items() if match}
    assert set(confirmations) == set(names)
    for name in names:  # one of the two answers is not enough
        one = answer_do(desk, merged_ticket, "send", form, **{name: confirmations[name]})
        assert one.status_code == 409
        assert f'name="{name}"' not in one.text  # and is not asked for again
    assert list_recipients(context, Template.ANSWER) == []
    assert answer_do(desk, merged_ticket, "send", form, **confirmations).status_code == 302
    assert list_recipients(context, Template.ANSWER) == [IDA.email, TOM.email]


def test_a_recap_by_the_api_goes_to_both_only_when_that_is_said(
    context: AppContext, program: Program, merged_ticket: int
) -> None:
    program.post(f"/tickets/{merged_ticket}/recap", {"text": "Done.", "cc": [TOM.email]}, 409)
    assert list_recipients(context, Template.RECAP) == []
    program.post(f"/tickets/{merged_ticket}/recap", {"text": "Done."})
    assert list_recipients(context, Template.RECAP) == [IDA.email]
    program.post(
        f"/tickets/{merged_ticket}/recap", {"text": "Done again.", "across_companies": True}
    )
    assert list_recipients(context, Template.RECAP) == [IDA.email, IDA.email, TOM.email]


def test_a_recap_by_the_command_goes_to_both_only_when_that_is_said(
    intake: Intake, at_home: AppContext
) -> None:
    number, into = open_two_tickets(at_home)
    intake("ticket", number, "merge", into, "--across-companies")
    intake("ticket", into, "recap", "--text", "Done.")
    assert list_recipients(at_home, Template.RECAP) == [IDA.email]
    intake("ticket", into, "recap", "--text", "Done again.", "--across-companies")
    assert list_recipients(at_home, Template.RECAP) == [IDA.email, IDA.email, TOM.email]
