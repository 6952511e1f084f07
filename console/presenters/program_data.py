"""Webhooks and tokens as plain data: the JSON shapes of CLI and API. Never a secret."""

from collections.abc import Mapping
from typing import Any

from console.presenters.times import iso
from workflow.models.accounts import ApiToken
from workflow.models.states import TellState
from workflow.models.webhooks import Hook

Data = dict[str, Any]


def hook(row: Hook, counts: Mapping[TellState, int]) -> Data:
    """A webhook, and how many of its events stand where."""
    return {
        "id": row.id,
        "url": row.url,
        "events": list(row.events),
        "created_at": iso(row.created_at),
        "created_by": row.created_by,
        "told_at": iso(row.told_at),
        "fault": row.reason,
        "failing_since": iso(row.failing_since),
        "waiting": counts.get(TellState.WAITING, 0),
        "given_up": counts.get(TellState.GIVEN_UP, 0),
    }


def token(row: ApiToken) -> Data:
    """A token, by its name."""
    return {
        "id": row.id,
        "name": row.name,
        "person": row.staff.name,
        "scopes": list(row.scopes),
        "created_at": iso(row.created_at),
        "used_at": iso(row.used_at),
    }
