"""Replay: failed deliveries are processed again, processed ones compared first.

Nothing changes before the difference was shown.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import structlog
from sqlalchemy import event, select

import parsers
from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from ingest.replay import reprocess
from ingest.replay.compare import Verdict
from ingest.replay.reprocess import (
    ReplayComparison,
    ReplayOutcome,
    UnreadableError,
    apply_replay,
    preview_replay,
    try_replay,
)
from ingest.replay.retry import dismiss, replay
from parsers.item import Address, Attachment, Bounce, Format, InboundItem, ParseError
from tests.support.context import (
    ANN,
    START,
    HandClock,
    RecordingNotifier,
    count_rows,
    create_company,
    create_staff,
    make_call_arrival,
    make_mail,
    make_phone_call,
    make_row,
    run_in_threads,
)
from workflow.context import AppContext, open_context
from workflow.customers.records import NO_COMPANY, NO_MANAGER
from workflow.errors import ActionNotAllowed
from workflow.filing.dmarc import FORGED_CAVEAT
from workflow.filing.file_item import REUSED_ID_CAVEAT
from workflow.mail import sender
from workflow.models.core import (
    AuditEntry,
    AutomatedMail,
    Base,
    Company,
    Contact,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    StoredAttachment,
    Ticket,
)
from workflow.models.states import DeliveryState, Outcome
from workflow.operations.ledger import compute_balance
from workflow.settings.settings import Settings

FORMAT = Format.SECURE_MESSAGE
_numbers = count(1)

Reads = Callable[..., None]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Have every parser give these items, or raise this error.

    By the raw bytes where a dict is given.
    """

    def set_parser(*items: Any) -> None:
        def parser(raw: bytes, *_: object) -> list[InboundItem]:
            results = items[0][raw] if isinstance(items[0], dict) else list(items)
            if isinstance(results[0], Exception):
                raise results[0]
            return list(results)

        for form in Format:
            monkeypatch.setitem(parsers.PARSERS, form, parser)

    return set_parser


def arrive(context: AppContext, raw: bytes = b"", form: Format = FORMAT, **more: Any) -> int:
    raw = raw or f"raw {next(_numbers)}".encode()
    return Intake(context).accept(Arrival(transport=Transport.PIPE, format=form, raw=raw, **more))


def process_raw(context: AppContext, raw: bytes = b"", form: Format = FORMAT, **more: Any) -> int:
    number = arrive(context, raw, form, **more)
    process_waiting(context)
    return number


def load_delivery(context: AppContext, number: int) -> Delivery:
    with context.store.read_only() as session:
        return session.get_one(Delivery, number)


def list_filings(context: AppContext, number: int) -> list[tuple[int, str, int | None]]:
    """Position, outcome and the how manieth ticket.

    An undo may leave a gap in the numbers.
    """
    with context.store.read_only() as session:
        nth = dict(
            zip(session.scalars(select(Ticket.id).order_by(Ticket.id)), count(1), strict=False)
        )
        filings = session.scalars(
            select(Filing).where(Filing.delivery_id == number).order_by(Filing.position)
        )
        return [
            (f.position, str(f.outcome), nth[f.ticket_id] if f.ticket_id else None) for f in filings
        ]


def load_message(context: AppContext, nth: int = 1) -> Message:
    with context.store.read_only() as session:
        found = session.scalars(select(Message).order_by(Message.id)).all()[nth - 1]
        assert found.attachments is not None  # loaded
        return found


def load_ticket(context: AppContext, number: int = 1) -> Ticket:
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        assert all(link.contact.email for link in ticket.contacts)
        assert ticket.messages
        assert ticket.company is None or ticket.company.name
        return ticket


def dump_tables(context: AppContext) -> dict[str, list[Any]]:
    """Every row of every table."""
    with context.store.read_only() as session:
        return {
            t.name: sorted(map(repr, session.execute(select(t))))
            for t in Base.metadata.sorted_tables
        }


def summarize(comparison: ReplayComparison) -> list[tuple[str, list[str]]]:
    """The verdicts but `same`, and the names of the fields."""
    return [
        (str(f.verdict), [one.name for one in f.fields])
        for f in comparison.findings
        if f.verdict is not Verdict.SAME
    ]


def replay_delivery(context: AppContext, number: int) -> ReplayComparison:
    """Preview and apply.

    The next preview finds nothing to change, and the ledger adds up.
    """
    preview = preview_replay(context, number)
    result = apply_replay(context, preview, by="Olga")
    assert summarize(result) == summarize(preview)
    assert not preview_replay(context, number).has_changes
    with context.store.read_only() as session:
        assert compute_balance(session).adds_up
    return result


# -- failed ones ----


def test_a_replay_reads_with_the_corrected_parser_and_is_audited(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    reads(ParseError("not a message: ask for it once more"))
    number = process_raw(context)
    still = replay(context, number, by="Olga")
    assert still is not None
    assert still.state is DeliveryState.FAILED
    reads(make_row())
    again = replay(context, number, by="Olga")
    assert again is not None
    assert (again.state, again.reason) == (DeliveryState.PROCESSED, "")
    replay(context, number, by="Olga")  # what has been read is left as it is
    assert count_rows(context, Ticket) == 1
    assert (
        count_rows(context, AuditEntry, AuditEntry.action == "replayed", AuditEntry.actor == "Olga")
        == 2
    )
    assert replay(context, 999, by="Olga") is None


def test_a_failed_delivery_is_dismissed_with_a_reason_and_can_still_be_replayed(
    context: AppContext, reads: Reads
) -> None:
    reads(ParseError("?"))
    number = arrive(context)
    with pytest.raises(ActionNotAllowed, match=f"delivery {number} is pending: only failed ones"):
        dismiss(context, [number], "too early", by="Olga")
    process_waiting(context)
    dismiss(context, [number], "an empty test", by="Olga")
    assert (load_delivery(context, number).state, load_delivery(context, number).reason) == (
        "dismissed",
        "an empty test",
    )
    assert (
        count_rows(
            context,
            AuditEntry,
            AuditEntry.action == "dismissed",
            AuditEntry.cause == "an empty test",
        )
        == 1
    )
    reads(make_row())
    replay(context, number, by="Olga")
    assert load_delivery(context, number).state is DeliveryState.PROCESSED


def test_several_are_dismissed_with_one_reason_all_or_none(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    reads(ParseError("?"))
    numbers = [process_raw(context) for _ in range(3)]
    with pytest.raises(ActionNotAllowed) as caught:
        dismiss(context, [*numbers, 999], "tests", by="Olga")
    assert str(caught.value).splitlines()[-1] == "none was dismissed"
    assert "no delivery 999" in str(caught.value)
    assert count_rows(context, Delivery, Delivery.state == DeliveryState.FAILED) == 3
    assert count_rows(context, AuditEntry) == 0
    dismiss(context, numbers[:2], "tests", by="Olga")
    with pytest.raises(ActionNotAllowed, match=f"delivery {numbers[0]} is dismissed"):
        dismiss(context, numbers, "tests", by="Olga")
    assert count_rows(context, Delivery, Delivery.state == DeliveryState.DISMISSED) == 2


def test_a_trial_of_a_failed_one_shows_its_outcome_and_leaves_nothing(
    any_context: AppContext, reads: Reads, notified_queues: RecordingNotifier
) -> None:
    context = any_context
    known_row, more, reply = make_row("known"), make_row("more"), make_row("reply", thread_id="t1")
    reads(known_row, make_row("first", thread_id="t1"))
    process_raw(context)
    reads(ParseError("?"))
    number = process_raw(context)
    threaded = make_row("more", thread_id="t2"), make_row("and more", thread_id="t2")
    reads(known_row, more, replace(more, text="other"), reply, *threaded)
    before, notified_queues[:] = dump_tables(context), []
    tried = try_replay(context, number)
    assert (tried.filed_count, tried.remaining) == (0, 6)
    assert tried.outcomes == [
        ReplayOutcome(Outcome.DUPLICATE, 1),
        ReplayOutcome(Outcome.OPENED),
        ReplayOutcome(Outcome.OPENED),  # the id of the one before it with another text
        ReplayOutcome(Outcome.APPENDED, 2),
        ReplayOutcome(Outcome.OPENED),
        ReplayOutcome(
            Outcome.APPENDED
        ),  # on the ticket of the one before it, which has no number yet
    ]
    assert dump_tables(context) == before
    assert notified_queues == []


def test_a_trial_shows_why_it_still_cannot_be_read(context: AppContext, reads: Reads) -> None:
    reads(ParseError("not a workbook: export it again"))
    number = process_raw(context)
    with pytest.raises(UnreadableError, match="not a workbook: export it again"):
        try_replay(context, number)
    reads(RuntimeError("Jane Roe"))
    with pytest.raises(UnreadableError, match=r"an error of ours \(RuntimeError\)"):
        try_replay(context, number)
    with pytest.raises(LookupError):
        try_replay(context, 999)


def test_a_trial_goes_on_behind_what_was_filed_and_looks_at_the_first_ones_only(
    context: AppContext, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads(make_row())
    number = process_raw(context)
    with context.store.transaction() as session:
        session.get_one(Delivery, number).state = DeliveryState.FAILED
    monkeypatch.setattr(reprocess, "MAX_TRIED", 2)
    reads(*[make_row(str(n)) for n in range(5)])
    tried = try_replay(context, number)
    assert (tried.filed_count, tried.remaining, len(tried.outcomes)) == (1, 4, 2)


# -- nothing to change ----

MAIL_WITH_FILE = (
    b"From: =?utf-8?q?J=C3=B6?= <jo@acme.example>\r\nTo: support@localhost\r\nSubject:"
    b" Claim\r\nMessage-ID: <1@acme.example>\r\nDate: Mon, 2 Mar 2026 10:00:00"
    b" -0500\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed;"
    b" boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<p>Hello"
    b" <b>you</b></p>\r\n--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment;"
    b" filename=a.txt\r\n\r\nsame\r\n--x\r\nContent-Type: text/plain\r\nContent-Disposition:"
    b" attachment; filename=a.txt\r\n\r\nsame\r\n--x--\r\n"
)
TABLE = (
    b"Message ID,Practice Name,From,Date,Message\r\n1001,Acme,Jo,7/4/2026 10:00"
    b" AM,Help\r\n1002,Acme,Al,,Two\r\n"
)
FORM = (
    b"FormID=1&UniqueID=2&Email=a%40x.example&Message=help&Date=Jul+4%2C+2026+10%3A00&Practice=Acme"
)
BOUNCED = (
    b"From: mailer-daemon@x.example\r\nSubject: failed\r\nContent-Type: multipart/report;"
    b" report-type=delivery-status; boundary=x\r\n\r\n--x\r\n\r\nno such"
    b" user\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns;"
    b" x\r\n\r\nFinal-Recipient: rfc822; a@b.example\r\nAction: failed\r\nStatus:"
    b" 5.1.1\r\n\r\n--x--\r\n"
)


@pytest.mark.parametrize(
    ("form", "raw"),
    [
        (Format.MAIL, MAIL_WITH_FILE),
        (Format.MAIL, BOUNCED),
        (Format.SECURE_MESSAGE, TABLE),
        (Format.FORMSTACK, FORM),
        (Format.PHONE, make_call_arrival().raw),
    ],
    ids=["mail", "bounce", "table", "form", "call"],
)
def test_what_is_read_by_the_same_parser_changes_nothing(
    any_context: AppContext, form: Format, raw: bytes
) -> None:
    context = any_context
    number = process_raw(context, raw, form)
    before = dump_tables(context)
    found = preview_replay(context, number)
    assert (summarize(found), found.has_changes) == ([], False)
    apply_replay(context, found, by="Olga")
    assert dump_tables(context) == before


def test_nor_does_one_that_was_here_before(any_context: AppContext, reads: Reads) -> None:
    context = any_context
    reads(make_row(external_id="7", text="x"))
    first, second = process_raw(context), process_raw(context)
    assert list_filings(context, second) == [(0, "duplicate", 1)]
    assert not preview_replay(context, first).has_changes
    assert not preview_replay(context, second).has_changes


def test_nor_does_what_no_database_takes_or_our_edge_has_disowned(
    any_context: AppContext, reads: Reads, settings: Settings
) -> None:
    forged = "mx.desk.example; dmarc=fail header.from=practice.example"
    more = {"database_url": any_context.settings.database, "authserv_id": "mx.desk.example"}
    context = open_context(settings.model_copy(update=more), clock=any_context.clock)
    reads(make_mail("a\0b", subject="\ud800", authentication=(forged,)))
    number = process_raw(context, form=Format.MAIL)
    assert (load_message(context).text, load_message(context).caveats) == (
        "a\ufffdb",
        [FORGED_CAVEAT],
    )
    assert summarize(preview_replay(context, number)) == []
    context.close()


# -- what reads otherwise ----


@pytest.mark.parametrize(
    ("change", "fields", "column", "value"),
    [
        ({"text": "corrected"}, ["text", "content digest"], "text", "corrected"),
        ({"reply_text": "newest"}, ["newest text"], "reply_text", "newest"),
        ({"html": "<p>x"}, ["html"], "html", "<p>x"),
        ({"sender": Address("Jo", "")}, ["sender's name", "content digest"], "from_name", "Jo"),
        ({"sent_at": START}, ["date", "content digest"], "sent_at", START),
        ({"details": (("Payer", "Acme"),)}, ["details"], "details", [["Payer", "Acme"]]),
        ({"caveats": ("no phone",)}, ["caveats", "ticket's caveats"], "caveats", ["no phone"]),
        (
            {"subject": "Claims"},
            ["subject", "content digest", "ticket's subject"],
            "subject",
            "Claims",
        ),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, dict) else "",
)
def test_the_message_takes_over_what_is_read_otherwise(
    any_context: AppContext,
    reads: Reads,
    change: dict[str, Any],
    fields: list[str],
    column: str,
    value: object,
) -> None:
    context, item = any_context, make_row("broken", subject="Claim")
    reads(item, make_row("beside it"))
    number = process_raw(context)
    other = load_message(context, 2)
    reads(replace(item, **change), make_row("beside it", external_id=other.message_id))
    before = dump_tables(context)
    assert summarize(preview_replay(context, number)) == [("changed", fields)]
    assert dump_tables(context) == before
    replay_delivery(context, number)
    assert getattr(load_message(context), column) == value
    assert load_message(context, 2).text == other.text
    after = dump_tables(context)
    assert {name for name in after if after[name] != before[name]} <= {
        "messages",
        "tickets",
        "audit",
    }


def test_both_sides_are_shown_as_a_person_reads_them(context: AppContext, reads: Reads) -> None:
    item = make_row("a\nb", details=(("Payer", "Acme"), ("Plan", "x")), caveats=("one",))
    reads(item)
    number = process_raw(context)
    reads(
        replace(
            item, text="a\nc", details=(("Payer", "Acme"),), caveats=("one", "two"), sent_at=START
        )
    )
    sides = {
        f.name: (f.before, f.after) for f in preview_replay(context, number).findings[0].fields
    }
    assert sides["text"] == ("a\nb", "a\nc")
    assert sides["details"] == ("Payer: Acme\nPlan: x", "Payer: Acme")
    assert sides["caveats"] == ("one", "one\ntwo")
    assert sides["date"] == ("", START.isoformat())


def test_no_notice_goes_out_again_and_no_milestone_moves(
    any_context: AppContext, reads: Reads, clock: HandClock
) -> None:
    context, item = any_context, make_mail("broken")
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    sender.send_waiting(context)
    before = dump_tables(context)
    clock.turn(days=5)
    reads(
        replace(
            item,
            text="corrected",
            plain="corrected",
            subject="other",
            sender=Address("Ann E.", ANN.email),
        )
    )
    replay_delivery(context, number)
    after = dump_tables(context)
    assert before["outbox"] == after["outbox"]
    assert before["milestones"] == after["milestones"]
    assert before["tasks"] == after["tasks"]


def test_a_message_that_joined_a_ticket_is_changed_there_and_the_ticket_stays(
    context: AppContext, reads: Reads
) -> None:
    first, second = make_row("one", thread_id="t"), make_row("two", thread_id="t", subject="x")
    reads(first)
    process_raw(context)
    reads(second)
    number = process_raw(context)
    reads(replace(second, text="TWO", subject="y", caveats=("odd",), link="https://x.example"))
    before = load_ticket(context)
    assert summarize(replay_delivery(context, number)) == [
        ("changed", ["subject", "text", "caveats", "content digest"])
    ]
    assert (load_message(context, 2).text, load_message(context, 2).ticket_id) == ("TWO", 1)
    assert (
        load_ticket(context).subject,
        load_ticket(context).caveats,
        load_ticket(context).link,
    ) == (
        "",
        before.caveats,
        "",
    )


def test_attachments_are_those_read_now_and_the_rows_of_the_same_files_stay(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    one, two = Attachment("a.txt", "text/plain", b"a"), Attachment("b.txt", "text/plain", b"b")
    large = Attachment("c.bin", "application/octet-stream", b"c" * 400_000, content_id="pic")
    item = make_row(attachments=(one, two))
    reads(item)
    number = process_raw(context)
    kept_id = next(a.id for a in load_message(context).attachments if a.name == "a.txt")
    reads(replace(item, attachments=(large, replace(one, name="renamed.txt", inline=True))))
    shown = preview_replay(context, number)
    assert summarize(shown) == [("changed", ["attachments", "content digest"])]
    assert "b.txt, text/plain, 1 bytes" in shown.findings[0].fields[0].before
    assert "400000 bytes" in shown.findings[0].fields[0].after
    assert not [
        p for p in (context.settings.home / "blobs").rglob("*") if p.is_file()
    ]  # shown, and nothing kept
    replay_delivery(context, number)
    files = {a.name: a for a in load_message(context).attachments}
    assert set(files) == {"renamed.txt", "c.bin"}
    assert (files["renamed.txt"].id, files["renamed.txt"].inline) == (kept_id, True)
    assert context.blob_store.read(files["c.bin"].content, files["c.bin"].blob) == large.content
    assert count_rows(context, StoredAttachment) == 2


def test_a_subject_that_staff_have_changed_and_a_caveat_of_a_rule_stay(
    context: AppContext, reads: Reads
) -> None:
    item = make_row(subject="Claim", caveats=("practice not given", "no phone"))
    reads(item)
    number = process_raw(context)
    with context.store.transaction() as session:
        opened = session.get_one(Ticket, 1)
        opened.subject, opened.caveats = "what it is about", [*opened.caveats, "escalated"]
    reads(replace(item, subject="Claims", caveats=("no phone", "odd date")))
    replay_delivery(context, number)
    assert load_ticket(context).subject == "what it is about"
    assert load_ticket(context).caveats == ["no phone", "odd date", NO_MANAGER, "escalated"]


def test_what_the_ticket_lacked_is_filled_in_and_what_it_has_stays(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    item = InboundItem(format=FORMAT, external_id="1", text="help", caveats=("practice not given",))
    reads(item)
    number = process_raw(context)
    assert (load_ticket(context).name, load_ticket(context).caveats) == (
        "Support – Unknown",
        ["practice not given", NO_COMPANY],
    )
    corrected_row = replace(
        item,
        company="Acme",
        sender=Address("Jo", "jo@acme.example"),
        link="https://x.example/1",
        thread_id="t1",
        telemedicine=True,
        caveats=(),
    )
    reads(corrected_row)
    before = dump_tables(context)
    names = [
        "sender's name",
        "sender's address",
        "caveats",
        "content digest",
        "practice",
        "ticket's caveats",
        "link",
        "thread",
        "telemedicine",
        "contact",
    ]
    assert summarize(preview_replay(context, number)) == [("changed", names)]
    assert dump_tables(context) == before
    replay_delivery(context, number)
    ticket = load_ticket(context)
    assert (ticket.name, ticket.company and ticket.company.name) == ("Support – Acme", "Acme")
    assert (ticket.link, ticket.thread_id, ticket.telemedicine) == (
        "https://x.example/1",
        "t1",
        True,
    )
    assert [link.contact.email for link in ticket.contacts] == ["jo@acme.example"]
    assert ticket.caveats == [NO_MANAGER]
    assert (
        count_rows(context, OutgoingMail) == 0
    )  # a person has to notify the customer: there is a task
    reads(
        replace(
            corrected_row,
            company="Other",
            sender=Address("Al", "al@x.example"),
            link="https://x.example/2",
        )
    )
    replay_delivery(context, number)
    assert (load_ticket(context).company_id, load_ticket(context).link) == (
        ticket.company_id,
        ticket.link,
    )
    assert [link.contact.email for link in load_ticket(context).contacts] == ["jo@acme.example"]


def test_a_practice_on_record_is_found_and_none_is_made_by_mail(
    context: AppContext, reads: Reads
) -> None:
    with context.store.transaction() as session:
        create_company(session, "Acme", manager=create_staff(session, "Maria"), number="77")
    item = make_mail()
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    reads(replace(item, company="Nowhere"))
    assert not preview_replay(context, number).has_changes
    reads(replace(item, company_number="77"))
    replay_delivery(context, number)
    assert load_ticket(context).name == "Support – Acme"
    assert NO_MANAGER not in load_ticket(context).caveats
    assert count_rows(context, Company) == 1


def test_a_machine_that_was_not_known_as_one_gets_no_more_automatic_mail(
    context: AppContext, reads: Reads
) -> None:
    item = make_mail()
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    reads(replace(item, is_automated=True))
    assert summarize(replay_delivery(context, number)) == [("changed", ["automated"])]
    assert load_ticket(context).automated
    reads(item)
    assert not preview_replay(context, number).has_changes


def test_the_audit_log_names_who_did_it_and_the_fields_and_none_of_the_words(
    context: AppContext, reads: Reads
) -> None:
    item = make_row("Zebulon", subject="Quackenbush")
    reads(item)
    number = process_raw(context)
    reads(
        replace(
            item,
            text="Zebulon 4711",
            subject="Quackenbush 4711",
            sender=Address("Zebulon", "z@x.example"),
        )
    )
    replay_delivery(context, number)
    with context.store.read_only() as session:
        rows = session.scalars(
            select(AuditEntry).where(AuditEntry.action == "re-read").order_by(AuditEntry.id)
        ).all()
    assert [r.actor for r in rows] == ["Olga", "Olga"]
    assert rows[0].ticket_id == 1
    assert rows[0].detail["message"] == 1
    assert {"subject", "text", "contact"} <= set(rows[0].detail["fields"])
    assert rows[1].detail == {"delivery": number, "changed": 1, "received": 0}
    for word in ("Zebulon", "Quackenbush", "4711", "z@x"):
        assert word not in str([(r.cause, r.detail) for r in rows])


# -- which message it is ----


def test_a_corrected_message_still_matches_its_duplicate_from_another_channel(
    any_context: AppContext, reads: Reads
) -> None:
    context, item = any_context, make_mail("", plain="")
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    reads(corrected_item := replace(item, text="now read", plain="now read"))
    replay_delivery(context, number)
    assert list_filings(context, process_raw(context, form=Format.MAIL)) == [(0, "duplicate", 1)]
    assert count_rows(context, Message) == 1
    assert corrected_item.message_id[1:-1] == load_message(context).message_id


def test_an_id_that_differs_is_reported_and_not_taken_over(
    any_context: AppContext, reads: Reads
) -> None:
    context, item = any_context, make_mail("a")
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    before = load_message(context)
    reads(
        replace(
            item, external_id="other@x.example", message_id="<other@x.example>", text="b", plain="b"
        )
    )
    found = replay_delivery(context, number)
    assert "keeps the one it has" in found.findings[0].notes[0]
    after = load_message(context)
    assert (after.external_id, after.message_id, after.text) == (
        before.external_id,
        before.message_id,
        "b",
    )


def test_two_that_read_the_same_now_both_stay(any_context: AppContext, reads: Reads) -> None:
    """They are distinguished by what they were.

    Neither swallows the other, whichever is read again first.
    """
    context, one = any_context, make_mail("a", name="same@x.example")
    reads({b"1": [one], b"2": [replace(one, text="b", plain="b")]})
    first, second = process_raw(context, b"1", Format.MAIL), process_raw(context, b"2", Format.MAIL)
    assert REUSED_ID_CAVEAT in load_message(context, 2).caveats
    reads(replace(one, text="c", plain="c"))
    replay_delivery(context, first)
    found = replay_delivery(context, second)
    assert "like message 1 on ticket 1" in found.findings[0].notes[0]
    assert [load_message(context, n).text for n in (1, 2)] == ["c", "c"]
    assert REUSED_ID_CAVEAT in load_message(context, 2).caveats
    assert load_message(context, 1).external_id != load_message(context, 2).external_id


def test_two_of_one_delivery_that_read_the_same_now_both_stay(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    one, two = make_row("a", external_id="7"), make_row("b", external_id="7")
    reads(one, two)
    number = process_raw(context)
    reads(replace(one, text="c"), replace(two, text="c"))
    apply_replay(context, preview_replay(context, number), by="Olga")
    assert not preview_replay(context, number).has_changes
    assert [load_message(context, n).text for n in (1, 2)] == ["c", "c"]


# -- more, fewer, others ----


def test_a_row_that_was_not_found_then_opens_its_ticket_now(
    any_context: AppContext, reads: Reads, notified_queues: RecordingNotifier
) -> None:
    context = any_context
    items = [make_row(t) for t in "abc"]
    reads(items[0], items[2])
    number = process_raw(context)
    reads(
        items[0], replace(items[1], attachments=(Attachment("c", "x/y", b"c" * 400_000),)), items[2]
    )
    before, notified_queues[:] = dump_tables(context), []
    shown = preview_replay(context, number)
    assert summarize(shown) == [("received", [])]
    assert not (context.settings.home / "blobs").exists()
    assert shown.outcomes == [ReplayOutcome(Outcome.OPENED)]
    assert (dump_tables(context), notified_queues) == (before, [])
    [became] = replay_delivery(context, number).outcomes
    assert (became.outcome, load_ticket(context, became.ticket_id or 0).messages[0].text) == (
        Outcome.OPENED,
        "b",
    )
    assert list_filings(context, number) == [(0, "opened", 1), (1, "opened", 2), (2, "opened", 3)]
    assert load_delivery(context, number).items == 3
    assert [load_message(context, n).text for n in (1, 2, 3)] == ["a", "c", "b"]


def test_the_customer_of_a_new_ticket_hears_of_it_as_always(
    context: AppContext, reads: Reads, notified_queues: RecordingNotifier
) -> None:
    reads(make_row("a"))
    number = process_raw(context)
    reads(make_row("a", external_id=load_message(context).message_id), make_row("b", sender=ANN))
    notified_queues[:] = []
    replay_delivery(context, number)
    assert count_rows(context, OutgoingMail, OutgoingMail.to == ANN.email) == 1
    assert notified_queues == ["send"]


def test_a_row_that_is_not_found_now_is_reported_and_stays(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    items = [make_row(t) for t in "abc"]
    reads(*items)
    number = process_raw(context)
    before = dump_tables(context)
    reads(items[0], items[2])
    preview = preview_replay(context, number)
    assert summarize(preview) == [("gone", [])]
    assert (
        preview.has_changes,
        preview.findings[1].filing and preview.findings[1].filing.ticket_id,
    ) == (
        False,
        2,
    )
    apply_replay(context, preview, by="Olga")
    assert dump_tables(context) == before


def test_new_and_gone_rows_at_once_add_up_and_are_done_once(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    a, b, c = (make_row(t) for t in "abc")
    reads(a, b)
    number = process_raw(context)
    reads(replace(a, text="A"), c)
    assert summarize(replay_delivery(context, number)) == [
        ("changed", ["text", "content digest"]),
        ("gone", []),
        ("received", []),
    ]
    assert load_delivery(context, number).items == count_rows(context, Filing) == 3


def test_a_request_that_was_ignored_becomes_a_ticket(any_context: AppContext, reads: Reads) -> None:
    context = any_context
    reads(
        make_mail(
            "no", is_bounce=True, bounce=Bounce(), signs=("delivery-status-part", "daemon-address")
        )
    )
    number = process_raw(context, form=Format.MAIL)
    assert list_filings(context, number) == [(0, "ignored", None)]
    reads(make_mail("please help"))
    assert preview_replay(context, number).outcomes == [ReplayOutcome(Outcome.OPENED)]
    assert list_filings(context, number) == [(0, "ignored", None)]
    assert summarize(replay_delivery(context, number)) == [("received", [])]
    assert list_filings(context, number) == [(0, "opened", 1)]
    assert count_rows(context, OutgoingMail) == 1
    assert (
        count_rows(context, AutomatedMail, AutomatedMail.ticket_id.is_not(None)) == 1
    )  # listed no more


def test_a_ticket_that_would_be_ignored_now_is_reported_and_stays(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    item = make_mail("please help")
    reads(item)
    number = process_raw(context, form=Format.MAIL)
    before = dump_tables(context)
    reads(
        replace(
            item,
            text="no",
            is_bounce=True,
            bounce=Bounce(),
            signs=("delivery-status-part", "daemon-address"),
        )
    )
    shown = preview_replay(context, number)
    assert summarize(shown) == [("no request", [])]
    assert shown.findings[0].notes == ("read now, it is a report about no mail of ours",)
    apply_replay(context, shown, by="Olga")
    assert dump_tables(context) == before


def test_a_report_about_our_mail_that_was_not_understood_reaches_it_now(
    any_context: AppContext, reads: Reads
) -> None:
    context, asked = any_context, make_mail()
    reads(asked)
    process_raw(context, form=Format.MAIL)
    sender.send_waiting(context)
    with context.store.read_only() as session:
        sent_mail = session.scalars(select(OutgoingMail)).one()
    original = Attachment(
        "original", "message/rfc822", f"Message-ID: {sent_mail.message_id}".encode()
    )
    bounce = make_mail(
        "no",
        sender=Address("", "mailer-daemon@mx.example"),
        is_bounce=True,
        is_automated=True,
        bounce=Bounce(action="delayed"),
        attachments=(original,),
        signs=("delivery-status-part", "daemon-address"),
    )
    reads(replace(bounce, attachments=()))
    number = process_raw(context, form=Format.MAIL)
    reads(bounce)
    assert replay_delivery(context, number).outcomes == [
        ReplayOutcome(Outcome.IGNORED, 1, f"delayed about mail {sent_mail.id}")
    ]
    assert count_rows(context, Message, Message.direction == "note") == 1
    reads(replace(bounce, bounce=Bounce(action="failed", reason="no such user")))
    replay_delivery(context, number)
    with context.store.read_only() as session:
        assert session.get_one(OutgoingMail, sent_mail.id).state == "bounced"
        note = session.scalars(select(Message).where(Message.direction == "note")).one()
        assert "no such user" in note.text
        assert count_rows(context, Contact, Contact.unreachable) == 1


# -- what was taken for another one ----


def test_rows_that_looked_alike_until_their_text_was_read_are_all_there_now(
    any_context: AppContext, reads: Reads
) -> None:
    context = any_context
    blank = make_row("", external_id="7", sent_at=START)
    reads(blank, blank)
    number = process_raw(context)
    assert list_filings(context, number) == [(0, "opened", 1), (1, "duplicate", 1)]
    reads(replace(blank, text="one"), replace(blank, text="two"))
    assert summarize(replay_delivery(context, number)) == [
        ("changed", ["text", "content digest"]),
        ("received", []),
    ]
    assert list_filings(context, number) == [(0, "opened", 1), (1, "opened", 2)]
    assert [load_message(context, n).text for n in (1, 2)] == ["one", "two"]


def test_a_mail_that_was_taken_for_another_one_is_read_for_itself(
    any_context: AppContext, reads: Reads
) -> None:
    context, blank = any_context, make_mail("", plain="", name="")
    blank = replace(blank, external_id="", message_id="")  # only content distinguishes such mails
    reads(blank)
    first, second = process_raw(context, b"1", Format.MAIL), process_raw(context, b"2", Format.MAIL)
    assert list_filings(context, second) == [(0, "duplicate", 1)]
    reads({b"1": [replace(blank, text="one")], b"2": [replace(blank, text="two")]})
    assert summarize(replay_delivery(context, second)) == [("received", [])]
    assert list_filings(context, second) == [(0, "opened", 2)]
    replay_delivery(context, first)
    assert [load_message(context, n).text for n in (1, 2)] == ["one", "two"]


def test_a_double_that_reads_otherwise_like_its_first_is_still_one(
    any_context: AppContext, reads: Reads
) -> None:
    context, item = any_context, make_mail("broken")
    reads(item)
    first, second = process_raw(context, form=Format.MAIL), process_raw(context, form=Format.MAIL)
    reads(replace(item, text="corrected", plain="corrected"))
    assert not preview_replay(
        context, second
    ).has_changes  # though the message that it is has not been read again
    replay_delivery(context, first)
    assert not preview_replay(context, second).has_changes
    assert count_rows(context, Message) == 1


def test_a_double_whose_first_cannot_be_read_now_is_left_alone(
    context: AppContext, reads: Reads
) -> None:
    item = make_mail("broken")
    reads(item)
    process_raw(context, b"1", Format.MAIL)
    second = process_raw(context, b"2", Format.MAIL)
    reads({b"1": [ParseError("?")], b"2": [replace(item, text="corrected", plain="corrected")]})
    assert not preview_replay(context, second).has_changes


# -- whole or not at all ----


@pytest.mark.parametrize("error", [ParseError("not a message"), RuntimeError("Jane Roe")])
def test_what_cannot_be_read_now_stays_as_it_is(
    context: AppContext, reads: Reads, error: Exception
) -> None:
    reads(make_row())
    number = process_raw(context)
    before = dump_tables(context)
    reads(error)
    with pytest.raises(UnreadableError) as caught:
        preview_replay(context, number)
    assert "Jane" not in str(caught.value)
    assert dump_tables(context) == before


def test_bytes_that_are_gone_are_reported(context: AppContext, reads: Reads) -> None:
    reads(make_row())
    number = process_raw(context, b"x" * 400_000)
    for path in (context.settings.home / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(UnreadableError, match="INTAKE_BLOBS_URL"):
        preview_replay(context, number)


def test_a_fault_half_way_leaves_all_of_it_as_it_was(any_context: AppContext, reads: Reads) -> None:
    context = any_context
    items = [make_row(t) for t in "ab"]
    reads(*items)
    number = process_raw(context)
    file = Attachment("c.bin", "x/y", b"c" * 400_000)
    reads(replace(items[0], text="A"), replace(items[1], attachments=(file,)), make_row("new"))
    shown, before = preview_replay(context, number), dump_tables(context)
    (context.settings.home / "blobs").write_text("not a folder")
    with pytest.raises(OSError, match=r"."):
        apply_replay(context, shown, by="Olga")
    assert dump_tables(context) == before


def test_what_was_shown_is_compared_once_more_before_it_is_put(
    any_context: AppContext, reads: Reads
) -> None:
    """Two people at it, or a minute between looking and saying yes."""
    context = any_context
    item = make_row("a")
    reads(item)
    number = process_raw(context)
    reads(replace(item, text="b"), make_row("new"))
    preview = preview_replay(context, number)
    assert run_in_threads(*[lambda: apply_replay(context, preview, by="Olga")] * 3) == []
    assert list_filings(context, number) == [(0, "opened", 1), (1, "opened", 2)]
    assert count_rows(context, AuditEntry, AuditEntry.action == "re-read") == 2
    with context.store.transaction() as session:
        session.get_one(Delivery, number).state = DeliveryState.PENDING
    assert apply_replay(context, preview, by="Olga").findings == []


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    """The lines written to the log while the test runs."""
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as written:
        yield written


def test_the_log_marks_a_trial(
    context: AppContext, reads: Reads, lines: list[dict[str, Any]]
) -> None:
    reads(make_row("a"))
    number = process_raw(context)
    reads(make_row("a", external_id=load_message(context).message_id), make_row("b"))
    lines.clear()
    preview = preview_replay(context, number)
    assert lines
    assert all(line["trial"] for line in lines)
    lines.clear()
    apply_replay(context, preview, by="Olga")
    assert lines[-1] == {
        "event": "read again",
        "delivery": 1,
        "changed": 0,
        "received": 1,
        "log_level": "info",
    }
    assert not any("trial" in line for line in lines)


def test_a_call_is_read_again_too(context: AppContext, reads: Reads) -> None:
    item = make_phone_call()
    reads(item)
    number = process_raw(context, form=Format.PHONE)
    reads(replace(item, text="corrected"))
    replay_delivery(context, number)
    assert load_message(context).text == "corrected"


def test_many_rows_take_a_handful_of_queries(context: AppContext, reads: Reads) -> None:
    items = [make_row(str(n), sent_at=START + timedelta(minutes=n)) for n in range(60)]
    reads(*items)
    number = process_raw(context)
    asked: list[str] = []
    event.listen(context.store.engine, "before_cursor_execute", lambda *a: asked.append(a[2]))
    preview_replay(context, number)
    assert len(asked) < 15
