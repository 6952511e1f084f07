"""Propose which field of ours each column of a workbook is, and merge a person's choices.

Pure: the first rows of each sheet in, proposals out.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from parsers.options import Options, Profile
from parsers.secure_message import headings
from parsers.secure_message.headings import (
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
_MAX_SAMPLE = 60  # characters of a cell
_MAX_LABEL = 60
_MIN_TEXT = 40  # characters on average: columns with such texts are messages, or comments


@dataclass(frozen=True)
class ColumnProposal:
    """A column of a sheet: its heading, the proposed field, and the reason for the proposal."""

    name: str  # as Excel names it: A, B, … AA
    heading: str
    key: str  # the heading, folded
    field_name: str  # the field, or ""
    # "a heading we know", "the profile north", "as you say", or "" without a field
    reason: str
    guess: str  # the field it may be: a suggestion, never used without a person's choice
    rank: int  # among the columns of its field, of which the first filled one counts
    samples: tuple[str, ...] = field(repr=False)  # PHI


@dataclass(frozen=True)
class SheetProposal:
    """A visible sheet: where its heading is, the proposed fields, and what is missing."""

    name: str
    heading_rows: tuple[int, ...]  # as Excel numbers them
    fingerprint: str
    profile: Profile | None  # by which it is read today; None: by the headings we know
    missing: tuple[str, ...]  # in words for staff; () when it can be read
    columns: tuple[ColumnProposal, ...]
    date_order: str
    time_zone: str  # "" = that of the settings
    defaults: tuple[tuple[str, str], ...] = field(repr=False)

    def to_profile(self, name: str) -> Profile:
        """Return the proposal as a profile for exactly these headings."""
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
    """A person's choices for a sheet; what is left out is proposed."""

    # heading -> field of ours, a synonym of it, or "ignore"
    columns: Mapping[str, str] = field(default_factory=dict)
    heading_row: int = 0  # as Excel numbers it; 0 = find automatically
    defaults: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    date_order: str | None = None  # None: that of the profile, or mdy
    time_zone: str | None = None  # None: that of the profile, or of the settings


def get_field_name(text: str) -> str:
    """Return our field by its name or a synonym such as "practice"; "" for `ignore`.

    Raises LookupError for any other text.
    """
    key = normalize.fold_label(text)
    if key in {"", IGNORE}:
        return ""
    by_word = {word: name for name, words in HEADINGS_BY_FIELD.items() for word in words}
    by_word |= {normalize.fold_label(word): name for name, word in FIELD_LABELS.items()}
    name = text.strip() if text.strip() in HEADINGS_BY_FIELD else by_word.get(key)
    if name is None:
        raise LookupError(text)
    return name


def propose_sheets(
    previews: Sequence[TablePreview], parser_options: Options, choices: MappingChoices | None = None
) -> list[SheetProposal]:
    """Return a proposal for every visible, non-empty sheet, merged with a person's choices.

    Raises LookupError for a heading, row or field that does not exist; its argument is that name.
    """
    choices = choices or MappingChoices()
    chosen_fields = {
        normalize.fold_label(heading): get_field_name(name)
        for heading, name in choices.columns.items()
    }
    labels = {
        normalize.fold_label(text)
        for _, rows in previews
        for _, row in rows
        for text in row.values()
    }
    for heading in choices.columns:
        if normalize.fold_label(heading) not in labels and not _joins_two_labels(heading, labels):
            raise LookupError(heading)
    return [
        _propose_sheet(name, rows, parser_options, chosen_fields, choices)
        for name, rows in previews
    ]


def _joins_two_labels(heading: str, labels: set[str]) -> bool:
    """Return whether a heading joins two existing ones, one above the other."""
    key = normalize.fold_label(heading)
    return any(
        key.startswith(f"{one} ") and key.removeprefix(f"{one} ") in labels for one in labels if one
    )


def _propose_sheet(
    name: str,
    rows: list[NumberedRow],
    parser_options: Options,
    chosen_fields: dict[str, str],
    choices: MappingChoices,
) -> SheetProposal:
    """Return the proposal for one sheet."""
    texts = [row for _, row in rows]
    heading_before = _find_heading(rows, texts, parser_options, chosen_fields, choices)
    profile = heading_before.profile
    if profile is None or not profile.name:
        profile = None
    base = profile or Profile(name="", columns=(), time_zone="")
    start = heading_before.end - (2 if heading_before.has_two_rows else 1)
    merged_profile = Profile(
        name=base.name,
        columns=tuple({**dict(base.columns), **chosen_fields}.items()),
        defaults=tuple({**dict(base.defaults), **dict(choices.defaults)}.items()),
    )
    heading = headings.parse_heading(
        texts, start, merged_profile, has_two_rows=heading_before.has_two_rows
    )
    below = texts[heading.end : heading.end + SAMPLE_ROWS]
    return SheetProposal(
        name=name,
        heading_rows=tuple(number for number, _ in rows[start : heading.end]),
        fingerprint=heading.fingerprint,
        profile=profile,
        missing=tuple(heading.missing_fields),
        columns=tuple(_propose_columns(heading, below, chosen_fields)),
        date_order=choices.date_order or base.date_order,
        time_zone=base.time_zone if choices.time_zone is None else choices.time_zone,
        defaults=merged_profile.defaults,
    )


def _find_heading(
    rows: list[NumberedRow],
    texts: list[dict[int, str]],
    parser_options: Options,
    chosen_fields: dict[str, str],
    choices: MappingChoices,
) -> Heading:
    """Return the heading the choices name, else the row that looks most like one."""
    numbers = [number for number, _ in rows[:MAX_SEARCHED_ROWS]]
    if choices.heading_row:
        if choices.heading_row not in numbers:
            raise LookupError(f"row {choices.heading_row}")
        return headings.parse_heading(texts, numbers.index(choices.heading_row), None)
    chosen = Profile(name="", columns=tuple(chosen_fields.items()), defaults=choices.defaults)
    heading = headings.find_heading(
        texts, (*parser_options.profiles, chosen) if chosen_fields else parser_options.profiles
    )
    return heading or headings.parse_heading(texts, _find_likeliest_row(texts), None)


def _find_likeliest_row(texts: list[dict[int, str]]) -> int:
    """Return the index of the row that looks most like a heading.

    It is the row with the most short texts that all differ and are no values.
    """
    short = [
        {text for text in row.values() if len(text) <= _MAX_LABEL and not _is_value(text)}
        for row in texts
    ]
    return max(range(min(len(texts), MAX_SEARCHED_ROWS)), key=lambda at: (len(short[at]), -at))


def _is_value(text: str) -> bool:
    """Return whether a text is a number, a date or an e-mail address rather than a label."""
    return (
        text.replace(".", "", 1).isdigit()
        or dates.parse_moment(text) is not None
        or bool(normalize.find_emails(text))
    )


def _propose_columns(
    heading: Heading, below: list[dict[int, str]], chosen_fields: dict[str, str]
) -> Iterator[ColumnProposal]:
    """Yield the columns in the order of the sheet."""
    fields = _map_fields_by_column(heading)
    free = [name for name in HEADINGS_BY_FIELD if name not in heading.columns]
    for column, key in heading.keys.items():
        name, rank = fields.get(column, ("", 0))
        samples = tuple(row[column][:_MAX_SAMPLE] for row in below if column in row)
        guess = ""
        if not name and key not in chosen_fields:
            guess = _guess_field(key, samples, free)
        if guess:
            free.remove(guess)
        yield ColumnProposal(
            name=name_column(column),
            heading=heading.labels[column],
            key=key,
            field_name=name,
            reason=_explain(key, name, heading, chosen_fields),
            guess=guess,
            rank=rank,
            samples=samples,
        )


def _map_fields_by_column(heading: Heading) -> dict[int, tuple[str, int]]:
    """Return for each column its field, and its rank among the columns of that field."""
    return {
        column: (name, rank)
        for name, columns in heading.columns.items()
        for rank, column in enumerate(columns)
    }


def _explain(key: str, name: str, heading: Heading, chosen_fields: dict[str, str]) -> str:
    """Return the reason why a column has its field, in words for staff; "" without a field."""
    if key in chosen_fields:
        return "as you say"
    if heading.profile and heading.meanings.is_in_profile(key):
        return f"the profile {heading.profile.name}"
    return "a heading we know" if name else ""


def _guess_field(key: str, samples: Iterable[str], free: list[str]) -> str:
    """Return the free field that a heading or the values below it hint at; "" without a hint."""
    words = f" {key} "
    by_word = (name for name in free for known in HEADINGS_BY_FIELD[name] if f" {known} " in words)
    return next(by_word, "") or next(
        (name for name in _guess_from_values(list(samples)) if name in free), ""
    )


def _guess_from_values(samples: list[str]) -> Iterator[str]:
    """Yield the fields that all sample values fit."""
    if not samples:
        return
    if all(normalize.find_emails(text) for text in samples):
        yield "email"
    if all(dates.parse_moment(text) is not None for text in samples):
        yield "sent_at"
    if all(re.match(r"https?://", text) for text in samples):
        yield "link"
    if sum(map(len, samples)) / len(samples) >= _MIN_TEXT:
        yield "body"


def suggest_options(sheet: SheetProposal) -> list[str]:
    """Return the command options that would make the sheet readable.

    One `--column` for each missing field, with the heading guessed where possible.
    """
    fields = {c.field_name for c in sheet.columns}
    missing = []
    if "body" not in fields:
        missing.append("body")
    if sheet.missing and not any(name in SENDER_FIELDS for name in fields):
        missing.append("company")
    guesses = {c.guess: c.heading for c in sheet.columns if c.guess}
    return [f'--column "{guesses.get(name, "HEADING")}={name}"' for name in missing]
