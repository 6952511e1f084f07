"""Results of reading deliveries again, as plain data and as text; one object a delivery."""

import difflib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from console.presenters import terminal
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
MAX_LINES = 40  # of one field; --json shows all
MAX_LINE_LENGTH = 300
MAX_ITEMS = 100  # of one delivery


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


def print_replay(found: Data) -> None:
    """Print a delivery: one line for the whole, then its items.

    The differences in their fields are shown as long as nothing was applied.
    """
    out = terminal.create_console()
    click.echo(f"{found['delivery']}: {describe_delivery(found)}")
    for item in found["items"][:MAX_ITEMS]:
        out.print(
            terminal.escape_text(f"  {describe_item(item, applied=found['applied'])}"),
            soft_wrap=True,
        )
        for field in [] if found["applied"] else item.get("fields", ()):
            out.print(f"    [bold]{terminal.escape_text(field['name'])}[/bold]")
            for line in diff_texts(field["before"], field["after"]):
                out.print(f"      {terminal.escape_text(line)}", soft_wrap=True)
    if (more := len(found["items"]) - MAX_ITEMS) > 0:
        click.echo(f"  … and {more} more items: --json shows all")


def describe_delivery(found: Data) -> str:
    """Return the result of the delivery as a whole."""
    if not found["read"]:
        return f"{found['state']}: {found['reason']}"
    if "tickets" in found:
        tickets = found["tickets"]
        return (
            f"processed, {f'ticket {terminal.format_numbers(tickets)}' if tickets else 'no ticket'}"
        )
    if not found["changes"]:
        return "nothing would change"
    items = f"{found['changes']} of {found['changes'] + found['same']} items"
    if found["state"] != "processed":
        return f"it would be read, {items} filed"
    return f"{items} {'read again' if found['applied'] else 'would change'}"


def describe_item(item: Data, *, applied: bool) -> str:
    """Return what would become, or has become, of an item."""
    which = f"item {item['item']}" if item["item"] else "a new item"
    if item.get("message"):
        which += f" (message {item['message']} on ticket {item['ticket']})"
    said = {
        "same": "as it is",
        "changed": f"changed: {_names(item)}" if applied else "would read otherwise",
        "received": (
            f"{'was ' + item['was'] + ', ' if item.get('was') else ''}{_becomes(item, applied=applied)}"
        ),
        "gone": "is not found any more; it stays as it is",
        "no request": "would be no request; it stays as it is",
    }[item["verdict"]]
    return "; ".join([f"{which}: {said}", *item.get("notes", ())])


def _names(item: Data) -> str:
    return ", ".join(field["name"] for field in item["fields"])


def _becomes(item: Data, *, applied: bool) -> str:
    one = item["becomes"]
    if one is None:
        return "would be filed (not tried: there are too many)"
    ticket = f"ticket {one['ticket']}" if one["ticket"] else "a ticket opened with it"
    would = "" if applied else "would be "
    return {
        "opened": f"opened {ticket}" if applied else "would open a ticket",
        "appended": f"{would}put on {ticket}",
        "duplicate": f"{would}a duplicate of a message on {ticket}",
        "ignored": f"{would}ignored: {one['reason']}",
    }[one["outcome"]]


def diff_texts(before: str, after: str) -> Iterator[str]:
    """Yield the lines that differ, with one line of context around them."""
    found = islice(
        difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""), 2, None
    )
    shown = [
        f"{line[0]} {line[1 : MAX_LINE_LENGTH + 1]}" for line in found if not line.startswith("@@")
    ]
    if not any(line[0] in "+-" for line in shown):  # they differ in what ends the lines
        shown = [f"- {before[:MAX_LINE_LENGTH]!r}", f"+ {after[:MAX_LINE_LENGTH]!r}"]
    yield from shown[:MAX_LINES]
    if len(shown) > MAX_LINES:
        yield f"… {len(shown) - MAX_LINES} more lines: --json shows all"
