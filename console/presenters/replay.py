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
            return present_comparison(preview_replay(context, number), is_applied=False)
        return present_trial(number, state, try_replay(context, number))
    except UnreadableError as error:
        return present_unreadable(number, state, str(error))


def present_result(delivery: Delivery, tickets: list[int]) -> Data:
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


def present_trial(number: int, state: str, result: ReplayTrial) -> Data:
    """Return the trial reading of a delivery that is not processed."""
    items = enumerate(result.outcomes, result.filed_count + 1)
    return {
        "delivery": number,
        "state": state,
        "read": True,
        "reason": "",
        "applied": False,
        "changes": result.remaining,
        "same": result.filed_count,
        "items": [
            {"item": at, "verdict": Verdict.RECEIVED, "becomes": _present_outcome(one)}
            for at, one in items
        ],
    }


def present_comparison(comparison: ReplayComparison, *, is_applied: bool) -> Data:
    """Return the differences of a processed delivery; unchanged items are only counted."""
    findings = [f for f in comparison.findings if f.verdict is not Verdict.SAME or f.notes]
    return {
        "delivery": comparison.number,
        "state": DeliveryState.PROCESSED,
        "read": True,
        "reason": "",
        "applied": is_applied,
        "changes": sum(f.has_changes for f in comparison.findings),
        "same": sum(f.verdict is Verdict.SAME for f in comparison.findings),
        "items": list(_present_items(findings, comparison.outcomes)),
    }


def _present_items(findings: list[Finding], all_outcomes: list[ReplayOutcome]) -> Iterator[Data]:
    outcomes = iter(all_outcomes)
    for finding in findings:
        filing = finding.filing
        becomes = next(outcomes, None) if finding.verdict is Verdict.RECEIVED else None
        yield {
            "item": filing.position + 1 if filing else None,
            "verdict": finding.verdict,
            "was": filing.outcome if filing else None,
            "ticket": filing.ticket_id if filing else None,
            "message": filing.message_id if filing else None,
            "fields": _present_fields(finding),
            "notes": list(finding.notes),
            "becomes": _present_outcome(becomes) if becomes else None,
        }


def _present_fields(finding: Finding) -> list[Data]:
    """Return the fields that differ; for a new item, those that identify it."""
    if finding.verdict is Verdict.RECEIVED and isinstance(finding.item, InboundItem):
        item = finding.item
        identifying = {
            "sender": f"{item.sender.name} {item.contact.email}".strip(),
            "subject": item.subject,
            "text": item.text,
        }
        return [
            {"name": name, "before": "", "after": value}
            for name, value in identifying.items()
            if value
        ]
    return [{"name": f.name, "before": f.before, "after": f.after} for f in finding.fields]


def _present_outcome(one: ReplayOutcome) -> Data:
    return {"outcome": one.outcome, "ticket": one.ticket_id, "reason": one.reason}


def print_replay(data: Data) -> None:
    """Print a delivery: one line for the whole, then its items.

    The differences in their fields are shown as long as nothing was applied.
    """
    out = terminal.create_console()
    click.echo(f"{data['delivery']}: {describe_delivery(data)}")
    for item in data["items"][:MAX_ITEMS]:
        out.print(
            terminal.escape_text(f"  {describe_item(item, is_applied=data['applied'])}"),
            soft_wrap=True,
        )
        for field in [] if data["applied"] else item.get("fields", ()):
            out.print(f"    [bold]{terminal.escape_text(field['name'])}[/bold]")
            for line in diff_texts(field["before"], field["after"]):
                out.print(f"      {terminal.escape_text(line)}", soft_wrap=True)
    if (more := len(data["items"]) - MAX_ITEMS) > 0:
        click.echo(f"  … and {more} more items: --json shows all")


def describe_delivery(data: Data) -> str:
    """Return the result of the delivery as a whole."""
    if not data["read"]:
        return f"{data['state']}: {data['reason']}"
    if "tickets" in data:
        tickets = data["tickets"]
        return (
            f"processed, {f'ticket {terminal.format_numbers(tickets)}' if tickets else 'no ticket'}"
        )
    if not data["changes"]:
        return "nothing would change"
    items = f"{data['changes']} of {data['changes'] + data['same']} items"
    if data["state"] != "processed":
        return f"it would be read, {items} filed"
    return f"{items} {'read again' if data['applied'] else 'would change'}"


def describe_item(item: Data, *, is_applied: bool) -> str:
    """Return what would become, or has become, of an item."""
    name = f"item {item['item']}" if item["item"] else "a new item"
    if item.get("message"):
        name += f" (message {item['message']} on ticket {item['ticket']})"
    result = {
        "same": "as it is",
        "changed": f"changed: {_list_field_names(item)}" if is_applied else "would read otherwise",
        "received": (
            f"{'was ' + item['was'] + ', ' if item.get('was') else ''}"
            f"{_describe_outcome(item, is_applied=is_applied)}"
        ),
        "gone": "is not found any more; it stays as it is",
        "no request": "would be no request; it stays as it is",
    }[item["verdict"]]
    return "; ".join([f"{name}: {result}", *item.get("notes", ())])


def _list_field_names(item: Data) -> str:
    return ", ".join(field["name"] for field in item["fields"])


def _describe_outcome(item: Data, *, is_applied: bool) -> str:
    one = item["becomes"]
    if one is None:
        return "would be filed (not tried: there are too many)"
    ticket = f"ticket {one['ticket']}" if one["ticket"] else "a ticket opened with it"
    would = "" if is_applied else "would be "
    return {
        "opened": f"opened {ticket}" if is_applied else "would open a ticket",
        "appended": f"{would}put on {ticket}",
        "duplicate": f"{would}a duplicate of a message on {ticket}",
        "ignored": f"{would}ignored: {one['reason']}",
    }[one["outcome"]]


def diff_texts(before: str, after: str) -> Iterator[str]:
    """Yield the lines that differ, with one line of context around them."""
    diff = islice(
        difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm=""), 2, None
    )
    shown_lines = [
        f"{line[0]} {line[1 : MAX_LINE_LENGTH + 1]}" for line in diff if not line.startswith("@@")
    ]
    if not any(line[0] in "+-" for line in shown_lines):  # they differ in their line ends only
        shown_lines = [f"- {before[:MAX_LINE_LENGTH]!r}", f"+ {after[:MAX_LINE_LENGTH]!r}"]
    yield from shown_lines[:MAX_LINES]
    if len(shown_lines) > MAX_LINES:
        yield f"… {len(shown_lines) - MAX_LINES} more lines: --json shows all"
