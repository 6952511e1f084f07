"""Prometheus metrics: counts and ages, read from the database at each request.

Nothing about customers.
"""

import hmac
from collections.abc import Iterable, Iterator
from datetime import datetime
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow import process
from workflow.context import AppContext
from workflow.models.core import (
    Delivery,
    Heartbeat,
    OutgoingMail,
    Receipt,
    SelfCheck,
    Task,
    Ticket,
    TicketMilestone,
)
from workflow.models.states import DeliveryState, OutboxState, Status
from workflow.operations import oauth_tokens
from workflow.operations.backlog import EVENT_STATES, FILE_STATES, QueueCounts, count_backlog
from workflow.settings.settings import Settings
from workflow.tickets.desk import Desk

CONTENT_TYPE = CONTENT_TYPE_LATEST
LEDGER_CHECK = "ledger"  # name of the check


def render_metrics(context: AppContext) -> bytes:
    """Return all metrics in Prometheus' text format, as they are now."""
    registry = CollectorRegistry(auto_describe=False)
    with context.store.read_only() as session:
        registry.register(_DatabaseCollector(session, context.settings, context.clock()))
        return generate_latest(registry)


def may_read_metrics(settings: Settings, peer: str, host: str, authorization: str) -> bool:
    """Return whether a client may read the metrics.

    With the token where one is set, else from this machine only. Behind a proxy every peer is this
    machine, so the public address is checked as well: whoever runs a proxy has set it to another
    host.
    """
    if token := settings.metrics_token.get_secret_value():
        scheme, _, token_given = authorization.partition(" ")
        # in constant time: the answer's delay must not reveal the token
        return scheme.casefold() == "bearer" and hmac.compare_digest(
            token_given.strip().encode(), token.encode()
        )
    outside = urlsplit(settings.public_url).hostname or ""
    # `host` as well: a page of another site can have its own name resolve to this machine and read
    # what we answer (DNS rebinding).
    return all(map(_is_loopback, (peer, urlsplit(f"//{host}").hostname or "", outside)))


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _make_queue_gauge(
    name: str, words: str, counts: QueueCounts, states: tuple[str, str]
) -> Metric:
    family = GaugeMetricFamily(f"intake_{name}", words, labels=["state"])
    for state, count in zip(states, (counts.waiting, counts.failed), strict=True):
        family.add_metric([state], count)
    return family


class _DatabaseCollector(Collector):
    """Reads every metric from the database when Prometheus asks."""

    def __init__(self, session: Session, settings: Settings, now: datetime) -> None:
        self._session, self._settings, self._now = session, settings, now

    def describe(self) -> Iterable[Metric]:
        """Return nothing: describing the metrics would take the same queries."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._measure_deliveries()
        yield from self._measure_mails()
        yield from self._measure_queues()
        yield self._count_by(
            "tickets",
            "Tickets, by stage and state.",
            ("stage", "status"),
            (Ticket.stage, Ticket.status),
        )
        yield self._count_overdue()
        yield from self._measure_health()

    def _measure_deliveries(self) -> Iterator[Metric]:
        yield self._count_by(
            "deliveries",
            "Deliveries, by channel and state.",
            ("door", "state"),
            (Delivery.transport, Delivery.state),
        )
        yield self._measure_oldest(
            "oldest_pending_delivery", Delivery.received_at, Delivery.state == DeliveryState.PENDING
        )
        yield self._measure_oldest(
            "oldest_failed_delivery", Delivery.received_at, Delivery.state == DeliveryState.FAILED
        )
        last = select(Receipt.transport, func.max(Receipt.at)).group_by(Receipt.transport)
        yield self._measure_ages(
            "door_last",
            "Seconds since a channel received something.",
            "door",
            self._session.execute(last),
        )

    def _measure_mails(self) -> Iterator[Metric]:
        yield self._count_by("outbox", "Queued mails, by state.", ("state",), (OutgoingMail.state,))
        yield self._measure_oldest(
            "oldest_waiting_mail",
            OutgoingMail.created_at,
            OutgoingMail.state == OutboxState.WAITING,
        )

    def _measure_queues(self) -> Iterator[Metric]:
        """Yield the queues of webhook events and linked files.

        Delivered events are deleted after some days, so their count would mean nothing.
        """
        queues = count_backlog(self._session)
        yield _make_queue_gauge(
            "hook_events", "Events for webhooks, by state.", queues.events, EVENT_STATES
        )
        yield self._measure_age("oldest_waiting_hook_event", queues.events.oldest)
        yield _make_queue_gauge(
            "linked_files", "Files that forms link to, by state.", queues.files, FILE_STATES
        )
        yield self._measure_age("oldest_waiting_linked_file", queues.files.oldest)

    def _count_overdue(self) -> Metric:
        """Return missed deadlines by milestone, counted by the tasks the clock raised for them.

        So business days and holidays count as they do there.
        """
        family = GaugeMetricFamily(
            "intake_deadlines_overdue",
            "Missed deadlines whose milestone is not reached yet.",
            labels=["milestone"],
        )
        for deadline in process.DEADLINES:
            is_reached = select(TicketMilestone.id).where(
                TicketMilestone.ticket_id == Ticket.id,
                TicketMilestone.period == Ticket.period,
                TicketMilestone.milestone == deadline.milestone,
            )
            query = select(func.count()).select_from(Task).join(Ticket, Ticket.id == Task.ticket_id)
            mine = (Task.kind == Desk.build_deadline_kind(deadline), Task.period == Ticket.period)
            count = self._session.scalar(
                query.where(*mine, Ticket.status == Status.OPEN, ~is_reached.exists())
            )
            family.add_metric([deadline.milestone], count or 0)
        return family

    def _measure_health(self) -> Iterator[Metric]:
        """Yield heartbeats and results of self-checks.

        The ledger is added up once a day by its check, not here: it reads every delivery.
        """
        heartbeats = self._session.execute(select(Heartbeat.name, Heartbeat.at))
        yield from self._measure_tokens()
        yield self._measure_ages(
            "seen", "Seconds since the last heartbeat of a process or mailbox.", "name", heartbeats
        )
        checks = list(self._session.scalars(select(SelfCheck)))
        check_results = GaugeMetricFamily(
            "intake_check_ok", "1: the self-check found no fault.", labels=["check"]
        )
        for check in checks:
            check_results.add_metric([check.name], not check.fault)
        yield check_results
        ages = ((check.name, check.at) for check in checks)
        yield self._measure_ages("check", "Seconds since the last self-check.", "check", ages)
        ledger = GaugeMetricFamily(
            "intake_ledger_adds_up", "1: nothing was lost or doubled, at the last daily check."
        )
        for check in checks:
            if check.name == LEDGER_CHECK:
                ledger.add_metric([], not check.fault)
        yield ledger

    def _measure_tokens(self) -> Iterator[Metric]:
        words = (
            "Days the OAuth token of a mailbox remains valid; 0 when refused, none when it has"
            " no limit."
        )
        family = GaugeMetricFamily("intake_oauth_days_left", words, labels=["mailbox"])
        for one in oauth_tokens.list_token_status(self._session, self._settings):
            days = 0 if one.refused_at else one.count_days_left(self._now)
            if days is not None:
                family.add_metric([one.mailbox], days)
        yield family

    def _count_by(
        self, name: str, words: str, labels: tuple[str, ...], columns: tuple[Any, ...]
    ) -> Metric:
        family = GaugeMetricFamily(f"intake_{name}", words, labels=labels)
        for *values, count in self._session.execute(
            select(*columns, func.count()).group_by(*columns)
        ):
            family.add_metric([str(value) for value in values], count)
        return family

    def _measure_oldest(self, name: str, column: Any, where: Any) -> Metric:
        return self._measure_age(name, self._session.scalar(select(func.min(column)).where(where)))

    def _measure_age(self, name: str, at: datetime | None) -> Metric:
        words = "Age of the oldest that waits; 0 when none does."
        return GaugeMetricFamily(
            f"intake_{name}_seconds", words, value=self._compute_age(at) if at else 0
        )

    def _measure_ages(self, name: str, words: str, label: str, rows: Iterable[Any]) -> Metric:
        family = GaugeMetricFamily(f"intake_{name}_seconds", words, labels=[label])
        for value, at in rows:
            family.add_metric([value], self._compute_age(at))
        return family

    def _compute_age(self, at: datetime) -> float:
        return max(0.0, (self._now - at).total_seconds())
