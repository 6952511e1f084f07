"""Tables of outgoing webhooks: who is told of what, and each event that is to be told."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, ForeignKey, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from workflow.models.base import Base
from workflow.models.states import WebhookEventState


class Webhook(Base):
    """An address that is told of events.

    It is never deleted: a change made at the same moment may refer to it.
    """

    __tablename__ = "hooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(Text)
    secret: Mapped[bytes] = mapped_column(LargeBinary)  # sealed; what signs
    events: Mapped[list[Any]]  # words of events.Event
    created_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(Text)
    removed_at: Mapped[datetime | None]
    not_before: Mapped[
        datetime
    ]  # when it may be asked again; one that fails is left alone for a while
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[datetime | None]
    reason: Mapped[str] = mapped_column(Text, default="")  # of the last failure, in our own words
    told_at: Mapped[datetime | None]  # when it last said yes


class WebhookEvent(Base):
    """An event for one hook, put here in the transaction of the change itself."""

    __tablename__ = "hook_events"
    __table_args__ = (Index("ix_hook_events_waiting", "state", "not_before"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    hook_id: Mapped[int] = mapped_column(ForeignKey("hooks.id"), index=True)
    event_id: Mapped[str] = mapped_column(
        String(64)
    )  # the same for every hook and try: receivers know it again
    event: Mapped[str] = mapped_column(String(64))
    body: Mapped[dict[str, Any]]  # numbers and words of ours
    state: Mapped[WebhookEventState]
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    created_at: Mapped[datetime]
    hook: Mapped[Webhook] = relationship()


def is_active() -> ColumnElement[bool]:
    """Return whether a hook is still to be told."""
    return Webhook.removed_at.is_(None)
