"""Output of commands: tables and progress on a terminal, plain text elsewhere, JSON."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from console.presenters.times import format_ago, format_duration, format_time

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from workflow.operations.ledger import Balance

Data = dict[str, Any]
MAX_ROWS, MAX_NUMBERS = 100, 10
PIPE_WIDTH = 160  # columns for output that goes into a file or pipe


def print_json(value: object) -> None:
    """Print a value as indented JSON.

    Everything outside ASCII is escaped, so that no terminal or pipe fails on it.
    """
    click.echo(json.dumps(value, indent=2))


def print_json_line(value: object) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value))


def create_console() -> "Console":
    """Return a rich console on standard output as it is now."""
    from rich.console import Console

    return Console(
        file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH
    )


def escape_text(text: object) -> str:
    """Return text from outside for rich: control characters visible, markup escaped."""
    from rich.markup import escape

    return escape(show_control_characters(text))


def show_control_characters(text: object) -> str:
    """Return text from outside with control characters made visible; line feeds stay."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(text))


def build_table(
    columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = ""
) -> "Table":
    """Return a table of text; the last column gets the remaining width."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    names = list(columns)
    for name in names:
        made.add_column(name, overflow="fold", ratio=1 if name == names[-1] else None)
    for row in rows:
        made.add_row(*(escape_text(cell) for cell in row))
    return made


def build_ticket_table(found: list[Data], title: str) -> "Table":
    """Return a table of tickets."""
    rows = (
        (
            t["id"],
            t["stage"],
            t["owner"] or "–",
            t["company"] or "–",
            t["format"],
            format_time(t["created_at"]),
            t["subject"],
        )
        for t in found
    )
    return build_table(
        ("#", "stage", "owner", "company", "came as", "created", "subject"), rows, title
    )


def print_ticket(found: Data, hint: str) -> None:
    """Print one ticket."""
    out = create_console()
    out.print(
        f"[bold]#{found['id']} {escape_text(found['name'])}[/bold]  {escape_text(found['subject'])}"
    )
    if found["link"]:
        out.print(f"original: {escape_text(found['link'])}", soft_wrap=True)
    out.print(
        f"{found['stage']} · {found['status']} · owner: {escape_text(found['owner'] or 'none yet')}"
    )
    waits = ", ".join(found["missing"]) if found["status"] == "open" else ""
    out.print(f"[yellow]waits for: {waits}[/yellow]" if waits else "waits for nothing")
    for line in _facts(found):
        out.print(line)
    for heading, rows in _sections(found):
        if rows:
            out.print(f"\n[bold]{heading}[/bold]")
            for row in rows:
                out.print(f"  {row}")
    for message in found["messages"]:
        way = {"in": "→ us", "out": "← we"}.get(message["direction"], "note")
        out.print(
            f"\n[bold]{way}[/bold] {format_time(message['at'])}  {escape_text(message['from'])} "
            f" {escape_text(message['subject'])}"
        )
        if message["phone"]:
            out.print(f"call back: {escape_text(message['phone'])}")
        shown, folded = _newest(message)
        out.print(escape_text(shown), soft_wrap=True)
        if folded:
            out.print(
                f"[dim]… {folded} lines of quotes and signature folded; --json shows all[/dim]"
            )
        for file in message["attachments"]:
            out.print(
                f"  [dim]file: {escape_text(file['name'])} ({file['mime']}, {file['size']} bytes)[/dim]"
            )
        for link in (one for one in message["linked_files"] if not one["attachment"]):
            why = f": {link['reason']}" if link["reason"] else ""
            out.print(
                f"  [dim]linked file {link['state']}{why}: {escape_text(link['url'])}[/dim]",
                soft_wrap=True,
            )
    out.print(f"\n[dim]{hint}[/dim]")


def _newest(message: Data) -> tuple[str, int]:
    """Return the new text of a message, and the number of lines left out."""
    whole, newest = message["text"].strip(), message["reply_text"].strip()
    folded = len(whole.splitlines()) - len(newest.splitlines())
    return (newest, folded) if newest and folded > 0 else (whole, 0)


def _facts(found: Data) -> Iterator[str]:
    company = found["company"]
    yield (
        f"company: {escape_text(company['name'])}, manager: {escape_text(company['manager'] or 'none')}"
        if company
        else "company: –"
    )
    people = (f"{c['name']} <{c['email']}>" if c["name"] else c["email"] for c in found["contacts"])
    yield f"contacts: {escape_text(', '.join(people) or '–')}"
    yield f"came by {found['source']} as {found['format']}, {format_time(found['created_at'])}"
    yield from (f"[yellow]! {escape_text(caveat)}[/yellow]" for caveat in found["caveats"])


def _sections(found: Data) -> Iterator[tuple[str, list[str]]]:
    reached = ((k, v["at"], v["by"], v["note"]) for k, v in found["milestones"].items())
    yield (
        "done",
        [
            escape_text(f"{k} – {format_time(at)} by {by}{f': {note}' if note else ''}")
            for k, at, by, note in reached
        ],
    )
    due = (
        f"{d['milestone']} by {format_time(d['due_at'])}{' – task raised' if d['raised'] else ''}"
        for d in found["deadlines"]
    )
    yield "deadlines", list(due) if found["status"] == "open" else []
    marks = {True: "done", False: "open"}
    tasks = (
        f"{t['id']}: {t['text']} → {t['assignee'] or 'the desk'} ({marks[t['done']]})"
        for t in found["tasks"]
    )
    yield "tasks", [escape_text(t) for t in tasks]
    mails = (
        (m["template"], m["to"], m["state"], m["reason"], m["sent_at"]) for m in found["outbox"]
    )
    yield (
        "mails",
        [
            escape_text(f"{t} to {to}: {s} {format_time(at) if at else why}")
            for t, to, s, why, at in mails
        ],
    )
    yield "related", [escape_text(f"#{r['id']}: {r['reason']}") for r in found["related"]]


def print_deliveries(found: list[Data]) -> None:
    """Print a list of deliveries; those not processed show how long they have waited."""
    waiting = all(d["state"] in {"pending", "failed"} for d in found)
    columns = (
        "#",
        "age" if waiting else "received",
        "door",
        "as",
        "bytes",
        "state",
        "tickets",
        "reason",
    )
    rows = (
        (
            d["id"],
            format_duration(d["age_seconds"]) if waiting else format_time(d["received_at"]),
            d["transport"],
            d["format"],
            d["size"],
            d["state"],
            format_numbers(d["tickets"]),
            d["reason"] or describe_row_progress(d),
        )
        for d in found
    )
    create_console().print(build_table(columns, rows))


def describe_row_progress(found: Data) -> str:
    """Return how far a delivery of many rows is read, or how many of them were rejected."""
    if found["state"] == "pending" and found["filed"]:
        known = (
            found["items"] > found["filed"] + 1
        )  # while it is not known how many there are, one more is expected
        return (
            f"being read: {found['filed']} of {found['items']} rows"
            if known
            else f"being read: {found['filed']} rows"
        )
    return f"{found['rejected']} of {found['items']} rows rejected" if found["rejected"] else ""


def format_numbers(found: list[int]) -> str:
    """Return ids as text; of many the first, the last and the count; a dash for none."""
    if len(found) > MAX_NUMBERS:
        return f"{found[0]} … {found[-1]} ({len(found)})"
    return ", ".join(map(str, found)) or "–"


def print_delivery(found: Data) -> None:
    """Print one delivery."""
    out = create_console()
    out.print(
        f"[bold]delivery {found['id']}[/bold]  {found['state']} · {format_duration(found['age_seconds'])} old"
    )
    where = "in the blobs" if found["blob"] else "in the database"
    out.print(
        f"came by {found['transport']} as {found['format']}, {format_time(found['received_at'])}"
    )
    out.print(
        f"{found['size']} bytes {where}, sealed · read {found['attempts']} times · {found['items']}"
        " items"
    )
    if found["reason"]:
        out.print(f"[yellow]! {escape_text(found['reason'])}[/yellow]")
    for name, value in found["envelope"].items():
        out.print(
            f"{escape_text(name)}:"
            f" {escape_text(', '.join(map(str, value)) if isinstance(value, list) else value)}"
        )
    came = (
        (format_time(r["at"]), r["transport"], "again" if r["repeated"] else "", r["reference"])
        for r in found["receipts"]
    )
    out.print(build_table(("came", "door", "", "the door's name for it"), came))
    if said := describe_row_progress(found):
        out.print(f"[yellow]! {said}[/yellow]")
    if found["sheets"]:
        out.print(
            build_table(
                ("sheet", "read as"), ((s["sheet"] or "–", s["in_words"]) for s in found["sheets"])
            )
        )
    first = sorted(found["filings"], key=lambda f: f["outcome"] != "rejected")[
        :MAX_ROWS
    ]  # those to be looked at
    filed = (
        (f["item"], f["outcome"], f["ticket"] or "–", f["message"] or "–", f["reason"])
        for f in first
    )
    if found["filings"]:
        out.print(build_table(("item", "outcome", "ticket", "message", "reason"), filed))
    if (more := len(found["filings"]) - MAX_ROWS) > 0:
        out.print(f"… and {more} more items: --json shows all")
    number = found["id"]
    if found["rejected"]:
        out.print(
            f"[dim]The rejected rows to mend: intake delivery {number} --rejected FILE.xlsx[/dim]"
        )
    out.print(
        f"[dim]Its original: intake delivery {number} --raw · read it again: intake replay"
        f" {number}[/dim]"
    )


def print_ledger(found: "Balance") -> None:
    """Print both sides of the ledger: one line a channel, one line a workbook.

    Lines that do not add up come first.
    """
    from workflow.filing.sheet_counts import ROW_KINDS

    lines = {**found.channels, "together": found.total}
    words = list(found.total.as_dict())
    rows = (
        (name, *line.as_dict().values(), "yes" if line.adds_up else "NO")
        for name, line in lines.items()
    )
    create_console().print(build_table(("door", *words, "adds up"), rows))
    if not found.channels:
        click.echo("Nothing has been received yet. Send one of each: intake demo")
    if found.workbooks:
        kinds = ("rows", *ROW_KINDS)
        books = (
            (
                f"delivery {one.delivery}",
                *(getattr(one, kind) for kind in kinds),
                "yes" if one.adds_up else "NO",
            )
            for one in sorted(found.workbooks, key=lambda one: one.adds_up)[:MAX_ROWS]
        )
        create_console().print(build_table(("workbook", *kinds, "adds up"), books))
        if (more := len(found.workbooks) - MAX_ROWS) > 0:
            click.echo(f"… and {more} older workbooks: --json shows all")
    if found.unbalanced_workbooks:
        numbers_ = ", ".join(map(str, found.unbalanced_workbooks[:MAX_ROWS]))
        click.echo(
            f"Workbooks with rows that are not accounted for: deliveries {numbers_}", err=True
        )
    if found.unbalanced_deliveries:
        click.echo(
            f"Deliveries whose items do not add up: {', '.join(map(str, found.unbalanced_deliveries))}",
            err=True,
        )
    if not found.adds_up:
        click.echo(
            "It does not add up: something was lost or counted twice. Keep the database and report"
            " this.",
            err=True,
        )


def print_status(found: Data) -> None:
    """Print the state of the system."""
    out = create_console()
    at = found["at"]
    rows = (
        (n, describe_process(p), format_ago(p["seen"], at)) for n, p in found["processes"].items()
    )
    out.print(build_table(("process", "state", "seen"), rows))
    if found["doors"]:
        out.print(
            build_table(
                ("door", "last item"),
                ((n, format_ago(d["last"], at)) for n, d in found["doors"].items()),
            )
        )
    if pulled := found["backfill"]:
        looks = (
            (n, format_ago(f["looked_at"], at), f["fault"] or "none") for n, f in pulled.items()
        )
        out.print(build_table(("backfill of form", "last look", "fault"), looks))
    if tokens := found["oauth"]:
        lines = (
            (n, format_ago(t["refreshed_at"], at), describe_token_life(t))
            for n, t in tokens.items()
        )
        out.print(build_table(("OAuth of mailbox", "last good", "days left"), lines))
    backlog = found["backlog"]
    out.print(
        f"waiting to be read: {backlog['pending']} (oldest: {format_ago(backlog['oldest_pending'], at)})"
    )
    for one in backlog["reading"]:
        of = f"of {one['of']} " if one["of"] else ""
        out.print(f"being read: delivery {one['delivery']}, {one['rows']} {of}rows")
    out.print(
        f"forms in the spool: {backlog['spooled']} · failed deliveries: {backlog['failed']}"
        f" · with rejected rows: {backlog['rejected']}"
    )
    out.print(f"mails waiting: {backlog['mails_waiting']} · refused: {backlog['mails_refused']}")
    out.print(
        f"webhook events waiting: {backlog['events_waiting']} · given up:"
        f" {backlog['events_given_up']}"
    )
    out.print(
        f"linked files to be fetched: {backlog['files_waiting']} · not to be had:"
        f" {backlog['files_failed']}"
    )
    for one in found["troubles"]:
        if not one["needs_person"]:  # those that do stand among the needs
            out.print(escape_text(one["words"]))
    for need in found["needs"]:
        out.print(f"[bold yellow]! {escape_text(need)}[/bold yellow]")
    if found["ok"]:
        out.print("[green]nobody is needed[/green]")


def describe_process(process: Data) -> str:
    """Return the state of a process in words."""
    if process["crash_loop"]:
        return "ends again and again"
    return "alive" if process["alive"] else "not seen lately"


def describe_token_life(token: Data) -> str:
    """Return how many days a mailbox's OAuth token remains valid, in words."""
    if token["refused_at"]:
        return "refused"
    if token["since"] is None:
        return "not used yet"
    return "no limit" if token["days_left"] is None else str(token["days_left"])


@contextmanager
def show_progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function `(done, total)` that moves a progress bar on a terminal.

    It does nothing elsewhere. `total` None: not known.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
