"""Webhooks and API tokens as plain data. Never a secret."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from console.presenters.times import format_iso
from workflow.audit.webhook_events import EventType
from workflow.models.accounts import ApiToken
from workflow.models.states import WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active
from workflow.webhooks import deliver

MAX_EVENTS = 10  # events shown of one webhook; their count is shown in any case
MAX_REMOVED_WEBHOOKS = 20  # deleted webhooks shown


@dataclass(frozen=True)
class WebhookRow:
    """An active webhook, with its events that were given up or wait longest."""

    hook: Webhook
    address: str
    waiting: int
    given_up: int
    events: list[WebhookEvent]

    @property
    def event_names(self) -> str:
        """Return the events it is sent, in words."""
        events = self.hook.events
        return "everything" if len(events) == len(EventType) else ", ".join(events)

    @property
    def more(self) -> int:
        """Return how many undelivered events are not shown."""
        return self.waiting + self.given_up - len(self.events)

    def next_try(self, event: WebhookEvent) -> datetime | None:
        """Return when a waiting event is sent again; None for never.

        A webhook that fails pauses for all of its events.
        """
        return (
            max(event.not_before, self.hook.not_before)
            if event.state is WebhookEventState.WAITING
            else None
        )


def list_webhooks(session: Session, *, whole: bool) -> list[WebhookRow]:
    """Return every active webhook; `whole` shows its full URL."""
    webhooks = deliver.list_webhooks(session)
    events = _list_undelivered_events(session, [hook.id for hook, _ in webhooks])
    return [
        WebhookRow(
            hook,
            shorten_address(hook.url, whole=whole),
            counts.get(WebhookEventState.WAITING, 0),
            counts.get(WebhookEventState.GIVEN_UP, 0),
            [event for event in events if event.hook_id == hook.id],
        )
        for hook, counts in webhooks
    ]


def list_removed_webhooks(session: Session) -> list[Webhook]:
    """Return the webhooks that were deleted last, newest first."""
    return list(
        session.scalars(
            select(Webhook)
            .where(~is_active())
            .order_by(Webhook.removed_at.desc())
            .limit(MAX_REMOVED_WEBHOOKS)
        )
    )


def shorten_address(url: str, *, whole: bool) -> str:
    """Return the URL of a webhook, without path and query unless `whole`.

    Path and query can be a secret: whoever knows them may be able to post to that system.
    """
    parts = urlsplit(url)
    plain = parts.path in {"", "/"} and not parts.query
    return url if whole or plain else f"{parts.scheme}://{parts.netloc}/…"


def _list_undelivered_events(session: Session, numbers: Iterable[int]) -> list[WebhookEvent]:
    """Return a few undelivered events of each webhook: given up ones first, then the oldest."""
    given_up_first = (WebhookEvent.state != WebhookEventState.GIVEN_UP, WebhookEvent.id)
    place = (
        func.row_number()
        .over(partition_by=WebhookEvent.hook_id, order_by=given_up_first)
        .label("place")
    )
    mine = (
        WebhookEvent.hook_id.in_(list(numbers)),
        WebhookEvent.state != WebhookEventState.DELIVERED,
    )
    # Ranked by the database: one webhook that fails may have thousands of events.
    ranked_events = select(WebhookEvent, place).where(*mine).subquery()
    event = aliased(WebhookEvent, ranked_events)
    return list(
        session.scalars(
            select(event)
            .where(ranked_events.c.place <= MAX_EVENTS)
            .order_by(ranked_events.c.hook_id, ranked_events.c.place)
        )
    )


Data = dict[str, Any]


def present_hook(row: Webhook, counts: Mapping[WebhookEventState, int]) -> Data:
    """Return a webhook and the number of its events by state."""
    return {
        "id": row.id,
        "url": row.url,
        "events": list(row.events),
        "created_at": format_iso(row.created_at),
        "created_by": row.created_by,
        "told_at": format_iso(row.last_success_at),
        "fault": row.reason,
        "failing_since": format_iso(row.failing_since),
        "waiting": counts.get(WebhookEventState.WAITING, 0),
        "given_up": counts.get(WebhookEventState.GIVEN_UP, 0),
    }


def present_token(row: ApiToken) -> Data:
    """Return an API token by name, never its secret."""
    return {
        "id": row.id,
        "name": row.name,
        "person": row.staff.name,
        "scopes": list(row.scopes),
        "created_at": format_iso(row.created_at),
        "used_at": format_iso(row.used_at),
    }
