"""Budgets of automatic mail: to one address, to one domain, in one conversation, and in all.

They end a circle of two programs that answer each other without any sign of it (RFC 3834 §2).
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from workflow.customers import directory
from workflow.database.bulk_insert import is_one_of
from workflow.models.core import OutgoingMail, TicketRelation
from workflow.process import WRITTEN_BY_PERSON, Template
from workflow.settings.settings import Settings

PERIOD = timedelta(hours=1)
CONVERSATION_PERIOD = timedelta(days=1)
# Tickets of one conversation that are looked at. A circle makes more only where the budget of its
# addresses is not yet spent.
_MAX_TICKETS = 100
_NOTICES = (Template.NOTICE, Template.OVERSIZED)


def get_counted_domain(email: str) -> str:
    """Return the domain whose budget a mail to this address uses; "" for a public mail service."""
    domain = directory.extract_domain(email.strip().casefold())
    return "" if domain in directory.PUBLIC_MAIL_DOMAINS else domain


@dataclass(slots=True)
class RecentMails:
    """Counts of the automatic mails that were queued to customers within the hour."""

    settings: Settings
    by_address: Counter[str] = field(default_factory=Counter)  # folded
    by_domain: Counter[str] = field(default_factory=Counter)
    in_all: int = 0

    def add(self, email: str) -> None:
        """Count one more mail."""
        self.by_address[directory.fold_address(email)] += 1
        self.by_domain[get_counted_domain(email)] += 1
        self.in_all += 1

    def find_obstacle(self, email: str) -> str:
        """Return which budget leaves no automatic mail for this address; "" where none does."""
        domain = get_counted_domain(email)
        if self.by_address[directory.fold_address(email)] >= self.settings.notices_per_sender_hour:
            return "too many automatic mails to this address within an hour"
        if domain and self.by_domain[domain] >= self.settings.notices_per_domain_hour:
            return "too many automatic mails to this domain within an hour"
        if self.in_all >= self.settings.notices_per_hour:
            return "too many automatic mails in all within an hour"
        return ""


def load_recent_mails(
    session: Session, emails: Collection[str], settings: Settings, now: datetime
) -> RecentMails:
    """Return the counts for these addresses and their domains."""
    addresses = {directory.fold_address(email) for email in emails} - {""}
    domains = {get_counted_domain(email) for email in emails} - {""}
    recent = RecentMails(settings)
    if not addresses:
        return recent
    recent.by_address.update(_count_by(session, OutgoingMail.recipient, addresses, now))
    if domains:
        recent.by_domain.update(_count_by(session, OutgoingMail.recipient_domain, domains, now))
    recent.in_all = _count_in_all(session, settings.notices_per_hour, now)
    return recent


def _count_by(
    session: Session, column: InstrumentedAttribute[str], values: Collection[str], now: datetime
) -> dict[str, int]:
    counts = (
        select(column, func.count())
        .where(is_one_of(session, column, values), *_list_recent_conditions(now))
        .group_by(column)
    )
    return dict(session.execute(counts).all())


def _list_recent_conditions(now: datetime) -> tuple[ColumnElement[bool], ...]:
    is_automatic = OutgoingMail.template.not_in(WRITTEN_BY_PERSON)
    return OutgoingMail.created_at > now - PERIOD, is_automatic


def _count_in_all(session: Session, limit: int, now: datetime) -> int:
    """Return how many automatic mails were queued within the hour, at most `limit`.

    Where the row `limit` places before the newest is older than that, they are fewer, and 0 is
    returned: so the hour's rows are counted only in a flood.
    """
    newest = session.scalar(select(func.max(OutgoingMail.id))) or 0
    if newest < limit:
        return 0
    earlier = select(OutgoingMail.created_at).where(OutgoingMail.id <= newest - limit + 1)
    at = session.scalar(earlier.order_by(OutgoingMail.id.desc()).limit(1))
    if at is None or at <= now - PERIOD:
        return 0
    recent = select(OutgoingMail.id).where(
        *_list_recent_conditions(now), OutgoingMail.recipient != ""
    )
    return session.scalar(select(func.count()).select_from(recent.limit(limit).subquery())) or 0


def find_conversation_obstacle(
    session: Session, ticket: int, settings: Settings, now: datetime
) -> str:
    """Return why the conversation of a ticket gets no further notice; "" where it may.

    Its conversation are the tickets it is related to, directly or by others: mails of one thread
    whose senders do not belong to one another's tickets.
    """
    others = _list_conversation(session, ticket) - {ticket}
    if not others:
        return ""
    notices = select(func.count()).where(
        is_one_of(session, OutgoingMail.ticket_id, others),
        OutgoingMail.template.in_(_NOTICES),
        OutgoingMail.created_at > now - CONVERSATION_PERIOD,
    )
    if (session.scalar(notices) or 0) < settings.notices_per_thread_day:
        return ""
    return "too many automatic mails in this conversation within a day"


def _list_conversation(session: Session, ticket: int) -> set[int]:
    """Return the numbers of the tickets related to a ticket, and of itself, up to a limit."""
    found, new = {ticket}, {ticket}
    while new and len(found) < _MAX_TICKETS:
        pairs = select(TicketRelation.ticket_id, TicketRelation.other_id).where(
            or_(
                is_one_of(session, TicketRelation.ticket_id, new),
                is_one_of(session, TicketRelation.other_id, new),
            )
        )
        rows = session.execute(pairs.limit(_MAX_TICKETS))
        new = {number for pair in rows for number in pair} - found
        found |= new
    return found
