"""Rows of a real workbook through the whole house.

What they say of patients is on the ticket and nowhere else.
"""

import io
import logging

import openpyxl
import pytest
from sqlalchemy import inspect, select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import read_waiting
from parsers.item import Format
from workflow.context import House
from workflow.mail import sender
from workflow.models.core import Audit, Contact, Message, Outgoing, Task, Ticket
from workflow.runtime import log

HEADER = [
    "Message ID",
    "Practice Name",
    "From",
    "Email",
    "Patient Name",
    "MRN",
    "DOB",
    "Subject",
    "Message",
]
PATIENT = ("Zebulon Quackenbush", "4711-0815", "2/29/1904")
ROWS = [
    ["M-1", "Sunrise", "Pat Doe", "pat@clinic.example", *PATIENT, "Claim", "Please look."],
    ["M-2", "Sunrise", "Pat Doe", "pat@clinic.example", *PATIENT, None, None],
    ["M-3", "Sunrise", "Pat Doe", None, *PATIENT, "Claim 3", "Please call."],
]


def workbook() -> bytes:
    made, out = openpyxl.Workbook(), io.BytesIO()
    for row in (HEADER, *ROWS):
        made.worksheets[0].append(row)
    made.save(out)
    return out.getvalue()


def test_patients_are_on_the_ticket_and_in_no_notice_log_task_or_subject(
    any_house: House, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log.setup("test", as_json=True)
    raw = workbook()
    Intake(any_house).accept(
        Arrival(transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=raw)
    )
    read_waiting(any_house)
    sender.send_waiting(any_house)
    with any_house.store.reading() as session:
        told = [
            dict(message.details)
            for message in session.scalars(select(Message).where(Message.direction == "in"))
        ]
        elsewhere = [
            str(getattr(one, column.key))
            for model in (Ticket, Task, Audit, Outgoing, Contact)
            for one in session.scalars(select(model))
            for column in inspect(model).column_attrs
        ]
    assert [details["Patient Name (patient data)"] for details in told] == [PATIENT[0]] * 2
    mails = [file.read_text() for file in (any_house.settings.home / "outbox").glob("*.eml")]
    assert mails
    out = capfd.readouterr()
    for secret in PATIENT:
        assert not [
            text for text in (*elsewhere, *mails, out.out, out.err, caplog.text) if secret in text
        ]
