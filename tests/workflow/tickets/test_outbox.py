"""Outgoing mail, against a real SMTP server and the folder: its recipients and its text.

No mail holds patient data.
"""

from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from parsers.item import Address
from tests.support.context import (
    ANN,
    HandClock,
    complete,
    count_rows,
    deliver,
    get_contact,
    list_audit_entries,
    make_mail,
    make_row,
    open_ticket,
    reach,
    run_in_threads,
)
from tests.support.outgoing_mail import get_outgoing_mail, read, send_through
from tests.support.servers import Relay
from workflow.context import AppContext, open_context
from workflow.mail import compose
from workflow.mail import sender as mail_sender
from workflow.models.core import Message, OutgoingMail, Ticket
from workflow.models.states import OutboxState
from workflow.process import Milestone, Stage, Template
from workflow.settings.settings import Settings

WORDS = ("Jane Roe", "born 1970-01-01", "claim 4711")
PATIENT = make_mail(
    f"{WORDS[0]} {WORDS[1]}", subject=WORDS[2], html=f"<b>{WORDS[0]}</b>", reply_text=WORDS[1]
)


@pytest.fixture
def relay_context(context: AppContext, relay: Relay) -> Iterator[AppContext]:
    """A context that sends through the relay."""
    with send_through(context, relay.url) as opened:
        yield opened


def read_outbox_folder(context: AppContext) -> list[EmailMessage]:
    return [read(p.read_bytes()) for p in sorted((context.settings.home / "outbox").glob("*.eml"))]


# -- what goes out ----


def test_a_notice_says_what_it_is_and_whom_it_answers(
    relay_context: AppContext, relay: Relay
) -> None:
    first = open_ticket(relay_context, make_mail(name="first@practice.example"))
    assert mail_sender.send_waiting(relay_context) == 1
    (taken_mail,) = relay.taken
    message = read(bytes(taken_mail.content or b""))
    signer, settings = relay_context.signer, relay_context.settings
    assert taken_mail.rcpt_tos == [ANN.email]
    assert taken_mail.mail_from == compose.make_return_path(1, settings, signer)
    assert message["Message-ID"] == compose.make_message_id(1, settings, signer)
    assert message["Reply-To"] == compose.make_reply_address(first, settings, signer)
    assert message["Auto-Submitted"] == "auto-replied"
    assert message["In-Reply-To"] == "<first@practice.example>"
    assert message["References"] == "<first@practice.example>"
    assert message["From"] == "Billing Support <support@localhost>"
    assert message["Subject"] == f"Your Billing Support Ticket #{first} has been created"
    assert "has been created. We are working on it." in message.get_content()
    assert (
        signer.verify_token("t", message["Reply-To"].partition("+t-")[2].partition("@")[0]) == first
    )
    assert (
        signer.verify_token(
            "bounce", str(taken_mail.mail_from).partition("+bounce-")[2].partition("@")[0]
        )
        == 1
    )


def test_a_later_mail_refers_to_the_whole_thread_of_the_customers_mails(
    relay_context: AppContext, relay: Relay
) -> None:
    number = open_ticket(relay_context, make_mail(name="first@practice.example"))
    mail_sender.send_waiting(relay_context)
    deliver(
        relay_context,
        make_mail(name="second@practice.example", in_reply_to="<first@practice.example>"),
    )
    complete(relay_context, number)
    mail_sender.send_waiting(relay_context)
    survey = read(bytes(relay.taken[-1].content or b""))
    assert survey["References"] == "<first@practice.example> <second@practice.example>"
    assert survey["In-Reply-To"] == "<second@practice.example>"
    assert survey["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    "name", ["a b@x.example", "a>b@x.example", "a\r\nBcc: x@y.example@z", "nope", "ü@x.example"]
)
def test_a_message_id_that_could_break_a_header_is_not_referred_to(
    relay_context: AppContext, relay: Relay, name: str
) -> None:
    open_ticket(relay_context, make_mail(name=name))
    mail_sender.send_waiting(relay_context)
    message = read(bytes(relay.taken[0].content or b""))
    assert "References" not in message
    assert "Bcc" not in message


def test_a_recap_is_a_persons_mail_with_the_persons_words(
    relay_context: AppContext, relay: Relay
) -> None:
    number = open_ticket(relay_context)
    with relay_context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        relay_context.desk.recap(
            session, ticket, "We posted the payment – grüße.", by="Olga", now=relay_context.clock()
        )
    mail_sender.send_waiting(relay_context)
    recap = read(bytes(relay.taken[-1].content or b""))
    assert "Auto-Submitted" not in recap
    assert "We posted the payment – grüße." in recap.get_content()
    assert recap["Subject"] == f"Recap of Resolution: Billing Support Ticket #{number}"


def test_an_oversized_mail_is_answered_with_its_own_words(context: AppContext) -> None:
    number = open_ticket(context, make_mail(), {"oversized": 60_000_000})
    mail_sender.send_waiting(context)
    (message,) = read_outbox_folder(context)
    assert "too large" in message["Subject"]
    assert get_outgoing_mail(context).template is Template.OVERSIZED
    with context.store.read_only() as session:
        assert session.get_one(Ticket, number).stage is Stage.IN_PROGRESS


def test_no_mail_of_ours_repeats_what_the_customer_wrote(context: AppContext) -> None:
    files = ()
    number = open_ticket(context, PATIENT)
    open_ticket(context, make_mail(WORDS[0], subject=WORDS[1], attachments=files), {"oversized": 1})
    complete(context, number)
    mail_sender.send_waiting(context)
    assert {m.template for m in (get_outgoing_mail(context, n) for n in (1, 2, 3))} == {
        Template.NOTICE,
        Template.OVERSIZED,
        Template.SURVEY,
    }
    for path in (context.settings.home / "outbox").glob("*.eml"):
        content = path.read_text() + str(read(path.read_bytes()).get_content())
        assert not [w for w in WORDS if w in content]


def test_every_template_renders_to_one_subject_and_a_text(context: AppContext) -> None:
    number = open_ticket(context)
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
    for template in Template:
        waiting = OutgoingMail(
            id=9, ticket_id=number, ticket=ticket, template=template, text="words", to=ANN.email
        )
        subject, content = compose.render(waiting, context.settings, context.signer)
        assert subject
        assert "\n" not in subject
        assert "{" not in subject + content
        assert content.strip().endswith("Billing Support")


def test_the_mail_is_on_the_timeline_once_sent(context: AppContext) -> None:
    number = open_ticket(context)
    mail_sender.send_waiting(context)
    with context.store.read_only() as session:
        sent = session.get_one(Ticket, number).messages[1]
        assert (sent.direction, f"<{sent.message_id}>") == (
            "out",
            get_outgoing_mail(context).message_id,
        )
    assert list_audit_entries(context, number, "mail sent")[0].detail == {"mail": 1}


def test_message_ids_are_the_same_for_a_row_and_cannot_be_guessed(
    context: AppContext, tmp_path: Path
) -> None:
    signer, settings = context.signer, context.settings
    ids = {compose.make_message_id(n, settings, signer) for n in range(1, 200)}
    assert len(ids) == 199
    assert ids == {compose.make_message_id(n, settings, signer) for n in range(1, 200)}
    other = open_context(Settings(home=tmp_path / "other"))
    other.close()
    assert compose.make_message_id(1, settings, other.signer) not in ids


# -- the folder ----


def test_without_a_relay_each_mail_is_one_file_however_often_it_is_sent(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    mail_sender.send_waiting(context)
    with context.store.transaction() as session:
        session.query(Message).where(Message.direction == "out").delete()
        session.get_one(OutgoingMail, 1).state = OutboxState.WAITING
        session.get_one(OutgoingMail, 1).not_before = clock()
    mail_sender.send_waiting(context)
    (message,) = read_outbox_folder(context)
    assert message["To"] == ANN.email
    assert not list((context.settings.home / "outbox").glob(".*"))


def test_a_folder_that_cannot_be_written_is_waited_out(
    context: AppContext, clock: HandClock
) -> None:
    open_ticket(context)
    folder = context.settings.home / "outbox"
    folder.write_text("not a folder")
    mail_sender.send_waiting(context)
    assert get_outgoing_mail(context).state is OutboxState.WAITING
    folder.unlink()
    clock.turn(minutes=3)
    mail_sender.send_waiting(context)
    assert get_outgoing_mail(context).state is OutboxState.SENT


# -- whom no automatic mail goes to ----


@pytest.mark.parametrize(
    ("email", "why"),
    [
        ("no-reply@shop.example", "an address nobody reads"),
        ("noreply@shop.example", "an address nobody reads"),
        ("Do-Not-Reply@shop.example", "an address nobody reads"),
        ("MAILER-DAEMON@relay.example", "an address nobody reads"),
        ("postmaster@relay.example", "an address nobody reads"),
        ("bounces+x=y@list.example", "an address nobody reads"),
        ("support@localhost", "no address"),  # our own is nobody's: it becomes no contact
        ("Support+t-1-abc@LOCALHOST", "no address"),
    ],
)
def test_nobody_answers_automatically_to(context: AppContext, email: str, why: str) -> None:
    number = open_ticket(context, make_mail(sender=Address("", email)))
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert ticket.outbox == []
        assert ticket.stage is Stage.IN_PROGRESS
        assert [t.cause for t in ticket.tasks] in ([why], ["automatic sender"])


def test_our_own_addresses_are_known_in_any_spelling(tmp_path: Path) -> None:
    from workflow.customers import directory  # noqa: PLC0415

    settings = Settings(
        home=tmp_path, addresses=("@desk.example", "help@x.example"), from_address="Desk@X.example"
    )
    ours = ["anything@desk.example", "HELP@x.example", "help+tag@x.example", "desk@x.example"]
    assert all(directory.is_our_address(a, settings) for a in ours)
    assert not any(
        directory.is_our_address(a, settings)
        for a in ["x@practice.example", "helper@x.example", "a@sub.desk.example"]
    )


def test_a_contact_that_came_back_is_not_written_to_again(context: AppContext) -> None:
    open_ticket(context)
    with context.store.transaction() as session:
        session.get_one(OutgoingMail, 1).contact.unreachable = True  # type: ignore[union-attr]
    by_form = open_ticket(context, make_row(sender=ANN))
    with context.store.read_only() as session:
        assert session.get_one(Ticket, by_form).outbox == []


def test_a_contact_who_writes_again_by_mail_can_be_written_to_again(context: AppContext) -> None:
    open_ticket(context)
    with context.store.transaction() as session:
        session.get_one(OutgoingMail, 1).contact.unreachable = True  # type: ignore[union-attr]
    open_ticket(context, make_mail("vacation", is_automated=True))
    assert get_contact(context, ANN.email).unreachable
    number = open_ticket(context)
    with context.store.read_only() as session:
        assert len(session.get_one(Ticket, number).outbox) == 1


def test_one_sender_gets_no_more_than_the_budget_of_an_hour(
    context: AppContext, clock: HandClock
) -> None:
    numbers = [open_ticket(context) for _ in range(12)]
    assert count_rows(context, OutgoingMail) == context.settings.notices_per_sender_hour == 10
    with context.store.read_only() as session:
        last = session.get_one(Ticket, numbers[-1])
        assert last.tasks[0].cause == "too many automatic mails to this address within an hour"
        assert last.stage is Stage.IN_PROGRESS
    open_ticket(context, make_mail(sender=Address("", "other@practice.example")))
    assert count_rows(context, OutgoingMail) == 11
    clock.turn(hours=1, seconds=1)
    open_ticket(context)
    assert count_rows(context, OutgoingMail) == 12


def test_a_ticket_has_one_notice_whatever_comes_in_later(context: AppContext) -> None:
    number = open_ticket(context, make_mail(name="first@practice.example"))
    for _ in range(3):
        deliver(context, make_mail(in_reply_to="<first@practice.example>"))
    assert count_rows(context, OutgoingMail, OutgoingMail.ticket_id == number) == 1


# -- 9: the survey ----


def list_surveys(context: AppContext) -> list[OutgoingMail]:
    with context.store.read_only() as session:
        return list(
            session.scalars(select(OutgoingMail).where(OutgoingMail.template == Template.SURVEY))
        )


def complete_ticket(context: AppContext, sender: Address = ANN, **more: Any) -> int:
    number = open_ticket(context, make_mail(sender=sender, **more))
    complete(context, number)
    mail_sender.send_waiting(context)
    return number


def test_a_customer_gets_one_survey_in_30_times_24_hours(
    any_context: AppContext, clock: HandClock
) -> None:
    context = any_context
    complete_ticket(context)
    complete_ticket(context, ANN.__class__("Ann", "ANN@practice.example"))  # the same customer
    assert len(list_surveys(context)) == 1
    complete_ticket(context, Address("", "bob@practice.example"))  # another
    assert len(list_surveys(context)) == 2
    clock.turn(days=30, seconds=-1)
    complete_ticket(context)
    assert len(list_surveys(context)) == 2
    clock.turn(seconds=1)
    complete_ticket(context)
    assert len(list_surveys(context)) == 3


def test_the_30_days_run_from_the_sending_and_not_from_the_promise(
    relay_context: AppContext, relay: Relay, clock: HandClock
) -> None:
    number = open_ticket(relay_context)
    mail_sender.send_waiting(relay_context)
    relay.answers = ["450 later"]
    reach(relay_context, number, *Milestone)
    mail_sender.send_waiting(relay_context)
    clock.turn(hours=20)
    mail_sender.send_waiting(relay_context)  # sent twenty hours after it was queued
    clock.turn(days=30, hours=-1)
    complete_ticket(relay_context)
    assert len(list_surveys(relay_context)) == 1
    clock.turn(hours=1)
    complete_ticket(relay_context)
    assert len(list_surveys(relay_context)) == 2


def test_a_survey_nobody_got_does_not_count(relay_context: AppContext, relay: Relay) -> None:
    object.__setattr__(
        relay_context,
        "settings",
        relay_context.settings.model_copy(update={"survey_by": "company"}),
    )
    number = open_ticket(relay_context, make_row(sender=ANN))
    mail_sender.send_waiting(relay_context)
    reach(relay_context, number, *Milestone)
    relay.answers = ["550 gone"]
    mail_sender.send_waiting(relay_context)
    assert [s.state for s in list_surveys(relay_context)] == [OutboxState.REFUSED]
    complete(
        relay_context,
        open_ticket(relay_context, make_row(sender=Address("", "bob@practice.example"))),
    )
    assert len(list_surveys(relay_context)) == 2


def test_by_setting_the_customer_is_the_company(context: AppContext) -> None:
    object.__setattr__(
        context, "settings", context.settings.model_copy(update={"survey_by": "company"})
    )
    for sender in (ANN, Address("", "bob@practice.example")):
        complete(context, open_ticket(context, make_row(sender=sender)))
    assert len(list_surveys(context)) == 1


def test_two_tickets_of_one_customer_completed_at_once_send_one_survey(
    any_context: AppContext,
) -> None:
    context = any_context
    numbers = [open_ticket(context) for _ in range(4)]
    for number in numbers:
        reach(context, number, *list(Milestone)[:3])
    assert (
        run_in_threads(*(lambda n=n: reach(context, n, Milestone.RECAP_SENT) for n in numbers))
        == []
    )
    assert len(list_surveys(context)) == 1
    assert count_rows(context, Ticket, Ticket.stage == Stage.COMPLETED) == 4


def test_two_due_claims_of_one_customer_at_once_send_one_survey(
    postgres_context: AppContext, clock: HandClock
) -> None:
    context = postgres_context
    complete_ticket(context)
    clock.turn(days=31)
    numbers = [open_ticket(context) for _ in range(4)]
    for number in numbers:
        reach(context, number, *list(Milestone)[:3])
    assert (
        run_in_threads(*(lambda n=n: reach(context, n, Milestone.RECAP_SENT) for n in numbers))
        == []
    )
    assert len(list_surveys(context)) == 2


@pytest.mark.parametrize("flag", ["unreachable", "unsubscribed"])
@pytest.mark.parametrize("when", ["before completion", "before sending"])
def test_no_survey_goes_to_the_bounced_or_unsubscribed(
    context: AppContext, flag: str, when: str
) -> None:
    number = open_ticket(context)
    mail_sender.send_waiting(context)

    def set_flag() -> None:
        with context.store.transaction() as session:
            setattr(session.get_one(OutgoingMail, 1).contact, flag, True)

    if when == "before completion":
        set_flag()
    complete(context, number)
    set_flag()
    mail_sender.send_waiting(context)
    assert [s.state for s in list_surveys(context)] in ([], [OutboxState.WITHHELD])
    assert len(read_outbox_folder(context)) == 1


def test_the_cap_holds_for_a_reopened_ticket(context: AppContext, clock: HandClock) -> None:
    number = complete_ticket(context)
    with context.store.transaction() as session:
        context.desk.reopen(
            session, session.get_one(Ticket, number), by="Olga", cause="she called", now=clock()
        )
    complete(context, number)
    assert len(list_surveys(context)) == 1


def test_a_survey_asks_with_a_signed_link_and_a_way_out(context: AppContext) -> None:
    complete_ticket(context)
    survey = next(m for m in read_outbox_folder(context) if "How did we do" in m["Subject"])
    token = context.signer.make_token(compose.SURVEY_PURPOSE, list_surveys(context)[0].id)
    link = f"{context.settings.public_url}/survey/{token}"
    assert link in survey.get_content()
    assert survey["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
