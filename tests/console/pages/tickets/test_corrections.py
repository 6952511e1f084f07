"""A judgement about a message is shown with its reason and corrected by page, API and command."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from console.app import create_app
from parsers.item import Address
from tests.console.api.test_api import Program
from tests.support.command import Intake
from tests.support.context import count_rows, deliver, make_mail
from tests.support.signed_in_client import sign_in_at_desk
from workflow.context import AppContext
from workflow.models.core import AutomatedMail, Message, OutgoingMail, Ticket
from workflow.models.states import Judgement, Outcome, Role

Correct = Callable[[AppContext, int], None]
AUTOMATIC = ("precedence",)


def open_automatic_ticket(context: AppContext) -> int:
    """Open a ticket by a mail that looks automatic; return its number."""
    number = deliver(
        context, make_mail("Please call me.", is_automated=True, signs=AUTOMATIC)
    ).ticket_id
    assert number is not None
    return number


def get_judgement(context: AppContext, number: int) -> Judgement:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        return ticket.messages[0].judgement


def correct_by_page(context: AppContext, number: int) -> None:
    desk = sign_in_at_desk(context)
    page = desk.get(f"/tickets/{number}")
    assert "perhaps sent automatically (field Precedence)" in page.text
    assert "A person wrote this" in page.text
    assert desk.post(f"/tickets/{number}/do/not-automatic", {"seen": "0"}).status_code == 302
    assert "A person wrote this" not in desk.get(f"/tickets/{number}").text


def correct_by_api(context: AppContext, number: int) -> None:
    program = Program(context, create_app(context))
    before = program("GET", f"/tickets/{number}").json
    assert before["messages"][0]["judgement"] == "automatic"
    assert before["messages"][0]["signs"] == ["field Precedence"]
    message = before["messages"][0]["id"]
    after = program("POST", f"/tickets/{number}/not-automatic", {"message": message}).json
    assert after["messages"][0]["judgement"] == ""


@pytest.mark.parametrize("correct", [correct_by_page, correct_by_api])
def test_a_message_taken_for_automatic_is_corrected(context: AppContext, correct: Correct) -> None:
    number = open_automatic_ticket(context)
    assert get_judgement(context, number) is Judgement.AUTOMATIC
    assert count_rows(context, OutgoingMail) == 0
    correct(context, number)
    assert get_judgement(context, number) is Judgement.NONE
    assert count_rows(context, OutgoingMail) == 1


def test_the_command_corrects_it_too(intake: Intake, tmp_path: Path) -> None:
    intake("migrate")
    path = tmp_path / "mail.eml"
    path.write_bytes(
        b"From: a@b.example\r\nPrecedence: bulk\r\nSubject: x\r\n\r\nPlease call me.\r\n"
    )
    intake("deliver", "mail", path)
    intake("replay", 1)  # no worker runs here
    number = json.loads(intake("tickets", "--json").stdout)[0]["id"]
    intake("ticket", number, "not-automatic")
    intake("ticket", number, "not-automatic", code=1)  # there is none any more
    intake("ticket", number, "automatic")
    intake("ticket", number, "automatic", code=1)
    assert (
        json.loads(intake("ticket", number, "--json").stdout)["messages"][0]["judgement"]
        == "automatic"
    )


def test_a_message_can_be_marked_automatic_and_back(context: AppContext) -> None:
    number = deliver(context, make_mail("Your fax was sent.")).ticket_id
    assert number is not None
    desk = sign_in_at_desk(context)
    assert "This is automatic mail" in desk.get(f"/tickets/{number}").text
    desk.post(f"/tickets/{number}/do/automatic", {"seen": "0"})
    assert get_judgement(context, number) is Judgement.AUTOMATIC
    assert "marked by Ann Lee" in desk.get(f"/tickets/{number}").text
    desk.post(f"/tickets/{number}/do/not-automatic", {"seen": "0"})
    assert get_judgement(context, number) is Judgement.NONE


def test_there_is_nothing_to_correct_on_a_persons_ticket(context: AppContext) -> None:
    number = deliver(context, make_mail("Please call me.")).ticket_id
    desk = sign_in_at_desk(context)
    desk.get(f"/tickets/{number}")
    answer = desk.post(f"/tickets/{number}/do/not-automatic", {"seen": "0"})
    assert answer.status_code == 422
    assert "no message of this ticket was taken for an automatic one" in answer.text


def test_the_sender_of_a_routed_message_is_shown_and_made_the_contact(context: AppContext) -> None:
    form = Address("Website", "wordpress@clinic.example")
    mel = Address("Mel Dodd", "mel@clinic.example")
    item = make_mail(sender=form, reply_to=(mel,), cc=(Address("Joe", "joe@clinic.example"),))
    number = deliver(context, item).ticket_id
    desk = sign_in_at_desk(context)
    page = desk.get(f"/tickets/{number}").text
    assert "mel@clinic.example is taken for the customer" in page.replace("&gt;", "").replace(
        "Mel Dodd &lt;", ""
    )
    assert "cc Joe" in page
    assert "The sender is the contact" in page
    shown = Program(context, create_app(context))("GET", f"/tickets/{number}").json
    assert shown["messages"][0]["sent_by"] == "Website <wordpress@clinic.example>"
    assert shown["messages"][0]["cc"] == ["Joe <joe@clinic.example>"]
    assert shown["messages"][0]["route"] == "relay"
    assert shown["copied"] == [{"name": "Joe", "email": "joe@clinic.example"}]
    answer = desk.get(f"/tickets/{number}/answer").text
    assert "had a copy, no contact of the ticket" in answer
    assert desk.post(f"/tickets/{number}/do/use-sender", {"seen": "0"}).status_code == 302
    shown = Program(context, create_app(context))("GET", f"/tickets/{number}").json
    assert [c["email"] for c in shown["contacts"]] == ["wordpress@clinic.example"]
    assert not any("taken for" in caveat for caveat in shown["caveats"])


@pytest.fixture
def duplicate_context(intake: Intake, at_home: AppContext, tmp_path: Path) -> AppContext:
    """A mail that came by two ways, with other trace fields.

    It is ticket 1, and delivery 2 a duplicate.
    """
    for number, trace in enumerate(
        ("", "Received: from a by b; Mon, 02 Mar 2026 10:00:00 -0500\r\n")
    ):
        path = tmp_path / f"{number}.eml"
        path.write_bytes(
            f"{trace}From: a@b.example\r\nMessage-ID: <same@b.example>\r\nSubject: x\r\n\r\nCall"
            " me.\r\n".encode()
        )
        intake("deliver", "mail", path)
        intake("replay", number + 1)
    assert count_rows(at_home, Ticket) == 1
    return at_home


def separate_by_page(context: AppContext, intake: Intake) -> None:
    del intake
    desk = sign_in_at_desk(context)
    assert "The same was received again" in desk.get("/tickets/1").text
    assert (
        desk.post("/tickets/1/separate", {"delivery": 2}).headers["Location"].endswith("/tickets/2")
    )
    assert "came again is #2 now" in desk.get("/tickets/1").text


def separate_by_api(context: AppContext, intake: Intake) -> None:
    del intake
    program = Program(context, create_app(context))
    assert program("POST", "/tickets/1/not-duplicate", {"delivery": 2}).json["id"] == 2
    program("POST", "/tickets/1/not-duplicate", {}, 409)


def separate_by_command(context: AppContext, intake: Intake) -> None:
    del context
    assert intake("ticket", 1, "not-duplicate").stdout == "2\n"
    intake("ticket", 1, "not-duplicate", code=1)


@pytest.mark.parametrize("separate", [separate_by_page, separate_by_api, separate_by_command])
def test_what_was_taken_for_a_duplicate_becomes_a_ticket(
    duplicate_context: AppContext, intake: Intake, separate: Callable[[AppContext, Intake], None]
) -> None:
    separate(duplicate_context, intake)
    with duplicate_context.store.read_only() as session:
        second = session.get_one(Ticket, 2)
        assert [m.text.strip() for m in second.messages] == ["Call me."]
        assert second.contacts[0].contact.email == "a@b.example"
    related = json.loads(intake("ticket", 1, "--json").stdout)["related"]
    assert related == [{"id": 2, "reason": "same words as #1"}]
    intake("ledger")


@pytest.fixture
def automatic_mail(context: AppContext) -> int:
    """A report about no mail of ours; its number in the list of automated mail."""
    sender = Address("Mail Delivery", "mailer-daemon@mx.example")
    item = make_mail(
        "It did not arrive.",
        sender=sender,
        is_bounce=True,
        is_automated=True,
        signs=("delivery-status-part", "daemon-address"),
    )
    assert deliver(context, item).outcome is Outcome.IGNORED
    with context.store.read_only() as session:
        return session.get_one(AutomatedMail, 1).id


def test_automated_mail_can_be_read_by_everybody_on_the_desk(
    context: AppContext, automatic_mail: int
) -> None:
    page = sign_in_at_desk(context, Role.AGENT).get("/automated").text
    assert "It did not arrive." in page
    assert "A report about no mail of ours" in page
    assert f"/automated/{automatic_mail}/ticket" in page
    [row] = Program(context, create_app(context)).__call__("GET", "/automated").json["items"]
    assert (row["from"], row["ticket"]) == ("Mail Delivery <mailer-daemon@mx.example>", None)
    assert (
        f"/automated/{automatic_mail}/ticket"
        not in sign_in_at_desk(context, Role.AUDITOR, "Ed Audit").get("/automated").text
    )


def test_an_empty_list_of_automated_mail_says_so(context: AppContext) -> None:
    assert "everything received is on a ticket" in sign_in_at_desk(context).get("/automated").text


def test_the_command_lists_automated_mail_and_makes_a_ticket_of_one(
    intake: Intake, at_home: AppContext, tmp_path: Path
) -> None:
    path = tmp_path / "report.eml"
    path.write_bytes(
        b"From: MAILER-DAEMON@mx.example\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        b"--b\r\n\r\nIt did not arrive.\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
        b"Action: failed\r\n--b--\r\n"
    )
    intake("deliver", "mail", path)
    intake("replay", 1)
    [row] = [json.loads(line) for line in intake("automated", "--json").stdout.splitlines()]
    assert "It did not arrive." in row["text"]
    assert "Undelivered" in intake("automated").stdout
    number = int(intake("automated", row["id"], "ticket").stdout)
    found = json.loads(intake("ticket", number, "--json").stdout)
    assert "It did not arrive." in found["messages"][0]["text"]
    assert intake("automated", row["id"], "ticket", code=1)
    assert "everything that came in is on a ticket" in intake("automated").stdout
    intake("ledger")
    with at_home.store.read_only() as session:
        assert session.get_one(Message, 1).judgement is Judgement.NONE


def test_a_message_is_split_off_on_the_page_and_back(context: AppContext) -> None:
    first = make_mail("Claim 7 was denied.")
    number = deliver(context, first).ticket_id
    assert number is not None
    desk = sign_in_at_desk(context)
    button = "Another request: make it a ticket of its own"
    assert button not in desk.get(f"/tickets/{number}").text, "it is the only message"
    deliver(context, make_mail("A statement, please.", in_reply_to=first.message_id))
    page = desk.get(f"/tickets/{number}").text
    assert page.count(button) == 2
    with context.store.read_only() as session:
        message = session.get_one(Ticket, number).messages[1].id
    seen = re.search(r'data-seen="(\d+)"', page)
    assert seen is not None
    form = {"seen": seen[1], "message": str(message)}
    assert desk.post(f"/tickets/{number}/do/split", form).status_code == 302
    page = desk.get(f"/tickets/{number}").text
    assert f"The message is ticket #{number + 1} now" in page
    assert f"A message was made ticket #{number + 1}" in page
    assert "A statement, please." in desk.get(f"/tickets/{number + 1}").text
    undo = re.search(r'name="undo" value="(\d+)"', page)
    assert undo is not None
    desk.post(f"/tickets/{number}/do/undo", {"seen": "0", "undo": undo[1]})
    assert button in desk.get(f"/tickets/{number}").text
