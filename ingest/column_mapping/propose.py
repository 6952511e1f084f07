"""What the columns of a workbook are taken for, and what a person says of them.

Pure: first rows in, proposals out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from parsers.options import Options, Profile
from parsers.secure_message import columns as secure_message_columns
from parsers.secure_message.columns import (
    FIELD_LABELS,
    HEADINGS_BY_FIELD,
    MAX_SEARCHED_ROWS,
    SENDER_FIELDS,
    Heading,
)
from parsers.secure_message.preview import SAMPLE_ROWS, NumberedRow, TablePreview
from parsers.secure_message.row import name_column
from parsers.text import dates, normalize

IGNORE = "ignore"
_SAMPLE = 60  # characters of a cell
_LONGEST_LABEL = 60
_TEXTS = 40  # characters on average: columns of such are messages, or comments


@dataclass(frozen=True)
class ColumnProposal:
    """A column: its heading, the field it is taken for, and how that is known."""

    letter: str
    heading: str
    key: str  # the heading, folded
    field_name: str  # the field, or ""
    # "a heading we know", "the profile north", "as you say", or "" where it is none of ours
    reason: str
    guess: str  # the field it may be: for a person to say, never taken by itself
    rank: int  # among the columns of its field, of which the first answered one counts
    samples: tuple[str, ...] = field(repr=False)  # PHI


@dataclass(frozen=True)
class SheetProposal:
    """A visible sheet.

    Where its heading is, what the columns are taken for, and what is missing.
    """

    name: str
    heading_rows: tuple[int, ...]  # as Excel numbers them
    fingerprint: str
    profile: Profile | None  # by which it is read today; None = by what we know ourselves
    missing: tuple[str, ...]  # in words for staff; () = it can be read
    columns: tuple[ColumnProposal, ...]
    date_order: str
    time_zone: str  # "" = the house's
    defaults: tuple[tuple[str, str], ...] = field(repr=False)

    def to_profile(self, name: str) -> Profile:
        """Return what is shown, as a profile for exactly these headings."""
        return Profile(
            name=name,
            columns=tuple(
                (c.key, c.field_name) for c in sorted(self.columns, key=lambda c: c.rank)
            ),
            fingerprint=self.fingerprint,
            date_order=self.date_order,
            time_zone=self.time_zone,
            defaults=self.defaults,
        )


@dataclass(frozen=True)
class MappingChoices:
    """What a person says of a sheet."""

    columns: Mapping[str, str] = field(
        default_factory=dict
    )  # heading -> field of ours or what it goes by, or ignore
    heading_row: int = 0  # as Excel numbers it; 0 = found by itself
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    date_order: str | None = None  # None: as it was, or mdy
    time_zone: str | None = None  # None: as it was, or the house's


def get_field_name(text: str) -> str:
    """Our field by its name, or by what it goes by, as "practice"; "" for `ignore`.

    Raises LookupError for others.
    """
    key = normalize.fold_label(text)
    if key in {"", IGNORE}:
        return ""
    by_word = {listed: name for name, all_of in HEADINGS_BY_FIELD.items() for listed in all_of}
    by_word |= {normalize.fold_label(word): name for name, word in FIELD_LABELS.items()}
    name = text.strip() if text.strip() in HEADINGS_BY_FIELD else by_word.get(key)
    if name is None:
        raise LookupError(text)
    return name


def propose_sheets(
    read: Sequence[TablePreview], told: Options, said: MappingChoices | None = None
) -> list[SheetProposal]:
    """Every visible sheet with anything in it, as it would be read with what was said.

    Raises LookupError for a heading or a field that there is not: its argument is what was named.
    """
    said = said or MappingChoices()
    meant = {
        normalize.fold_label(heading): get_field_name(name)
        for heading, name in said.columns.items()
    }
    there = {
        normalize.fold_label(text) for _, rows in read for _, row in rows for text in row.values()
    }
    for heading in said.columns:
        if normalize.fold_label(heading) not in there and not _of_two(heading, there):
            raise LookupError(heading)
    return [_sheet(name, rows, told, meant, said) for name, rows in read]


def _of_two(heading: str, there: set[str]) -> bool:
    """Return whether a heading is made up of two that are there, one above the other."""
    key = normalize.fold_label(heading)
    return any(
        key.startswith(f"{one} ") and key.removeprefix(f"{one} ") in there for one in there if one
    )


def _sheet(
    name: str, rows: list[NumberedRow], told: Options, meant: dict[str, str], said: MappingChoices
) -> SheetProposal:
    texts = [row for _, row in rows]
    found = _found(rows, texts, told, meant, said)
    before = found.profile if found.profile and found.profile.name else None
    at = found.end - (2 if found.has_two_rows else 1)
    columns = {**dict(before.columns if before else ()), **meant}
    defaults = {**dict(before.defaults if before else ()), **dict(said.defaults)}
    merged = Profile(
        name=before.name if before else "",
        columns=tuple(columns.items()),
        defaults=tuple(defaults.items()),
    )
    heading = secure_message_columns.parse_heading(
        texts, at, merged, has_two_rows=found.has_two_rows
    )
    below = texts[heading.end : heading.end + SAMPLE_ROWS]
    return SheetProposal(
        name=name,
        heading_rows=tuple(number for number, _ in rows[at : heading.end]),
        fingerprint=heading.fingerprint,
        profile=before,
        missing=tuple(heading.missing_fields),
        columns=tuple(_columns(heading, below, meant)),
        date_order=said.date_order or (before.date_order if before else "mdy"),
        time_zone=said.time_zone
        if said.time_zone is not None
        else (before.time_zone if before else ""),
        defaults=merged.defaults,
    )


def _found(
    rows: list[NumberedRow],
    texts: list[dict[int, str]],
    told: Options,
    meant: dict[str, str],
    said: MappingChoices,
) -> Heading:
    """The heading under what was said, or else the row that looks most like one."""
    numbers = [number for number, _ in rows[:MAX_SEARCHED_ROWS]]
    if said.heading_row:
        if said.heading_row not in numbers:
            raise LookupError(f"row {said.heading_row}")
        return secure_message_columns.parse_heading(texts, numbers.index(said.heading_row), None)
    mine = Profile(name="", columns=tuple(meant.items()), defaults=said.defaults)
    found = secure_message_columns.find_heading(
        texts, (*told.profiles, mine) if meant else told.profiles
    )
    return found or secure_message_columns.parse_heading(texts, _likeliest(texts), None)


def _likeliest(texts: list[dict[int, str]]) -> int:
    """The row that looks most like a heading.

    The one with the most short texts that are all different.
    """
    short = [
        {text for text in row.values() if len(text) <= _LONGEST_LABEL and not _is_value(text)}
        for row in texts
    ]
    return max(range(min(len(texts), MAX_SEARCHED_ROWS)), key=lambda at: (len(short[at]), -at))


def _is_value(text: str) -> bool:
    return (
        text.replace(".", "", 1).isdigit()
        or dates.parse_moment(text) is not None
        or bool(normalize.find_emails(text))
    )


def _columns(
    heading: Heading, below: list[dict[int, str]], meant: dict[str, str]
) -> Iterator[ColumnProposal]:
    """The columns as they stand in the sheet."""
    places = {
        column: (name, rank)
        for name, of_it in heading.columns.items()
        for rank, column in enumerate(of_it)
    }
    free = [name for name in HEADINGS_BY_FIELD if name not in heading.columns]
    for column, key in heading.keys.items():
        name, rank = places.get(column, ("", 0))
        samples = tuple(row[column][:_SAMPLE] for row in below if column in row)
        perhaps = "" if name or key in meant else _perhaps(key, samples, free)
        if perhaps:
            free.remove(perhaps)
        why = _why(key, name, heading, meant)
        yield ColumnProposal(
            name_column(column), heading.labels[column], key, name, why, perhaps, rank, samples
        )


def _why(key: str, name: str, heading: Heading, meant: dict[str, str]) -> str:
    if key in meant:
        return "as you say"
    if heading.profile and heading.meanings.is_in_profile(key):
        return f"the profile {heading.profile.name}"
    return "a heading we know" if name else ""


def _perhaps(key: str, samples: Iterable[str], free: list[str]) -> str:
    """The free field that a column's heading or contents hint at; "" where nothing does."""
    words = f" {key} "
    by_word = (name for name in free for known in HEADINGS_BY_FIELD[name] if f" {known} " in words)
    return next(by_word, "") or next(
        (name for name in _by_contents(list(samples)) if name in free), ""
    )


def _by_contents(samples: list[str]) -> Iterator[str]:
    if not samples:
        return
    if all(normalize.find_emails(text) for text in samples):
        yield "email"
    if all(dates.parse_moment(text) is not None for text in samples):
        yield "sent_at"
    if all(re.match(r"https?://", text) for text in samples):
        yield "link"
    if sum(map(len, samples)) / len(samples) >= _TEXTS:
        yield "body"


def suggest_options(sheet: SheetProposal) -> list[str]:
    """What to say so that the sheet can be read.

    A `--column` for each thing that is missing, guessed where we can.
    """
    wanted = ["body"] if not any(c.field_name == "body" for c in sheet.columns) else []
    wanted += (
        ["company"]
        if sheet.missing and not any(c.field_name in SENDER_FIELDS for c in sheet.columns)
        else []
    )
    guess = {c.guess: c.heading for c in sheet.columns if c.guess}
    return [f'--column "{guess.get(name, "HEADING")}={name}"' for name in wanted]
