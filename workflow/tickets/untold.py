"""Where no mail can tell the customer.

The words, and the rows that say so, one by one as for many at once.
"""

from datetime import datetime
from typing import Any

NO_ADDRESS_REASON = "no address"
NOTIFY_TASK, NOTIFY_TASK_KIND = (
    "tell the customer by other means",
    "tell-customer",
)  # the task where no mail can tell them


def build_notify_task(
    ticket: int, period: int, kind: str, text: str, *, cause: str, now: datetime, assignee: str
) -> dict[str, Any]:
    """Return what the row of a task says, by column."""
    return {
        "ticket_id": ticket,
        "period": period,
        "kind": kind,
        "text": text,
        "cause": cause,
        "created_at": now,
        "assignee": assignee,
    }


def describe_unnotified(reason: str) -> str:
    """Return what is recorded in place of a notice that cannot be sent."""
    return f"not possible: {reason}"
