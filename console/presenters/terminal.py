"""What people see.

Tables, panels and progress on a terminal, plain lines elsewhere, JSON for scripts.
"""

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from console.presenters.times import age, ago, when

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from workflow.operations.ledger import Balance

Data = dict[str, Any]
MOST_ROWS, MOST_NUMBERS = 100, 10
WIDE = 160  # columns for output that goes into a file or pipe


def json_object(value: object) -> None:
    """Print a value as JSON.

    Everything outside ASCII escaped, so that no terminal or pipe can fail on it.
    """
    click.echo(json.dumps(value, indent=2))


def json_line(value: object) -> None:
    """Print a value as one line of JSON."""
    click.echo(json.dumps(value))


def screen() -> "Console":
    """A rich console on standard output as it is now."""
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else WIDE)


def safe(text: object) -> str:
    """Text from outside, for a terminal: control characters visible, rich's markup switched off."""
    from rich.markup import escape

    return escape(visible(text))


def visible(text: object) -> str:
    """Text from outside with its control characters made visible; line ends stay."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in str(text))


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str = "") -> "Table":
    """A table of text; the last column takes the room that is left."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    names = list(columns)
    for name in names:
        made.add_column(name, overflow="fold", ratio=1 if name == names[-1] else None)
    for row in rows:
        made.add_row(*(safe(cell) for cell in row))
    return made


def tickets(found: list[Data], title: str) -> "Table":
    """A list of tickets."""
    rows = (
        (
            t["id"],
            t["stage"],
            t["owner"] or "–",
            t["company"] or "–",
            t["format"],
            when(t["created_at"]),
            t["subject"],
        )
        for t in found
    )
    return table(("#", "stage", "owner", "company", "came as", "created", "subject"), rows, title)


def ticket(found: Data, hint: str) -> None:
    """One ticket, as a person reads it."""
    out = screen()
    out.print(f"[bold]#{found['id']} {safe(found['name'])}[/bold]  {safe(found['subject'])}")
    if found["link"]:
        out.print(f"original: {safe(found['link'])}", soft_wrap=True)
    out.print(f"{found['stage']} · {found['status']} · owner: {safe(found['owner'] or 'none yet')}")
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
            f"\n[bold]{way}[/bold] {when(message['at'])}  {safe(message['from'])} "
            f" {safe(message['subject'])}"
        )
        if message["phone"]:
            out.print(f"call back: {safe(message['phone'])}")
        shown, folded = _newest(message)
        out.print(safe(shown), soft_wrap=True)
        if folded:
            out.print(
                f"[dim]… {folded} lines of quotes and signature folded; --json shows all[/dim]"
            )
        for file in message["attachments"]:
            out.print(
                f"  [dim]file: {safe(file['name'])} ({file['mime']}, {file['size']} bytes)[/dim]"
            )
        for link in (one for one in message["linked_files"] if not one["attachment"]):
            why = f": {link['reason']}" if link["reason"] else ""
            out.print(
                f"  [dim]linked file {link['state']}{why}: {safe(link['url'])}[/dim]",
                soft_wrap=True,
            )
    out.print(f"\n[dim]{hint}[/dim]")


def _newest(message: Data) -> tuple[str, int]:
    """Return what is new in a message, and how many lines are folded away."""
    whole, newest = message["text"].strip(), message["reply_text"].strip()
    folded = len(whole.splitlines()) - len(newest.splitlines())
    return (newest, folded) if newest and folded > 0 else (whole, 0)


def _facts(found: Data) -> Iterator[str]:
    company = found["company"]
    yield (
        f"company: {safe(company['name'])}, manager: {safe(company['manager'] or 'none')}"
        if company
        else "company: –"
    )
    people = (f"{c['name']} <{c['email']}>" if c["name"] else c["email"] for c in found["contacts"])
    yield f"contacts: {safe(', '.join(people) or '–')}"
    yield f"came by {found['source']} as {found['format']}, {when(found['created_at'])}"
    yield from (f"[yellow]! {safe(caveat)}[/yellow]" for caveat in found["caveats"])


def _sections(found: Data) -> Iterator[tuple[str, list[str]]]:
    reached = ((k, v["at"], v["by"], v["note"]) for k, v in found["milestones"].items())
    yield (
        "done",
        [
            safe(f"{k} – {when(at)} by {by}{f': {note}' if note else ''}")
            for k, at, by, note in reached
        ],
    )
    due = (
        f"{d['milestone']} by {when(d['due_at'])}{' – task raised' if d['raised'] else ''}"
        for d in found["deadlines"]
    )
    yield "deadlines", list(due) if found["status"] == "open" else []
    marks = {True: "done", False: "open"}
    tasks = (
        f"{t['id']}: {t['text']} → {t['assignee'] or 'the desk'} ({marks[t['done']]})"
        for t in found["tasks"]
    )
    yield "tasks", [safe(t) for t in tasks]
    mails = (
        (m["template"], m["to"], m["state"], m["reason"], m["sent_at"]) for m in found["outbox"]
    )
    yield (
        "mails",
        [safe(f"{t} to {to}: {s} {when(at) if at else why}") for t, to, s, why, at in mails],
    )
    yield "related", [safe(f"#{r['id']}: {r['reason']}") for r in found["related"]]


def deliveries(found: list[Data]) -> None:
    """A list of deliveries; of those not done it matters how long they have waited."""
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
            age(d["age_seconds"]) if waiting else when(d["received_at"]),
            d["transport"],
            d["format"],
            d["size"],
            d["state"],
            numbers(d["tickets"]),
            d["reason"] or rows_of(d),
        )
        for d in found
    )
    screen().print(table(columns, rows))


def rows_of(found: Data) -> str:
    """Return how far a delivery with many rows has been read, or how many of them were rejected."""
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


def numbers(found: list[int]) -> str:
    """Numbers of tickets, of very many the first, the last and how many; a dash for none."""
    if len(found) > MOST_NUMBERS:
        return f"{found[0]} … {found[-1]} ({len(found)})"
    return ", ".join(map(str, found)) or "–"


def delivery(found: Data) -> None:
    """One delivery, as a person reads it."""
    out = screen()
    out.print(
        f"[bold]delivery {found['id']}[/bold]  {found['state']} · {age(found['age_seconds'])} old"
    )
    where = "in the blobs" if found["blob"] else "in the database"
    out.print(f"came by {found['transport']} as {found['format']}, {when(found['received_at'])}")
    out.print(
        f"{found['size']} bytes {where}, sealed · read {found['attempts']} times · {found['items']}"
        " items"
    )
    if found["reason"]:
        out.print(f"[yellow]! {safe(found['reason'])}[/yellow]")
    for name, value in found["envelope"].items():
        out.print(
            f"{safe(name)}:"
            f" {safe(', '.join(map(str, value)) if isinstance(value, list) else value)}"
        )
    came = (
        (when(r["at"]), r["transport"], "again" if r["repeated"] else "", r["reference"])
        for r in found["receipts"]
    )
    out.print(table(("came", "door", "", "the door's name for it"), came))
    if said := rows_of(found):
        out.print(f"[yellow]! {said}[/yellow]")
    if found["sheets"]:
        out.print(
            table(
                ("sheet", "read as"), ((s["sheet"] or "–", s["in_words"]) for s in found["sheets"])
            )
        )
    first = sorted(found["filings"], key=lambda f: f["outcome"] != "rejected")[
        :MOST_ROWS
    ]  # those to be looked at
    filed = (
        (f["item"], f["outcome"], f["ticket"] or "–", f["message"] or "–", f["reason"])
        for f in first
    )
    if found["filings"]:
        out.print(table(("item", "outcome", "ticket", "message", "reason"), filed))
    if (more := len(found["filings"]) - MOST_ROWS) > 0:
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


def ledger(found: "Balance") -> None:
    """Both sides of the ledger, a line a door, and a line a workbook.

    Those that do not add up first.
    """
    from workflow.filing.sheet_counts import KINDS

    lines = {**found.doors, "together": found.total}
    words = list(found.total.as_dict())
    rows = (
        (name, *line.as_dict().values(), "yes" if line.adds_up else "NO")
        for name, line in lines.items()
    )
    screen().print(table(("door", *words, "adds up"), rows))
    if not found.doors:
        click.echo("Nothing has been received yet. Send one of each: intake demo")
    if found.workbooks:
        kinds = ("rows", *KINDS)
        books = (
            (
                f"delivery {one.delivery}",
                *(getattr(one, kind) for kind in kinds),
                "yes" if one.adds_up else "NO",
            )
            for one in sorted(found.workbooks, key=lambda one: one.adds_up)[:MOST_ROWS]
        )
        screen().print(table(("workbook", *kinds, "adds up"), books))
        if (more := len(found.workbooks) - MOST_ROWS) > 0:
            click.echo(f"… and {more} older workbooks: --json shows all")
    if found.broken_workbooks:
        numbers_ = ", ".join(map(str, found.broken_workbooks[:MOST_ROWS]))
        click.echo(
            f"Workbooks with rows that are not accounted for: deliveries {numbers_}", err=True
        )
    if found.broken:
        click.echo(
            f"Deliveries whose items do not add up: {', '.join(map(str, found.broken))}", err=True
        )
    if not found.adds_up:
        click.echo(
            "It does not add up: something was lost or counted twice. Keep the database and report"
            " this.",
            err=True,
        )


def status(found: Data) -> None:
    """The state of the house."""
    out = screen()
    at = found["at"]
    rows = ((n, process_state(p), ago(p["seen"], at)) for n, p in found["processes"].items())
    out.print(table(("process", "state", "seen"), rows))
    if found["doors"]:
        out.print(
            table(
                ("door", "last item"), ((n, ago(d["last"], at)) for n, d in found["doors"].items())
            )
        )
    if pulled := found["backfill"]:
        looks = ((n, ago(f["looked_at"], at), f["fault"] or "none") for n, f in pulled.items())
        out.print(table(("backfill of form", "last look", "fault"), looks))
    if tokens := found["oauth"]:
        lines = ((n, ago(t["refreshed_at"], at), left(t)) for n, t in tokens.items())
        out.print(table(("OAuth of mailbox", "last good", "days left"), lines))
    backlog = found["backlog"]
    out.print(
        f"waiting to be read: {backlog['pending']} (oldest: {ago(backlog['oldest_pending'], at)})"
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
            out.print(safe(one["words"]))
    for need in found["needs"]:
        out.print(f"[bold yellow]! {safe(need)}[/bold yellow]")
    if found["ok"]:
        out.print("[green]nobody is needed[/green]")


def process_state(process: Data) -> str:
    """Return how a process is, in words."""
    if process["crash_loop"]:
        return "ends again and again"
    return "alive" if process["alive"] else "not seen lately"


def left(token: Data) -> str:
    """Return how long a mailbox's OAuth token lives, in words."""
    if token["refused_at"]:
        return "refused"
    if token["since"] is None:
        return "not used yet"
    return "no limit" if token["days_left"] is None else str(token["days_left"])


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function `(done, of)` that moves a bar on a terminal and is silent elsewhere.

    `of` None: not known.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
