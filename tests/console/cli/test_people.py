"""People on the desk by the command line: what somebody has is handed over."""

import json

from ingest.processing import process
from tests.support.command import Intake
from tests.support.context import create_company, create_staff
from workflow.context import AppContext


def test_what_somebody_has_is_handed_over(at_home: AppContext, intake: Intake) -> None:
    with at_home.store.transaction() as session:
        create_staff(session, "Lea")
        create_company(session, "Elm Dental", manager=create_staff(session, "Dan"))
    assert intake("user", "hand-over", "Dan", "Lea").output == (
        "Lea has taken over from Dan: 1 company as its manager\n"
    )
    assert "nobody on the desk" in intake("user", "hand-over", "Nobody", "Lea", code=1).output
    assert "choose a colleague" in intake("user", "hand-over", "Dan", "Dan", code=1).output


def test_senders_have_rules_that_end_and_come_back(at_home: AppContext, intake: Intake) -> None:
    number = intake("sender", "set", "x@payer.example", "never").output.strip()
    assert "set to “never a ticket” already" in (
        intake("sender", "set", "X@payer.example", "never", code=1).output
    )
    assert "x@payer.example · never" in intake("sender", "list").output
    intake("sender", "remove", number)
    assert "ended" in intake("sender", "list").output
    assert intake("sender", "undo", number).output == "Undone.\n"
    [rule] = json.loads(intake("sender", "list", "--json").output)
    assert (rule["sender"], rule["treatment"], rule["ended_at"]) == (
        "x@payer.example",
        "never",
        None,
    )
    assert "is no address" in intake("sender", "set", "nobody", "always", code=1).output
    with at_home.store.transaction() as session:
        create_staff(session, "Ann")  # an agent
    assert "right “lead”" in intake("sender", "remove", number, "--as", "Ann", code=1).output


def test_an_automated_mail_is_made_a_ticket_and_that_is_undone(
    at_home: AppContext, intake: Intake
) -> None:
    raw = b"From: x@payer.example\nAuto-Submitted: auto-generated\nSubject: report\n\nClaim 1.\n"
    intake("deliver", "mail", "-", stdin=raw)
    process.process_waiting(at_home)
    assert "x@payer.example · report" in intake("automated").output
    number = intake("automated", "1", "ticket").output.strip()
    assert intake("automated", "1", "undo").output.strip() == number
    assert "there is nothing to undo" in intake("automated", "1", "undo", code=1).output
    assert "x@payer.example · report" in intake("automated").output
