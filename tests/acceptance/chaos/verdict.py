"""Compare what was acknowledged with what exists."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiosmtpd.smtp import Envelope
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.acceptance.chaos.load import Load
from workflow.database.engine import Store
from workflow.models.core import Delivery, Message, OutgoingMail, Task, Ticket, TicketMilestone
from workflow.models.states import DeliveryState, OutboxState, Status
from workflow.operations.ledger import compute_balance
from workflow.process import DEADLINES, Milestone, Stage, Template
from workflow.tickets.desk import Desk

MARKER = re.compile(r"mk\d+x[0-9a-f]{8}")
LONGEST = max(d.within for d in DEADLINES)
DEADLINE_KINDS = [Desk.build_deadline_kind(d) for d in DEADLINES]
MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass
class Verdict:
    """Figures of the report, and every guarantee that was broken."""

    # by channel: sent, acknowledged, found, lost, doubled
    channels: dict[str, tuple[int, int, int, int, int]] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def expect(self, name: str, value: int, most: int = 0) -> None:
        """Add a figure; a value over `most` breaks a guarantee."""
        self.figures[name] = value
        if value > most:
            self.broken.append(f"{name}: {value}, at most {most}")


def judge(
    store: Store, load: Load, taken_mails: list[Envelope], kills: int, now: datetime
) -> Verdict:
    """Compare what was acknowledged with what exists.

    `now` is the time of the processes' clocks when all had been started again.
    """
    verdict = Verdict()
    with store.read_only() as session:
        if not compute_balance(session).adds_up:
            verdict.broken.append("the ledger does not add up")
    with store.read_only() as session:
        _count_channels(session, load, verdict)
        _count_states(session, verdict)
        _count_mails(session, verdict, taken_mails, kills)
        _count_tasks(session, verdict, now)
    return verdict


def _count_channels(session: Session, load: Load, verdict: Verdict) -> None:
    """Count what was lost or doubled in each channel."""
    tickets_by_marker: dict[str, set[int]] = defaultdict(set)
    count = Counter[str]()
    inbound = select(Message.ticket_id, Message.text, Message.external_id).where(
        Message.direction == "in"
    )
    for ticket, text, external in session.execute(inbound):
        for marker in set(MARKER.findall(f"{text} {external}")):
            tickets_by_marker[marker].add(ticket)
            count[marker] += 1
    for channel, sent_count in sorted(load.sent.items()):
        acknowledged_markers = [m for m, by in load.acknowledged.items() if by == channel]
        lost_markers = [m for m in acknowledged_markers if m not in tickets_by_marker]
        doubled_markers = [
            m for m in acknowledged_markers if count[m] > 1 or len(tickets_by_marker[m]) > 1
        ]
        verdict.channels[channel] = (
            sent_count,
            len(acknowledged_markers),
            len(acknowledged_markers) - len(lost_markers),
            len(lost_markers),
            len(doubled_markers),
        )
        verdict.broken += [f"{channel}: {m} is lost" for m in lost_markers]
        verdict.broken += [f"{channel}: {m} is there twice" for m in doubled_markers]
    unacknowledged = [m for m in count if m not in load.acknowledged and count[m] > 1]
    verdict.expect("doubled without an acknowledgement", len(unacknowledged))


def _count_states(session: Session, verdict: Verdict) -> None:
    """Count deliveries and tickets that did not come to their end."""

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


def _count_mails(session: Session, verdict: Verdict, taken: list[Envelope], kills: int) -> None:
    """Count the outbox against the mails that the relay took."""
    rows = list(session.scalars(select(OutgoingMail)))
    _count_copies(rows, taken, kills, verdict)
    _count_repeated_mails(rows, verdict)


def _count_copies(
    rows: list[OutgoingMail], taken: list[Envelope], kills: int, verdict: Verdict
) -> None:
    """Compare the Message-IDs of sent mails with those at the relay; a kill may cost one copy."""
    copies = Counter(filter(None, map(_find_message_id, taken)))
    waiting = [row for row in rows if row.state is OutboxState.WAITING]
    sent_ids = {row.message_id for row in rows if row.state is OutboxState.SENT}
    verdict.figures["mails sent"] = len(sent_ids)
    verdict.expect("mails still waiting", len(waiting))
    verdict.expect("marked as sent, no copy at the relay", len(sent_ids - set(copies)))
    verdict.expect("copies of mails that are not ours", len(set(copies) - sent_ids))
    verdict.expect("extra copies (same Message-ID)", count_repeats(copies), kills)


def _find_message_id(envelope: Envelope) -> str | None:
    content = envelope.content
    match = MESSAGE_ID.search(content) if isinstance(content, bytes) else None
    return match[1].decode() if match else None


def _count_repeated_mails(rows: list[OutgoingMail], verdict: Verdict) -> None:
    """Count mails that were queued twice; only recaps may be written more than once."""
    queued_mails = Counter(
        (row.ticket_id, row.template, row.to, row.period)
        for row in rows
        if row.template is not Template.RECAP
    )
    surveys = Counter(row.to for row in rows if row.template is Template.SURVEY)
    verdict.expect("notices or surveys queued twice", count_repeats(queued_mails))
    verdict.figures["surveys"] = surveys.total()
    verdict.expect("customers surveyed twice", count_repeats(surveys))


def count_repeats(counts: Counter[Any]) -> int:
    """Return how many occurrences there are beyond the first of each."""
    return counts.total() - len(counts)


def _count_tasks(session: Session, verdict: Verdict, now: datetime) -> None:
    """Count deadline tasks that are missing or there twice."""
    deadlines = session.scalars(select(Task).where(Task.kind.like("deadline:%")))
    raised = Counter((task.ticket_id, task.period, task.kind) for task in deadlines)
    verdict.figures["deadline tasks"] = sum(raised.values())
    verdict.expect("deadline tasks raised twice", count_repeats(raised))
    verdict.expect("missed deadlines without a task", count_missed_without_task(session, now))


def count_missed_without_task(session: Session, now: datetime) -> int:
    """Return how many missed deadlines have no task."""
    followed_up_tickets = select(TicketMilestone.ticket_id).where(
        TicketMilestone.milestone == Milestone.FOLLOW_UP_SENT
    )
    late = (
        Ticket.status == Status.OPEN,
        Ticket.id.not_in(followed_up_tickets),
        Ticket.period_started_at <= now - LONGEST,
    )
    due = [
        (t, kind)
        for t in session.scalars(select(Ticket.id).where(*late))
        for kind in DEADLINE_KINDS
    ]
    tasks = select(Task.ticket_id, Task.kind).where(Task.kind.in_(DEADLINE_KINDS))
    existing = {(ticket, kind) for ticket, kind in session.execute(tasks)}
    return sum(deadline not in existing for deadline in due)
