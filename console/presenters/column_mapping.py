"""Output of `intake map` and `intake profiles`: sheets, their columns and the saved profiles."""

import shlex
from typing import Any

import click

from console.presenters import replay, terminal
from console.presenters.times import format_time
from ingest.column_mapping.propose import SheetProposal, suggest_options
from parsers.options import Profile
from parsers.secure_message.headings import FIELD_LABELS
from workflow.filing.column_profiles import SavedProfile

Data = dict[str, Any]


def describe_field(name: str) -> str:
    """Return one of our fields in words, with its own name in brackets where that differs."""
    return f"{FIELD_LABELS[name]} ({name})" if name in FIELD_LABELS else name


def present_sheet(sheet: SheetProposal) -> Data:
    """Return a sheet for scripts, without the contents of its rows."""
    columns = [
        {
            "column": c.name,
            "heading": c.heading,
            "field": c.field_name or None,
            "why": c.reason or None,
            "perhaps": c.guess or None,
        }
        for c in sheet.columns
    ]
    return {
        "sheet": sheet.name,
        "heading_rows": list(sheet.heading_rows),
        "fingerprint": sheet.fingerprint,
        "profile": sheet.profile.name if sheet.profile else None,
        "missing": list(sheet.missing),
        "columns": columns,
        "date_order": sheet.date_order,
        "time_zone": sheet.time_zone,
        "defaults": [name for name, _ in sheet.defaults],
    }


def print_sheet(sheet: SheetProposal, others: list[str]) -> None:
    """Print a sheet for people: one column a line, with the first values below its heading."""
    out = terminal.create_console()
    rows = " and ".join(map(str, sheet.heading_rows))
    by = f", read by the profile {sheet.profile.name!r}" if sheet.profile else ""
    out.print(
        terminal.escape_text(f"sheet {sheet.name!r}, headings in row {rows}{by}"), soft_wrap=True
    )
    lines = (
        (
            c.name,
            c.heading,
            describe_field(c.field_name) if c.field_name else "–",
            c.reason or _describe_guess(c.guess),
            " | ".join(c.samples),
        )
        for c in sheet.columns
    )
    out.print(terminal.build_table(("", "heading", "is taken for", "because", "first rows"), lines))
    zone = sheet.time_zone or "the default time zone"
    out.print(terminal.escape_text(f"dates in text: {sheet.date_order}, {zone}"))
    for name, value in sheet.defaults:
        out.print(
            terminal.escape_text(f"where a row has none: {describe_field(name)} = {value}"),
            soft_wrap=True,
        )
    if others:
        out.print(
            terminal.escape_text(f"other sheets: {', '.join(others)} (--sheet NAME shows one)"),
            soft_wrap=True,
        )


def _describe_guess(perhaps: str) -> str:
    return (
        f"perhaps {describe_field(perhaps)}: say so"
        if perhaps
        else "it is kept as a detail of the ticket"
    )


def print_next_step(sheet: SheetProposal, source: str) -> None:
    """Print what is missing, and the command that supplies it."""
    if sheet.missing:
        click.echo(f"missing: {', '.join(sheet.missing)}. For example:")
        click.echo(
            terminal.show_control_characters(
                f"  intake map {source} {' '.join(suggest_options(sheet))} --save NAME"
            )
        )
    elif sheet.profile is None and any(c.reason == "as you say" for c in sheet.columns):
        click.echo("It can be read like this. To save it: the same with --save NAME")
    else:
        click.echo('It can be read as it is. To change it: --column "HEADING=FIELD" --save NAME')


def print_saved_profile(name: str, deliveries: list[Data]) -> None:
    """Print that the profile is saved, and the deliveries that were read with it."""
    click.echo(
        f"saved as {shlex.quote(name)}: it reads the next file with these headings, on every host"
    )
    for delivery in deliveries:
        replay.print_replay(delivery)
    if not deliveries:
        click.echo(
            "No failed delivery has these headings. Drop the file again, or: intake deliver"
            " secure-message FILE"
        )


def present_profiles(saved_ones: list[SavedProfile], of_settings: dict[str, Profile]) -> list[Data]:
    """Return all profiles, saved ones first, for scripts."""
    rows = [
        {
            "name": p.name,
            "from": "saved",
            "by": p.saved_by,
            "at": p.saved_at.isoformat(),
            "fingerprint": p.fingerprint,
            "columns": dict(p.columns),
            "date_order": p.date_order,
            "time_zone": p.time_zone,
        }
        for p in saved_ones
    ]
    return rows + [
        {
            "name": name,
            "from": "intake.toml",
            "by": None,
            "at": None,
            "fingerprint": p.fingerprint or None,
            "columns": dict(p.columns),
            "date_order": p.date_order,
            "time_zone": p.time_zone,
        }
        for name, p in of_settings.items()
    ]


def print_profiles(rows: list[Data]) -> None:
    """Print all profiles for people."""
    lines = (
        (
            p["name"],
            f"{p['by']}, {format_time(p['at'])}" if p["at"] else p["from"],
            p["date_order"],
            p["time_zone"] or "the default",
            "its headings only" if p["fingerprint"] else "any workbook",
            ", ".join(
                f"{heading}: {describe_field(name)}"
                for heading, name in p["columns"].items()
                if name
            ),
        )
        for p in rows
    )
    terminal.create_console().print(
        terminal.build_table(("name", "from", "dates", "time zone", "serves", "headings"), lines)
    )
