"""A request through each door as customers and staff use it.

A real SMTP session, a signed form, a saved workbook.
"""

import hmac
import smtplib
from collections.abc import Callable
from hashlib import sha256

from ingest.folder.watcher import Folder
from ingest.intake import Intake
from ingest.processing.process import read_waiting
from ingest.smtp import listener as smtp_listener
from tests.acceptance.browser.browser import Seat
from tests.acceptance.browser.messages import SUPPORT, export, form, letter
from tests.support.context import together
from webhooks.app import create
from workflow.context import House
from workflow.mail.sender import send_waiting

KEY = "the key of the walk"
PRACTICE = "Sunrise Family Practice"
RUBY = ("Ruby Chen", "ruby.chen@sunrise-family.example")
SUBJECT, TEXT = "A claim was denied", "The claim of February came back as CO-197."


def work(house: House) -> None:
    """What the workers do: read what waits, send what is due."""
    read_waiting(house)
    send_waiting(house)


def through_mail(house: House, _: Seat) -> None:
    raised = together(lambda: _send(house))
    assert not raised, raised  # in a thread of its own: Playwright has the event loop of this one


def _send(house: House) -> None:
    with (
        smtp_listener.in_thread(house.settings, Intake(house).accept) as listener,
        smtplib.SMTP("127.0.0.1", listener.ports["smtp"]) as client,
    ):
        client.sendmail(RUBY[1], [SUPPORT], letter(RUBY, SUBJECT, f"{TEXT}\n\nRuby\n"))


def through_form(house: House, _: Seat) -> None:
    body = form(PRACTICE, RUBY, SUBJECT, TEXT, Phone="555-0142")
    signature = hmac.new(KEY.encode(), body, sha256).hexdigest()
    headers = {"X-FS-Signature": f"sha256={signature}", "Content-Type": "application/json"}
    answer = (
        create(house, Intake(house).accept_all)
        .test_client()
        .post("/formstack", data=body, headers=headers)
    )
    assert answer.status_code == 202


def through_workbook(house: House, _: Seat) -> None:
    folder = Folder(house, Intake(house).accept)
    (folder.path / "export.xlsx").write_bytes(export((PRACTICE, *RUBY, SUBJECT, TEXT)))
    folder.scan()
    assert (folder.path / "done" / "export.xlsx").exists()


def through_call(_: House, seat: Seat) -> None:
    """By hand: the practice is put on record, then "+ Add ticket" on it."""
    page = seat.page
    page.get_by_role("link", name="Companies").click()
    page.get_by_role("link", name="New company").click()
    page.get_by_label("Name", exact=True).fill(PRACTICE)
    page.get_by_role("button", name="Keep").click()
    page.get_by_role("link", name="+ Add ticket").click()
    page.get_by_label("What it is about").fill(TEXT)
    page.get_by_label("In a few words").fill(SUBJECT)
    page.get_by_label("Another mail address").fill(RUBY[1])
    page.get_by_label("and name").fill(RUBY[0])
    page.get_by_role("button", name="Add the ticket").click()
    page.get_by_text("Ticket #1 is yours.").wait_for()


THROUGH: dict[str, Callable[[House, Seat], None]] = {
    "mail": through_mail,
    "form": through_form,
    "workbook": through_workbook,
    "call": through_call,
}
