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

MAX_SHOWN = 20  # rows, names and columns shown to a person; --json has all
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


def present_result(kind: str, found: "ImportReport") -> Data:
    """Return the output of `--json`; `import` is None for a dry run."""
    return {
        "kind": kind,
        "import": found.number,
        "went_on": found.was_resumed,
        "rows": found.rows,
        **{str(outcome): found.outcomes[outcome] for outcome in RowOutcome},
        "columns": [{"column": c.label, "property": c.property or None} for c in found.columns],
        "statuses": [
            {"status": s, "stage": found.stages[s], "rows": n}
            for s, n in found.statuses.most_common()
        ],
        "untold": found.not_notified,
        "moved_on": found.advanced,
        "refusals": [{"row": row, "reason": reason} for row, reason in found.refused_rows],
        "remarks": [{"row": row, "reason": reason} for row, reason in found.remarks],
        "unknown_people": dict(found.unknown_people.most_common()),
        "new_companies": sorted(found.new_companies.values()),
        "new_contacts": sorted(found.new_contacts),
        "notes": list(found.notes),
    }


def present_import(one: "ImportSummary") -> Data:
    """Return an import as a row of a list."""
    made = one.import_row
    state = (
        "undone"
        if made.undone_at
        else "finished"
        if made.finished_at
        else "interrupted: run it again"
    )
    return {
        "import": made.id,
        "kind": made.kind,
        "by": made.by,
        "started_at": format_iso(made.started_at),
        "state": state,
        "rows": made.rows,
        **{str(outcome): one.outcomes.get(outcome, 0) for outcome in RowOutcome},
    }


def print_imports(found: list[Data]) -> None:
    """Print past imports as a table."""
    words = ("import", "kind", "by", "started_at", "rows", *map(str, RowOutcome), "state")
    rows = ([format_time(one[w]) if w == "started_at" else one[w] for w in words] for one in found)
    terminal.create_console().print(
        terminal.build_table([w.replace("started_at", "started") for w in words], rows)
    )


def print_result(found: Data) -> None:
    """Print the result of an import or dry run, and the next command."""
    out = terminal.create_console()
    done = found["import"] is not None
    if done:
        click.echo(f"import {found['import']}{' (gone on with)' if found['went_on'] else ''}")
    columns = ((c["column"], c["property"] or "– (kept in the details)") for c in found["columns"])
    out.print(terminal.build_table(("column", "is"), columns))
    if found["statuses"]:
        rows = (
            (s["status"] or "(none)", s["stage"] or "NO STAGE: say --stage", s["rows"])
            for s in found["statuses"]
        )
        out.print(terminal.build_table(("status", "becomes", "rows"), rows))
    words = APPLIED_LABELS if done else DRY_RUN_LABELS
    counts = (f"{found[str(o)]} {words[o]}" for o in RowOutcome if found[str(o)])
    click.echo(f"{found['rows']} rows: {', '.join(counts)}.")
    for line in _facts(found):
        click.echo(terminal.show_control_characters(line))
    for heading, key in (
        ("Rows that cannot be imported", "refusals"),
        ("Left as it is", "remarks"),
    ):
        if found[key]:
            out.print(
                terminal.build_table(("rows", "which", "why"), _by_reason(found[key]), heading)
            )
    click.echo(_next(found, done=done))


def _facts(found: Data) -> Iterator[str]:
    yield from found["notes"]
    if found["untold"]:
        yield (
            f"{found['untold']} in 1-Submitted go on: an import mails nobody, each gets a task to"
            " tell the customer."
        )
    if found["moved_on"]:
        yield (
            f"{found['moved_on']} stand further on than their status: everything it waits for is"
            " there."
        )
    if found["unknown_people"]:
        names = [f"{name} ({n})" for name, n in found["unknown_people"].items()]
        yield (
            f"Not on the desk, so nobody's: {_some(names)}. Add them first with `intake user add`,"
            " or say --owner."
        )
    if found["new_companies"]:
        yield (
            f"Companies new on record: {len(found['new_companies'])}:"
            f" {_some(found['new_companies'])}"
        )
    if found["new_contacts"]:
        yield f"Contacts new on record: {len(found['new_contacts'])}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:MAX_SHOWN]) + (" …" if len(names) > MAX_SHOWN else "")


def _by_reason(rows: list[Data]) -> list[tuple[int, str, str]]:
    """Return (count, rows, reason), the most frequent reason first."""
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["reason"], []).append(row["row"])
    most = sorted(found.items(), key=lambda one: -len(one[1]))
    lines = [(len(which), terminal.format_numbers(which), why) for why, which in most[:MAX_SHOWN]]
    more = sum(len(which) for _, which in most[MAX_SHOWN:])
    return [*lines, *([(more, "", "for other reasons: --json shows all")] if more else [])]


def _next(found: Data, *, done: bool) -> str:
    if not done:
        return "Nothing was changed. Do it: the same command with --apply"
    if found["kind"] == "tickets":
        return (
            "Nobody was mailed. Next: intake tickets --view open · take it back: intake import"
            f" undo {found['import']}"
        )
    return "Next: intake company list"
