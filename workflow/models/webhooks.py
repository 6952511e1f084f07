"""Tables of outgoing webhooks: the addresses, and the events to be sent to them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from workflow.models.base import Base
from workflow.models.states import WebhookEventState


class Webhook(Base):
    """An address that events are sent to.

    The row is never deleted, only marked: a change made at the same moment may refer to it.
    """

    __tablename__ = "hooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # encrypted; signs the requests
    events: Mapped[list[Any]]  # values of webhook_events.EventType
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    removed_at: Mapped[datetime | None]
    not_before: Mapped[datetime]  # when it is called next; one that fails is left alone for a while
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")  # of the last failure, in fixed words
    # When it last answered 2xx; the column has the name of schema 0012.
    last_success_at: Mapped[datetime | None] = mapped_column("told_at")


class WebhookEvent(Base):
    """An event for one webhook, queued in the transaction of the change itself."""

    __tablename__ = "hook_events"
    __table_args__ = (Index("ix_hook_events_waiting", "state", "not_before"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    hook_id: Mapped[int] = mapped_column(ForeignKey("hooks.id"), index=True)
    # The same for every webhook and attempt, so that receivers can deduplicate.
    event_id: Mapped[str] = mapped_column(String(64))
    event: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]  # ids and fixed words only
    state: Mapped[WebhookEventState]
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    created_at: Mapped[datetime]
    hook: Mapped[Webhook] = relationship()


def is_active() -> ColumnElement[bool]:
    """Return the condition that a webhook has not been removed."""
    return Webhook.removed_at.is_(None)
