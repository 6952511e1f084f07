"""A request through each channel as customers and staff use it.

A real SMTP session, a signed form, a saved workbook.
"""

import hmac
import smtplib
from collections.abc import Callable
from hashlib import sha256

from ingest.folder.watcher import WatchedFolder
from ingest.intake import Intake
from ingest.processing.process import process_waiting
from ingest.smtp import listener as smtp_listener
from tests.acceptance.browser.browser import BrowserUser
from tests.acceptance.browser.messages import SUPPORT, make_form, make_mail, make_workbook
from tests.support.context import run_in_threads
from webhooks.app import create_app
from workflow.context import AppContext
from workflow.mail.sender import send_waiting

FORM_KEY = "the key of the walk"
PRACTICE = "Sunrise Family Practice"
RUBY = ("Ruby Chen", "ruby.chen@sunrise-family.example")
SUBJECT, TEXT = "A claim was denied", "The claim of February came back as CO-197."


def run_workers(app_context: AppContext) -> None:
    """Do the work of the workers: process what waits, send what is due."""
    process_waiting(app_context)
    send_waiting(app_context)


def send_mail(app_context: AppContext, _: BrowserUser) -> None:
    raised = run_in_threads(lambda: _send(app_context))
    assert not raised, raised  # in a thread of its own: Playwright has the event loop of this one


def _send(app_context: AppContext) -> None:
    with (
        smtp_listener.run_in_thread(app_context.settings, Intake(app_context).accept) as listener,
        smtplib.SMTP("127.0.0.1", listener.ports["smtp"]) as client,
    ):
        client.sendmail(RUBY[1], [SUPPORT], make_mail(RUBY, SUBJECT, f"{TEXT}\n\nRuby\n"))


def submit_form(app_context: AppContext, _: BrowserUser) -> None:
    body = make_form(PRACTICE, RUBY, SUBJECT, TEXT, Phone="555-0142")
    signature = hmac.new(FORM_KEY.encode(), body, sha256).hexdigest()
    headers = {"X-FS-Signature": f"sha256={signature}", "Content-Type": "application/json"}
    answer = (
        create_app(app_context, Intake(app_context).accept_all)
        .test_client()
        .post("/formstack", data=body, headers=headers)
    )
    assert answer.status_code == 202


def drop_workbook(app_context: AppContext, _: BrowserUser) -> None:
    folder = WatchedFolder(app_context, Intake(app_context).accept)
    (folder.path / "export.xlsx").write_bytes(make_workbook((PRACTICE, *RUBY, SUBJECT, TEXT)))
    folder.scan()
    assert (folder.path / "done" / "export.xlsx").exists()


def enter_call(_: AppContext, seat: BrowserUser) -> None:
    """By hand: the practice is put on record, then "+ Add ticket" on it."""
    page = seat.page
    page.get_by_role("link", name="Companies").click()
    page.get_by_role("link", name="New company").click()
    page.get_by_label("Name", exact=True).fill(PRACTICE)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="+ Add ticket").click()
    page.get_by_label("Description").fill(TEXT)
    page.get_by_label("Subject").fill(SUBJECT)
    page.get_by_label("Another mail address").fill(RUBY[1])
    page.get_by_label("and name").fill(RUBY[0])
    page.get_by_role("button", name="Add the ticket").click()
    page.get_by_text("Ticket #1 is yours.").wait_for()


CHANNELS: dict[str, Callable[[AppContext, BrowserUser], None]] = {
    "mail": send_mail,
    "form": submit_form,
    "workbook": drop_workbook,
    "call": enter_call,
}
