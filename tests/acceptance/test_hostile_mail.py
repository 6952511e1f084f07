"""Hostile mail through the whole application.

Each becomes one ticket, is answered only where it may be, and no answer leaks anything.

The cases are no part of the project: they are looked for in INTAKE_HOSTILE, else in
../shared/hostile.
"""

import importlib.util
import json
import os
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.context import count_rows
from workflow.context import AppContext
from workflow.mail import sender
from workflow.models.core import Message, OutgoingMail, Ticket
from workflow.settings.settings import Settings

HOSTILE = Path(os.environ.get("INTAKE_HOSTILE") or Path(__file__).parents[3] / "shared" / "hostile")
REQUESTER = "pat@clinic.example"
FIRST = f"From: {REQUESTER}\nMessage-ID: <first@clinic.example>\nSubject: first\n\nhelp\n".encode()

pytestmark = pytest.mark.skipif(
    not (HOSTILE / "badmail").is_dir(),
    reason=f"no hostile cases in {HOSTILE}: set INTAKE_HOSTILE to their folder",
)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path / "home",
        addresses=("support@billing.example.test",),
        notices_per_sender_hour=10**6,
    )


def deliver(context: AppContext, raw: bytes, envelope: dict[str, object]) -> tuple[int, int, int]:
    """Receive a mail; return how many tickets, messages and outgoing mails it has added."""
    models = (Ticket, Message, OutgoingMail)
    before = [count_rows(context, model) for model in models]
    Intake(context).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw, envelope=envelope)
    )
    process_waiting(context)
    tickets, messages, mails = (
        count_rows(context, model) - n for model, n in zip(models, before, strict=True)
    )
    return tickets, messages, mails


def find_faults(
    expected: dict[str, Any], added: tuple[int, int, int], *, answers_us: bool
) -> list[str]:
    """Return how the rows that a mail has added differ from what its manifest expects."""
    tickets, messages, mails = added
    faults = find_filing_faults(expected["outcome"], tickets, messages, answers_us=answers_us)
    if expected["ack"] == "yes" and tickets == 1 and mails != 1:
        faults.append("no notice")
    if expected["ack"] == "no" and mails > 0:
        faults.append("an answer to a mail that must not be answered")
    return faults


def find_filing_faults(outcome: str, tickets: int, messages: int, *, answers_us: bool) -> list[str]:
    """Return what is wrong with the tickets and messages that a mail has added."""
    if outcome == "append" and not answers_us:
        # a subject alone never attaches anything: operations manual, mail rules
        outcome = "not_append"
    faults = ["more than one ticket"] if tickets > 1 else []
    match outcome:
        case "ticket" | "degraded" if tickets != 1:
            faults.append("not one ticket")
        case "append" if (tickets, messages) != (0, 1):
            faults.append("not on the ticket it answers")
        case "not_append" if tickets != 1:
            faults.append("on a ticket it does not belong to")
        case "nothing" if (tickets, messages) != (0, 0):
            faults.append("a duplicate was taken")
    return faults


def test_every_hostile_mail_ends_as_its_manifest_says(context: AppContext) -> None:
    deliver(context, FIRST, {"mail_from": REQUESTER})
    sender.send_waiting(context)
    [notice] = [
        message_from_bytes(f.read_bytes()) for f in (context.settings.home / "outbox").glob("*.eml")
    ]
    placeholders = {
        "{{REQUESTER}}": REQUESTER,
        "{{OUT_MSGID}}": notice["Message-ID"],
        "{{TICKET_ID}}": "1",
    }
    faults_by_case: dict[str, list[str]] = {}
    for case in json.loads((HOSTILE / "badmail" / "manifest.json").read_text())["items"]:
        raw = (HOSTILE / "badmail" / case["file"]).read_bytes()
        answers_us = b"{{OUT_MSGID}}" in raw
        for name, value in placeholders.items():
            raw = raw.replace(name.encode(), value.encode())
        faults = find_faults(
            case["expect"], deliver(context, raw, case["envelope"]), answers_us=answers_us
        )
        if faults:
            faults_by_case[case["name"]] = faults
    assert faults_by_case == {}
    sender.send_waiting(context)
    assert check_answers(context) == {}


def check_answers(context: AppContext) -> dict[str, list[str]]:
    """Return what the check of the cases' folder finds wrong with each mail that went out."""
    check_ack = load_oracles().check_ack
    faults_by_file = {}
    for file in (context.settings.home / "outbox").glob("*.eml"):
        raw = file.read_bytes()
        faults = check_ack(raw, message_from_bytes(raw)["To"], sent_text=["claim 12345"])
        if faults:
            faults_by_file[file.name] = faults
    return faults_by_file


def load_oracles() -> Any:
    """Import the module of checks that lies beside the cases."""
    spec = importlib.util.spec_from_file_location("oracles", HOSTILE / "oracles.py")
    assert spec is not None
    assert spec.loader is not None
    load: Callable[[Any], None] = spec.loader.exec_module
    module = importlib.util.module_from_spec(spec)
    load(module)
    return module
