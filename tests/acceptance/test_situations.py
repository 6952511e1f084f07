"""Situations that people reported about other help desks, played over a real SMTP socket.

Each kind is played in several variants: what does not matter must change nothing.
"""

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import select

from ingest.intake import Intake
from ingest.processing import process
from ingest.replay import reprocess
from ingest.replay.automated_mail import make_ticket, undo_ticket
from ingest.smtp import listener as smtp_listener
from parsers.mail import evidence
from tests.support.context import count_rows, create_company, create_staff, get_contact
from workflow.context import AppContext
from workflow.customers import sender_rules
from workflow.errors import ActionNotAllowed
from workflow.filing import automated_mail, corrections
from workflow.mail import compose
from workflow.mail import sender as mail_sender
from workflow.models.core import (
    AutomatedMail,
    Company,
    CompanyDomain,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    Task,
    Ticket,
    TicketRelation,
)
from workflow.models.states import Judgement, OutboxState, Outcome, Role, Status, Treatment
from workflow.permissions import RIGHTS_BY_ROLE
from workflow.process import Milestone, Template
from workflow.settings.settings import Settings
from workflow.tickets.actions import Actor

SUPPORT = "support@localhost"
IVY = "ivy.long@oakhill.example"
_numbers = count(1)


@dataclass
class Desk:
    """The application behind a real SMTP listener; its own mails lie in the outbox folder."""

    context: AppContext
    port: int

    def send(
        self,
        text: str,
        *fields: str,
        sender: str = IVY,
        to: str = SUPPORT,
        envelope: str | None = None,
    ) -> Filing:
        """Send a mail with these header fields; return what has become of it."""
        own_fields = "\r\n".join(fields)
        defaults = {
            "From": f"From: {sender}",
            "To": f"To: {to}",
            "Subject": "Subject: A question",
            "Message-ID": f"Message-ID: <{next(_numbers)}@oakhill.example>",
            "Date": "Date: Mon, 02 Mar 2026 09:00:00 -0500",
        }
        header = [v for k, v in defaults.items() if not re.search(rf"(?im)^{k}:", own_fields)]
        raw = "\r\n".join([*header, *fields]) + "\r\n\r\n" + text.replace("\n", "\r\n") + "\r\n"
        with smtplib.SMTP("127.0.0.1", self.port) as client:
            client.sendmail(sender if envelope is None else envelope, [to], raw.encode())
        self.work()
        with self.context.store.read_only() as session:
            newest = select(Filing).order_by(Filing.delivery_id.desc())
            return session.scalars(newest.limit(1)).one()

    def work(self) -> None:
        """Read and send what waits."""
        process.process_waiting(self.context)
        mail_sender.send_waiting(self.context)

    def get_newest_notice(self) -> EmailMessage:
        """Return the newest mail of ours."""
        folder = Path(self.context.settings.home) / "outbox"
        newest = max(folder.iterdir(), key=lambda f: int(f.name.split("-")[1]))
        found = message_from_bytes(newest.read_bytes(), policy=policy.default)
        assert isinstance(found, EmailMessage)
        return found

    def open_ticket(
        self, text: str = "Where is my statement?", *fields: str, sender: str = IVY
    ) -> int:
        """Open a ticket whose notice has gone out; return its number."""
        filing = self.send(text, *fields, sender=sender)
        assert filing.outcome is Outcome.OPENED
        assert filing.ticket_id is not None
        return filing.ticket_id

    def complete_ticket(self) -> int:
        """Take a ticket to 6-Completed; return its number."""
        number = self.open_ticket()
        with self.context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)
            owner = create_staff(session, f"Owner {number}", Role.AGENT)
            self.context.desk.assign(
                session, ticket, owner, by=owner.name, now=self.context.clock()
            )
            for milestone in (Milestone.FOLLOW_UP_SENT, Milestone.RESOLVED, Milestone.RECAP_SENT):
                self.context.desk.record_milestone(
                    session, ticket, milestone, by=owner.name, now=self.context.clock()
                )
            assert ticket.status is Status.COMPLETED
        self.work()
        return number

    def get_status(self, number: int) -> Status:
        with self.context.store.read_only() as session:
            return session.get_one(Ticket, number).status

    def list_messages(self, number: int) -> list[tuple[str, str]]:
        """Return direction and text of the messages of a ticket."""
        with self.context.store.read_only() as session:
            rows = select(Message).where(Message.ticket_id == number).order_by(Message.id)
            return [(m.direction, m.text) for m in session.scalars(rows)]

    def count_notices(self, number: int) -> int:
        return count_rows(
            self.context,
            OutgoingMail,
            OutgoingMail.ticket_id == number,
            OutgoingMail.template == Template.NOTICE,
        )

    def get_first_mail(self, number: int) -> OutgoingMail:
        """Return the first mail of ours on a ticket."""
        with self.context.store.read_only() as session:
            rows = (
                select(OutgoingMail)
                .where(OutgoingMail.ticket_id == number)
                .order_by(OutgoingMail.id)
            )
            return session.scalars(rows.limit(1)).one()

    def mark_as_written_by_person(self, number: int) -> None:
        with self.context.store.transaction() as session:
            ticket = session.get_one(Ticket, number)
            message = corrections.get_automatic_message(session, ticket)
            corrections.mark_not_automatic(
                self.context.desk, session, ticket, message, by="Dana", now=self.context.clock()
            )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", smtp_listen="127.0.0.1:0", notices_per_sender_hour=100)


@pytest.fixture
def desk(context: AppContext) -> Iterator[Desk]:
    with smtp_listener.run_in_thread(context.settings, Intake(context).accept) as listener:
        yield Desk(context, listener.ports["smtp"])


# -- a person's answer is never a bounce ----

BOUNCE_WORDS = [
    ("Delivery problem with superbills", "The superbills did not reach the payer."),
    (
        "Undeliverable statements",
        "Eleven statements were returned to us, the addresses are no longer good.",
    ),
    (
        "Returned mail",
        "The following address is wrong: 4 Elm St. The mailbox is full of returned mail.",
    ),
    (
        "Mail delivery failed: payer portal",
        "Claim 12 was not delivered in the portal. Unable to deliver.",
    ),
    ("Failed delivery", "Status 277CA: rejected. Recipient not found, says the clearinghouse."),
    ("Unzustellbar: Rechnung", "Die Rechnung war unzustellbar."),
]


@pytest.mark.parametrize(("subject", "words"), BOUNCE_WORDS)
@pytest.mark.parametrize("way", ["token", "in-reply-to", "references"])
def test_an_answer_with_the_words_of_a_bounce_is_the_customers(
    desk: Desk, subject: str, words: str, way: str
) -> None:
    number = desk.open_ticket()
    notice = desk.get_newest_notice()
    fields = {
        "token": [],
        "in-reply-to": [f"In-Reply-To: {notice['Message-ID']}"],
        "references": [f"References: <x@oakhill.example> {notice['Message-ID']}"],
    }[way]
    to = str(notice["Reply-To"]) if way == "token" else SUPPORT
    filing = desk.send(words, f"Subject: {subject}", *fields, to=to)
    assert (filing.outcome, filing.ticket_id) == (Outcome.APPENDED, number)
    assert ("in", words) in [(d, t.strip()) for d, t in desk.list_messages(number)]
    assert not get_contact(desk.context, IVY).unreachable
    assert desk.get_first_mail(number).state is OutboxState.SENT


@pytest.mark.parametrize(("subject", "words"), BOUNCE_WORDS)
def test_it_reopens_a_completed_ticket(desk: Desk, subject: str, words: str) -> None:
    number = desk.complete_ticket()
    to = str(desk.get_newest_notice()["Reply-To"])
    desk.send(words, f"Subject: {subject}", to=to)
    assert desk.get_status(number) is Status.OPEN


# -- a person is never a program ----

PEOPLE = [
    (["X-Auto-Response-Suppress: None"], IVY),
    (
        [
            "X-Auto-Response-Suppress: DR, OOF, AutoReply",
            "X-MS-Exchange-Organization-AuthAs: Internal",
        ],
        IVY,
    ),
    (["X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent"], IVY),
    (["X-SG-EID: u001.abc", "Feedback-ID: 1:2:3:sg", "X-Report-Abuse-To: abuse@host.example"], IVY),
    (["X-Mailgun-Sid: abc", "X-Campaign-ID: 7", "X-Loop: billing@oakhill.example"], IVY),
    (["Subject: Auto: claim 4711 of the crash"], IVY),
    (["Subject: On leave: Dr. Quill, who signs her charts?"], IVY),
    ([], "records-request@oakhill.example"),
    ([], "clinic-owner@oakhill.example"),
    ([], "daemon.lee@oakhill.example"),
    (["From: System Administrator <it@oakhill.example>"], "it@oakhill.example"),
]


@pytest.mark.parametrize(("fields", "sender"), PEOPLE)
def test_who_writes_through_such_programs_is_notified(
    desk: Desk, fields: list[str], sender: str
) -> None:
    number = desk.open_ticket("Please send the itemized bill.", *fields, sender=sender)
    assert desk.count_notices(number) == 1
    with desk.context.store.read_only() as session:
        assert not session.get_one(Ticket, number).automated


@pytest.mark.parametrize(("fields", "sender"), [p for p in PEOPLE if p[1] == IVY])
def test_such_an_answer_reopens_a_completed_ticket(
    desk: Desk, fields: list[str], sender: str
) -> None:
    number = desk.complete_ticket()
    desk.send(
        "It is not done yet.", *fields, sender=sender, to=str(desk.get_newest_notice()["Reply-To"])
    )
    assert desk.get_status(number) is Status.OPEN


HINTS = [
    ["Precedence: bulk"],
    ["List-Unsubscribe: <https://x.example/u>"],
    ["Precedence: auto_reply"],
    ["Subject: Out of Office: claim"],
    ["Subject: On vacation until 5 May"],
]


@pytest.mark.parametrize("fields", HINTS)
def test_a_hint_holds_back_the_notice_and_nothing_else(desk: Desk, fields: list[str]) -> None:
    number = desk.open_ticket("Please call me.", *fields)
    assert desk.count_notices(number) == 0
    with desk.context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert any("perhaps sent automatically" in caveat for caveat in ticket.caveats)
        assert [task.kind for task in ticket.tasks] == ["tell-customer"]
    completed = desk.complete_ticket()
    desk.send("It is not done yet.", *fields, to=str(desk.get_newest_notice()["Reply-To"]))
    assert desk.get_status(completed) is Status.OPEN


@pytest.mark.parametrize("fields", HINTS)
def test_one_click_sends_the_notice_that_was_held_back(desk: Desk, fields: list[str]) -> None:
    number = desk.open_ticket("Please call me.", *fields)
    desk.mark_as_written_by_person(number)
    desk.work()
    assert desk.count_notices(number) == 1
    assert desk.get_first_mail(number).state is OutboxState.SENT
    with desk.context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert not ticket.automated
        assert not [c for c in ticket.caveats if evidence.is_caveat(c)]
        assert all(task.done_at for task in ticket.tasks)


PROOFS = [
    ["Auto-Submitted: auto-replied"],
    ["Auto-Submitted: auto-generated"],
    ["X-Autoreply: yes"],
    ["X-Vacation: on", "Subject: Out of Office"],
]


@pytest.mark.parametrize("fields", PROOFS)
def test_an_answer_that_proves_itself_automatic_keeps_a_ticket_completed_and_can_be_read(
    desk: Desk, fields: list[str]
) -> None:
    number = desk.complete_ticket()
    desk.send("I am away until Friday.", *fields, to=str(desk.get_newest_notice()["Reply-To"]))
    assert desk.get_status(number) is Status.COMPLETED
    assert "I am away until Friday." in desk.list_messages(number)[-1][1]
    desk.mark_as_written_by_person(number)
    assert desk.get_status(number) is Status.OPEN


def test_a_strangers_automatic_answer_to_our_mail_is_a_note_on_its_ticket(desk: Desk) -> None:
    number = desk.open_ticket()
    notice = desk.get_newest_notice()
    filing = desk.send(
        "Back on Monday.",
        "Subject: Out of Office",
        "X-Autoreply: yes",
        f"In-Reply-To: {notice['Message-ID']}",
        sender="boss@elsewhere.example",
        to=str(notice["Reply-To"]),
    )
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, number)
    direction, text = desk.list_messages(number)[-1]
    assert direction == "note"
    assert "Back on Monday." in text
    assert count_rows(desk.context, Ticket) == 1


# -- the envelope ----


@pytest.mark.parametrize("subject", ["A question", "Claim 12", "Re: your call"])
def test_a_mail_without_an_envelope_sender_gets_no_automatic_mail(desk: Desk, subject: str) -> None:
    filing = desk.send("Please call me.", f"Subject: {subject}", envelope="")
    assert filing.outcome is Outcome.OPENED
    assert count_rows(desk.context, OutgoingMail) == 0
    assert ("in", "Please call me.") in [
        (d, t.strip()) for d, t in desk.list_messages(filing.ticket_id or 0)
    ]


@pytest.mark.parametrize(
    ("loop", "notices"), [("support@localhost", 0), ("billing@oakhill.example", 1)]
)
def test_a_mail_that_has_been_with_us_before_gets_no_automatic_mail(
    desk: Desk, loop: str, notices: int
) -> None:
    number = desk.open_ticket("Please call me.", f"X-Loop: {loop}")
    assert desk.count_notices(number) == notices


GOOGLE_GROUP = (
    "Precedence: list",
    "Mailing-list: list {at}; contact owners",
    "List-ID: <{dotted}>",
    "List-Post: <https://groups.example/post>, <mailto:{at}>",
)


@pytest.mark.parametrize("fields", [GOOGLE_GROUP, GOOGLE_GROUP[:3], GOOGLE_GROUP[3:]])
@pytest.mark.parametrize(
    ("list_address", "notices"),
    [
        ("billing-team@pmb.example", 1),  # INTAKE_OWN_LISTS
        ("support@localhost", 1),  # INTAKE_ADDRESSES
        ("support-group@localhost", 1),  # at a domain of theirs
        ("support@localhost.example", 0),
        ("news@oakhill.example", 0),
        ("other-team@pmb.example", 0),
        ("team@pmb.example", 0),
    ],
)
def test_mail_through_a_list_of_our_own_is_written_to_us(
    desk: Desk, fields: tuple[str, ...], list_address: str, notices: int
) -> None:
    context = desk.context
    desk.context = replace(
        context,
        settings=context.settings.model_copy(update={"own_lists": ("billing-team@pmb.example",)}),
    )
    dotted = list_address.replace("@", ".")
    headers = [field.format(at=list_address, dotted=dotted) for field in fields]
    number = desk.open_ticket("Please call me.", *headers)
    assert desk.count_notices(number) == notices


# -- proven reports ----

STATUS = """--b
Content-Type: text/plain

I am sorry to inform you of what became of your message.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.oakhill.example

Final-Recipient: rfc822; ivy.long@oakhill.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user here
--b
Content-Type: text/rfc822-headers

Message-ID: {name}
Subject: Your ticket
--b--"""
REPORT = 'Content-Type: multipart/report; report-type=delivery-status; boundary="b"'


def report(desk: Desk, way: str) -> Filing:
    """Send a bounce of the newest mail, as mail systems of several kinds do."""
    notice = desk.get_newest_notice()
    sent_mail = desk.get_first_mail(1)
    name = str(notice["Message-ID"])
    daemon = "MAILER-DAEMON@mx.oakhill.example"
    if way == "report":
        return desk.send(
            STATUS.format(name=name), REPORT, "MIME-Version: 1.0", sender=daemon, envelope=""
        )
    if way == "return path":
        path = compose.make_return_path(sent_mail.id, desk.context.settings, desk.context.signer)
        return desk.send(
            "550 no such user here", "Subject: failure notice", sender=daemon, to=path, envelope=""
        )
    attached = f"Content-Type: message/rfc822\n\nMessage-ID: {name}\n\nx"
    original = f"--b\n\nIt was returned: no such user here\n--b\n{attached}\n--b--"
    mixed = 'Content-Type: multipart/mixed; boundary="b"'
    return desk.send(original, mixed, "MIME-Version: 1.0", "Subject: Returned mail", sender=daemon)


@pytest.mark.parametrize("way", ["report", "return path", "original"])
def test_a_proven_bounce_marks_the_mail_and_its_words_stay(desk: Desk, way: str) -> None:
    number = desk.open_ticket()
    filing = report(desk, way)
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, number)
    assert desk.get_first_mail(number).state is OutboxState.BOUNCED
    assert get_contact(desk.context, IVY).unreachable
    direction, text = desk.list_messages(number)[-1]
    assert direction == "note"
    assert "no such user here" in text


@pytest.mark.parametrize("way", ["report", "return path", "original"])
def test_a_bounce_that_was_none_is_undone_whole(desk: Desk, way: str) -> None:
    number = desk.open_ticket()
    report(desk, way)
    desk.mark_as_written_by_person(number)
    assert desk.get_first_mail(number).state is OutboxState.SENT
    assert not get_contact(desk.context, IVY).unreachable
    with desk.context.store.read_only() as session:
        message = session.scalars(select(Message).order_by(Message.id.desc()).limit(1)).one()
        assert (message.direction, message.judgement) == ("in", Judgement.NONE)
        assert not message.text.startswith("Mail ")
        assert all(task.done_at for task in session.get_one(Ticket, number).tasks)
        assert (
            session.scalars(select(Delivery).order_by(Delivery.id.desc()).limit(1)).one().by_person
        )


BOUNCED_ELSEWHERE = STATUS.replace("ivy.long@oakhill", "claims@payer")


def test_a_bounce_of_somebody_elses_mail_that_refers_to_ours_marks_nobody(desk: Desk) -> None:
    number = desk.open_ticket()
    name = f"<theirs@desk.example>\nReferences: {desk.get_newest_notice()['Message-ID']}"
    text = BOUNCED_ELSEWHERE.format(name=name)
    desk.send(text, REPORT, "MIME-Version: 1.0", sender="postmaster@mx.payer.example", envelope="")
    assert desk.get_first_mail(number).state is OutboxState.SENT
    assert not get_contact(desk.context, IVY).unreachable


def test_a_customer_who_sends_our_mail_back_can_be_written_to(desk: Desk) -> None:
    number = desk.open_ticket()
    name = str(desk.get_newest_notice()["Message-ID"])
    attached = f"Content-Type: message/rfc822\n\nMessage-ID: {name}\n\nx"
    text = f"--b\n\nUser unknown, said the payer; your mail is attached\n--b\n{attached}\n--b--"
    mixed = 'Content-Type: multipart/mixed; boundary="b"'
    desk.send(text, mixed, "MIME-Version: 1.0", "Subject: Undeliverable statements", envelope="")
    assert desk.get_first_mail(number).state is OutboxState.SENT
    assert not get_contact(desk.context, IVY).unreachable


def test_a_report_that_a_person_passes_on_is_the_persons_message(desk: Desk) -> None:
    filing = desk.send(
        STATUS.format(name="<theirs@oakhill.example>"),
        REPORT,
        "MIME-Version: 1.0",
        "Subject: Fwd: this came back",
    )
    assert filing.outcome is Outcome.OPENED


def return_path(desk: Desk, number: int) -> str:
    return compose.make_return_path(
        desk.get_first_mail(number).id, desk.context.settings, desk.context.signer
    )


def test_a_stranger_who_writes_to_a_return_path_gets_a_ticket_of_their_own(desk: Desk) -> None:
    number = desk.complete_ticket()
    words = "We are another practice. Claim 99 was denied."
    filing = desk.send(words, sender="cy@other.example", to=return_path(desk, number))
    assert filing.outcome is Outcome.OPENED
    assert all("another practice" not in text for _, text in desk.list_messages(number))
    with desk.context.store.read_only() as session:
        assert session.get(TicketRelation, (filing.ticket_id, number)) is not None


def test_a_strangers_automatic_answer_that_is_corrected_gets_a_ticket_of_its_own(
    desk: Desk,
) -> None:
    number = desk.open_ticket()
    fields = [
        "Auto-Submitted: auto-replied",
        f"In-Reply-To: {desk.get_newest_notice()['Message-ID']}",
    ]
    desk.send("Claim 9 of our practice.", *fields, sender="cy@other.example")
    desk.mark_as_written_by_person(number)
    assert [direction for direction, _ in desk.list_messages(number)] == ["in", "out"]
    assert "Claim 9 of our practice." in desk.list_messages(number + 1)[0][1]
    assert desk.get_status(number + 1) is Status.OPEN


@pytest.mark.parametrize("status", [Status.SPAM, Status.WITHDRAWN])
def test_a_corrected_answer_to_an_ended_ticket_opens_one_that_follows_it(
    desk: Desk, status: Status
) -> None:
    number = desk.open_ticket()
    fields = [
        "Auto-Submitted: auto-generated",
        f"In-Reply-To: {desk.get_newest_notice()['Message-ID']}",
    ]
    with desk.context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        desk.context.desk.close(
            session, ticket, status, by="Dana", reason="x", now=desk.context.clock()
        )
    desk.send("It must go on after all.", *fields)
    desk.mark_as_written_by_person(number)
    assert "It must go on after all." in desk.list_messages(number + 1)[0][1]
    assert desk.get_status(number + 1) is Status.OPEN


def test_an_answer_to_a_merged_ticket_stands_on_the_one_that_goes_on(desk: Desk) -> None:
    first = desk.open_ticket()
    fields = [
        "Auto-Submitted: auto-generated",
        f"In-Reply-To: {desk.get_newest_notice()['Message-ID']}",
    ]
    second = desk.open_ticket("And another question.")
    with desk.context.store.transaction() as session:
        one, two = (session.get_one(Ticket, n) for n in (first, second))
        desk.context.desk.merge(session, one, two, by="Dana", now=desk.context.clock())
    desk.send("Claim 11 is still open.", *fields)
    assert "Claim 11 is still open." in desk.list_messages(second)[-1][1]


def test_marking_a_later_message_leaves_the_ticket_as_it_is(desk: Desk) -> None:
    number = desk.open_ticket()
    desk.send("I am away till Monday.", to=str(desk.get_newest_notice()["Reply-To"]))
    with desk.context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        later = ticket.messages[-1]
        corrections.mark_automatic(session, ticket, later.id, by="Dana", now=desk.context.clock())
        assert not ticket.automated


def test_a_second_report_keeps_a_mail_bounced_when_the_first_is_corrected(desk: Desk) -> None:
    number = desk.open_ticket()
    report(desk, "report")
    report(desk, "return path")
    with desk.context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        first = next(m for m in ticket.messages if m.judgement is Judgement.BOUNCED)
        corrections.mark_not_automatic(
            desk.context.desk, session, ticket, first, by="Dana", now=desk.context.clock()
        )
    assert desk.get_first_mail(number).state is OutboxState.BOUNCED


def test_correcting_both_reports_makes_the_mail_sent_again(desk: Desk) -> None:
    number = desk.open_ticket()
    report(desk, "report")
    report(desk, "return path")
    desk.mark_as_written_by_person(number)
    desk.mark_as_written_by_person(number)
    assert desk.get_first_mail(number).state is OutboxState.SENT
    assert not get_contact(desk.context, IVY).unreachable


def test_a_mail_that_comes_back_again_after_a_correction_gives_a_task_again(desk: Desk) -> None:
    number = desk.open_ticket()
    report(desk, "report")
    desk.mark_as_written_by_person(number)
    report(desk, "return path")
    with desk.context.store.read_only() as session:
        assert [t.text for t in session.get_one(Ticket, number).tasks if t.done_at is None]


def test_who_writes_can_be_written_to_again(desk: Desk) -> None:
    number = desk.open_ticket()
    report(desk, "report")
    desk.send("Here I am.", to=str(desk.get_newest_notice()["Reply-To"]))
    assert desk.get_status(number) is Status.OPEN
    assert not get_contact(desk.context, IVY).unreachable


def test_the_envelope_knows_better_than_a_field_of_the_mail(desk: Desk) -> None:
    number = desk.open_ticket("Please call me.", "Return-Path: <>")
    assert desk.count_notices(number) == 1


def test_correcting_what_came_before_a_ticket_was_completed_does_not_reopen_it(desk: Desk) -> None:
    number = desk.complete_ticket()
    with desk.context.store.transaction() as session:
        ticket = session.get_one(Ticket, number)
        ticket.completed_at = desk.context.clock() + timedelta(hours=1)
        first = ticket.messages[0]
        corrections.mark_automatic(session, ticket, first.id, by="Dana", now=desk.context.clock())
        corrections.mark_not_automatic(
            desk.context.desk, session, ticket, first, by="Dana", now=desk.context.clock()
        )
    assert desk.get_status(number) is Status.COMPLETED


def test_a_report_about_no_mail_of_ours_is_listed_and_can_become_a_ticket(desk: Desk) -> None:
    filing = desk.send(
        STATUS.format(name="<somebody@else.example>"),
        REPORT,
        "MIME-Version: 1.0",
        "Subject: Undelivered",
        sender="MAILER-DAEMON@mx.oakhill.example",
        envelope="",
    )
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, None)
    assert count_rows(desk.context, Ticket) == 0
    with desk.context.store.read_only() as session:
        listed = session.scalars(select(AutomatedMail)).one()
    assert "what became of your message" in listed.text
    number = make_ticket(desk.context, listed.id, actor=Actor.operator("Dana"))
    assert "what became of your message" in desk.list_messages(number)[0][1]
    with desk.context.store.read_only() as session:
        assert session.scalars(select(Filing)).one().outcome is Outcome.OPENED


def test_our_own_mail_that_comes_back_is_a_note_on_its_ticket(desk: Desk) -> None:
    number = desk.open_ticket()
    notice = desk.get_newest_notice()
    filing = desk.send("a gateway's words", f"Message-ID: {notice['Message-ID']}", sender=SUPPORT)
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, number)
    assert "a gateway's words" in desk.list_messages(number)[-1][1]
    assert count_rows(desk.context, Ticket) == 1


# -- programs and devices that mark nothing ----

UNMARKED = [
    ("notify@payer-portal.example", "Claim 12 was denied.", []),
    ("x17@payer-portal.example", "Claim 12 was denied.\n\nPlease do not reply to this e-mail.", []),
    ("scan@oakhill.example", "Scan from device.", ["Subject: Scanned document"]),
    ("reports@payer-portal.example", "The report is ready for download.", []),
    ("voicemail@pbx.example", "From: OAK HILL (555) 014-7788\nLength: 0:42", []),
]


@pytest.mark.parametrize(("sender", "words", "fields"), UNMARKED)
def test_a_program_that_marks_nothing_gets_no_mail(
    desk: Desk, sender: str, words: str, fields: list[str]
) -> None:
    filing = desk.send(words, *fields, sender=sender)
    assert count_rows(desk.context, OutgoingMail) == 0
    assert filing.delivery_id  # stored and shown, whatever becomes of it


@pytest.mark.parametrize(("sender", "words", "fields"), UNMARKED)
def test_the_person_whom_such_a_program_names_gets_the_notice(
    desk: Desk, sender: str, words: str, fields: list[str]
) -> None:
    number = desk.open_ticket(words, f"Reply-To: Ivy Long <{IVY}>", *fields, sender=sender)
    assert desk.get_first_mail(number).to == IVY


# -- a program's answer to our mail goes onto its ticket ----

ANSWERS = [
    ["Auto-Submitted: auto-generated"],
    ["X-Autoreply: yes", "Subject: Out of Office"],
    ["Subject: Automatic reply: Your Billing Support Ticket"],
    ["Subject: Abwesenheitsnotiz"],
]
HINTED_ANSWERS = [
    ["Precedence: bulk"],
    ["From: no-reply@elsewhere.example"],
    ["From: Help Desk Notifications <help@elsewhere.example>"],
]


def answer_as_stranger(desk: Desk, fields: list[str], way: str) -> Filing:
    notice = desk.get_newest_notice()
    to = str(notice["Reply-To"]) if way == "address" else SUPPORT
    marks = {
        "address": [],
        "in-reply-to": [f"In-Reply-To: {notice['Message-ID']}"],
        "references": [f"References: {notice['Message-ID']} <x@elsewhere.example>"],
    }[way]
    return desk.send(
        "Your request 77 is in our queue.",
        *fields,
        *marks,
        sender="boss@elsewhere.example",
        to=to,
    )


@pytest.mark.parametrize("way", ["address", "in-reply-to", "references"])
@pytest.mark.parametrize("fields", [*ANSWERS, *HINTED_ANSWERS[1:]])
def test_a_programs_answer_with_our_mark_opens_no_ticket(
    desk: Desk, fields: list[str], way: str
) -> None:
    number = desk.open_ticket()
    filing = answer_as_stranger(desk, fields, way)
    assert filing.ticket_id == number
    assert count_rows(desk.context, Ticket) == 1
    direction, text = desk.list_messages(number)[-1]
    assert direction == "note"
    assert "Your request 77 is in our queue." in text


@pytest.mark.parametrize("fields", ANSWERS)
def test_such_an_answer_leaves_a_completed_ticket_completed(desk: Desk, fields: list[str]) -> None:
    number = desk.complete_ticket()
    assert answer_as_stranger(desk, fields, "address").ticket_id == number
    assert desk.get_status(number) is Status.COMPLETED


@pytest.mark.parametrize("fields", HINTED_ANSWERS)
def test_a_hint_leaves_no_words_on_a_completed_ticket(desk: Desk, fields: list[str]) -> None:
    number = desk.complete_ticket()
    filing = answer_as_stranger(desk, fields, "address")
    assert filing.ticket_id != number
    assert [d for d, _ in desk.list_messages(filing.ticket_id or 0)] == ["in"]


def test_a_stranger_who_writes_through_a_list_gets_a_ticket(desk: Desk) -> None:
    number = desk.open_ticket()
    fields = ["List-Id: <staff.elsewhere.example>", "Precedence: list"]
    filing = answer_as_stranger(desk, fields, "address")
    assert (filing.outcome, filing.ticket_id != number) == (Outcome.OPENED, True)


@pytest.mark.parametrize("fields", ANSWERS)
def test_a_programs_answer_that_was_a_persons_gets_a_ticket_of_its_own(
    desk: Desk, fields: list[str]
) -> None:
    number = desk.open_ticket()
    answer_as_stranger(desk, fields, "address")
    desk.mark_as_written_by_person(number)
    assert desk.list_messages(number + 1)[0][1].strip() == "Your request 77 is in our queue."
    assert desk.get_status(number + 1) is Status.OPEN


def test_a_forged_answer_joins_no_ticket(desk: Desk) -> None:
    settings = desk.context.settings.model_copy(update={"authserv_id": "mx.desk.example"})
    number = desk.open_ticket()
    desk.context = replace(desk.context, settings=settings)
    desk.context.desk.settings = settings
    failed = "Authentication-Results: mx.desk.example; dmarc=fail header.from=elsewhere.example"
    filing = answer_as_stranger(desk, [failed, "Subject: Automatic reply: x"], "address")
    assert filing.ticket_id != number


# -- mail that is no customer's request lies under "Automated" ----

AUTOMATED = [
    ("x@clearing.example", ["Auto-Submitted: auto-generated"], "Claim rejection report."),
    ("x@clearing.example", ["Auto-Submitted: auto-replied", "Subject: Out of Office"], "Away."),
    (
        "news@vendor.example",
        [
            "List-Unsubscribe: <https://vendor.example/u>",
            "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        ],
        "Have you seen our new portal?",
    ),
    (
        "hello@vendor.example",
        ["List-Unsubscribe: <https://vendor.example/u>"],
        "Our autumn offers.\n\nUnsubscribe here.",
    ),
    ("no-reply@clearing.example", [], "Claim 4711 was rejected by the payer."),
    ("notify@portal.example", [], "A remittance is ready.\n\nPlease do not reply to this e-mail."),
    ("portal@payer.example", [], "This is an automated message. A remittance is ready."),
]
REQUESTS = [
    # a person behind a program, a device, or a single hint
    ("no-reply@forms.example", [f"Reply-To: {IVY}"], "The statement of March is missing."),
    ("x@clearing.example", ["Auto-Submitted: auto-generated", f"Reply-To: {IVY}"], "Claim 1."),
    ("no-reply@forms.example", [], "Name: Ivy\nMessage: Please call me about my claim."),
    (
        "no-reply@forms.example",
        ["X-PHP-Originating-Script: 33:mail.php"],
        "Phone: 555 0101. The claim of May is open.\n\nPlease do not reply to this e-mail.",
    ),
    (
        "notification@portal.example",
        ["Auto-Submitted: auto-generated", "Subject: New secure message"],
        "You have a new secure message.\n\nOpen it: https://portal.example/m/77\n\nDo not reply.",
    ),
    ("scan@oakhill.example", ["Subject: Scan"], "Scan from device. Do not reply."),
    (IVY, ["List-Unsubscribe: <https://x.example/u>"], "Please call me."),
    (IVY, ["List-Id: <staff.oakhill.example>", "Precedence: list"], "Please call me."),
]


def list_automated(desk: Desk) -> list[AutomatedMail]:
    with desk.context.store.read_only() as session:
        return list(automated_mail.list_automated_mail(session))


@pytest.mark.parametrize(("sender", "fields", "words"), AUTOMATED)
def test_mail_that_is_no_request_opens_no_ticket_and_can_be_read(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    filing = desk.send(words, *fields, sender=sender)
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, None)
    assert count_rows(desk.context, Ticket) == count_rows(desk.context, Task) == 0
    [mail] = list_automated(desk)
    assert (mail.from_email, mail.text.strip()) == (sender, words)
    assert count_rows(desk.context, OutgoingMail) == 0


@pytest.mark.parametrize(("sender", "fields", "words"), REQUESTS)
def test_a_request_that_came_through_a_program_opens_a_ticket(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    assert desk.open_ticket(words, *fields, sender=sender)
    assert list_automated(desk) == []


@pytest.mark.parametrize(("sender", "fields", "words"), AUTOMATED)
def test_the_mail_of_a_company_on_record_opens_a_ticket(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    with desk.context.store.transaction() as session:
        company = create_company(session, "Vendor")
        domain = sender.partition("@")[2]
        session.add(CompanyDomain(domain=domain, company_id=company.id))
    assert desk.open_ticket(words, *fields, sender=sender)


@pytest.mark.parametrize(("sender", "fields", "words"), AUTOMATED[:4])
def test_so_does_the_mail_of_somebody_who_has_written_as_a_person(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    first = desk.send(words, *fields, sender=sender)
    make_ticket(desk.context, 1, actor=Actor.operator("Dana"))
    assert desk.send(f"{words} Again.", *fields, sender=sender).outcome is first.outcome
    desk.open_ticket("Please call me.", sender=sender)
    assert desk.open_ticket(f"{words} And again.", *fields, sender=sender)


@pytest.mark.parametrize(("sender", "fields", "words"), AUTOMATED)
def test_reading_it_again_leaves_it_where_it_is(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    filing = desk.send(words, *fields, sender=sender)
    preview = reprocess.preview_replay(desk.context, filing.delivery_id)
    assert not preview.has_changes
    reprocess.apply_replay(desk.context, preview, by="Dana")
    assert count_rows(desk.context, Ticket) == 0
    assert len(list_automated(desk)) == 1


@pytest.mark.parametrize(("sender", "fields", "words"), AUTOMATED)
def test_a_person_makes_a_ticket_of_it_and_undoes_that(
    desk: Desk, sender: str, fields: list[str], words: str
) -> None:
    filing = desk.send(words, *fields, sender=sender)
    [mail] = list_automated(desk)
    dana = Actor.operator("Dana")
    number = make_ticket(desk.context, mail.id, actor=dana)
    assert desk.get_status(number) is Status.OPEN
    assert list_automated(desk) == []
    with pytest.raises(ActionNotAllowed, match="only Dana"):
        undo_ticket(desk.context, mail.id, actor=Actor.operator("Olga"))
    assert undo_ticket(desk.context, mail.id, actor=dana) == number
    desk.work()
    assert desk.get_status(number) is Status.WITHDRAWN
    assert count_rows(desk.context, OutgoingMail, OutgoingMail.state == OutboxState.SENT) == 0
    assert [m.id for m in list_automated(desk)] == [mail.id]
    assert not reprocess.preview_replay(desk.context, filing.delivery_id).has_changes
    again = make_ticket(desk.context, mail.id, actor=dana)
    assert again != number
    assert words in desk.list_messages(again)[0][1]


def test_a_ticket_that_somebody_has_worked_on_is_not_undone(desk: Desk) -> None:
    sender, fields, words = AUTOMATED[0]
    desk.send(words, *fields, sender=sender)
    [mail] = list_automated(desk)
    dana = Actor.operator("Dana")
    number = make_ticket(desk.context, mail.id, actor=dana)
    with desk.context.store.transaction() as session:
        ticket, owner = session.get_one(Ticket, number), create_staff(session, "Olga")
        desk.context.desk.assign(session, ticket, owner, by="Olga", now=desk.context.clock())
    with pytest.raises(ActionNotAllowed, match="since then: assigned, by Olga"):
        undo_ticket(desk.context, mail.id, actor=dana)
    assert desk.get_status(number) is Status.OPEN


# -- rules for senders ----


def set_rule(desk: Desk, sender: str, treatment: Treatment) -> None:
    with desk.context.store.transaction() as session:
        lead = sender_rules.Author("Dana", RIGHTS_BY_ROLE[Role.LEAD])
        company = session.scalar(select(Company).where(Company.name == "Clearing"))
        if company is None:
            company = create_company(session, "Clearing")
            session.add(CompanyDomain(domain="clearing.example", company_id=company.id))
        sender_rules.set_rule(session, sender, treatment, by=lead, now=desk.context.clock())


@pytest.mark.parametrize("sender", ["x@payer.example", "@payer.example"])
def test_a_sender_can_always_open_tickets(desk: Desk, sender: str) -> None:
    automatic = "Auto-Submitted: auto-generated"
    assert desk.send("Report.", automatic, sender="x@payer.example").outcome is Outcome.IGNORED
    set_rule(desk, sender, Treatment.TICKET)
    number = desk.open_ticket("Another report.", automatic, sender="x@payer.example")
    assert desk.count_notices(number) == 0


@pytest.mark.parametrize("sender", ["x@clearing.example", "@clearing.example", "company:1"])
def test_a_sender_can_never_open_tickets_but_answers_them(desk: Desk, sender: str) -> None:
    number = desk.open_ticket("Before the rule.", sender="x@clearing.example")
    notice = desk.get_newest_notice()
    set_rule(desk, sender, Treatment.NEVER)
    filing = desk.send("Please call me.", sender="X+tag@clearing.example")
    assert (filing.outcome, filing.ticket_id) == (Outcome.IGNORED, None)
    [mail] = list_automated(desk)
    assert mail.reason == automated_mail.SENDER_NEVER
    answer = desk.send("Thanks.", sender="x@clearing.example", to=str(notice["Reply-To"]))
    assert (answer.outcome, answer.ticket_id) == (Outcome.APPENDED, number)
    assert make_ticket(desk.context, mail.id, actor=Actor.operator("Dana")) != number


def test_the_narrowest_rule_decides(desk: Desk) -> None:
    set_rule(desk, "clearing.example", Treatment.NEVER)
    set_rule(desk, "mail.clearing.example", Treatment.TICKET)
    set_rule(desk, "x@mail.clearing.example", Treatment.NEVER)
    outcomes = [
        desk.send("Report.", "Auto-Submitted: auto-generated", sender=sender).outcome
        for sender in (
            "y@clearing.example",
            "y@other.clearing.example",
            "y@mail.clearing.example",
            "x@mail.clearing.example",
        )
    ]
    assert outcomes == [Outcome.IGNORED, Outcome.IGNORED, Outcome.OPENED, Outcome.IGNORED]


def test_the_desk_of_a_program_gets_no_notice_of_the_programs_mail(desk: Desk) -> None:
    words = "Claim 4711 was rejected.\n\nPlease do not reply to this e-mail."
    fields = ["Reply-To: support@clearing.example"]
    number = desk.open_ticket(words, *fields, sender="no-reply@clearing.example")
    assert desk.count_notices(number) == 0
