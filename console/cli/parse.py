"""`intake parse`: show what the parsers read from files. Stores nothing."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console import bootstrap, errors
from console.presenters import terminal

if TYPE_CHECKING:
    from parsers.item import (
        Address,
        Attachment,
        Bounce,
        Format,
        InboundItem,
        RejectedRow,
        SheetCounts,
    )
    from parsers.options import Options

KINDS = ("mail", "formstack", "secure-message", "reply")
PROGRESS_STEP = 100  # items between two moves of the bar
Line = dict[str, object]
Reader = Callable[[str, bytes], Iterator[Line]]


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument(
    "files",
    metavar="FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
)
@click.option("--html", is_flag=True, help="With reply: the files are HTML, not text.")
@bootstrap.json_option
@click.pass_context
def parse(
    ctx: click.Context, kind: str, files: tuple[Path, ...], *, html: bool, as_json: bool
) -> None:
    r"""Show what the parsers read from files; stores nothing.

    \b
    Example:  intake parse mail *.eml --json | jq -r .subject
              intake parse secure-message export.xlsx
              intake parse reply --html body.html --json

    With --json one object an item, each on a line of its own, with its `file`. Exit code 65 if a
    file, or a row of one, could not be read; its line has `error`. Workbooks are read with the
    saved profiles (`intake profiles`). Rows of a workbook that are no request (headings, titles,
    footers, blank rows) are counted on standard error. Next: `intake deliver` stores a file as the
    listeners do.
    """
    if html and kind != "reply":
        raise click.UsageError("--html goes with `parse reply` only")
    reader = _make_reply_reader(html=html) if kind == "reply" else _make_item_reader(kind)
    error_count = 0
    with terminal.show_progress("files" if len(files) > 1 else "items") as step:
        for number, file in enumerate(files, 1):
            for item_count, line in enumerate(_read_lines(file, reader), 1):
                error_count += bool(line.get("error"))
                terminal.print_json_line(line) if as_json else _print_item(line)
                # Of many files the bar counts files; of one, perhaps a large workbook, its items.
                if len(files) == 1 and item_count % PROGRESS_STEP == 0:
                    step(item_count, None)
            step(number, len(files))
    ctx.exit(errors.EXIT_UNREADABLE if error_count else 0)


def _read_lines(file: Path, reader: Reader) -> Iterator[Line]:
    """Yield the lines of a file as it is read, or one line with the error.

    A file that cannot be read does not stop the others.
    """
    from parsers.item import ParseError

    try:
        yield from reader(str(file), file.read_bytes())
    except ParseError as error:
        yield build_error_line(str(file), str(error))
    except OSError as error:
        yield build_error_line(str(file), error.strerror or type(error).__name__)
    # a bug of the parser must cost one file only, and be visible
    except Exception as error:  # noqa: BLE001
        yield build_error_line(
            str(file), f"an internal error ({type(error).__name__}): please report it"
        )


def _make_item_reader(kind: str) -> Reader:
    import parsers
    from parsers.item import Format, RejectedRow
    from workflow.filing.file_item import make_date_caveat
    from workflow.runtime.clock import make_clock

    clock = make_clock()
    build_line = build_mail_line if kind == "mail" else build_item_line
    options = _load_options(Format(kind))

    def reader(file: str, raw: bytes) -> Iterator[Line]:
        stream = parsers.stream(Format(kind), raw, options)
        for item in stream:
            if isinstance(item, RejectedRow):
                yield build_rejected_line(file, item)
                continue
            caveat = make_date_caveat(item, clock())
            yield build_line(
                file, replace(item, caveats=(*item.caveats, caveat)) if caveat else item
            )
        _report_sheets(file, parsers.get_sheet_counts(stream))

    return reader


def _report_sheets(file: str, counts: "tuple[SheetCounts, ...]") -> None:
    """Print on standard error how the rows of each sheet were read.

    Scripts read items from standard output.
    """
    if counts:
        from workflow.filing.sheet_counts import describe_counts

        for sheet in counts:
            text = f"{file}, {sheet.sheet or 'the table'}: {describe_counts(sheet)}"
            click.echo(terminal.show_control_characters(text), err=True)


def _load_options(form: "Format") -> "Options":
    """Return the column profiles and defaults for workbooks, as far as they are available.

    The command works without an installation and creates none.
    """
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from ingest.parser_options import build_options, load_parser_options
    from parsers.item import Format
    from parsers.options import DEFAULT_OPTIONS
    from workflow.settings.settings import SettingsError, load_settings

    if form is not Format.SECURE_MESSAGE:
        return DEFAULT_OPTIONS
    try:
        settings = load_settings()
    except SettingsError:
        return DEFAULT_OPTIONS
    url = make_url(settings.database)
    # SQLite would create a database file just by being asked
    if not url.drivername.startswith("sqlite") or Path(url.database or "").is_file():
        with (
            suppress(SQLAlchemyError, errors.CommandError, OSError),
            bootstrap.open_app_context() as context,
        ):
            return load_parser_options(context, form)
    return build_options(settings)


def _make_reply_reader(*, html: bool) -> Reader:
    from parsers.mail.replies import extract

    newest = extract.extract_newest_from_html if html else extract.extract_newest
    return lambda file, raw: iter(
        [build_reply_line(file, newest(raw.decode("utf-8-sig", errors="replace")))]
    )


def _print_item(line: Line) -> None:
    """Print an item for a person: one field a line, the text last."""
    if line.get("error"):
        where = (
            f", {line['sheet']}, row {line['row']} {line['cell']}".rstrip() if "row" in line else ""
        )
        click.echo(
            terminal.show_control_characters(f"{line['file']}{where}: {line['error']}"), err=True
        )
        return
    out = terminal.create_console()
    out.print(f"[bold]{terminal.escape_text(line['file'])}[/bold]")
    texts = ("text", "body_text", "reply_text")
    for key, value in line.items():
        if value and key not in {"file", "html", "plain", "body_html", "body_plain", *texts}:
            out.print(f"  {key}: {terminal.escape_text(_format_value(value))}")
    for key in texts:
        if line.get(key):
            out.print(f"  [dim]{key}[/dim]\n{terminal.escape_text(line[key])}", soft_wrap=True)


def _format_value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items() if v not in {None, "", False})
    if isinstance(value, list | tuple):
        return ", ".join(map(_format_value, value))
    return str(value)


# -- the lines of `--json`: scripts rely on their keys ----


def build_mail_line(file: str, item: "InboundItem") -> Line:
    """Return the keys of one mail, in the order of the contract.

    `date` is ISO 8601 or None, `error` is None.
    """
    return {
        "file": file,
        "from_name": item.sender.name,
        "from_addr": item.sender.email,
        "contact_addr": item.contact.email,
        "reply_to": _list_addresses(item.reply_to),
        "to": _list_addresses(item.to),
        "cc": _list_addresses(item.cc),
        "subject": item.subject,
        "message_id": item.message_id,
        "in_reply_to": item.in_reply_to,
        "references": list(item.references),
        "date": _format_date(item),
        "body_text": item.text,
        "body_plain": item.plain,
        "body_html": item.html,
        "reply_text": item.reply_text,
        "attachments": [_present_attachment(a) for a in item.attachments],
        "is_auto_reply": item.is_auto_reply,
        "is_bounce": item.is_bounce,
        "is_automated": item.is_automated,
        "bounce": _present_bounce(item.bounce),
        "caveats": list(item.caveats),
        "error": None,
    }


def build_item_line(file: str, item: "InboundItem") -> Line:
    """Return the keys of one item of the other formats; "" for a value the format does not have."""
    return {
        "file": file,
        "format": item.format.value,
        "external_id": item.external_id,
        "from_name": item.sender.name,
        "from_addr": item.sender.email,
        "company": item.company,
        "company_number": item.company_number,
        "phone": item.phone,
        "category": item.category,
        "subject": item.subject,
        "body_text": item.text,
        "date": _format_date(item),
        "link": item.link,
        "submission_id": item.submission_id,
        "thread_id": item.thread_id,
        "telemedicine": item.telemedicine,
        "details": [[label, value] for label, value in item.details],
        "attachments": [_present_attachment(a) for a in item.attachments],
        "caveats": list(item.caveats),
        "error": None,
    }


def build_reply_line(file: str, newest: str) -> Line:
    """Return the keys of one bare reply body."""
    return {"file": file, "reply_text": newest, "error": None}


def build_error_line(file: str, reason: str) -> Line:
    """Return the keys of a file that could not be read."""
    return {"file": file, "error": reason}


def build_rejected_line(file: str, row: "RejectedRow") -> Line:
    """Return the keys of a row that is no request; `row` counts from 1, `cell` may be ""."""
    return {"file": file, "sheet": row.sheet, "row": row.row, "cell": row.cell, "error": row.reason}


def _list_addresses(people: "tuple[Address, ...]") -> list[str]:
    return [person.email or person.name for person in people]


def _format_date(item: "InboundItem") -> str | None:
    return item.sent_at.isoformat() if item.sent_at is not None else None


def _present_bounce(bounce: "Bounce | None") -> Line | None:
    if bounce is None:
        return None
    return {
        "action": bounce.action,
        "status": bounce.status,
        "failed": list(bounce.failed),
        "reason": bounce.reason,
    }


def _present_attachment(attachment: "Attachment") -> Line:
    return {
        "name": attachment.name,
        "mime": attachment.mime,
        "size": attachment.size,
        "sha256": attachment.sha256,
        "sha256_nl": attachment.sha256_nl,
        "inline": attachment.inline,
    }
