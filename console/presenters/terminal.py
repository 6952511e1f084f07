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

    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    names = list(columns)
    for name in names:
        table.add_column(name, overflow="fold", ratio=1 if name == names[-1] else None)
    for row in rows:
        table.add_row(*(escape_text(cell) for cell in row))
    return table


def build_ticket_table(tickets: list[Data], title: str) -> "Table":
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
        for t in tickets
    )
    return build_table(
        ("#", "stage", "owner", "company", "came as", "created", "subject"), rows, title
    )


def print_ticket(ticket: Data, hint: str) -> None:
    """Print one ticket."""
    out = create_console()
    out.print(
        f"[bold]#{ticket['id']} {escape_text(ticket['name'])}[/bold]"
        f"  {escape_text(ticket['subject'])}"
    )
    if ticket["link"]:
        out.print(f"original: {escape_text(ticket['link'])}", soft_wrap=True)
    out.print(
        f"{ticket['stage']} · {ticket['status']}"
        f" · owner: {escape_text(ticket['owner'] or 'none yet')}"
    )
    waits = ", ".join(ticket["missing"]) if ticket["status"] == "open" else ""
    out.print(f"[yellow]waits for: {waits}[/yellow]" if waits else "waits for nothing")
    for line in _list_facts(ticket):
        out.print(line)
    for heading, rows in _list_sections(ticket):
        if rows:
            out.print(f"\n[bold]{heading}[/bold]")
            for row in rows:
                out.print(f"  {row}")
    for message in ticket["messages"]:
        _print_message(out, message)
    out.print(f"\n[dim]{hint}[/dim]")


def _print_message(out: "Console", message: Data) -> None:
    """Print one message of a ticket: its new text, files and linked files."""
    way = {"in": "→ us", "out": "← we"}.get(message["direction"], "note")
    out.print(
        f"\n[bold]{way}[/bold] {format_time(message['at'])}  {escape_text(message['from'])} "
        f" {escape_text(message['subject'])}"
    )
    for label in ("to", "cc"):
        if message[label]:
            people = ", ".join(message[label])
            out.print(f"[dim]{label}: {escape_text(people)}[/dim]", soft_wrap=True)
    if message["customer"]:
        sent_by = f"{message['route']}, sent by {message['sent_by']}"
        out.print(f"[dim]{escape_text(sent_by)}: `use-sender` if they are the customer[/dim]")
    if message["phone"]:
        out.print(f"call back: {escape_text(message['phone'])}")
    text, folded = _split_reply(message)
    out.print(escape_text(text), soft_wrap=True)
    if folded:
        out.print(f"[dim]… {folded} lines of quotes and signature folded; --json shows all[/dim]")
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


def _split_reply(message: Data) -> tuple[str, int]:
    """Return the new text of a message, and the number of lines left out."""
    whole, newest = message["text"].strip(), message["reply_text"].strip()
    folded = len(whole.splitlines()) - len(newest.splitlines())
    return (newest, folded) if newest and folded > 0 else (whole, 0)


def _list_facts(ticket: Data) -> Iterator[str]:
    company = ticket["company"]
    yield (
        f"company: {escape_text(company['name'])},"
        f" manager: {escape_text(company['manager'] or 'none')}"
        if company
        else "company: –"
    )
    people = (
        f"{c['name']} <{c['email']}>" if c["name"] else c["email"] for c in ticket["contacts"]
    )
    yield f"contacts: {escape_text(', '.join(people) or '–')}"
    yield f"came by {ticket['source']} as {ticket['format']}, {format_time(ticket['created_at'])}"
    yield from (f"[yellow]! {escape_text(caveat)}[/yellow]" for caveat in ticket["caveats"])


def _list_sections(ticket: Data) -> Iterator[tuple[str, list[str]]]:
    milestones = ((k, v["at"], v["by"], v["note"]) for k, v in ticket["milestones"].items())
    yield (
        "done",
        [
            escape_text(f"{k} – {format_time(at)} by {by}{f': {note}' if note else ''}")
            for k, at, by, note in milestones
        ],
    )
    deadlines = (
        f"{d['milestone']} by {format_time(d['due_at'])}{' – task raised' if d['raised'] else ''}"
        for d in ticket["deadlines"]
    )
    yield "deadlines", list(deadlines) if ticket["status"] == "open" else []
    marks = {True: "done", False: "open"}
    tasks = (
        f"{t['id']}: {t['text']} → {t['assignee'] or 'the desk'} ({marks[t['done']]})"
        for t in ticket["tasks"]
    )
    yield "tasks", [escape_text(t) for t in tasks]
    mails = (
        (m["template"], m["to"], m["state"], m["reason"], m["sent_at"]) for m in ticket["outbox"]
    )
    yield (
        "mails",
        [
            escape_text(f"{t} to {to}: {s} {format_time(at) if at else why}")
            for t, to, s, why, at in mails
        ],
    )
    yield "related", [escape_text(f"#{r['id']}: {r['reason']}") for r in ticket["related"]]


def print_deliveries(deliveries: list[Data]) -> None:
    """Print a list of deliveries; those not processed show how long they have waited."""
    waiting = all(d["state"] in {"pending", "failed"} for d in deliveries)
    columns = (
        "#",
        "age" if waiting else "received",
        "channel",
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
        for d in deliveries
    )
    create_console().print(build_table(columns, rows))


def describe_row_progress(delivery: Data) -> str:
    """Return how far a delivery of many rows is read, or how many of them were rejected."""
    if delivery["state"] == "pending" and delivery["filed"]:
        # until the number of rows is known, `items` is one more than what is filed
        if delivery["items"] > delivery["filed"] + 1:
            return f"being read: {delivery['filed']} of {delivery['items']} rows"
        return f"being read: {delivery['filed']} rows"
    if delivery["rejected"]:
        return f"{delivery['rejected']} of {delivery['items']} rows rejected"
    return ""


def format_numbers(numbers: list[int]) -> str:
    """Return ids as text; of many the first, the last and the count; a dash for none."""
    if len(numbers) > MAX_NUMBERS:
        return f"{numbers[0]} … {numbers[-1]} ({len(numbers)})"
    return ", ".join(map(str, numbers)) or "–"


def print_delivery(delivery: Data) -> None:
    """Print one delivery."""
    out = create_console()
    out.print(
        f"[bold]delivery {delivery['id']}[/bold]"
        f"  {delivery['state']} · {format_duration(delivery['age_seconds'])} old"
    )
    where = "in the blobs" if delivery["blob"] else "in the database"
    out.print(
        f"came by {delivery['transport']} as {delivery['format']},"
        f" {format_time(delivery['received_at'])}"
    )
    out.print(
        f"{delivery['size']} bytes {where}, encrypted · read {delivery['attempts']} times"
        f" · {delivery['items']}"
        " items"
    )
    if delivery["reason"]:
        out.print(f"[yellow]! {escape_text(delivery['reason'])}[/yellow]")
    for name, value in delivery["envelope"].items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        out.print(f"{escape_text(name)}: {escape_text(text)}")
    receipts = (
        (format_time(r["at"]), r["transport"], "again" if r["repeated"] else "", r["reference"])
        for r in delivery["receipts"]
    )
    out.print(build_table(("came", "channel", "", "its id there"), receipts))
    if progress := describe_row_progress(delivery):
        out.print(f"[yellow]! {progress}[/yellow]")
    if delivery["sheets"]:
        out.print(
            build_table(
                ("sheet", "read as"),
                ((s["sheet"] or "–", s["in_words"]) for s in delivery["sheets"]),
            )
        )
    # rejected ones first: a person has to look at them
    filings = sorted(delivery["filings"], key=lambda f: f["outcome"] != "rejected")
    rows = (
        (f["item"], f["outcome"], f["ticket"] or "–", f["message"] or "–", f["reason"])
        for f in filings[:MAX_ROWS]
    )
    if filings:
        out.print(build_table(("item", "outcome", "ticket", "message", "reason"), rows))
    if (more := len(filings) - MAX_ROWS) > 0:
        out.print(f"… and {more} more items: --json shows all")
    number = delivery["id"]
    if delivery["rejected"]:
        out.print(
            f"[dim]Rejected rows, to correct: intake delivery {number} --rejected FILE.xlsx[/dim]"
        )
    out.print(
        f"[dim]The original: intake delivery {number} --raw · read it again: intake replay"
        f" {number}[/dim]"
    )


def print_ledger(balance: "Balance") -> None:
    """Print both sides of the ledger: one line a channel, one line a workbook.

    Lines that do not add up come first.
    """
    from workflow.filing.sheet_counts import ROW_KINDS

    lines = {**balance.channels, "together": balance.total}
    words = list(balance.total.as_dict())
    rows = (
        (name, *line.as_dict().values(), "yes" if line.adds_up else "NO")
        for name, line in lines.items()
    )
    create_console().print(build_table(("channel", *words, "adds up"), rows))
    if not balance.channels:
        click.echo("Nothing has been received yet. Send one of each: intake demo")
    if balance.workbooks:
        kinds = ("rows", *ROW_KINDS)
        books = (
            (
                f"delivery {one.delivery}",
                *(getattr(one, kind) for kind in kinds),
                "yes" if one.adds_up else "NO",
            )
            for one in sorted(balance.workbooks, key=lambda one: one.adds_up)[:MAX_ROWS]
        )
        create_console().print(build_table(("workbook", *kinds, "adds up"), books))
        if (more := len(balance.workbooks) - MAX_ROWS) > 0:
            click.echo(f"… and {more} older workbooks: --json shows all")
    if balance.unbalanced_workbooks:
        numbers_ = ", ".join(map(str, balance.unbalanced_workbooks[:MAX_ROWS]))
        click.echo(
            f"Workbooks with rows that are not accounted for: deliveries {numbers_}", err=True
        )
    if balance.unbalanced_deliveries:
        click.echo(
            "Deliveries whose items do not add up:"
            f" {', '.join(map(str, balance.unbalanced_deliveries))}",
            err=True,
        )
    if not balance.adds_up:
        click.echo(
            "It does not add up: something was lost or counted twice. Keep the database and report"
            " this.",
            err=True,
        )


def print_status(status: Data) -> None:
    """Print the state of the system."""
    out = create_console()
    at = status["at"]
    rows = (
        (n, describe_process(p), format_ago(p["seen"], at)) for n, p in status["processes"].items()
    )
    out.print(build_table(("process", "state", "seen"), rows))
    if status["doors"]:
        out.print(
            build_table(
                ("channel", "last item"),
                ((n, format_ago(d["last"], at)) for n, d in status["doors"].items()),
            )
        )
    if pulled := status["backfill"]:
        looks = (
            (n, format_ago(f["looked_at"], at), f["fault"] or "none") for n, f in pulled.items()
        )
        out.print(build_table(("backfill of form", "last look", "fault"), looks))
    if tokens := status["oauth"]:
        lines = (
            (n, format_ago(t["refreshed_at"], at), describe_token_life(t))
            for n, t in tokens.items()
        )
        out.print(build_table(("OAuth of mailbox", "last good", "days left"), lines))
    backlog = status["backlog"]
    out.print(
        f"waiting to be read: {backlog['pending']}"
        f" (oldest: {format_ago(backlog['oldest_pending'], at)})"
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
        f"linked files to fetch: {backlog['files_waiting']} · failed: {backlog['files_failed']}"
    )
    for one in status["older_mails"].values():
        out.print(escape_text(one["words"]))
    for one in status["troubles"]:
        if not one["needs_person"]:  # the others are among the needs
            out.print(escape_text(one["words"]))
    for need in status["needs"]:
        out.print(f"[bold yellow]! {escape_text(need)}[/bold yellow]")
    if status["ok"]:
        out.print("[green]nobody has to act[/green]")


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
def show_progress(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a function `(done, total)` that moves a progress bar on a terminal.

    It does nothing elsewhere. `total` None: not known.
    """
    if not sys.stderr.isatty():
        yield lambda _done, _of: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
