"""Parts that many tests share: a clock turned by hand, items, arrivals, tickets and counts."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count
from threading import Thread
from typing import Any, Self

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from ingest.intake import Arrival, Transport
from parsers import phone_call
from parsers.item import Address, Format, InboundItem
from workflow.context import AppContext
from workflow.customers.directory import build_company_key
from workflow.filing.file_item import file_item
from workflow.mail.transport import MailDeferred, MailRefused
from workflow.models.core import AuditEntry, Company, Contact, Delivery, Filing, Staff, Ticket
from workflow.models.states import DeliveryState, Role
from workflow.process import Milestone

START = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)  # a Monday, 10:00 in New York
ANN = Address("Ann Example", "ann@practice.example")

_numbers = count(1)


class HandClock:
    """A clock that stands still until a test turns it."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **amount: float) -> datetime:
        self.now += timedelta(**amount)
        return self.now


class Steady:
    """A monotonic clock turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class RecordingNotifier(list[str]):
    """Notifier that only remembers the names it was called with."""

    def __call__(self, name: str) -> None:
        self.append(name)


@dataclass
class Posts:
    """A relay of ours in memory.

    `answers` are reply codes to give first, 0 for no answer, then it takes everything.
    """

    answers: list[int] = field(default_factory=list)
    taken: list[tuple[Any, str, str]] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def post(self, message: Any, sender: str, to: str) -> None:
        code = self.answers.pop(0) if self.answers else 250
        if code >= 500:
            raise MailRefused(code)
        if code != 250:
            raise MailDeferred(code)
        self.taken.append((message, sender, to))


def make_mail(
    text: str = "please help", *, name: str = "", sender: Address = ANN, **more: Any
) -> InboundItem:
    """Return a customer's mail as the parser gives it.

    `name` is its Message-ID without brackets, made up if empty.
    """
    name = name or f"m{next(_numbers)}@practice.example"
    fields: dict[str, Any] = {
        "subject": "a question",
        "sent_at": START - timedelta(minutes=1),
        "to": (Address("", "support@localhost"),),
        "plain": text,
        "reply_text": text,
        **more,
    }
    return InboundItem(
        format=Format.MAIL,
        external_id=name,
        message_id=f"<{name}>",
        sender=sender,
        text=text,
        **fields,
    )


def make_phone_call(*others: Address, **more: Any) -> InboundItem:
    """Return a call as its parser gives it, with Ann as the caller and further contacts."""
    return InboundItem(
        format=Format.PHONE,
        external_id=f"p{next(_numbers)}",
        sender=ANN,
        to=others,
        text="t",
        **more,
    )


def make_row(text: str = "please help", **more: Any) -> InboundItem:
    """Return a row of a secure-message export as the parser gives it."""
    fields: dict[str, Any] = {
        "external_id": f"s{next(_numbers)}",
        "company": "Sunrise Family Practice",
        **more,
    }
    return InboundItem(format=Format.SECURE_MESSAGE, text=text, **fields)


def deliver(
    context: AppContext,
    item: InboundItem,
    envelope: dict[str, Any] | None = None,
    *,
    transport: str = "smtp",
) -> Filing:
    """File an item through the desk, as the intake does; return the outcome."""
    with context.store.transaction() as session:
        return file_in(context, session, item, envelope, transport=transport)


def file_in(
    context: AppContext,
    session: Session,
    item: InboundItem,
    envelope: dict[str, Any] | None = None,
    *,
    transport: str = "smtp",
) -> Filing:
    now = context.clock()
    content, _ = context.blob_store.store(b"raw")
    delivery = Delivery(
        transport=transport,
        format=item.format,
        digest=sha256(f"{next(_numbers)}".encode()).hexdigest(),
        content=content,
        size=3,
        envelope=envelope or {},
        received_at=now,
        not_before=now,
        state=DeliveryState.PROCESSED,
    )
    session.add(delivery)
    session.flush()
    return file_item(context.desk, session, item, delivery, 0, now)


def open_ticket(
    context: AppContext, item: InboundItem | None = None, envelope: dict[str, Any] | None = None
) -> int:
    """Open a ticket from a mail; return its number."""
    number = deliver(context, item or make_mail(), envelope).ticket_id
    assert number is not None
    return number


def make_call_arrival(text: str = "please call back", **more: Any) -> Arrival:
    """Return a call written down by staff, as bytes: the format whose parser is all ours."""
    fields = {
        "call_id": f"c{next(_numbers)}",
        "email": "ann@practice.example",
        "company": "Sunrise",
        **more,
    }
    raw = phone_call.compose(text=text, **fields)
    return Arrival(transport=Transport.CONSOLE, format=Format.PHONE, raw=raw)


def create_staff(session: Session, name: str, role: Role = Role.AGENT) -> Staff:
    person = Staff(name=name, email=f"{name.casefold()}@desk.example", role=role, created_at=START)
    session.add(person)
    session.flush()
    return person


def create_company(
    session: Session, name: str, *, manager: Staff | None = None, **more: Any
) -> Company:
    record = Company(
        name=name, key=build_company_key(name), manager=manager, created_at=START, **more
    )
    session.add(record)
    session.flush()
    return record


def reach(context: AppContext, number: int, *milestones: Milestone, by: str = "Olga") -> None:
    """Record milestones one after the other, each in its own transaction, as people do."""
    for milestone in milestones:
        with context.store.transaction() as session:
            context.desk.record_milestone(
                session, session.get_one(Ticket, number), milestone, by=by, now=context.clock()
            )


def complete(context: AppContext, number: int) -> None:
    reach(context, number, *Milestone)


def list_audit_entries(context: AppContext, number: int, action: str) -> list[AuditEntry]:
    with context.store.read_only() as session:
        rows = select(AuditEntry).where(AuditEntry.ticket_id == number, AuditEntry.action == action)
        return list(session.scalars(rows.order_by(AuditEntry.id)))


def list_stages_passed(context: AppContext, number: int) -> list[str]:
    """Return the stages a ticket has entered, as the audit rows say, in order."""
    return [row.detail["stage"] for row in list_audit_entries(context, number, "stage")]


def count_rows(context: AppContext, *of: Any) -> int:
    """Return how many rows of a model there are: `of` is the model, then conditions."""
    with context.store.read_only() as session:
        model, *where = of
        return session.scalar(select(func.count()).select_from(model).where(*where)) or 0


def get_contact(context: AppContext, email: str) -> Contact:
    with context.store.read_only() as session:
        return session.scalars(select(Contact).where(Contact.email == email)).one()


def run_in_threads(*work: Any) -> list[BaseException]:
    """Run each function in a thread of its own, all at once; return what they raised."""
    errors: list[BaseException] = []

    def run(function: Any) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  # handed to the test
            errors.append(error)

    threads = [Thread(target=run, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    return errors
