"""Webhooks and tokens as plain data: the JSON shapes of CLI and API. Never a secret."""

from collections.abc import Mapping
from typing import Any

from console.presenters.times import format_iso
from workflow.models.accounts import ApiToken
from workflow.models.states import WebhookEventState
from workflow.models.webhooks import Webhook

Data = dict[str, Any]


def present_hook(row: Webhook, counts: Mapping[WebhookEventState, int]) -> Data:
    """Return a webhook and the number of its events by state."""
    return {
        "id": row.id,
        "url": row.url,
        "events": list(row.events),
        "created_at": format_iso(row.created_at),
        "created_by": row.created_by,
        "told_at": format_iso(row.told_at),
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
