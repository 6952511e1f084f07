"""Hostile mail through the whole house.

One ticket, an answer only where one may be given, and none that leaks.

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
from ingest.processing.process import read_waiting
from parsers.item import Format
from tests.support.context import counted
from workflow.context import House
from workflow.mail import sender
from workflow.models.core import Message, Outgoing, Ticket
from workflow.settings.settings import Settings

HOSTILE = Path(os.environ.get("INTAKE_HOSTILE") or Path(__file__).parents[3] / "shared" / "hostile")
REQUESTER = "pat@clinic.example"
FIRST = f"From: {REQUESTER}\nMessage-ID: <first@clinic.example>\nSubject: first\n\nhelp\n".encode()
NEW = {"ticket", "degraded"}

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


def deliver(house: House, raw: bytes, envelope: dict[str, object]) -> tuple[int, int, int]:
    """How many tickets, messages and promised mails a delivery has made."""
    kinds = (Ticket, Message, Outgoing)
    before = [counted(house, kind) for kind in kinds]
    Intake(house).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw, envelope=envelope)
    )
    read_waiting(house)
    tickets, messages, mails = (
        counted(house, kind) - n for kind, n in zip(kinds, before, strict=True)
    )
    return tickets, messages, mails


def faults(expected: dict[str, Any], made: tuple[int, int, int], *, answers_us: bool) -> list[str]:
    tickets, messages, mails = made
    outcome = expected["outcome"]
    if (
        outcome == "append" and not answers_us
    ):  # a subject alone never attaches anything: PROCESS, mail rules
        outcome = "not_append"
    wrong = {
        "not one ticket": outcome in NEW and tickets != 1,
        "more than one ticket": tickets > 1,
        "not on the ticket it answers": outcome == "append" and (tickets, messages) != (0, 1),
        "on a ticket it does not belong to": outcome == "not_append" and tickets != 1,
        "a duplicate was taken": outcome == "nothing" and (tickets, messages) != (0, 0),
        "no notice": expected["ack"] == "yes" and tickets == 1 and mails != 1,
        "an answer to what must not be answered": expected["ack"] == "no" and mails > 0,
    }
    return [what for what, is_so in wrong.items() if is_so]


def test_every_hostile_mail_ends_as_its_manifest_says(house: House) -> None:
    deliver(house, FIRST, {"mail_from": REQUESTER})
    sender.send_waiting(house)
    [notice] = [
        message_from_bytes(f.read_bytes()) for f in (house.settings.home / "outbox").glob("*.eml")
    ]
    known = {
        "{{REQUESTER}}": REQUESTER,
        "{{OUT_MSGID}}": notice["Message-ID"],
        "{{TICKET_ID}}": "1",
    }
    found: dict[str, list[str]] = {}
    for case in json.loads((HOSTILE / "badmail" / "manifest.json").read_text())["items"]:
        raw = (HOSTILE / "badmail" / case["file"]).read_bytes()
        answers_us = b"{{OUT_MSGID}}" in raw
        for name, value in known.items():
            raw = raw.replace(name.encode(), value.encode())
        wrong = faults(case["expect"], deliver(house, raw, case["envelope"]), answers_us=answers_us)
        if wrong:
            found[case["name"]] = wrong
    assert found == {}
    sender.send_waiting(house)
    assert answers_at_fault(house) == {}


def answers_at_fault(house: House) -> dict[str, list[str]]:
    """What the folder's own judge finds wrong with the mails that went out."""
    check_ack = judge().check_ack
    found = {}
    for file in (house.settings.home / "outbox").glob("*.eml"):
        raw = file.read_bytes()
        said = check_ack(raw, message_from_bytes(raw)["To"], sent_text=["claim 12345"])
        if said:
            found[file.name] = said
    return found


def judge() -> Any:
    spec = importlib.util.spec_from_file_location("oracles", HOSTILE / "oracles.py")
    assert spec is not None
    assert spec.loader is not None
    load: Callable[[Any], None] = spec.loader.exec_module
    module = importlib.util.module_from_spec(spec)
    load(module)
    return module
