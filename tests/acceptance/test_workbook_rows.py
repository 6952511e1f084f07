"""Rows of a real workbook through the whole application.

Patient data of the rows is on the ticket and nowhere else.
"""

import io
import logging

import openpyxl
import pytest
from sqlalchemy import inspect, select

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from workflow.context import AppContext
from workflow.mail import sender
from workflow.models.core import AuditEntry, Contact, Message, OutgoingMail, Task, Ticket
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


def build_workbook() -> bytes:
    made, out = openpyxl.Workbook(), io.BytesIO()
    for row in (HEADER, *ROWS):
        made.worksheets[0].append(row)
    made.save(out)
    return out.getvalue()


def test_patients_are_on_the_ticket_and_in_no_notice_log_task_or_subject(
    any_context: AppContext, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    log.configure("test", as_json=True)
    raw = build_workbook()
    Intake(any_context).accept(
        Arrival(transport=Transport.FOLDER, format=Format.SECURE_MESSAGE, raw=raw)
    )
    process_waiting(any_context)
    sender.send_waiting(any_context)
    with any_context.store.read_only() as session:
        details_of_rows = [
            dict(message.details)
            for message in session.scalars(select(Message).where(Message.direction == "in"))
        ]
        elsewhere = [
            str(getattr(one, column.key))
            for model in (Ticket, Task, AuditEntry, OutgoingMail, Contact)
            for one in session.scalars(select(model))
            for column in inspect(model).column_attrs
        ]
    assert [details["Patient Name (patient data)"] for details in details_of_rows] == [
        PATIENT[0]
    ] * 2
    mails = [file.read_text() for file in (any_context.settings.home / "outbox").glob("*.eml")]
    assert mails
    out = capfd.readouterr()
    for secret in PATIENT:
        assert not [
            text for text in (*elsewhere, *mails, out.out, out.err, caplog.text) if secret in text
        ]
