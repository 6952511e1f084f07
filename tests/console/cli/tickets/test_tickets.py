"""Tickets from the command line, as a consultant works on them."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from ingest.processing.process import process_waiting
from tests.support.command import Intake, New, ShowTicket
from workflow.context import AppContext, open_context
from workflow.mail import sender
from workflow.models.core import AuditEntry
from workflow.operations import sweep
from workflow.process import QUEUE_NAME
from workflow.settings.settings import load_settings
from workflow.tickets import undo

KEYS = (
    "id name subject pipeline type stage status owner company contacts source format link"
    " created_at milestones missing deadlines tasks messages outbox deliveries caveats related"
)


@pytest.fixture
def new(intake: Intake) -> New:
    def make(*args: str, contact: str = "jo@acme.test") -> int:
        call = ("--company", "Acme Clinic", "--contact", contact, "--text", "It is denied", *args)
        return int(intake("ticket", "new", *call).stdout)

    return make


@pytest.fixture
def show_ticket(intake: Intake) -> ShowTicket:
    return lambda number: json.loads(intake("ticket", number, "--json").stdout)


def test_a_call_waits_in_the_queue_and_has_every_key_of_the_contract(
    intake: Intake, new: New, show_ticket: ShowTicket
) -> None:
    number = new("--name", "Jo", "--subject", "Claim", "--telemedicine")
    ticket = show_ticket(number)
    assert set(KEYS.split()) <= set(ticket)
    assert ticket["owner"] is None
    assert ticket["stage"] == "1-Submitted"
    assert ticket["source"] == "console"
    assert ticket["contacts"] == [{"name": "Jo", "email": "jo@acme.test", "share_activity": True}]
    assert ticket["missing"] == ["Customer notified"]
    assert [d["milestone"] for d in ticket["deadlines"]] == [
        "4-Support Follow Up Sent",
        "Resolution",
    ]
    assert ticket["deliveries"] == [1]
    listed = json.loads(intake("tickets", "--json").stdout)
    assert [t["id"] for t in listed] == [number]
    assert QUEUE_NAME in intake("tickets").output


def test_a_call_taken_by_someone_on_the_desk_is_theirs(
    intake: Intake, new: New, show_ticket: ShowTicket
) -> None:
    intake("user", "add", "Ann Lee", "--role", "agent")
    assert show_ticket(new("--as", "Ann Lee"))["owner"] == "Ann Lee"
    assert "intake demo" in intake("tickets").output
    assert "#" in intake("tickets", "--view", "mine", "--as", "Ann Lee").output


def test_a_call_taken_by_a_stranger_waits_in_the_queue(
    intake: Intake, show_ticket: ShowTicket
) -> None:
    result = intake("ticket", "new", "--text", "hello", "--as", "Nobody")
    assert "unassigned" in result.stderr
    assert show_ticket(int(result.stdout))["owner"] is None


def test_an_address_that_is_none_is_refused(intake: Intake) -> None:
    assert (
        "not-an-address"
        in intake("ticket", "new", "--text", "x", "--contact", "not-an-address", code=2).stderr
    )


def advance_past_undo(context: AppContext) -> AppContext:
    """The same database, when the seconds are over in which a mail can be undone."""
    return replace(context, clock=lambda: context.clock() + undo.DELAY)


def test_walking_a_ticket_to_completed(
    intake: Intake, new: New, show_ticket: ShowTicket, at_home: AppContext
) -> None:
    number = new()
    sender.send_waiting(at_home)
    intake("user", "add", "Ann Lee", "--role", "agent")
    intake("ticket", number, "assign", "Ann Lee")
    assert (
        "waits for: Resolution, 5-Recap"
        in intake("ticket", number, "follow-up", "--as", "Ann Lee").output
    )
    assert "recorded before" in intake("ticket", number, "follow-up").stderr
    intake("ticket", number, "resolve", "no")
    intake("ticket", number, "resolve", "yes")
    intake("ticket", number, "recap", "--text", "Filed again.")
    assert show_ticket(number)["stage"] == "5-Audit"
    sender.send_waiting(advance_past_undo(at_home))
    ticket = show_ticket(number)
    assert (ticket["stage"], ticket["status"]) == ("6-Completed", "completed")
    assert ticket["milestones"]["4-Support Follow Up Sent"]["by"] == "Ann Lee"
    assert [m["template"].rsplit(" ")[-1] for m in ticket["outbox"]] == [
        "Ticket",
        "Resolution",
        "Survey",
    ]
    assert json.loads(intake("tickets", "--view", "completed", "--json").stdout)[0]["id"] == number
    intake("ticket", number, "reopen")
    assert show_ticket(number)["stage"] == "4-In Progress"


def test_a_recap_told_on_the_phone_ticks_the_box_without_mail(
    intake: Intake, new: New, show_ticket: ShowTicket
) -> None:
    number = new()
    intake("ticket", number, "recap", "--note", "on the phone")
    ticket = show_ticket(number)
    assert ticket["milestones"]["5-Recap of Resolution Sent"]["note"] == "on the phone"
    assert len(ticket["outbox"]) == 1


def test_side_ends_refuse_ticks_until_reopened(
    intake: Intake, new: New, show_ticket: ShowTicket
) -> None:
    number = new()
    intake("ticket", number, "withdraw", "--reason", "found it")
    assert show_ticket(number)["status"] == "withdrawn"
    assert f"intake ticket {number} reopen" in intake("ticket", number, "follow-up", code=1).stderr
    intake("ticket", number, "reopen")
    intake("ticket", number, "spam")
    assert show_ticket(number)["status"] == "spam"


def test_merging_relates_both(intake: Intake, new: New, show_ticket: ShowTicket) -> None:
    first, second = new(), new(contact="max@acme.test")
    intake("ticket", second, "merge", first)
    assert show_ticket(second)["status"] == "merged"
    assert show_ticket(second)["related"] == [{"id": first, "reason": f"merged into #{first}"}]
    assert show_ticket(first)["related"][0]["id"] == second
    assert "merge into another" in intake("ticket", first, "merge", first, code=1).stderr


def test_moving_back_takes_a_reason(
    intake: Intake, new: New, show_ticket: ShowTicket, at_home: AppContext
) -> None:
    number = new()
    sender.send_waiting(at_home)
    intake("ticket", number, "follow-up")
    intake("ticket", number, "move-back", "4", "--reason", "wrong person")
    assert show_ticket(number)["missing"] == ["4-Support Follow Up Sent"]
    assert "no stage" in intake("ticket", number, "move-back", "9", "--reason", "x", code=1).stderr


def test_missed_deadlines_show_in_the_views_and_their_tasks_can_be_closed(
    intake: Intake,
    new: New,
    show_ticket: ShowTicket,
    at_home: AppContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    intake("user", "add", "Max Berg", "--role", "lead")
    intake("company", "add", "Acme Clinic", "--manager", "Max Berg")
    number = new()
    monkeypatch.setenv("INTAKE_CLOCK_OFFSET", str(timedelta(days=4).total_seconds()))
    listed = json.loads(intake("tickets", "--view", "overdue", "--json").stdout)
    assert [t["id"] for t in listed] == [number]
    sweep.raise_tasks(at_home, at_home.clock() + timedelta(days=4))
    assert number == json.loads(intake("tickets", "--view", "escalated", "--json").stdout)[0]["id"]
    tasks = show_ticket(number)["tasks"]
    assert [(t["text"], t["assignee"]) for t in tasks] == [
        ("follow up with the customer", ""),
        ("escalate the ticket", "Max Berg"),
    ]
    assert all(d["raised"] for d in show_ticket(number)["deadlines"])
    intake("ticket", number, "task-done", tasks[1]["id"])
    assert json.loads(intake("tickets", "--view", "escalated", "--json").stdout) == []
    assert "its tasks: 1, 2" in intake("ticket", number, "task-done", 99, code=1).stderr


def test_the_audit_says_who(
    intake: Intake, new: New, at_home: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = new()
    intake("ticket", number, "resolve", "yes", "--as", "Ann Lee")
    monkeypatch.setenv("INTAKE_USER", "Bo")
    intake("ticket", number, "resolve", "no")
    with at_home.store.read_only() as session:
        actors = set(
            session.scalars(select(AuditEntry.actor).where(AuditEntry.ticket_id == number))
        )
    assert actors >= {"Ann Lee", "Bo"}


@pytest.mark.parametrize(
    "args", [("99",), ("99", "--json"), ("99", "follow-up"), ("99", "recap"), ("99", "reopen")]
)
def test_no_such_ticket_is_exit_code_1(intake: Intake, args: tuple[str, ...]) -> None:
    assert "no ticket 99" in intake("ticket", *args, code=1).stderr


def test_a_step_without_a_number_asks_for_it(intake: Intake) -> None:
    assert "intake ticket 12 follow-up" in intake("ticket", "follow-up", code=2).stderr


def test_control_characters_of_a_customer_do_not_reach_the_terminal(
    intake: Intake, at_home: AppContext
) -> None:
    mail = b"From: a@b.test\r\nSubject: [red]\x1b[2J boo\r\n\r\nhello \x1b]0;owned\x07 there\r\n"
    intake("deliver", "mail", "-", stdin=mail)
    process_waiting(at_home)
    said = intake("ticket", "1").output + intake("tickets").output
    assert "\x1b" not in said
    assert "\x07" not in said
    assert "[red]" in said


def test_several_contacts_may_follow_one_option(intake: Intake, show_ticket: ShowTicket) -> None:
    call = ("--contact", "jo@acme.test", "li@acme.test", "--text", "It is denied")
    found = show_ticket(int(intake("ticket", "new", *call).stdout))
    assert [c["email"] for c in found["contacts"]] == ["jo@acme.test", "li@acme.test"]


def test_the_telemedicine_group_gets_one_task_and_the_owner_stays(
    intake: Intake, new: New, show_ticket: ShowTicket
) -> None:
    intake("user", "add", "dana", "--role", "agent")
    number = new("--as", "dana")
    intake("ticket", number, "telemedicine")
    assert "nothing changed" in intake("ticket", number, "telemedicine").output
    assert [t["assignee"] for t in show_ticket(number)["tasks"]] == ["CSC Onboarding telemedicine"]
    assert show_ticket(number)["owner"] == "dana"


def test_quotes_of_an_answer_are_folded_for_people_and_whole_for_scripts(
    intake: Intake, at_home: AppContext, show_ticket: ShowTicket, tmp_path: Path
) -> None:
    answer = (
        "From: jo@acme.test\n\nYes, please.\n\nOn Mon, 2 Mar 2026 at 10:00, Us <us@desk.test>"
        " wrote:\n> May we?\n> Us\n"
    )
    (tmp_path / "answer.eml").write_text(answer)
    intake("deliver", "mail", tmp_path / "answer.eml")
    process_waiting(at_home)
    output = intake("ticket", 1).output
    assert "Yes, please." in output
    assert "May we?" not in output
    assert "lines of quotes and signature folded" in output
    assert "May we?" in show_ticket(1)["messages"][0]["text"]


def test_the_submission_stands_first_and_its_linked_files_say_how_far_they_are(
    intake: Intake, show_ticket: ShowTicket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTAKE_FILE_HOSTS", "files.example.test")
    intake("migrate")
    body = b'{"FormID":"7","UniqueID":"150","Scan":{"value":"https://files.example.test/a.pdf","type":"file"}}'
    intake("deliver", "formstack", "-", stdin=body)
    told = open_context(load_settings())
    process_waiting(told)
    told.close()
    lines = intake("ticket", 1).stdout.splitlines()
    assert lines[1] == "original: https://www.formstack.com/admin/submission/view/150"
    assert any("linked file waiting: https://files.example.test/a.pdf" in line for line in lines)
    ticket = show_ticket(1)
    assert ticket["link"] == "https://www.formstack.com/admin/submission/view/150"
    (file,) = ticket["messages"][0]["linked_files"]
    assert (file["url"], file["state"], file["attachment"]) == (
        "https://files.example.test/a.pdf",
        "waiting",
        None,
    )
