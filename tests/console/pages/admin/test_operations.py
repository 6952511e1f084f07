"""Operations pages: overview, failed deliveries, outbox, audit log, settings, metrics."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import openpyxl
import pytest
from flask.testing import FlaskClient
from sqlalchemy import event, select, update

from console.app import create_app
from console.presenters.operations import link_commands, present_status
from ingest.column_mapping.apply import read_preview, save_mapping
from ingest.column_mapping.propose import MappingChoices, propose_sheets
from ingest.intake import Arrival, Intake, Transport
from ingest.parser_options import load_parser_options
from ingest.processing.parser_pool import use_parser_pool
from ingest.processing.process import process_waiting
from parsers.item import Format
from tests.support.context import (
    START,
    HandClock,
    RecordingNotifier,
    count_rows,
    create_company,
    create_staff,
    make_call_arrival,
    make_mail,
    open_ticket,
    reach,
)
from tests.support.signed_in_client import sign_in_at_desk
from tests.support.workbooks import build_book, build_hoarding_book
from workflow.context import AppContext
from workflow.filing.linked_files import LinkedFile
from workflow.mail import failed
from workflow.models.accounts import Account
from workflow.models.core import (
    AuditEntry,
    Delivery,
    Message,
    OutgoingMail,
    Ticket,
    TicketMilestone,
)
from workflow.models.states import DeliveryState, LinkState, OutboxState, Role
from workflow.operations.checks import SelfChecks
from workflow.operations.status import record_alive
from workflow.operations.sweep import raise_tasks
from workflow.process import Milestone, Template
from workflow.settings import report
from workflow.settings.settings import Mailbox, OAuth2, Settings
from workflow.tickets import upcoming

PAGES = (
    "/operations",
    "/operations/ledger",
    "/operations/ledger.csv",
    "/operations/deliveries",
    "/operations/deliveries.csv",
    "/operations/deliveries/1",
    "/operations/outbox",
    "/operations/outbox.csv",
    "/operations/next-week",
    "/operations/next-week.csv",
    "/operations/audit",
    "/operations/audit.csv",
    "/operations/profiles",
    "/operations/settings",
    "/operations/webhooks",
)
LEADS = tuple(
    f"/operations/deliveries/1/{what}" for what in ("raw", "original", "map", "rejected.xlsx")
)
CHANGES = (
    "/operations/deliveries/look",
    "/operations/deliveries/replay",
    "/operations/deliveries/dismiss",
    "/operations/deliveries/1/map",
    "/operations/profiles/forget",
    "/operations/outbox/1/retry",
    "/operations/outbox/retry",
)
HEADER = ["Datum", "Klinik", "Anliegen", "Nr"]
ROW = ["5/1/2026 10:00", "Nordklinik", "Bitte helfen.", 7]
JUNK = b"no <workbook> & no archive"


def arrive(context: AppContext, raw: bytes, form: Format = Format.SECURE_MESSAGE) -> int:
    number = Intake(context).accept(Arrival(transport=Transport.FOLDER, format=form, raw=raw))
    process_waiting(context)
    return number


def get_state(context: AppContext, number: int) -> DeliveryState:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number).state


def list_actions(context: AppContext, action: str) -> list[tuple[str, str]]:
    with context.store.read_only() as session:
        rows = session.scalars(
            select(AuditEntry).where(AuditEntry.action == action).order_by(AuditEntry.id)
        )
        return [(r.actor, r.cause) for r in rows]


def parse_rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"))))


@contextmanager
def capture_queries(context: AppContext) -> Iterator[list[str]]:
    statements: list[str] = []

    def note(_c: object, _cur: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(context.store.engine, "before_cursor_execute", note)
    yield statements
    event.remove(context.store.engine, "before_cursor_execute", note)


# -- who may ----


def test_an_agent_sees_none_of_it(context: AppContext) -> None:
    arrive(context, JUNK)
    desk = sign_in_at_desk(context, Role.AGENT)
    assert "/operations" not in desk.get("/").text
    assert {desk.get(path).status_code for path in (*PAGES, *LEADS)} == {403}
    desk.get("/account")
    assert {desk.post(path).status_code for path in CHANGES} == {403}


def test_an_auditor_reads_and_changes_nothing(any_context: AppContext) -> None:
    arrive(any_context, JUNK)
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    assert {path: desk.get(path).status_code for path in PAGES} == dict.fromkeys(PAGES, 200)
    assert {desk.get(path).status_code for path in LEADS} == {403}
    page = desk.get("/operations/deliveries").text
    assert "Dismiss" not in page
    assert "/original" not in desk.get("/operations/deliveries/1").text
    for path in CHANGES:
        assert desk.post(path, {"id": "1", "reason": "x"}).status_code == 403, path
    assert get_state(any_context, 1) is DeliveryState.FAILED
    assert list_actions(any_context, "original read") == []


def test_nothing_is_changed_without_a_token(context: AppContext) -> None:
    arrive(context, JUNK)
    desk = sign_in_at_desk(context, Role.LEAD)
    for path in CHANGES:
        assert desk.client.post(path, data={"id": "1", "reason": "x"}).status_code == 400, path
    assert get_state(context, 1) is DeliveryState.FAILED


@pytest.mark.parametrize("path", PAGES)
def test_every_page_has_words_while_there_is_nothing(context: AppContext, path: str) -> None:
    if path != "/operations/deliveries/1":
        assert sign_in_at_desk(context, Role.LEAD).get(path).status_code == 200


def test_no_page_takes_more_than_twenty_queries(any_context: AppContext) -> None:
    for n in range(12):
        open_ticket(any_context, make_mail(f"claim {n}"))
    arrive(any_context, JUNK)
    with any_context.store.transaction() as session:
        link = {
            "digest": "0" * 64,
            "url": "https://f.example/",
            "state": LinkState.FAILED,
            "not_before": START,
        }
        session.add(LinkedFile(message_id=1, **link))
    grant = OAuth2(token_url="https://t.example/", client_id="c", refresh_token="r")
    read = {"mailbox": (Mailbox(host="imap.example", user="u", oauth2=grant),)}
    desk = sign_in_at_desk(
        replace(any_context, settings=any_context.settings.model_copy(update=read)), Role.LEAD
    )
    for path in PAGES:
        with capture_queries(any_context) as asked:
            assert desk.get(path).status_code == 200
        assert len(asked) <= 20, (path, len(asked))


# -- overview ----


def test_the_overview_says_what_intake_status_says(
    any_context: AppContext, clock: HandClock
) -> None:
    arrive(any_context, JUNK)
    Intake(any_context).accept(
        Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=b"Subject: x\r\n\r\ny")
    )
    process_waiting(any_context)
    record_alive(any_context, "worker one")
    clock.turn(hours=30)
    record_alive(any_context, "clock")
    SelfChecks(any_context).run_due()
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    page = desk.get("/operations").text
    needs = present_status(any_context)["needs"]
    assert len(needs) == 4  # failed, too long, the worker, a silent channel
    shown = re.sub(r"</?(a|code)\b[^>]*>", "", page)
    for need in needs:
        words = need.replace("`intake deliveries --state failed`", "Deliveries").replace("`", "")
        assert words.replace("'", "&#39;") in shown
    assert (
        'see <a class="alert-link" href="/operations/deliveries?state=failed">Deliveries</a></li>'
        in page
    )
    assert '<code class="text-reset">intake up</code>' in page, "no page starts a process"
    needing = page.partition("Needs attention")[2].partition("</ul>")[0]
    assert "`" not in needing
    for href in re.findall(r'<a[^>]* href="([^"]+)"', needing):
        assert desk.get(href).status_code == 200
    assert page.count("silent too long") == 1  # the folder may be: nobody has to drop files
    for check in ("ledger", "deadlines", "saved forms"):
        assert f"<strong>{check}</strong>: no problem found" in page


def test_our_own_words_are_escaped_beside_their_links() -> None:
    html = link_commands("<b>7</b> & see `intake ledger`, then `intake <i>`")
    assert (
        html == '&lt;b&gt;7&lt;/b&gt; &amp; see <a class="alert-link"'
        ' href="/operations/ledger">Ledger</a>, then <code class="text-reset">intake'
        " &lt;i&gt;</code>"
    )


def test_a_quiet_house_needs_nobody(context: AppContext) -> None:
    record_alive(context, "clock")
    assert (
        "Nothing needs attention." in sign_in_at_desk(context, Role.AUDITOR).get("/operations").text
    )


def test_the_ledger_is_that_of_the_command(any_context: AppContext) -> None:
    arrive(any_context, JUNK)
    Intake(any_context).accept(make_call_arrival())
    process_waiting(any_context)
    desk = sign_in_at_desk(any_context, Role.AUDITOR)
    assert "It adds up" in desk.get("/operations/ledger").text
    head, *lines = parse_rows(desk.get("/operations/ledger.csv").text)
    lines_by_channel = {line[0]: dict(zip(head[1:], line[1:], strict=True)) for line in lines}
    assert (
        lines_by_channel["console"]["opened"],
        lines_by_channel["folder"]["failed"],
        lines_by_channel["total"]["received"],
    ) == (
        "1",
        "1",
        "2",
    )
    assert lines_by_channel["total"]["adds up"] == "yes"
    workbook = arrive(any_context, b"Practice,From,Message\nElm,Bo,Fax.\nEnd of report\n")
    process_waiting(any_context)
    assert (
        f'<a href="/operations/deliveries/{workbook}">{workbook}</a>'
        in desk.get("/operations/ledger").text
    )
    page = desk.get(f"/operations/deliveries/{workbook}").text
    assert "3 rows = 1 item + 1 heading (row 1) + 1 footer (row 3)" in page
    with any_context.store.transaction() as session:
        session.execute(update(Delivery).values(items=3))
    assert "It does not add up" in desk.get("/operations/ledger").text


# -- deliveries ----


def test_failed_ones_are_listed_with_reason_and_age(context: AppContext, clock: HandClock) -> None:
    arrive(context, JUNK)
    clock.turn(hours=3)
    page = sign_in_at_desk(context, Role.LEAD).get("/operations/deliveries").text
    with context.store.read_only() as session:
        reason = session.get_one(Delivery, 1).reason
    assert reason in page
    assert "3 h ago" in page


def test_the_original_is_shown_escaped_and_that_is_on_record(any_context: AppContext) -> None:
    arrive(any_context, JUNK)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    page = desk.get("/operations/deliveries/1/raw").text
    assert "no &lt;workbook&gt; &amp; no archive</pre>" in page
    assert list_actions(any_context, "original read") == [("Ann Lee", "raw view")]
    answer = desk.get("/operations/deliveries/1/original")
    assert answer.data == JUNK
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == "attachment; filename=delivery-1.bin"
    assert answer.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
    assert answer.headers["Cache-Control"] == "no-store"
    assert len(list_actions(any_context, "original read")) == 2


def test_an_original_that_is_no_text_is_only_handed_out(context: AppContext) -> None:
    arrive(context, b"PK\x00\x01<script>")
    page = sign_in_at_desk(context, Role.LEAD).get("/operations/deliveries/1/raw").text
    assert "It is not text" in page
    assert "&lt;script" not in page


def test_a_long_original_is_cut_on_the_page(context: AppContext) -> None:
    arrive(context, "é".encode() * 500_000)
    desk = sign_in_at_desk(context, Role.LEAD)
    answer = desk.get("/operations/deliveries/1/raw")
    assert "cut here" in answer.text
    assert "\ufffd" not in answer.text
    assert len(answer.text) < 300_000
    assert desk.get("/operations/deliveries/999/raw").status_code == 404


def test_dismissing_takes_a_reason_and_keeps_what_was_ticked(any_context: AppContext) -> None:
    arrive(any_context, JUNK)
    arrive(any_context, JUNK + b"2")
    desk = sign_in_at_desk(any_context, Role.LEAD)
    desk.get("/operations/deliveries")
    answer = desk.post("/operations/deliveries/dismiss", {"id": ["2"], "reason": " "})
    assert answer.status_code == 422
    assert 'value="2" aria-label="Delivery 2" checked' in answer.text
    assert 'aria-label="Delivery 1" checked' not in answer.text
    assert get_state(any_context, 2) is DeliveryState.FAILED
    desk.post("/operations/deliveries/dismiss", {"id": ["1", "2"], "reason": "an empty export"})
    assert {get_state(any_context, n) for n in (1, 2)} == {DeliveryState.DISMISSED}
    assert list_actions(any_context, "dismissed") == [("Ann Lee", "an empty export")] * 2
    assert "an empty export" in desk.get("/operations/deliveries?state=dismissed").text
    answer = desk.post("/operations/deliveries/dismiss", {"id": ["1"], "reason": "again"})
    assert answer.status_code == 422
    assert "is dismissed" in answer.text
    desk.post(
        "/operations/deliveries/replay", {"id": "1"}
    )  # undone: the parser reports the same error again
    assert get_state(any_context, 1) is DeliveryState.FAILED


def test_nothing_ticked_is_said(context: AppContext) -> None:
    arrive(context, JUNK)
    desk = sign_in_at_desk(context, Role.LEAD)
    desk.get("/operations/deliveries")
    for path in ("look", "replay", "dismiss"):
        desk.post(f"/operations/deliveries/{path}", {"id": "x", "reason": "r"})
        assert "Select at least one delivery." in desk.get("/operations/deliveries").text


def save_profile(context: AppContext, heading: str = "Anliegen") -> None:
    """Say what the columns of the German workbook mean, as another host would.

    The reader is corrected.
    """
    choices = MappingChoices(columns={heading: "body", "Klinik": "company"})
    [sheet] = propose_sheets(
        read_preview(context, build_book(HEADER, ROW)),
        load_parser_options(context, Format.SECURE_MESSAGE),
        choices,
    )
    save_mapping(context, sheet, "north", by="test")


def test_reading_again_is_shown_before_it_is_done(any_context: AppContext) -> None:
    arrive(any_context, build_book(HEADER, ROW))
    save_profile(any_context)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    desk.get("/operations/deliveries/1")
    shown = desk.post("/operations/deliveries/look", {"id": "1"}).text
    assert "it would be read, 1 of 1 items filed" in shown
    assert "would open a ticket" in shown
    assert count_rows(any_context, Ticket) == 0
    assert get_state(any_context, 1) is DeliveryState.FAILED
    assert list_actions(any_context, "original read") == [("Ann Lee", "replay preview")]
    desk.post("/operations/deliveries/replay", {"id": "1"})
    assert count_rows(any_context, Ticket) == 1
    page = desk.get("/operations/deliveries/1").text
    with any_context.store.read_only() as session:
        number = session.scalars(
            select(Ticket.id)
        ).one()  # what was tried may leave a gap in the numbers
    assert f"processed, ticket {number}" in page
    assert f'<a href="/tickets/{number}">#{number}</a>' in page


def test_all_failed_ones_are_read_by_the_workers(
    any_context: AppContext, notified_queues: RecordingNotifier
) -> None:
    for n in range(12):
        arrive(any_context, JUNK + str(n).encode())
    arrive(any_context, build_book(HEADER, ROW))
    save_profile(any_context)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    desk.get("/operations/deliveries")
    shown = desk.post("/operations/deliveries/look", {"all": "1"}).text
    assert "and 3 more deliveries, not shown here" in shown
    assert "Read all 13 again" in shown
    notified_queues.clear()
    desk.post("/operations/deliveries/replay", {"all": "1"})
    assert notified_queues == ["read"]
    assert count_rows(any_context, Delivery, Delivery.state == DeliveryState.PENDING) == 13
    process_waiting(any_context)
    assert count_rows(any_context, Delivery, Delivery.state == DeliveryState.FAILED) == 12
    assert count_rows(any_context, Ticket) == 1
    assert len(list_actions(any_context, "replayed")) == 13


def test_what_was_read_before_is_changed_only_as_it_was_shown(any_context: AppContext) -> None:
    Intake(any_context).accept(make_call_arrival("please call back"))
    process_waiting(any_context)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    desk.get("/operations/deliveries/1")
    page = desk.post("/operations/deliveries/look", {"id": "1"}).text
    assert "nothing would change" in page
    assert "Read it again" not in page

    def spoil(text: str) -> None:
        with any_context.store.transaction() as session:
            session.execute(update(Message).values(text=text))

    spoil("please <b>")
    page = desk.post("/operations/deliveries/look", {"id": "1"}).text
    assert "- please &lt;b&gt;" in page
    assert "+ please call back" in page
    seen_value = page.partition('name="seen" value="')[2].partition('"')[0]
    spoil("something else")
    answer = desk.post("/operations/deliveries/replay", {"id": "1", "seen": seen_value})
    assert answer.status_code == 409
    assert "- something else" in answer.text
    seen_value = answer.text.partition('name="seen" value="')[2].partition('"')[0]
    assert (
        desk.post("/operations/deliveries/replay", {"id": "1", "seen": seen_value}).status_code
        == 302
    )
    with any_context.store.read_only() as session:
        assert session.scalars(select(Message)).one().text == "please call back"


def test_what_cannot_be_read_says_so_before_and_after(context: AppContext) -> None:
    arrive(context, JUNK)
    desk = sign_in_at_desk(context, Role.LEAD)
    desk.get("/operations/deliveries/1")
    with context.store.read_only() as session:
        reason = session.get_one(Delivery, 1).reason
    assert f"failed: {reason}" in desk.post("/operations/deliveries/look", {"id": "1"}).text
    desk.post("/operations/deliveries/replay", {"id": "1"})
    assert f"Delivery 1: failed: {reason}" in desk.get("/operations/deliveries/1").text


def test_a_workbook_is_mapped_and_read(any_context: AppContext) -> None:
    arrive(any_context, build_book(HEADER, ROW))
    arrive(any_context, build_book(HEADER, [*ROW[:2], "Noch etwas.", 8]))
    arrive(any_context, b"PK\x03\x04 a damaged archive")
    desk = sign_in_at_desk(any_context, Role.LEAD)
    assert "/operations/deliveries/1/map" in desk.get("/operations/deliveries").text
    assert desk.get("/operations/deliveries/3/map").status_code == 404
    page = desk.get("/operations/deliveries/1/map").text
    assert "Bitte helfen." in page
    assert page.count("a guess: check it") == 1  # the date
    assert "as you say" not in page
    assert "Still missing: the message text" in page
    assert list_actions(any_context, "original read") == [("Ann Lee", "map")]
    form = {
        "column-A": "sent_at",
        "column-B": "company",
        "column-C": "body",
        "column-D": "",
        "order": "dmy",
    }
    answer = desk.post(
        "/operations/deliveries/1/map", {**form, "column-C": "", "save": "1", "name": "north"}
    )
    assert answer.status_code == 422
    assert "no column for the message text" in answer.text
    assert '<option value="company" selected>' in answer.text
    assert 'value="north"' in answer.text
    answer = desk.post("/operations/deliveries/1/map", {**form, "save": "1", "name": " "})
    assert (answer.status_code, "Give it a name" in answer.text) == (422, True)
    assert (
        "The sheet can be read with this mapping."
        in desk.post("/operations/deliveries/1/map", form).text
    )
    assert count_rows(any_context, Ticket) == 0
    desk.post("/operations/deliveries/1/map", {**form, "save": "1", "name": "north"})
    assert "Deliveries read with it: 2." in desk.get("/operations/deliveries/1").text
    with any_context.store.read_only() as session:
        first = session.scalars(select(Message).order_by(Message.id)).first()
        assert first is not None
        assert (first.text, first.sent_at and first.sent_at.isoformat()) == (
            "Bitte helfen.",
            "2026-01-05T15:00:00+00:00",
        )
    assert desk.get("/operations/deliveries/1/map").status_code == 404  # nothing is asked any more
    assert "Anliegen: message text" in desk.get("/operations/profiles").text.replace(
        "anliegen", "Anliegen"
    )
    desk.post("/operations/profiles/forget", {"name": "north"})
    assert "None yet" in desk.get("/operations/profiles").text


def test_a_workbook_that_hoards_is_told_on_the_page_of_its_delivery(context: AppContext) -> None:
    arrive(context, build_hoarding_book(*HEADER))
    desk = sign_in_at_desk(context, Role.LEAD)
    tight = context.settings.model_copy(update={"parse_memory": 120 * 1024 * 1024})
    with use_parser_pool(tight):
        for answer in (
            desk.get("/operations/deliveries/1/map"),
            desk.post("/operations/deliveries/1/map", {"save": "1"}),
        ):
            assert answer.headers["Location"] == "/operations/deliveries/1"
    page = desk.get("/operations/deliveries/1").text
    assert (
        "Its columns cannot be shown: reading it takes more memory than one item may have." in page
    )
    assert desk.get("/operations/deliveries/1/map").status_code == 200


def test_rejected_rows_are_shown_corrected_and_dismissed(any_context: AppContext) -> None:
    heads = ["Practice Name", "Message"]
    arrive(any_context, build_book(heads, ["Sunrise", "help"], ["Sunrise", ""], ["Dawn", "please"]))
    assert get_state(any_context, 1) is DeliveryState.PROCESSED
    desk = sign_in_at_desk(any_context, Role.LEAD)
    listed = desk.get("/operations/deliveries").text
    assert re.search(r'1 of 3 rows were rejected\s*<div><a href="/tickets/\d+">#', listed), (
        "a line of its own"
    )
    assert "1 of them rejected" in desk.get("/operations/deliveries/1").text
    answer = desk.get("/operations/deliveries/1/rejected.xlsx")
    sheet = openpyxl.load_workbook(io.BytesIO(answer.data)).worksheets[0]
    assert [cell.value for cell in sheet[2]][:1] == ["Sunrise"]
    assert list_actions(any_context, "original read") == [("Ann Lee", "rejected rows")]
    desk.post("/operations/deliveries/dismiss", {"id": "1", "reason": "an empty line"})
    assert "No failed deliveries" in desk.get("/operations/deliveries").text
    assert count_rows(any_context, Ticket) == 2
    assert desk.get("/operations/deliveries/1/rejected.xlsx").status_code == 404


def test_a_heading_row_that_is_not_there_is_said(context: AppContext) -> None:
    arrive(context, build_book(HEADER, ROW))
    desk = sign_in_at_desk(context, Role.LEAD)
    answer = desk.get("/operations/deliveries/1/map?row=77")
    assert answer.status_code == 200
    assert "The sheet has no row 77" in answer.text


# -- the outbox ----


def add_outgoing_mail(context: AppContext, number: int, **values: object) -> None:
    with context.store.transaction() as session:
        session.execute(update(OutgoingMail).where(OutgoingMail.id == number).values(**values))


def test_a_mail_that_pauses_is_hurried_and_one_in_hand_is_left_alone(
    any_context: AppContext, notified_queues: RecordingNotifier
) -> None:
    now = any_context.clock()
    open_ticket(any_context)
    add_outgoing_mail(
        any_context, 1, not_before=now + failed.CLAIM_LEASE, attempts=1
    )  # somebody may just be sending it
    desk = sign_in_at_desk(any_context, Role.LEAD)
    assert "/operations/outbox/1/retry" not in desk.get("/operations/outbox").text
    desk.post("/operations/outbox/1/retry")
    assert failed.ALREADY_DUE_MESSAGE in desk.get("/operations/outbox").text
    desk.post("/operations/outbox/retry")
    assert "No mail waits" in desk.get("/operations/outbox").text
    add_outgoing_mail(
        any_context,
        1,
        not_before=now + timedelta(minutes=20),
        attempts=5,
        reason="451: tried again",
    )
    page = desk.get("/operations/outbox").text
    assert "451: tried again" in page
    assert "in 20 min" in page
    for path in ("/operations/outbox/1/retry", "/operations/outbox/retry"):
        add_outgoing_mail(any_context, 1, not_before=now + timedelta(minutes=20))
        notified_queues.clear()
        desk.post(path)
        with any_context.store.read_only() as session:
            mail_ = session.get_one(OutgoingMail, 1)
            assert (mail_.not_before, mail_.attempts, mail_.state) == (now, 5, OutboxState.WAITING)
        assert notified_queues == ["send"]
    assert list_actions(any_context, "mail retried") == [("Ann Lee", "outbox")]


def test_a_refused_mail_is_tried_again_and_a_withheld_one_is_not(any_context: AppContext) -> None:
    open_ticket(any_context)
    desk = sign_in_at_desk(any_context, Role.LEAD)
    add_outgoing_mail(any_context, 1, state=OutboxState.WITHHELD, reason="over the budget")
    page = desk.get("/operations/outbox?state=withheld").text
    assert "over the budget" in page
    assert "/retry" not in page
    desk.post("/operations/outbox/1/retry")
    assert "only mail that waits" in desk.get("/operations/outbox").text
    add_outgoing_mail(
        any_context,
        1,
        state=OutboxState.REFUSED,
        template=Template.SURVEY,
        reason="given up",
        attempts=60,
    )
    desk.post("/operations/outbox/1/retry")
    assert count_rows(any_context, OutgoingMail, OutgoingMail.state == OutboxState.REFUSED) == 1
    add_outgoing_mail(any_context, 1, template=Template.NOTICE)
    assert "given up" in desk.get("/operations/outbox?state=refused").text
    desk.post("/operations/outbox/1/retry")
    assert (
        count_rows(
            any_context,
            OutgoingMail,
            OutgoingMail.state == OutboxState.WAITING,
            OutgoingMail.attempts == 0,
        )
        == 1
    )
    assert desk.post("/operations/outbox/99/retry").status_code == 302


def test_the_outbox_has_pages_and_a_table_without_addresses(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        open_ticket(context, make_mail(f"claim {n}"))
    monkeypatch.setattr(failed.list_mails, "__defaults__", (None, 2))
    desk = sign_in_at_desk(context, Role.AUDITOR)
    page = desk.get("/operations/outbox").text
    assert [f"#{n}<" in page for n in (1, 2, 3)] == [False, True, True]
    assert "before=2" in page
    older = desk.get("/operations/outbox?before=2").text
    assert [f"#{n}<" in older for n in (1, 2, 3)] == [True, False, False]
    table = desk.get("/operations/outbox.csv").text
    assert len(parse_rows(table)) == 4
    assert "@" not in table


# -- what fires ----


def test_what_fires_is_what_the_clock_will_raise(any_context: AppContext, clock: HandClock) -> None:
    with any_context.store.transaction() as session:
        create_company(session, "Sunrise", manager=create_staff(session, "Max", Role.LEAD))
        olga = create_staff(session, "Olga")
    number = open_ticket(any_context, make_mail(company="Sunrise"))
    other = open_ticket(any_context, make_mail("another"))
    with any_context.store.transaction() as session:
        session.get_one(Ticket, number).owner_id = olga.id
    reach(any_context, other, Milestone.FOLLOW_UP_SENT)

    def list_firing() -> list[tuple[int, str, str]]:
        with any_context.store.read_only() as session:
            firing, more = upcoming.list_upcoming(session, any_context.settings, clock())
        assert not more
        return [(f.ticket.id, str(f.deadline.milestone), f.person) for f in firing]

    follow_up, resolved = str(Milestone.FOLLOW_UP_SENT), str(Milestone.RESOLVED)
    expected = [(number, follow_up, "Olga"), (number, resolved, "Max"), (other, resolved, "Sam")]
    assert list_firing() == expected
    clock.turn(days=2, minutes=1)
    assert list_firing() == expected[1:]
    clock.turn(days=2)
    assert list_firing() == []
    raise_tasks(any_context, clock())
    with any_context.store.read_only() as session:
        tasks = [t for n in (number, other) for t in session.get_one(Ticket, n).tasks]
        raised = {(t.ticket_id, str(t.milestone), t.assignee) for t in tasks if t.milestone}
    assert raised == set(expected)


def test_what_fires_stands_under_its_day_and_person(context: AppContext) -> None:
    open_ticket(context)  # at 10:00 in New York on Monday, 2 March
    desk = sign_in_at_desk(context, Role.AUDITOR)
    page = desk.get("/operations/next-week").text
    days = page.partition("Wednesday, 4 Mar 2026")[2].partition("Thursday, 5 Mar 2026")
    assert "Lena" in days[0]
    assert "4 Mar 2026, 10:00 EST" in days[0]
    assert "Sam" in days[2]
    _, *lines = parse_rows(desk.get("/operations/next-week.csv").text)
    assert [line[1:] for line in lines] == [
        ["1", "4-Support Follow Up Sent", "follow up with the customer", "Lena"],
        ["1", "Resolution", "escalate the ticket", "Sam"],
    ]


def test_business_days_reach_over_the_weekend(
    settings: Settings, context: AppContext, clock: HandClock
) -> None:
    clock.turn(days=3)  # a Thursday: two working days later is Monday, three is Tuesday
    open_ticket(context)
    clock.turn(days=3)
    by_days = settings.model_copy(update={"business_days": True})
    with context.store.read_only() as session:
        firing, _ = upcoming.list_upcoming(session, by_days, clock())
        assert [f.at.isoformat()[:10] for f in firing] == ["2026-03-09", "2026-03-10"]
        assert len(upcoming.list_upcoming(session, settings, clock())[0]) == 0


def test_only_so_many_tickets_are_looked_at(
    context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        open_ticket(context, make_mail(f"claim {n}"))
    monkeypatch.setattr(upcoming, "LONGEST", 2)
    page = sign_in_at_desk(context, Role.AUDITOR).get("/operations/next-week").text
    assert "Only the 2 oldest open tickets" in page
    assert "#3 " not in page


# -- audit log ----


def test_the_trail_is_filtered_by_person_ticket_action_and_day(
    any_context: AppContext, clock: HandClock
) -> None:
    first, second = open_ticket(any_context), open_ticket(any_context, make_mail("another"))
    reach(any_context, first, Milestone.FOLLOW_UP_SENT, by="Olga")
    clock.turn(hours=14)  # 2 March, 24:00 in New York is not reached by the day of UTC
    reach(any_context, second, Milestone.FOLLOW_UP_SENT, by="Olga")
    desk = sign_in_at_desk(any_context, Role.AUDITOR, "Ann Lee")

    def search_audit(query: str) -> list[list[str]]:
        _, *lines = parse_rows(desk.get(f"/operations/audit.csv?{query}").text)
        return [line[2:5] for line in lines]

    assert search_audit("person=Olga&action=reached&ticket=%231") == [["Olga", "reached", "1"]]
    assert search_audit("person=Olga&action=reached&day=2026-03-02") == [["Olga", "reached", "1"]]
    assert search_audit("person=Olga&action=reached&day=2026-03-03") == [["Olga", "reached", "2"]]
    assert len(search_audit("person=Olga&action=reached")) == 2
    assert search_audit("person=Nobody") == []
    assert len(search_audit("ticket=x&day=tomorrow")) > 4  # an invalid filter is no filter
    assert len(list_actions(any_context, "exported")) == 6
    page = desk.get("/operations/audit?person=Olga").text
    assert "Ticked 4-Support Follow Up Sent" in page
    assert "Ticket opened" not in page
    assert "No entries match." in desk.get("/operations/audit?person=Nobody").text


def test_the_trail_is_read_page_by_page(context: AppContext) -> None:
    with context.store.transaction() as session:
        session.add_all(
            AuditEntry(
                at=context.clock(), actor="rule", cause=f"cause {n:03}", action="x", detail={}
            )
            for n in range(250)
        )
    desk, path, numbers = sign_in_at_desk(context, Role.AUDITOR), "/operations/audit?action=x", []
    while path:
        page = desk.get(path).text
        numbers += [n for n in range(250) if f"cause {n:03}" in page]
        path = (
            page.partition('<a href="/operations/audit?')[2]
            .partition('">Older')[0]
            .replace("&amp;", "&")
        )
        path = f"/operations/audit?{path}" if path and len(path) < 100 else ""
    assert sorted(numbers) == list(range(250))


def test_a_cell_is_no_formula(context: AppContext) -> None:
    with context.store.transaction() as session:
        session.add(
            AuditEntry(at=context.clock(), actor="=cmd()", cause="@x", action="x", detail={})
        )
    line = parse_rows(
        sign_in_at_desk(context, Role.AUDITOR).get("/operations/audit.csv?action=x").text
    )[1]
    assert (line[2][0], line[5][0]) == ("'", "'")


# -- settings ----


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch, context: AppContext) -> None:
    secret = "s3cr3t"
    box = Mailbox(
        host="imap.example",
        user="u",
        password=secret,
        oauth2=OAuth2(
            token_url=f"https://a:{secret}@t.example/x",
            client_id="c",
            client_secret=secret,
            refresh_token=secret,
        ),
    )
    monkeypatch.setenv("INTAKE_FROM_NAME", "The Desk")
    secret_settings = Settings(
        database_url=(
            f"postgresql+psycopg://intake:{secret}/@x y{secret}@db.example/intake?password={secret}"
        ),
        redis_url=f"redis://:{secret}@r.example/0",
        blobs_url=f"s3://{secret}@bucket/x",
        mailbox=(box,),
        relay_url=f"smtp://u:{secret}@r.example",
        imap_urls=f"imaps://u:{secret}@i.example/INBOX",
        formstack_key=secret,
        metrics_token=secret,
        secret_keys=secret,
        workbook_password=secret,
        form={"12": {"key": secret, "handshake": secret, "encryption_password": secret}},
        profile={"north": {"password": secret}},
        oidc={"issuer": "https://i.example", "client_id": "c", "client_secret": secret},
    )
    settings_by_name = {one.name: one for one in report.list_settings(secret_settings)}
    assert not [one for one in settings_by_name.values() if secret in one.value]
    assert (
        settings_by_name["INTAKE_DATABASE_URL"].value
        == "postgresql+psycopg://…@db.example/intake?password=…"
    )
    assert settings_by_name["INTAKE_FORM[12].key"].value == "set"
    assert settings_by_name["INTAKE_FORMSTACK_KEY_PREVIOUS"].value == "not set"
    assert settings_by_name["INTAKE_MAILBOX[1].oauth2.refresh_token"].value == "set"
    assert settings_by_name["INTAKE_MAILBOX[1].host"].value == "imap.example"
    assert (
        settings_by_name["INTAKE_FROM_NAME"].value,
        settings_by_name["INTAKE_FROM_NAME"].source,
    ) == (
        "The Desk",
        "environment",
    )
    assert settings_by_name["INTAKE_SMTP_LISTEN"].source == "default"
    assert {name.partition("[")[0].partition(".")[0] for name in settings_by_name} == {
        f"INTAKE_{name.upper()}" for name in Settings.model_fields
    }
    page = sign_in_at_desk(context, Role.AUDITOR).get("/operations/settings").text
    assert "INTAKE_FORMSTACK_KEY" in page


# -- metrics ----


def make_asking_client(context: AppContext, **more: object) -> FlaskClient:
    client = create_app(context).test_client()
    for name, value in more.items():
        client.environ_base[name] = str(value)
    return client


def test_metrics_are_counts_of_what_is_there(any_context: AppContext, clock: HandClock) -> None:
    number = open_ticket(any_context, make_mail("my claim was denied", company="Sunrise"))
    finished_ticket = open_ticket(any_context, make_mail("another"))
    arrive(any_context, JUNK)
    with any_context.store.transaction() as session:
        early = {"period": 1, "milestone": Milestone.FOLLOW_UP_SENT, "at": clock(), "by": "Olga"}
        session.add(TicketMilestone(ticket_id=finished_ticket, **early))
    SelfChecks(any_context).run_due()
    clock.turn(days=2, minutes=1)
    raise_tasks(any_context, clock())
    record_alive(any_context, "clock")
    clock.turn(seconds=7)
    answer = make_asking_client(any_context).get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain; version=")
    for line in (
        'intake_deliveries{door="folder",state="failed"} 1.0',
        'intake_deliveries{door="smtp",state="processed"} 2.0',
        "intake_oldest_pending_delivery_seconds 0.0",
        "intake_oldest_failed_delivery_seconds 172867.0",
        'intake_door_last_seconds{door="folder"} 172867.0',
        'intake_outbox{state="waiting"} 2.0',
        "intake_oldest_waiting_mail_seconds 172867.0",
        'intake_tickets{stage="1-Submitted",status="open"} 2.0',
        'intake_deadlines_overdue{milestone="4-Support Follow Up Sent"} 1.0',
        'intake_deadlines_overdue{milestone="Resolution"} 0.0',
        'intake_seen_seconds{name="clock"} 7.0',
        'intake_check_ok{check="blobs"} 1.0',
        "intake_ledger_adds_up 0.0",  # these tickets have no receipt
    ):
        assert f"{line}\n" in answer.text, line
    reach(any_context, number, Milestone.FOLLOW_UP_SENT)
    assert (
        'overdue{milestone="4-Support Follow Up Sent"} 0.0'
        in make_asking_client(any_context).get("/metrics").text
    )
    for word in ("claim", "Sunrise", "example", "Olga"):
        assert word not in answer.text


def test_metrics_are_for_this_machine_only_unless_there_is_a_token(context: AppContext) -> None:
    assert make_asking_client(context).get("/metrics").status_code == 200
    assert make_asking_client(context, REMOTE_ADDR="192.0.2.7").get("/metrics").status_code == 403
    assert (
        make_asking_client(context).get("/metrics", headers={"Host": "evil.example"}).status_code
        == 403
    )
    assert (
        make_asking_client(context).get("/metrics", headers={"Host": "[::1]:8080"}).status_code
        == 200
    )


def change_settings(context: AppContext, **more: object) -> AppContext:
    return AppContext(
        Settings.model_validate({**context.settings.model_dump(), **more}),
        context.store,
        context.sealer,
        context.blob_store,
        context.signer,
        context.clock,
    )


def test_behind_a_proxy_metrics_take_a_token(context: AppContext) -> None:
    proxied = change_settings(context, public_url="https://desk.example")
    assert make_asking_client(proxied).get("/metrics").status_code == 403
    protected_settings = change_settings(
        context, public_url="https://desk.example", metrics_token="the token"
    )
    client = make_asking_client(protected_settings, REMOTE_ADDR="192.0.2.7")
    for given in ("", "Bearer", "Bearer wrong", "Basic the token", "the token", "Bearer thé"):
        answer = client.get("/metrics", headers={"Authorization": given} if given else {})
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert "intake_" not in answer.text
    assert client.get("/metrics", headers={"Authorization": "Bearer the token"}).status_code == 200
    assert (
        make_asking_client(protected_settings).get("/metrics").status_code == 401
    )  # from this machine, too


def test_health_is_for_everybody(context: AppContext) -> None:
    assert make_asking_client(context, REMOTE_ADDR="192.0.2.7").get("/health").json == {
        "database": True
    }
    assert count_rows(context, Account) == 0
