"""Where no mail can tell the customer.

The words, and the rows that say so, one by one as for many at once.
"""

from datetime import datetime
from typing import Any

NO_ADDRESS = "no address"
TELL, TELL_KIND = (
    "tell the customer by other means",
    "tell-customer",
)  # the task where no mail can tell them


def tasked(
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


def not_possible(reason: str) -> str:
    """Return what is recorded in place of a notice that cannot be sent."""
    return f"not possible: {reason}"
