"""Files that are more: attached messages are read, rows of attached workbooks become tickets."""

import pytest
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import select

from ingest.processing.process import process_waiting
from parsers.item import Attachment
from tests.console.api.test_api import Program
from tests.parsers.mail.outlook_files import build_file, build_message
from tests.support.command import Intake
from tests.support.context import list_audit_entries, make_mail, open_ticket
from tests.support.signed_in_client import Desk, build_app, sign_in_at_desk
from tests.support.workbooks import build_book
from workflow.context import AppContext
from workflow.models.core import Delivery, StoredAttachment, Ticket
from workflow.models.states import Role
from workflow.permissions import Right

INNER = b"From: Bob <bob@clinic.example>\r\nSubject: innermost\r\n\r\nInnermost words\r\n"
MIDDLE = (
    b"From: Jo <jo@clinic.example>\r\nTo: Al <al@clinic.example>\r\nSubject: claim 4711\r\n"
    b"Date: Mon, 30 Nov 2026 10:00:00 +0000\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: multipart/mixed; boundary=x\r\n\r\n"
    b"--x\r\n\r\nMiddle <b>words</b>\r\n"
    b"--x\r\nContent-Type: application/pdf; name=eob.pdf\r\n\r\n%PDF-1.7\r\n"
    b"--x\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--x--\r\n"
)
ROWS = build_book(
    ["Message ID", "From", "Practice", "Subject", "Message", "Date"],
    ["m-1", "Ann Lee", "Elm Clinic", "claim 1", "Please look at claim 1", "11/30/2026 10:00"],
    ["m-2", "Bo Ray", "Oak Clinic", "claim 2", "Please look at claim 2", "11/30/2026 11:00"],
)
DAMAGED = b"PK\x03\x04 no workbook"
UNKNOWN = build_book(["Alpha", "Beta"], ["one", "two"], ["three", "four"])


def attach(context: AppContext, name: str, content: bytes, mime: str = "x/y") -> tuple[int, int]:
    """Open a ticket with a file; return its number and the file's."""
    ticket = open_ticket(context, make_mail("see", attachments=(Attachment(name, mime, content),)))
    with context.store.read_only() as session:
        files = select(StoredAttachment.id).order_by(StoredAttachment.id.desc())
        return ticket, session.scalars(files.limit(1)).one()


@pytest.fixture
def desk(context: AppContext) -> Desk:
    return sign_in_at_desk(context)


def test_an_attached_message_is_a_page_with_its_own_files(context: AppContext, desk: Desk) -> None:
    ticket, file = attach(context, "fwd.eml", MIDDLE, "message/rfc822")
    assert f'href="/attachments/{file}/message"' in desk.get(f"/tickets/{ticket}").text
    page = desk.get(f"/attachments/{file}/message")
    assert "Jo &lt;jo@clinic.example&gt;" in page.text
    assert "Middle &lt;b&gt;words&lt;/b&gt;" in page.text
    links = [node.attributes["href"] or "" for node in LexborHTMLParser(page.text).css("main a")]
    assert f"/attachments/{file}/message/files/0" in links
    assert desk.get(f"/attachments/{file}/message/files/0").data == b"%PDF-1.7"
    [deeper] = [link for link in links if "in=" in link and "files" not in link]
    page = desk.get(deeper)
    assert "Innermost words" in page.text
    assert [row.cause for row in list_audit_entries(context, ticket, "file opened")] == [
        "ticket page"
    ] * 3


def test_a_message_of_outlook_is_read(context: AppContext, desk: Desk) -> None:
    raw = build_file(build_message({0x0037: "saved by hand", 0x1000: "Outlook's words"}))
    ticket, file = attach(context, "saved.msg", raw)
    assert "Outlook&#39;s words" in desk.get(f"/attachments/{file}/message").text
    assert "saved by hand" in desk.get(f"/attachments/{file}/message").text
    assert f"/attachments/{file}/message" in desk.get(f"/tickets/{ticket}").text


@pytest.mark.parametrize("path", ["9/message", "1/message?in=7", "1/message/files/7", "9/rows"])
def test_what_is_not_there_is_not_found(context: AppContext, desk: Desk, path: str) -> None:
    attach(context, "fwd.eml", MIDDLE, "message/rfc822")
    assert desk.get(f"/attachments/{path}").status_code == 404


def test_messages_are_read_only_so_deep(context: AppContext, desk: Desk) -> None:
    attach(context, "fwd.eml", MIDDLE)
    assert desk.get("/attachments/1/message?" + "in=0&" * 50).status_code == 404


def test_an_empty_file_is_no_message(context: AppContext, desk: Desk) -> None:
    ticket, file = attach(context, "empty.eml", b" ")
    assert desk.get(f"/attachments/{file}/message").location.endswith(f"/tickets/{ticket}")
    assert "cannot be read as a message: the message is empty" in desk.get("/").text


# -- rows ----


def list_subjects(context: AppContext) -> list[str]:
    with context.store.read_only() as session:
        return [ticket.subject for ticket in session.scalars(select(Ticket).order_by(Ticket.id))]


def test_rows_become_tickets_after_a_look_at_them(context: AppContext, desk: Desk) -> None:
    ticket, file = attach(context, "export.xlsx", ROWS)
    assert "Make tickets of its rows" in desk.get(f"/tickets/{ticket}").text
    page = desk.get(f"/attachments/{file}/rows").text
    assert "2 rows can be read" in page
    assert "Elm Clinic" in page
    assert list_subjects(context) == ["a question"]  # nothing has happened yet
    assert desk.post(f"/attachments/{file}/rows").location.endswith(f"/tickets/{ticket}")
    process_waiting(context)
    assert list_subjects(context) == ["a question", "claim 1", "claim 2"]
    page = desk.get(f"/tickets/{ticket}").text
    assert "Rows of an attached workbook become tickets" in page
    desk.post(f"/attachments/{file}/rows")
    process_waiting(context)
    assert len(list_subjects(context)) == 3


def test_a_workbook_with_unknown_columns_waits_for_a_mapping(
    context: AppContext, desk: Desk
) -> None:
    _, file = attach(context, "other.xlsx", UNKNOWN)
    assert "Its columns are not known yet" in desk.get(f"/attachments/{file}/rows").text
    desk.post(f"/attachments/{file}/rows")
    process_waiting(context)
    with context.store.read_only() as session:
        delivery = session.scalars(select(Delivery).where(Delivery.transport == "console")).one()
        assert delivery.reason.startswith("mapping needed")


def test_what_is_no_workbook_is_refused_and_nothing_is_stored(
    context: AppContext, desk: Desk
) -> None:
    ticket, file = attach(context, "broken.xlsx", DAMAGED)
    for ask in (desk.get, desk.post):
        answer = ask(f"/attachments/{file}/rows")
        assert answer.location.endswith(f"/tickets/{ticket}")
        assert "No tickets can be made of its rows" in desk.get("/").text
    with context.store.read_only() as session:
        assert session.scalars(select(Delivery).where(Delivery.transport == "console")).all() == []


def test_who_only_reads_makes_no_tickets(context: AppContext) -> None:
    ticket, file = attach(context, "export.xlsx", ROWS)
    auditor = sign_in_at_desk(context, Role.AUDITOR)
    assert "Make tickets of its rows" not in auditor.get(f"/tickets/{ticket}").text
    assert auditor.get(f"/attachments/{file}/rows").status_code == 403
    assert auditor.post(f"/attachments/{file}/rows").status_code == 403


def test_programs_read_messages_and_file_rows(context: AppContext) -> None:
    program = Program(context, build_app(context))
    _, file = attach(context, "fwd.eml", MIDDLE, "message/rfc822")
    answer = program.get(f"/attachments/{file}/message")
    assert (answer["from"], answer["subject"]) == ("Jo <jo@clinic.example>", "claim 4711")
    assert [one["name"] for one in answer["attachments"]] == ["eob.pdf", "innermost.eml"]
    _, file = attach(context, "export.xlsx", ROWS)
    delivery = program.post(f"/attachments/{file}/rows")["delivery"]
    process_waiting(context)
    assert list_subjects(context)[-2:] == ["claim 1", "claim 2"]
    assert program.post(f"/attachments/{file}/rows")["delivery"] == delivery
    _, file = attach(context, "broken.xlsx", DAMAGED)
    program.post(f"/attachments/{file}/rows", code=409)
    reader = Program(context, build_app(context), Right.READ)
    reader.post(f"/attachments/{file}/rows", code=403)


def test_the_shell_files_rows(at_home: AppContext, intake: Intake) -> None:
    ticket, _ = attach(at_home, "export.xlsx", ROWS)
    delivery = intake("ticket", ticket, "rows").stdout.strip()
    assert intake("ticket", ticket, "rows", "1").stdout.strip() == delivery
    process_waiting(at_home)
    assert list_subjects(at_home)[-2:] == ["claim 1", "claim 2"]
    assert "no such workbook" in intake("ticket", ticket, "rows", "99", code=1).stderr
    _, file = attach(at_home, "broken.xlsx", DAMAGED)
    assert "no tickets can be made" in intake("ticket", ticket + 3, "rows", file, code=1).stderr
