"""What was acknowledged against what exists."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from aiosmtpd.smtp import Envelope
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.acceptance.chaos.load import Load
from workflow.database.engine import Store
from workflow.models.core import Delivery, Message, Outgoing, Reached, Task, Ticket
from workflow.models.states import DeliveryState, OutboxState, Status
from workflow.operations.ledger import balance
from workflow.process import DEADLINES, Milestone, Stage, Template
from workflow.tickets.desk import Desk

MARKER = re.compile(r"mk\d+x[0-9a-f]{8}")
LONGEST = max(d.within for d in DEADLINES)
KINDS = [Desk.deadline_kind(d) for d in DEADLINES]
MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Verdict:
    """Figures, a line each, and every promise that was broken."""

    doors: dict[str, tuple[int, int, int, int, int]] = field(
        default_factory=dict
    )  # sent, yes, found, lost, doubled
    figures: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def expect(self, name: str, value: int, most: int = 0) -> None:
        self.figures[name] = value
        if value > most:
            self.broken.append(f"{name}: {value}, at most {most}")


def judge(store: Store, load: Load, taken: list[Envelope], kills: int, now: datetime) -> Verdict:
    """Count everything.

    `now` is what the processes' clocks said when all had been started again.
    """
    verdict = Verdict()
    with store.reading() as session:
        if not balance(session).adds_up:
            verdict.broken.append("the ledger does not add up")
    with store.reading() as session:
        _doors(session, load, verdict)
        _states(session, verdict)
        _mails(session, verdict, taken, kills)
        _tasks(session, verdict, now)
    return verdict


def _doors(session: Session, load: Load, verdict: Verdict) -> None:
    found: dict[str, set[int]] = defaultdict(set)
    count = Counter[str]()
    inbound = select(Message.ticket_id, Message.text, Message.external_id).where(
        Message.direction == "in"
    )
    for ticket, text, external in session.execute(inbound):
        for marker in set(MARKER.findall(f"{text} {external}")):
            found[marker].add(ticket)
            count[marker] += 1
    for door, sent in sorted(load.sent.items()):
        mine = [m for m, d in load.acknowledged.items() if d == door]
        lost = [m for m in mine if m not in found]
        doubled = [m for m in mine if count[m] > 1 or len(found[m]) > 1]
        verdict.doors[door] = (
            sent,
            len(mine),
            len([m for m in mine if m in found]),
            len(lost),
            len(doubled),
        )
        verdict.broken += [f"{door}: {m} is lost" for m in lost] + [
            f"{door}: {m} is there twice" for m in doubled
        ]
    unsaid = [m for m in count if m not in load.acknowledged and count[m] > 1]
    verdict.expect("doubled though nobody said yes", len(unsaid))


def _states(session: Session, verdict: Verdict) -> None:
    def deliveries(state: DeliveryState) -> int:
        return session.scalar(select(func.count()).where(Delivery.state == state)) or 0

    verdict.figures["tickets"] = session.scalar(select(func.count(Ticket.id))) or 0
    verdict.expect("deliveries still pending", deliveries(DeliveryState.PENDING))
    verdict.expect("deliveries failed", deliveries(DeliveryState.FAILED))
    failed = select(Delivery.id, Delivery.reason).where(Delivery.state == DeliveryState.FAILED)
    verdict.broken += [
        f"delivery {number} failed: {reason}" for number, reason in session.execute(failed)
    ]
    stuck = list(session.scalars(select(Ticket).where(Ticket.stage == Stage.SUBMITTED)))
    verdict.expect("tickets stuck in 1-Submitted", len(stuck))
    for ticket in stuck:
        mails = [(m.state.value, m.reason, m.attempts, m.period) for m in ticket.outbox]
        done = [m.milestone.name for m in ticket.milestones]
        verdict.broken.append(
            f"ticket {ticket.id}, {ticket.status}, period {ticket.period}: {mails} {done}"
        )


def _mails(session: Session, verdict: Verdict, taken: list[Envelope], kills: int) -> None:
    rows = list(session.scalars(select(Outgoing)))
    copies = Counter(
        found[1].decode()
        for e in taken
        if (found := MESSAGE_ID.search(e.content)) and isinstance(e.content, bytes)
    )
    sent = [row for row in rows if row.state is OutboxState.SENT]
    verdict.figures["mails sent"] = len(sent)
    verdict.expect("mails still waiting", sum(row.state is OutboxState.WAITING for row in rows))
    verdict.expect(
        "marked as sent, no copy at the relay", sum(not copies[row.message_id] for row in sent)
    )
    verdict.expect(
        "copies of mails that are not ours", len(set(copies) - {row.message_id for row in sent})
    )
    verdict.expect("extra copies (same Message-ID)", sum(n - 1 for n in copies.values()), kills)
    twice = Counter(
        (r.ticket_id, r.template, r.to, r.period) for r in rows if r.template is not Template.RECAP
    )
    verdict.expect("notices or surveys promised twice", sum(n - 1 for n in twice.values()))
    surveys = Counter(row.to for row in rows if row.template is Template.SURVEY)
    verdict.figures["surveys"] = sum(surveys.values())
    verdict.expect("customers surveyed twice", sum(n > 1 for n in surveys.values()))


def _tasks(session: Session, verdict: Verdict, now: datetime) -> None:
    deadlines = session.scalars(select(Task).where(Task.kind.like("deadline:%")))
    raised = Counter((task.ticket_id, task.period, task.kind) for task in deadlines)
    verdict.figures["deadline tasks"] = sum(raised.values())
    verdict.expect("deadline tasks raised twice", sum(n - 1 for n in raised.values()))
    verdict.expect("missed deadlines without a task", missed_without_task(session, now))


def missed_without_task(session: Session, now: datetime) -> int:
    """How many deadlines were missed of which nobody has a task."""
    followed = select(Reached.ticket_id).where(Reached.milestone == Milestone.FOLLOW_UP_SENT)
    late = (
        Ticket.status == Status.OPEN,
        Ticket.id.not_in(followed),
        Ticket.period_started_at <= now - LONGEST,
    )
    due = [(t, kind) for t in session.scalars(select(Ticket.id).where(*late)) for kind in KINDS]
    tasks = select(Task.ticket_id, Task.kind).where(Task.kind.in_(KINDS))
    have = {(ticket, kind) for ticket, kind in session.execute(tasks)}
    return sum(one not in have for one in due)
