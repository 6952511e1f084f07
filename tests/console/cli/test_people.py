"""People on the desk by the command line: what somebody has is handed over."""

import json

from ingest.processing import process
from tests.support.command import Intake
from tests.support.context import create_company, create_staff
from workflow.context import AppContext
from workflow.models.core import Contact


def test_what_somebody_has_is_handed_over(at_home: AppContext, intake: Intake) -> None:
    with at_home.store.transaction() as session:
        create_staff(session, "Lea")
        create_company(session, "Elm Dental", manager=create_staff(session, "Dan"))
    assert intake("user", "hand-over", "Dan", "Lea").output == (
        "Lea has taken over from Dan: 1 company as its manager\n"
    )
    assert "nobody on the desk" in intake("user", "hand-over", "Nobody", "Lea", code=1).output
    assert "choose a colleague" in intake("user", "hand-over", "Dan", "Dan", code=1).output


def test_adding_a_practice_names_those_with_a_near_name(
    at_home: AppContext, intake: Intake
) -> None:
    with at_home.store.transaction() as session:
        create_company(session, "Quillfield Pediatrics", number="00471")
    added = intake("company", "add", "Quillfeld Pediatrics").output
    assert "perhaps Quillfield Pediatrics (no. 00471)" in added
    assert 'intake company merge "Quillfeld Pediatrics" "Quillfield Pediatrics"' in added
    assert "perhaps" not in intake("company", "add", "Elm Dental").output
    assert "perhaps" not in intake("company", "add", "Quilfield Pediatrics", "--number", "9").output
    assert "names no practice" in intake("company", "add", "Total", code=1).output


def test_companies_and_contacts_are_merged_and_separated(
    at_home: AppContext, intake: Intake
) -> None:
    with at_home.store.transaction() as session:
        create_company(session, "Elm Dental", number="00471")
        create_company(session, "Lantern Dental")
        for email in ("jo@elm.example", "jo@gmail.example"):
            session.add(Contact(email=email, created_at=at_home.clock()))
    merged = intake("company", "merge", "471", "LANTERN DENTAL, Inc.").output
    assert merged == "Elm Dental is merged into Lantern Dental\n"
    listed = json.loads(intake("company", "list", "--json").output)
    assert [one["name"] for one in listed] == ["Lantern Dental"]
    separated = intake("company", "unmerge", "Elm Dental").output
    assert separated == "Elm Dental is separate from Lantern Dental again\n"
    assert "no practice" in intake("company", "merge", "Oak", "Elm Dental", code=1).output
    merged = intake("contact", "merge", "jo@gmail.example", "jo@elm.example").output
    assert merged == "jo@gmail.example is merged into jo@elm.example\n"
    separated = intake("contact", "unmerge", "jo@gmail.example").output
    assert separated == "jo@gmail.example is separate from jo@elm.example again\n"
    assert "no contact" in intake("contact", "unmerge", "al@elm.example", code=1).output


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
