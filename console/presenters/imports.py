"""Results of an import or of its dry run, as plain data and as text."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from console.presenters import terminal
from console.presenters.terminal import Data
from console.presenters.times import format_iso, format_time
from workflow.models.states import RowOutcome

if TYPE_CHECKING:
    from ingest.crm_import.run import ImportReport, ImportSummary

MAX_ROWS = 20  # rows, names and columns printed for a person; --json has all of them
DRY_RUN_LABELS = {
    RowOutcome.ADDED: "would be added",
    RowOutcome.CHANGED: "would be filled in",
    RowOutcome.KNOWN: "are known already",
    RowOutcome.REFUSED: "cannot be imported",
}
APPLIED_LABELS = {
    RowOutcome.ADDED: "added",
    RowOutcome.CHANGED: "filled in",
    RowOutcome.KNOWN: "known already",
    RowOutcome.REFUSED: "not imported",
}


def present_result(kind: str, report: "ImportReport") -> Data:
    """Return the output of `--json`; `import` is None for a dry run."""
    return {
        "kind": kind,
        "import": report.number,
        "went_on": report.was_resumed,
        "rows": report.rows,
        **{str(outcome): report.outcomes[outcome] for outcome in RowOutcome},
        "columns": [{"column": c.label, "property": c.property or None} for c in report.columns],
        "statuses": [
            {"status": s, "stage": report.stages[s], "rows": n}
            for s, n in report.statuses.most_common()
        ],
        "untold": report.not_notified,
        "moved_on": report.advanced,
        "refusals": [{"row": row, "reason": reason} for row, reason in report.refused_rows],
        "remarks": [{"row": row, "reason": reason} for row, reason in report.remarks],
        "unknown_people": dict(report.unknown_people.most_common()),
        "new_companies": sorted(report.new_companies.values()),
        "new_contacts": sorted(report.new_contacts),
        "notes": list(report.notes),
    }


def present_import(item: "ImportSummary") -> Data:
    """Return an import as a row of a list."""
    record = item.import_row
    if record.undone_at:
        state = "undone"
    elif record.finished_at:
        state = "finished"
    else:
        state = "interrupted: run it again"
    return {
        "import": record.id,
        "kind": record.kind,
        "by": record.by,
        "started_at": format_iso(record.started_at),
        "state": state,
        "rows": record.rows,
        **{str(outcome): item.outcomes.get(outcome, 0) for outcome in RowOutcome},
    }


def print_imports(imports: list[Data]) -> None:
    """Print past imports as a table."""
    words = ("import", "kind", "by", "started_at", "rows", *map(str, RowOutcome), "state")
    rows = (
        [format_time(one[w]) if w == "started_at" else one[w] for w in words] for one in imports
    )
    terminal.create_console().print(
        terminal.build_table([w.replace("started_at", "started") for w in words], rows)
    )


def print_result(data: Data) -> None:
    """Print the result of an import or dry run, and the next command."""
    out = terminal.create_console()
    is_applied = data["import"] is not None
    if is_applied:
        click.echo(f"import {data['import']}{' (continued)' if data['went_on'] else ''}")
    columns = ((c["column"], c["property"] or "– (kept in the details)") for c in data["columns"])
    out.print(terminal.build_table(("column", "is"), columns))
    if data["statuses"]:
        rows = (
            (s["status"] or "(none)", s["stage"] or "NO STAGE: map it with --stage", s["rows"])
            for s in data["statuses"]
        )
        out.print(terminal.build_table(("status", "becomes", "rows"), rows))
    words = APPLIED_LABELS if is_applied else DRY_RUN_LABELS
    counts = (f"{data[str(o)]} {words[o]}" for o in RowOutcome if data[str(o)])
    click.echo(f"{data['rows']} rows: {', '.join(counts)}.")
    for line in _list_facts(data):
        click.echo(terminal.show_control_characters(line))
    for heading, key in (
        ("Rows that cannot be imported", "refusals"),
        ("Values not imported", "remarks"),
    ):
        if data[key]:
            out.print(
                terminal.build_table(("rows", "which", "why"), _group_by_reason(data[key]), heading)
            )
    click.echo(_describe_next_step(data, is_applied=is_applied))


def _list_facts(data: Data) -> Iterator[str]:
    yield from data["notes"]
    if data["untold"]:
        yield (
            f"{data['untold']} stay in 1-Submitted: an import mails nobody, so each gets a task to"
            " notify the customer."
        )
    if data["moved_on"]:
        yield (
            f"{data['moved_on']} are in a later stage than their status: its milestones are"
            " reached."
        )
    if data["unknown_people"]:
        names = [f"{name} ({n})" for name, n in data["unknown_people"].items()]
        yield (
            f"Not on the desk, so without an owner: {_shorten(names)}."
            " Add them first with `intake user add`, or map them with --owner."
        )
    if data["new_companies"]:
        yield (
            f"Companies new on record: {len(data['new_companies'])}:"
            f" {_shorten(data['new_companies'])}"
        )
    if data["new_contacts"]:
        yield f"Contacts new on record: {len(data['new_contacts'])}"


def _shorten(names: list[str]) -> str:
    return ", ".join(names[:MAX_ROWS]) + (" …" if len(names) > MAX_ROWS else "")


def _group_by_reason(rows: list[Data]) -> list[tuple[int, str, str]]:
    """Return (count, rows, reason), the most frequent reason first."""
    rows_of_reason: dict[str, list[int]] = {}
    for row in rows:
        rows_of_reason.setdefault(row["reason"], []).append(row["row"])
    most = sorted(rows_of_reason.items(), key=lambda item: -len(item[1]))
    lines = [(len(ids), terminal.format_numbers(ids), why) for why, ids in most[:MAX_ROWS]]
    more = sum(len(ids) for _, ids in most[MAX_ROWS:])
    return [*lines, *([(more, "", "for other reasons: --json shows all")] if more else [])]


def _describe_next_step(data: Data, *, is_applied: bool) -> str:
    if not is_applied:
        return "Nothing was changed. Do it: the same command with --apply"
    if data["kind"] == "tickets":
        return (
            "Nobody was mailed. Next: intake tickets --view open · undo it: intake import"
            f" undo {data['import']}"
        )
    return "Next: intake company list"
