"""Budgets of automatic mail: address, domain, conversation and all; on both databases."""

import pytest

from parsers.item import Address, InboundItem
from tests.support.context import (
    ANN,
    HandClock,
    count_rows,
    deliver,
    make_mail,
    make_row,
    open_ticket,
)
from tests.support.outgoing_mail import get_outgoing_mail
from workflow.context import AppContext
from workflow.customers import directory
from workflow.mail import compose
from workflow.mail import sender as mail_sender
from workflow.models.core import OutgoingMail, Ticket
from workflow.settings.settings import Settings
from workflow.tickets import notice_budget

STRANGER = Address("Cy", "cy@other.example")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={
            "notices_per_sender_hour": 3,
            "notices_per_domain_hour": 5,
            "notices_per_hour": 8,
        }
    )


def get_task_cause(context: AppContext, number: int) -> str:
    with context.store.read_only() as session:
        tasks = session.get_one(Ticket, number).tasks
        return tasks[0].cause if tasks else ""


def send(context: AppContext, email: str) -> str:
    """Open a ticket by a mail from this address; return why there was no notice."""
    return get_task_cause(context, open_ticket(context, make_mail(sender=Address("", email))))


def test_addresses_that_differ_in_their_tag_have_one_budget(
    any_context: AppContext, clock: HandClock
) -> None:
    context = any_context
    tags = ["ann", "Ann+1", "ann+2+x", "ann+3"]
    causes = [send(context, f"{tag}@practice.example") for tag in tags]
    assert causes == ["", "", "", "too many automatic mails to this address within an hour"]
    clock.turn(hours=1, seconds=1)
    assert send(context, "ann+4@practice.example") == ""


def test_a_domain_has_a_budget_and_a_public_mail_service_has_none(
    any_context: AppContext, clock: HandClock
) -> None:
    context = any_context
    causes = [send(context, f"p{n}@practice.example") for n in range(6)]
    assert causes == [""] * 5 + ["too many automatic mails to this domain within an hour"]
    clock.turn(hours=1, seconds=1)
    assert [send(context, f"p{n}@gmail.com") for n in range(6)] == [""] * 6


def test_all_automatic_mails_have_a_budget(any_context: AppContext, clock: HandClock) -> None:
    context = any_context
    causes = [send(context, f"p@practice{n}.example") for n in range(9)]
    assert causes == [""] * 8 + ["too many automatic mails in all within an hour"]
    clock.turn(hours=1, seconds=1)
    assert send(context, "p@practice.example") == ""


def test_mail_that_people_write_uses_no_budget(context: AppContext, clock: HandClock) -> None:
    numbers = [open_ticket(context) for _ in range(2)]
    for _ in range(3):
        with context.store.transaction() as session:
            ticket = session.get_one(Ticket, numbers[0])
            context.desk.recap(session, ticket, "Paid.", by="Olga", now=clock())
    assert count_rows(context, OutgoingMail) == 5
    assert get_task_cause(context, open_ticket(context)) == ""


@pytest.mark.parametrize(
    ("email", "address", "domain"),
    [
        ("Ann+a+b@Practice.example", "ann@practice.example", "practice.example"),
        ("+x@practice.example", "+x@practice.example", "practice.example"),
        ("ann@gmail.com", "ann@gmail.com", ""),
    ],
)
def test_an_address_is_counted_without_its_tag(email: str, address: str, domain: str) -> None:
    assert directory.fold_address(email) == address
    assert notice_budget.get_counted_domain(email) == domain


# -- conversations ----


def make_answers(context: AppContext) -> dict[str, InboundItem]:
    """Return answers of a stranger to the notice of ticket 1, by their only mark."""
    mail_sender.send_waiting(context)
    settings, signer = context.settings, context.signer
    message_id = get_outgoing_mail(context).message_id
    address = compose.make_reply_address(1, settings, signer)
    return {
        "in-reply-to": make_mail(sender=STRANGER, in_reply_to=message_id),
        "references": make_mail(sender=STRANGER, references=("<x@y.example>", message_id)),
        "address": make_mail(sender=STRANGER, to=(Address("", address),)),
        "quoted address": make_mail(f"> Reply-To: {address}\n\nReceived.", sender=STRANGER),
        "subject": make_mail(
            sender=STRANGER, subject="Re: Your Billing Support Ticket #1 has been created"
        ),
    }


@pytest.mark.parametrize(
    "mark", ["in-reply-to", "references", "address", "quoted address", "subject"]
)
def test_what_answers_an_automatic_mail_of_ours_gets_none(context: AppContext, mark: str) -> None:
    open_ticket(context)
    number = open_ticket(context, make_answers(context)[mark])
    assert number != 1
    assert get_task_cause(context, number) == "it answers an automatic mail of ours"
    assert count_rows(context, OutgoingMail) == 1


def test_what_answers_a_mail_that_a_person_wrote_gets_a_notice(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    with context.store.transaction() as session:
        context.desk.recap(session, session.get_one(Ticket, 1), "Paid.", by="Olga", now=clock())
    clock.turn(days=2)
    mail_sender.send_waiting(context)
    message_id = get_outgoing_mail(context, 2).message_id
    number = open_ticket(context, make_mail(sender=STRANGER, in_reply_to=message_id))
    assert get_task_cause(context, number) == ""


def test_a_conversation_of_several_tickets_has_one_notice_a_day(
    any_context: AppContext, clock: HandClock
) -> None:
    context = any_context
    open_ticket(context, make_mail(name="first@practice.example"))
    causes, reference = [], "<first@practice.example>"
    for n in range(5):
        name = f"n{n}@other{n}.example"
        item = make_mail(name=name, sender=Address("", name), in_reply_to=reference)
        causes.append(get_task_cause(context, open_ticket(context, item)))
        reference = f"<{name}>"
    assert causes == ["too many automatic mails in this conversation within a day"] * 5
    clock.turn(days=1, seconds=1)
    late = make_mail(sender=STRANGER, in_reply_to=reference)
    assert get_task_cause(context, open_ticket(context, late)) == ""


def test_new_mail_that_only_names_a_ticket_is_no_thread(context: AppContext) -> None:
    open_ticket(context)
    number = open_ticket(context, make_mail(subject="More about ticket 1"))
    assert number != 1
    assert get_task_cause(context, number) == ""


def test_rows_of_one_thread_are_not_a_thread_of_mail(context: AppContext) -> None:
    deliver(context, make_row(sender=ANN))
    assert get_task_cause(context, open_ticket(context, make_row(sender=ANN))) == ""
