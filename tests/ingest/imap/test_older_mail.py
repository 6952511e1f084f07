"""Import of the mails that a first look has left in a mailbox, against a real Dovecot."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from console.presenters.operations import present_status
from ingest.imap.older_mail import (
    MailboxError,
    OlderMails,
    preview_first_look,
    preview_import,
    run_import,
)
from ingest.intake import Intake
from ingest.processing.process import process_waiting
from tests.ingest.imap.test_first_look import LAST_YEAR, append_old_mails, make_dated_mail
from tests.support.context import open_ticket
from tests.support.dovecot import ALL, PASSWORD, Dovecot
from tests.support.imap_reader import Reader, list_subjects, make_raw_mail, until
from workflow.context import AppContext
from workflow.mail import sender
from workflow.models.core import Contact, OutgoingMail, Task, Ticket
from workflow.models.states import OutboxState, Status
from workflow.process import Stage
from workflow.settings.settings import Mailbox


@pytest.fixture
def box(server: Dovecot, user: str) -> Mailbox:
    return Mailbox(host=ALL, port=server.port, tls=False, user=user, password=PASSWORD)


@pytest.fixture
def reader(context: AppContext, box: Mailbox) -> Reader:
    return Reader(context, box)


def look(reader: Reader) -> None:
    with reader.run():
        reader.wait_for_looks(1)


def list_tickets(context: AppContext) -> list[Ticket]:
    process_waiting(context)
    with context.store.read_only() as session:
        tickets = list(session.scalars(select(Ticket).order_by(Ticket.id)))
        for ticket in tickets:
            assert ticket.messages is not None
            assert ticket.milestones is not None
        return tickets


def count_rows(context: AppContext, model: type[OutgoingMail] | type[Task]) -> int:
    with context.store.read_only() as session:
        return len(list(session.scalars(select(model))))


def test_imported_mails_become_completed_tickets_with_their_own_dates(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    look(reader)
    flags = server.read_flags(user)
    assert preview_import(context, box) == OlderMails(
        box.key, 3, 0, LAST_YEAR, LAST_YEAR + timedelta(days=2)
    )
    assert list_subjects(context) == []
    assert run_import(context, box, Intake(context).accept).coming == 3
    tickets = list_tickets(context)
    assert [t.subject for t in tickets] == ["old-0", "old-1", "old-2"]
    for number, ticket in enumerate(tickets):
        at = LAST_YEAR + timedelta(days=number)
        assert (ticket.status, ticket.stage) == (Status.COMPLETED, Stage.COMPLETED)
        assert (ticket.created_at, ticket.completed_at, ticket.due_at) == (at, at, None)
        assert ticket.messages[0].at == at
    assert count_rows(context, OutgoingMail) == count_rows(context, Task) == 0
    assert server.read_flags(user) == flags, "the mailbox is left as it is"


def test_a_second_import_brings_nothing_and_the_page_counts_what_is_left(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)
    look(reader)
    since = LAST_YEAR + timedelta(days=1)
    assert run_import(context, box, Intake(context).accept, since).coming == 2
    assert present_status(context)["older_mails"][box.key]["count"] == 1
    again = run_import(context, box, Intake(context).accept)
    assert (again.coming, again.known) == (1, 2)
    assert present_status(context)["older_mails"] == {}
    assert list_subjects(context) == ["old-0", "old-1", "old-2"]


def test_an_old_answer_joins_its_ticket_and_a_new_one_to_it_follows(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user, count=1)
    later = LAST_YEAR + timedelta(days=40)
    answer = b"In-Reply-To: <old-0@old.example>\r\n"
    with server.connect_client(user) as person:
        person.append("INBOX", answer + make_dated_mail("answer", later), [rb"\Seen"], later)
    look(reader)
    run_import(context, box, Intake(context).accept)
    [ticket] = list_tickets(context)
    assert [m.subject for m in ticket.messages] == ["old-0", "answer"]
    assert (ticket.status, ticket.completed_at) == (Status.COMPLETED, later)
    server.deliver(user, answer + make_raw_mail("today"))
    with reader.run():
        until(lambda: list_subjects(context) == ["old-0", "today"])
    _, new = list_tickets(context)
    assert new.status is Status.OPEN


def test_the_date_of_sending_counts_for_what_was_copied_there_later(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    with server.connect_client(user) as person:
        person.append("INBOX", make_dated_mail("copied", LAST_YEAR), [rb"\Seen"], datetime.now(UTC))
    look(reader)
    run_import(context, box, Intake(context).accept)
    assert [t.created_at for t in list_tickets(context)] == [LAST_YEAR]


def test_an_old_mail_does_not_make_a_contact_reachable(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    with context.store.transaction() as session:
        session.add(
            Contact(
                email="ann@example.com", name="Ann", unreachable=True, created_at=context.clock()
            )
        )
    append_old_mails(server, user, count=1)
    look(reader)
    run_import(context, box, Intake(context).accept)
    list_tickets(context)
    with context.store.read_only() as session:
        assert session.scalar(select(Contact.unreachable))


def test_an_old_bounce_of_our_mail_is_a_note_and_no_more(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    number = open_ticket(context)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        mail = session.scalars(select(OutgoingMail)).one()
    report = (
        "From: mailer-daemon@mx.example\r\nSubject: Undelivered\r\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="b"\r\n\r\n'
        "--b\r\nContent-Type: text/plain\r\n\r\nNo such user.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.example\r\n\r\n"
        f"Final-Recipient: rfc822; {mail.to}\r\nAction: failed\r\nStatus: 5.1.1\r\n"
        "--b\r\nContent-Type: message/rfc822\r\n\r\n"
        f"Message-ID: {mail.message_id}\r\n\r\nx\r\n--b--\r\n"
    )
    with server.connect_client(user) as person:
        person.append("INBOX", report.encode(), [rb"\Seen"], LAST_YEAR)
    look(reader)
    run_import(context, box, Intake(context).accept)
    [ticket] = list_tickets(context)
    assert ticket.id == number
    assert (ticket.messages[-1].direction, ticket.messages[-1].judgement) == ("note", "bounced")
    with context.store.read_only() as session:
        assert session.scalars(select(OutgoingMail.state)).one() is OutboxState.SENT
    assert count_rows(context, Task) == 0


def test_before_the_first_look_nothing_is_imported(
    server: Dovecot, user: str, box: Mailbox, context: AppContext
) -> None:
    append_old_mails(server, user)
    with pytest.raises(MailboxError, match="start `intake imap` first"):
        run_import(context, box, Intake(context).accept)


def test_a_dry_run_counts_what_a_first_look_would_take(
    server: Dovecot, user: str, box: Mailbox, reader: Reader, context: AppContext
) -> None:
    append_old_mails(server, user)

    def preview(since: str = "") -> tuple[int, int, bool]:
        shown = preview_first_look(context, box, since)
        return shown.taken, shown.left, shown.is_known

    assert preview() == (0, 3, False)
    assert preview("all") == (3, 0, False)
    assert preview("2025-03-11") == (2, 1, False)
    assert preview() == (0, 3, False), "a dry run stores nothing"
    look(reader)
    server.deliver(user, make_raw_mail("new"))
    assert preview() == (1, 3, True)


def test_a_refused_login_and_a_server_that_is_away_are_named(
    server: Dovecot, box: Mailbox, context: AppContext
) -> None:
    wrong = Mailbox(host=ALL, port=server.port, tls=False, user="known@example.org", password="no")
    with pytest.raises(MailboxError, match="login refused") as refused:
        preview_first_look(context, wrong)
    assert refused.value.is_permanent
    away = box.model_copy(update={"port": 1})
    with pytest.raises(MailboxError, match="not reachable") as lost:
        preview_first_look(context, away)
    assert not lost.value.is_permanent
