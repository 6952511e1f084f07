"""Bulk filing leaves the same tables as filing the items one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as effort
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from parsers.item import (
    Address,
    Attachment,
    Direction,
    Format,
    ForwardedHeader,
    InboundItem,
    ParseResult,
    RejectedRow,
)
from tests.support.context import (
    START,
    HandClock,
    RecordingNotifier,
    complete,
    count_rows,
    create_company,
    create_staff,
    deliver,
    make_mail,
    open_ticket,
)
from tests.support.smtp_client import until
from workflow.context import AppContext
from workflow.customers.directory import CustomerLookup
from workflow.customers.directory import create_company as create_practice
from workflow.database.text_safety import make_storable
from workflow.filing import bulk
from workflow.filing.bulk import PendingItem, file_items, file_pending
from workflow.filing.file_item import file_item
from workflow.models.base import Base
from workflow.models.core import (
    AuditEntry,
    CompanyDomain,
    Contact,
    Delivery,
    Filing,
    Message,
    OutgoingMail,
    StoredAttachment,
    Ticket,
)
from workflow.models.states import DeliveryState, Outcome, Status
from workflow.settings.settings import Settings

PEOPLE = (
    Address(),
    Address("No Address"),
    Address("Ann", "Ann@Known.example"),
    Address("", "ann@known.example"),
    Address("Bo", "bo@new.example"),
    Address("Cy", "cy@gone.example"),  # a mail to them came back
    Address("Di", "di@domain.example"),
    Address("Us", "support@localhost"),
    Address("Bot", "no-reply@machine.example"),
    Address("Bad", "not an address"),
    Address("mia"),  # on the desk
    Address("Mia", "mia@desk.example"),
)
MAIL_SENDERS = (*PEOPLE[:9], PEOPLE[-1])
COMPANIES = (
    ("Zeros", "00471"),
    ("Zeros", "471"),
    ("Zerros Pediatrics", ""),
    ("Zeros Pediatric", "471"),
    ("Zeros Pediatrics, P.C.", ""),
    ("Zeross Pediatrics", "8"),
    ("", "0471"),
    ("", ""),
    ("Twin", ""),
    ("Twin", "51"),
    ("Twin", "52"),
    ("Twin", "53"),
    ("Known & Co", ""),
    ("known & CO.", "77"),
    ("Other", "77"),
    ("New", ""),
    ("NEW", "9"),
    ("", "9"),
)
_numbers = count(1)


def make_message(**values: Any) -> InboundItem:
    """A secure message as the parser gives it."""
    fields: dict[str, Any] = {
        "external_id": f"KM-{next(_numbers)}",
        "sent_at": START,
        "text": "help",
        **values,
    }
    return InboundItem(format=Format.SECURE_MESSAGE, **fields)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Two notices an hour, so that the third one is over the budget."""
    return settings.model_copy(
        update={"notices_per_sender_hour": 2, "authserv_id": "mx.desk.example"}
    )


@pytest.fixture
def past_context(any_context: AppContext, clock: HandClock) -> AppContext:
    """Context with tickets, contacts and companies of the days before."""
    context = any_context
    with context.store.transaction() as session:
        known = create_company(session, "Known & Co", manager=create_staff(session, "Mia"))
        session.add(CompanyDomain(domain="domain.example", company=known))
        for number in ("51", "52"):
            create_practice(CustomerLookup(session), "Twin", number, START)
        session.add(Contact(email="cy@gone.example", unreachable=True, created_at=START))
        session.add(Contact(email="ann@known.example", company=known, created_at=START))
    for ident, thread in (
        ("old-open", "t-open"),
        ("old-done", "t-done"),
        ("old-long", ""),
        ("old-spam", "t-spam"),
    ):
        filing = deliver(
            context, make_message(external_id=ident, thread_id=thread, sender=PEOPLE[2])
        )
        assert filing.ticket_id is not None
        if ident in {"old-done", "old-long"}:
            complete(context, filing.ticket_id)
        if ident == "old-spam":
            with context.store.transaction() as session:
                session.get_one(Ticket, filing.ticket_id).status = Status.SPAM
        clock.turn(days=8)
    return context


items = st.builds(
    lambda ident, where, who, thread, text, more: make_message(
        external_id=ident,
        company=where[0],
        company_number=where[1],
        sender=who,
        thread_id=thread,
        text=text,
        **more,
    ),
    st.sampled_from(
        ["", "a", "b", "c", "d", "row-" + "0" * 64, "old-open", "old-done", "old-long", "x" * 400]
    ),
    st.sampled_from(COMPANIES),
    st.sampled_from(PEOPLE),
    st.sampled_from(["", "", "t-1", "t-2", "t-open", "t-done", "t-spam", "t" * 300]),
    st.sampled_from(["help", "help me", "nul \0 and \ud800"]),
    st.sampled_from(
        [
            {},
            {},
            {},
            {"phone": "555"},
            {"is_automated": True},
            {"caveats": ("date unreadable",)},
            {"telemedicine": True},
            {"details": (("Provider", "Dr. Who"),)},
            {"link": "https://x.example/1"},
            {"to": (Address("Desk"),)},
            {"reply_to": (Address("Re", "re@known.example"),)},
            {"unshared_addresses": ("bo@new.example",)},
            {"is_bounce": True},
            {"in_reply_to": "<x@y>"},
            {"unreliable_id": "7"},
            {"direction": Direction.OUT, "to": (Address("Ann", "ann@known.example"),)},
            {"sent_at": None},
        ]
    ),
)
rejected = st.builds(
    RejectedRow, sheet=st.just("S\0"), row=st.integers(2, 9), reason=st.just("no text")
)


@effort(
    max_examples=40,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(items | rejected, min_size=1, max_size=12), st.integers(1, 12))
def test_together_is_as_one_by_one(
    past_context: AppContext, some: list[ParseResult], size: int
) -> None:
    some = [make_storable(item) for item in some]  # as they are read
    one_by_one, in_bulk = (
        dump_after(
            past_context,
            lambda *args: [
                file_item(past_context.desk, *_take_one(args, at)) for at in range(len(some))
            ],
            some,
        ),
        dump_after(past_context, lambda *args: file_in_steps(past_context, size, *args), some),
    )
    for table in one_by_one:
        assert in_bulk[table] == one_by_one[table], table


def _take_one(args: tuple[Any, ...], at: int) -> tuple[Any, ...]:
    session, some, delivery, now = args
    return session, some[at], delivery, at, now


def file_in_steps(
    context: AppContext,
    size: int,
    session: Session,
    some: Sequence[ParseResult],
    delivery: Delivery,
    now: Any,
) -> None:
    for at in range(0, len(some), size):
        file_items(context.desk, session, some[at : at + size], delivery, at, now)


def dump_after(
    context: AppContext, file: Any, some: Sequence[ParseResult]
) -> dict[str, list[dict[str, Any]]]:
    """Return all tables after filing, which is rolled back.

    Numbers are given as ranks, because they may differ.
    """
    with open_rolled_back(context) as session:
        delivery = add_delivery(context, session)
        file(session, some, delivery, context.clock())
        session.flush()
        return dump_tables(session)


@contextmanager
def open_rolled_back(context: AppContext) -> Iterator[Session]:
    with Session(context.store.engine) as session:
        yield session
        session.rollback()


def add_delivery(context: AppContext, session: Session, digest: str = "d") -> Delivery:
    now = context.clock()
    delivery = Delivery(
        transport="folder",
        format=Format.SECURE_MESSAGE,
        digest=digest,
        content=b"",
        size=0,
        envelope={"name": "x.xlsx"},
        received_at=now - timedelta(minutes=1),
        not_before=now,
        state=DeliveryState.PENDING,
    )
    session.add(delivery)
    session.flush()
    return delivery


def dump_tables(session: Session) -> dict[str, list[dict[str, Any]]]:
    rows = {
        t: session.execute(select(t).order_by(*t.primary_key)).mappings().all()
        for t in Base.metadata.sorted_tables
    }
    ranks = {
        t.name: {row["id"]: f"#{n}" for n, row in enumerate(found)}
        for t, found in rows.items()
        if "id" in t.c
    }
    return {
        t.name: [_rank_row(t, row, ranks) for row in found] for t, found in rows.items() if found
    }


def _rank_row(table: Any, row: Any, ranks: dict[str, dict[int, str]]) -> dict[str, Any]:
    values = dict(row)
    if "id" in values:
        values["id"] = ranks[table.name][values["id"]]
    for key in table.foreign_keys:
        number = values[key.parent.name]
        values[key.parent.name] = (
            ranks[key.column.table.name][number] if number is not None else None
        )
    if table.name == "tickets":
        values["near_companies"] = [ranks["companies"][n] for n in values["near_companies"]]
    if table.name == "ticket_relations":
        values["reason"] = values["reason"].rstrip("0123456789")  # "follows #9"
    if table.name == "attachments":
        values["content"] = values["content"] is not None  # sealed, and so never the same
    if table.name == "outbox":
        template, ticket, period, person, nth = values["rule_key"].split(":")
        ticket, person = ranks["tickets"][int(ticket)], ranks["contacts"][int(person)]
        values["rule_key"] = (template, ticket, period, person, nth)
    if table.name == "audit":
        names = {"message": "messages", "task": "tasks", "delivery": "deliveries"}
        values["cause"] = values["cause"].rstrip("0123456789")  # "delivery 9"
        values["detail"] = {
            k: ranks[names[k]][v] if k in names else v for k, v in values["detail"].items()
        }
    return values


def test_a_plain_export_is_filed_without_one_by_one(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch, notified_queues: RecordingNotifier
) -> None:
    monkeypatch.setattr(bulk.file_item, "file_item", None)
    some = [
        make_message(sender=Address("", f"a{n}@x.example"), company=f"P{n % 3}") for n in range(30)
    ]
    some += [
        make_message(thread_id="t", company="P1"),
        make_message(thread_id="t", company="P1"),
        replace(some[0]),
    ]
    with any_context.store.transaction() as session:
        file_items(
            any_context.desk,
            session,
            some,
            add_delivery(any_context, session),
            0,
            any_context.clock(),
        )
    assert list_outcomes(any_context) == [*["opened"] * 31, "appended", "duplicate"]
    assert count_rows(any_context, OutgoingMail) == 30
    assert count_rows(any_context, Message) == 32
    assert notified_queues == ["send"]


def test_one_that_lost_a_race_is_filed_as_what_it_is_now(
    postgres_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File the same message elsewhere between looking and writing.

    From the same new practice.
    """
    context, same = postgres_context, make_message(company="New", sender=Address("", "a@x.example"))

    class OvertakenPlan(bulk._Plan):
        def write(self) -> None:
            monkeypatch.undo()
            deliver(context, same)
            super().write()

    monkeypatch.setattr(bulk, "_Plan", OvertakenPlan)
    with context.store.transaction() as session:
        delivery = add_delivery(context, session)
        file_items(
            context.desk, session, [make_message(company="New"), same], delivery, 0, context.clock()
        )
        number = delivery.id
    with context.store.read_only() as session:
        rows = select(Filing.outcome).where(Filing.delivery_id == number).order_by(Filing.position)
        assert list(session.scalars(rows)) == [Outcome.OPENED, Outcome.DUPLICATE]
        assert len(list(session.scalars(select(Contact)))) == 1


def is_somebody_waiting(context: AppContext) -> bool:
    """Return whether a transaction waits for a lock of another one on PostgreSQL."""
    waiting = text(
        "SELECT 1 FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with context.store.read_only() as session:  # what it shows stays the same in a transaction
        return session.execute(waiting).first() is not None


def test_items_of_a_deadlock_are_filed_one_by_one_at_once(
    postgres_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let another transaction and the batch wait for a ticket that the other has locked."""
    context = postgres_context
    first, second = (open_ticket(context, make_message(company=name)) for name in ("A", "B"))
    lock = "SELECT 1 FROM tickets WHERE id = :id FOR UPDATE"
    has_locked = Event()

    def lock_in_the_other_order() -> None:
        with context.store.transaction() as other:
            other.execute(text(lock), {"id": second})
            has_locked.set()
            until(lambda: is_somebody_waiting(context))
            other.execute(text(lock), {"id": first})

    class DeadlockedPlan(bulk._Plan):
        def write(self) -> None:
            monkeypatch.undo()
            self._lookup.session.execute(text(lock), {"id": first})
            thread.start()
            has_locked.wait()
            self._lookup.session.execute(text(lock), {"id": second})

    monkeypatch.setattr(bulk, "_Plan", DeadlockedPlan)
    thread = Thread(target=lock_in_the_other_order)
    items = [make_message(company="New"), make_message(company="Newer")]
    with context.store.transaction() as session:
        delivery = add_delivery(context, session)
        file_items(context.desk, session, items, delivery, 0, context.clock())
        number = delivery.id
    thread.join()
    with context.store.read_only() as session:
        rows = select(Filing.outcome).where(Filing.delivery_id == number)
        assert list(session.scalars(rows)) == [Outcome.OPENED] * 2


def test_mails_and_calls_are_filed_one_by_one(context: AppContext) -> None:
    with context.store.transaction() as session:
        file_items(
            context.desk,
            session,
            [make_mail(), make_message()],
            add_delivery(context, session),
            0,
            context.clock(),
        )
    assert list_outcomes(context) == ["opened", "opened"]
    assert count_rows(context, AuditEntry, AuditEntry.action == "opened") == 2


def list_outcomes(context: AppContext) -> list[str]:
    with context.store.read_only() as session:
        return [
            str(o)
            for o in session.scalars(
                select(Filing.outcome).order_by(Filing.delivery_id, Filing.position)
            )
        ]


# -- mails and forms, one a delivery ----

MESSAGE_IDS = ("a@x.example", "b@x.example", "c@x.example", "old@x.example", "old-done@x.example")
REPORT_SIGNS = ("bounce-report", "null-sender", "mailer-daemon")
ENVELOPES: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"mail_from": "ann@known.example"},
    {"mail_from": ""},
    {"oversized": 50_000_000},
    {"rcpt_to": ["support+t-1-" + "0" * 24 + "@localhost"]},  # a forged token
)


@pytest.fixture
def past_mail_context(past_context: AppContext, clock: HandClock) -> AppContext:
    """Context with tickets that mails have opened, one of them completed."""
    for message_id in ("old@x.example", "old-done@x.example"):
        filing = deliver(past_context, make_mail(name=message_id, sender=PEOPLE[2]))
        assert filing.ticket_id is not None
        if message_id.startswith("old-done"):
            complete(past_context, filing.ticket_id)
    clock.turn(hours=1)
    return past_context


def _make_mail(message_id: str, sender: Address, text: str, more: dict[str, Any]) -> InboundItem:
    return make_mail(text, name=message_id, sender=sender, **more)


def _make_form(message_id: str, sender: Address, text: str, more: dict[str, Any]) -> InboundItem:
    more = {k: v for k, v in more.items() if k not in {"in_reply_to", "references"}}
    return replace(
        _make_mail(message_id, sender, text, more), format=Format.FORMSTACK, message_id=""
    )


mails = st.builds(
    lambda make, *args: make(*args),
    st.sampled_from([_make_mail, _make_mail, _make_mail, _make_form]),
    st.sampled_from(MESSAGE_IDS),
    st.sampled_from(MAIL_SENDERS),
    st.sampled_from(["help", "help me"]),
    st.sampled_from(
        [
            {},
            {},
            {},
            {"in_reply_to": "<a@x.example>"},
            {"to": (PEOPLE[2],), "cc": (Address("Us", "support@localhost"),)},
            {"reply_to": (PEOPLE[4],)},
            {"original_sender": PEOPLE[4]},
            {"forwarded": (ForwardedHeader(sender=PEOPLE[4]),), "is_forward": True},
            {"subject": "Re: ticket #1"},
            {"references": ("<old@x.example>", "<elsewhere@y.example>")},
            {"in_reply_to": "<old-done@x.example>"},
            {"in_reply_to": f"<outbox-1-{'0' * 24}@localhost>"},
            {"attachments": (Attachment("a.pdf", "application/pdf", b"%PDF-1"),)},
            {"attachments": (Attachment("b.txt", "text/plain", b"Message-ID: <m@z>\n"),)},
            {"signs": ("auto-submitted",), "is_automated": True},
            {"signs": REPORT_SIGNS, "is_automated": True, "is_bounce": True},
            {"authentication": ("mx.desk.example; dmarc=fail",)},
            {"company": "Known & Co", "company_number": "77"},
            {"thread_id": "t-open"},
            {"phone": "212-555-0142", "html": "<p>help</p>"},
            {"sent_at": None},
        ]
    ),
)


@effort(
    max_examples=40,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.lists(
        st.tuples(mails | items, st.sampled_from(ENVELOPES), st.sampled_from([False] * 4 + [True])),
        min_size=1,
        max_size=10,
    )
)
def test_deliveries_together_are_as_one_by_one(
    past_mail_context: AppContext, batch: list[tuple[InboundItem, dict[str, Any], bool]]
) -> None:
    context = past_mail_context
    one_by_one, in_bulk = (dump_deliveries(context, batch, file) for file in (file_each, file_all))
    for table in one_by_one:
        assert in_bulk[table] == one_by_one[table], table


def file_each(context: AppContext, session: Session, batch: list[PendingItem]) -> None:
    for one in batch:
        file_item(context.desk, session, *one, context.clock())


def file_all(context: AppContext, session: Session, batch: list[PendingItem]) -> None:
    file_pending(context.desk, session, batch, context.clock())


def dump_deliveries(
    context: AppContext, batch: list[tuple[InboundItem, dict[str, Any], bool]], file: Any
) -> dict[str, list[dict[str, Any]]]:
    """Return all tables after filing a delivery for each item, which is rolled back."""
    with open_rolled_back(context) as session:
        pending = []
        for number, (item, envelope, by_person) in enumerate(batch):
            delivery = add_delivery(context, session, digest=f"d{number}")
            delivery.format, delivery.envelope, delivery.by_person = (
                item.format,
                envelope,
                by_person,
            )
            pending.append(PendingItem(make_storable(item), delivery, 0))
        session.flush()
        file(context, session, pending)
        session.flush()
        return dump_tables(session)


def test_plain_mails_are_filed_without_one_by_one(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk.file_item, "file_item", None)
    attached = (Attachment("a.pdf", "application/pdf", b"%PDF-1"),)
    batch = [
        make_mail(sender=Address("", f"a{n}@x.example"), attachments=attached) for n in range(20)
    ]
    batch += [batch[0]]
    with any_context.store.transaction() as session:
        pending = [
            PendingItem(item, add_delivery(any_context, session, digest=f"d{n}"), 0)
            for n, item in enumerate(batch)
        ]
        file_pending(any_context.desk, session, pending, any_context.clock())
    with any_context.store.read_only() as session:
        rows = session.scalars(select(Filing.outcome).order_by(Filing.delivery_id))
        assert list(rows) == [*["opened"] * 20, "duplicate"]
        stored = session.scalars(select(StoredAttachment)).all()
        assert len({a.message_id for a in stored}) == len(stored) == 20
        assert any_context.blob_store.read(stored[0].content, stored[0].blob) == b"%PDF-1"


def test_an_answer_to_a_mail_of_the_same_batch_joins_its_ticket(any_context: AppContext) -> None:
    first = make_mail(name="first@x.example")
    batch = [
        first,
        make_mail(name="second@x.example", in_reply_to="<first@x.example>"),
        make_mail(),
    ]
    with any_context.store.transaction() as session:
        pending = [
            PendingItem(item, add_delivery(any_context, session, digest=f"d{n}"), 0)
            for n, item in enumerate(batch)
        ]
        file_pending(any_context.desk, session, pending, any_context.clock())
    with any_context.store.read_only() as session:
        rows = session.execute(
            select(Filing.outcome, Filing.ticket_id).order_by(Filing.delivery_id)
        )
        assert [tuple(row) for row in rows] == [("opened", 1), ("appended", 1), ("opened", 2)]


def test_answers_that_follow_each_other_share_one_lookup(
    any_context: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[int] = []

    class CountingLookup(bulk.BulkLookup):
        def __init__(self, session: Session, items: Sequence[InboundItem], *rest: Any) -> None:
            lookups.append(len(items))
            super().__init__(session, items, *rest)

    deliver(any_context, make_mail(name="first@x.example"))
    monkeypatch.setattr(bulk, "BulkLookup", CountingLookup)
    batch = [make_mail(in_reply_to="<first@x.example>", text=f"answer {n}") for n in range(5)]
    batch += [make_mail()]
    with any_context.store.transaction() as session:
        pending = [
            PendingItem(item, add_delivery(any_context, session, digest=f"d{n}"), 0)
            for n, item in enumerate(batch)
        ]
        file_pending(any_context.desk, session, pending, any_context.clock())
    assert lookups == [6, 1]
    assert count_rows(any_context, Ticket) == 2
