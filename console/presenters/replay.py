"""Results of reading deliveries again, as plain data and as text; one object a delivery."""

from collections.abc import Iterator
from typing import Any

from ingest.replay.compare import Finding, Verdict
from ingest.replay.reprocess import (
    ReplayComparison,
    ReplayOutcome,
    ReplayTrial,
    UnreadableError,
    preview_replay,
    try_replay,
)
from parsers.item import InboundItem
from workflow.context import AppContext
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState

Data = dict[str, Any]


def present_unreadable(number: int, state: str, reason: str) -> Data:
    """Return a delivery that cannot be read."""
    return {
        "delivery": number,
        "state": state,
        "read": False,
        "reason": reason,
        "applied": False,
        "items": [],
    }


def present_preview(context: AppContext, number: int, state: DeliveryState) -> Data:
    """Return what reading a delivery again would change, whatever its state; changes nothing."""
    try:
        if state is DeliveryState.PROCESSED:
            return present_comparison(preview_replay(context, number), applied=False)
        return present_trial(number, state, try_replay(context, number))
    except UnreadableError as error:
        return present_unreadable(number, state, str(error))


def present_replayed(delivery: Delivery, tickets: list[int]) -> Data:
    """Return a failed delivery that was read again."""
    read = delivery.state is DeliveryState.PROCESSED
    reason = "" if read else delivery.reason or "it is read again shortly"
    return {
        "delivery": delivery.id,
        "state": delivery.state,
        "read": read,
        "reason": reason,
        "applied": read,
        "items": [],
        "tickets": tickets,
    }


def present_trial(number: int, state: str, tried: ReplayTrial) -> Data:
    """Return the trial reading of a delivery that is not processed."""
    items = enumerate(tried.outcomes, tried.filed + 1)
    return {
        "delivery": number,
        "state": state,
        "read": True,
        "reason": "",
        "applied": False,
        "changes": tried.remaining,
        "same": tried.filed,
        "items": [
            {"item": at, "verdict": Verdict.RECEIVED, "becomes": _becoming(one)}
            for at, one in items
        ],
    }


def present_comparison(found: ReplayComparison, *, applied: bool) -> Data:
    """Return the differences of a processed delivery; unchanged items are only counted."""
    told = [f for f in found.findings if f.verdict is not Verdict.SAME or f.notes]
    return {
        "delivery": found.number,
        "state": DeliveryState.PROCESSED,
        "read": True,
        "reason": "",
        "applied": applied,
        "changes": sum(f.has_changes for f in found.findings),
        "same": sum(f.verdict is Verdict.SAME for f in found.findings),
        "items": list(_items(told, found.outcomes)),
    }


def _items(told: list[Finding], becoming: list[ReplayOutcome]) -> Iterator[Data]:
    left = iter(becoming)
    for finding in told:
        filing = finding.filing
        becomes = next(left, None) if finding.verdict is Verdict.RECEIVED else None
        yield {
            "item": filing.position + 1 if filing else None,
            "verdict": finding.verdict,
            "was": filing.outcome if filing else None,
            "ticket": filing.ticket_id if filing else None,
            "message": filing.message_id if filing else None,
            "fields": _fields(finding),
            "notes": list(finding.notes),
            "becomes": _becoming(becomes) if becomes else None,
        }


def _fields(finding: Finding) -> list[Data]:
    """Return the fields that differ; for a new item, those that identify it."""
    if finding.verdict is Verdict.RECEIVED and isinstance(finding.item, InboundItem):
        item = finding.item
        said = {
            "sender": f"{item.sender.name} {item.contact.email}".strip(),
            "subject": item.subject,
            "text": item.text,
        }
        return [
            {"name": name, "before": "", "after": value} for name, value in said.items() if value
        ]
    return [{"name": f.name, "before": f.before, "after": f.after} for f in finding.fields]


def _becoming(one: ReplayOutcome) -> Data:
    return {"outcome": one.outcome, "ticket": one.ticket_id, "reason": one.reason}
