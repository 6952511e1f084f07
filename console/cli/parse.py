"""`intake parse`: show what the parsers read from files. Stores nothing."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from console import bootstrap, errors
from console.presenters import terminal

if TYPE_CHECKING:
    from parsers.item import Format, SheetCounts
    from parsers.options import Options

KINDS = ("mail", "formstack", "secure-message", "reply")
PROGRESS_STEP = 100  # items between two moves of the bar
Line = dict[str, object]


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
    ctx: click.Context, kind: str, files: tuple[Path, ...], *, html: bool, json_wanted: bool
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
    reader = _reply_reader(html=html) if kind == "reply" else _item_reader(kind)
    bad = 0
    with terminal.show_progress("files" if len(files) > 1 else "items") as step:
        for number, file in enumerate(files, 1):
            for done, line in enumerate(_lines(file, reader), 1):
                bad += bool(line.get("error"))
                terminal.print_json_line(line) if json_wanted else _readable(line)
                if len(files) == 1 and done % PROGRESS_STEP == 0:
                    step(done, None)
            step(number, len(files))
    ctx.exit(errors.EXIT_UNREADABLE if bad else 0)


Reader = Callable[[str, bytes], Iterator[Line]]


def _lines(file: Path, reader: Reader) -> Iterator[Line]:
    """Yield the lines of a file as it is read, or one line with the error.

    A file that cannot be read does not stop the others.
    """
    from console.cli.parse_output import build_error_line
    from parsers.item import ParseError

    try:
        yield from reader(str(file), file.read_bytes())
    except ParseError as error:
        yield build_error_line(str(file), str(error))
    except OSError as error:
        yield build_error_line(str(file), error.strerror or type(error).__name__)
    # a bug of the parser must cost the one file, and be seen
    except Exception as error:  # noqa: BLE001
        yield build_error_line(
            str(file), f"an error of ours ({type(error).__name__}): please report it"
        )


def _item_reader(kind: str) -> Reader:
    import parsers
    from console.cli import parse_output
    from parsers.item import Format, RejectedRow

    as_line = parse_output.build_mail_line if kind == "mail" else parse_output.build_item_line
    told = _options(Format(kind))

    def reader(file: str, raw: bytes) -> Iterator[Line]:
        stream = parsers.stream(Format(kind), raw, told)
        for one in stream:
            yield (
                parse_output.build_rejected_line(file, one)
                if isinstance(one, RejectedRow)
                else as_line(file, one)
            )
        _report_sheets(file, parsers.get_sheet_counts(stream))

    return reader


def _report_sheets(file: str, counts: "tuple[SheetCounts, ...]") -> None:
    """Print on standard error how the rows of each sheet were read.

    Scripts read items from standard output.
    """
    if counts:
        from workflow.filing.sheet_counts import describe_counts

        for one in counts:
            click.echo(
                terminal.show_control_characters(
                    f"{file}, {one.sheet or 'the table'}: {describe_counts(one)}"
                ),
                err=True,
            )


def _options(form: "Format") -> "Options":
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
    if (
        not url.drivername.startswith("sqlite") or Path(url.database or "").is_file()
    ):  # asking SQLite makes a file
        with (
            suppress(SQLAlchemyError, errors.CommandError, OSError),
            bootstrap.open_app_context() as context,
        ):
            return load_parser_options(context, form)
    return build_options(settings)


def _reply_reader(*, html: bool) -> Reader:
    from console.cli import parse_output
    from parsers.mail.replies import extract

    newest = extract.extract_newest_from_html if html else extract.extract_newest
    return lambda file, raw: iter(
        [parse_output.build_reply_line(file, newest(raw.decode("utf-8-sig", errors="replace")))]
    )


def _readable(line: Line) -> None:
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
            out.print(f"  {key}: {terminal.escape_text(_told(value))}")
    for key in texts:
        if line.get(key):
            out.print(f"  [dim]{key}[/dim]\n{terminal.escape_text(line[key])}", soft_wrap=True)


def _told(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{k}={v}" for k, v in value.items() if v not in {None, "", False})
    return ", ".join(_told(v) for v in value) if isinstance(value, list | tuple) else str(value)
