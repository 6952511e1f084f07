"""Read receipts, recalls, challenges: on the ticket they concern, or on one without deadlines."""

import pytest
from sqlalchemy import select

from console.presenters.tickets.ticket import present_ticket
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.context import ANN, HandClock, complete, count_rows, make_mail, open_ticket
from workflow.context import AppContext
from workflow.filing import corrections
from workflow.filing.file_item import CHALLENGE_TASK
from workflow.mail import sender
from workflow.models.core import Message, OutgoingMail, Task, Ticket
from workflow.models.states import Judgement, Status
from workflow.operations import sweep

RECALL = 'Ann would like to recall the message, "claim".'
CHALLENGE = (
    "Your message is being held. Please confirm that you are a human: https://filter.example/x1"
)
RECEIPT = "Your message was read on Monday."
STRAYS = {
    "read receipt": ("Read: something", RECEIPT),
    "recall of a message": ("Recall: something", RECALL),
    "request to confirm the sender": ("Please confirm", CHALLENGE),
}


def take(context: AppContext, subject: str, text: str, *fields: str, to: str = "") -> None:
    """Have a mail of Ann come in and be filed."""
    head = "\r\n".join(
        (
            f"From: Ann <{ANN.email}>",
            f"To: {to or 'support@localhost'}",
            f"Subject: {subject}",
            f"Message-ID: <{subject.replace(' ', '-')}@clinic.example>",
            *fields,
        )
    )
    raw = f"{head}\r\n\r\n{text}\r\n".encode()
    envelope: dict[str, object] = {"mail_from": ANN.email, "rcpt_to": [to or "support@localhost"]}
    Intake(context).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw, envelope=envelope)
    )
    process_waiting(context)


def list_tickets(context: AppContext) -> list[Ticket]:
    with context.store.read_only() as session:
        return list(session.scalars(select(Ticket).order_by(Ticket.id)))


def get_message(context: AppContext, subject: str) -> Message:
    with context.store.read_only() as session:
        return session.scalars(select(Message).where(Message.subject == subject)).one()


@pytest.fixture
def notice(context: AppContext) -> OutgoingMail:
    """The notice of a ticket of Ann, sent."""
    number = open_ticket(context)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        return session.scalars(select(OutgoingMail).where(OutgoingMail.ticket_id == number)).one()


@pytest.mark.parametrize("kind", list(STRAYS))
def test_an_answer_to_our_mail_is_a_note_that_says_which_it_is(
    context: AppContext, notice: OutgoingMail, kind: str
) -> None:
    complete(context, notice.ticket_id)
    mails = count_rows(context, OutgoingMail)
    subject, text = STRAYS[kind]
    take(context, subject, text, f"In-Reply-To: {notice.message_id}")
    [ticket] = list_tickets(context)
    assert ticket.status is Status.COMPLETED, "a program reopens nothing"
    note = get_message(context, subject)
    assert (note.ticket_id, note.direction, note.judgement) == (
        ticket.id,
        "note",
        Judgement.ANSWER,
    )
    assert f"Mail {notice.id} to {notice.to}: {kind}" in note.text
    assert text in note.text
    assert count_rows(context, OutgoingMail) == mails


def test_a_receipt_that_names_our_mail_in_its_part_only_is_a_note(
    context: AppContext, notice: OutgoingMail
) -> None:
    report = (
        "--b\r\nContent-Type: text/plain\r\n\r\nSeen.\r\n"
        "--b\r\nContent-Type: message/disposition-notification\r\n\r\n"
        f"Final-Recipient: rfc822; {ANN.email}\r\nOriginal-Message-ID: {notice.message_id}\r\n"
        "Disposition: manual-action/MDN-sent-manually; displayed\r\n--b--"
    )
    kind = 'multipart/report; report-type=disposition-notification; boundary="b"'
    take(context, "Seen", report, f"Content-Type: {kind}")
    assert len(list_tickets(context)) == 1
    assert "read receipt" in get_message(context, "Seen").text


def test_a_challenge_gives_a_person_a_task_once(context: AppContext, notice: OutgoingMail) -> None:
    for number in range(2):
        take(context, f"Confirm {number}", CHALLENGE, f"In-Reply-To: {notice.message_id}")
    with context.store.read_only() as session:
        [task] = session.scalars(select(Task))
    assert (task.ticket_id, task.text) == (notice.ticket_id, CHALLENGE_TASK)


def test_a_recall_joins_the_ticket_of_the_mail_it_is_about(context: AppContext) -> None:
    first = open_ticket(context, make_mail(subject="Claim 7"))
    open_ticket(context, make_mail(subject="Claim 8"))
    complete(context, first)
    take(context, "Recall: Claim 7", RECALL)
    message = get_message(context, "Recall: Claim 7")
    assert message.ticket_id == first
    assert any(caveat.startswith("recall of a message, sent") for caveat in message.caveats)
    assert list_tickets(context)[0].status is Status.COMPLETED


@pytest.mark.parametrize("kind", list(STRAYS))
def test_one_about_nothing_we_have_is_a_ticket_without_deadlines_and_notice(
    context: AppContext, clock: HandClock, kind: str
) -> None:
    take(context, *STRAYS[kind])
    [ticket] = list_tickets(context)
    assert (ticket.notice, ticket.status, ticket.due_at) == (kind, Status.OPEN, None)
    assert any(caveat.startswith(f"{kind}, sent automatically") for caveat in ticket.caveats)
    sweep.raise_tasks(context, clock.turn(days=5))
    with context.store.read_only() as session:
        tasks = [task.text for task in session.scalars(select(Task))]
        shown = present_ticket(session, ticket.id, context.settings)
    assert tasks == ([CHALLENGE_TASK] if kind == "request to confirm the sender" else [])
    assert shown["deadlines"] == []
    assert count_rows(context, OutgoingMail) == 0


def test_a_person_who_was_taken_for_one_gets_deadlines_and_a_notice(context: AppContext) -> None:
    take(context, *STRAYS["recall of a message"])
    with context.store.transaction() as session:
        ticket = session.scalars(select(Ticket)).one()
        message = corrections.get_automatic_message(session, ticket)
        corrections.mark_not_automatic(
            context.desk, session, ticket, message, by="Olga", now=context.clock()
        )
    [ticket] = list_tickets(context)
    assert ticket.notice == ""
    assert ticket.due_at is not None
    assert not any("recall of a message" in caveat for caveat in ticket.caveats)
    assert count_rows(context, OutgoingMail) == 1
