"""Recognition of columns by their headings alone, never by the look of the rows."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from parsers.options import Profile
from parsers.text import normalize, vocabulary

# Our field -> its headings, folded by `normalize.fold_label`, the one with least doubt first.
HEADINGS_BY_FIELD: dict[str, list[str]] = {
    "body": [
        "message",
        "message body",
        "message text",
        "message content",
        "body",
        "text",
        "message details",
        "content",
        "details",
        "description",
        "comments",
        "comment",
        "notes",
        "note",
        "question",
    ],
    "company": [*vocabulary.COMPANY],
    "company_number": [*vocabulary.COMPANY_NUMBER],
    "sender": [
        "from",
        "sender",
        "sender name",
        "from name",
        "sent by",
        "submitted by",
        "created by",
        "author",
        "contact",
        "contact name",
        "contact person",
        "user",
        "user name",
        "name",
        "full name",
    ],
    "email": [
        "from email",
        "sender email",
        "from e mail",
        *vocabulary.EMAIL,
        "user email",
        "reply to",
    ],
    "external_id": [
        "message id",
        "msg id",
        "message number",
        "message no",
        "msg no",
        "id",
        "message guid",
    ],
    "thread_id": ["thread id", "conversation id", "thread", "conversation"],
    "sent_at": [
        "date received",
        "received date",
        "date time received",
        "received",
        "received at",
        "received on",
        "date sent",
        "sent date",
        "sent",
        "sent on",
        "sent at",
        "message date",
        "date",
        "date time",
        "created date",
        "date created",
        "created",
        "created on",
        "created at",
        "timestamp",
    ],
    "clock": ["time received", "received time", "time sent", "sent time", "message time", "time"],
    "to": ["to", "recipient", "recipients", "sent to"],
    "direction": [
        "direction",
        "message direction",
        "sent received",
        "received sent",
        "inbound outbound",
        "incoming outgoing",
        "in out",
        "folder",
        "message folder",
        "mailbox",
    ],
    "subject": ["subject", "message subject", "title", "re", "issue", "topic"],
    "phone": [*vocabulary.PHONE],
    "category": ["category", "issue type", "message type", "request type", "type"],
    "link": ["link", "url", "message link", "message url"],
    "provider": [
        "provider",
        "provider name",
        "rendering provider",
        "rendering provider name",
        "doctor",
        "physician",
    ],
    "attachments": [
        "attachments",
        "attachment",
        "files",
        "file",
        "attached files",
        "documents",
        "attachment links",
    ],
    "status": ["status", "message status", "read unread", "read", "state"],
    "flagged": ["flagged", "flag", "is flagged", "starred", "important"],
    "patient": ["patient name", "patient", "patient full name"],
    "patient_id": [
        "patient id",
        "mrn",
        "medical record number",
        "patient number",
        "patient no",
        "chart number",
        "chart no",
        "chart",
        "chart id",
        "patient mrn",
    ],
    "birth_date": [
        "dob",
        "date of birth",
        "birth date",
        "birthdate",
        "patient dob",
        "patient date of birth",
    ],
    "patient_data": [
        "patient reference",
        "ssn",
        "social security number",
        "encounter id",
        "encounter",
        "date of service",
        "dos",
        "diagnosis",
        "insurance id",
        "member id",
        "subscriber id",
        "policy number",
    ],
}
# A folded heading -> its field, and its rank among the headings of that field.
_RANKS = {
    heading: (name, rank)
    for name, headings in HEADINGS_BY_FIELD.items()
    for rank, heading in enumerate(headings)
}
# Shown among a ticket's details, nowhere else.
PATIENT_FIELDS = ("patient", "patient_id", "birth_date", "patient_data")
# Shown among a ticket's details: an item has no field of its own for them, or a ticket shows none.
DETAIL_FIELDS = (
    "to",
    "direction",
    "phone",
    "category",
    "provider",
    "attachments",
    "status",
    "flagged",
    *PATIENT_FIELDS,
)
SENDER_FIELDS = ("company", "company_number", "sender", "email")
# Names of our fields for staff.
FIELD_LABELS = {
    "body": "message text",
    "company": "practice",
    "company_number": "practice number",
    "email": "e-mail address",
    "external_id": "message id",
    "thread_id": "thread id",
    "sent_at": "date",
    "clock": "time",
    "to": "recipient",
    "patient": "patient name",
    "patient_id": "patient number",
    "birth_date": "date of birth",
    "patient_data": "other patient data",
}
# Headings of the text itself; comments and notes may stand beside it in the same table.
_MESSAGE_WORDS = frozenset(HEADINGS_BY_FIELD["body"]) - {
    "details",
    "description",
    "comments",
    "comment",
    "notes",
    "note",
    "question",
}
MAX_HEADING_LENGTH = 60  # characters of a heading
MANY_HEADINGS = 3  # so many words that we know are no request by chance
MAX_SEARCHED_ROWS = 30  # rows: titles and filters above a table are fewer
_DIGIT = re.compile(r"\d")
# Figures, addresses, sentences: no heading of ours has any.
_NO_LABEL = re.compile(r"[\d@]|[.!?;]\s*$|[.!?;]\s|,\s")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of one row or two, and the columns it gives each field of ours.

    Columns count from 1, rows from the first one that was searched. `columns` are those of a field,
    the best first; `labels` and `keys` the headings as written and folded.
    """

    columns: dict[str, list[int]]
    labels: dict[int, str]
    keys: dict[int, str]
    end: int  # number of rows above the first message, titles included
    fingerprint: str  # of the heading's own rows: 32 hexadecimal digits, whatever is above or below
    profile: Profile | None = None  # by which it was read
    profile_columns: int = 0  # number of columns that the profile names
    joined_labels: int = 0  # number of columns whose label is that of two rows together
    has_two_rows: bool = False
    meanings: "_Meanings" = field(repr=False, default_factory=lambda: _Meanings(None))
    label_rows: tuple[dict[int, str], ...] = ()  # texts of the heading's own rows, one or two

    @property
    def start(self) -> int:
        """Number of rows above the heading's first row."""
        return self.end - (2 if self.has_two_rows else 1)

    def is_recognised(self, column: int) -> bool:
        """Return whether the heading of a column is known."""
        return self.meanings.is_known(self.keys.get(column, ""))

    @property
    def recognised_count(self) -> int:
        """Number of headings that are known."""
        return sum(map(self.is_recognised, self.keys))

    @property
    def is_sure(self) -> bool:
        """True where so many headings are known that the row cannot be a request."""
        known, all_headings = self.recognised_count, len(self.keys)
        is_most = known >= 3 and 3 * known >= 2 * all_headings  # noqa: PLR2004 - two of three
        return known == all_headings or is_most

    @property
    def is_sure_and_complete(self) -> bool:
        """True where the row is a heading for sure, and has the columns that messages need."""
        return self.is_sure and not self.missing_fields

    @property
    def missing_fields(self) -> list[str]:
        """Required fields without a column, in words for staff; the sender may be a default."""
        missing = [] if "body" in self.columns else ["the message text"]
        available = set(self.columns)
        if self.profile and self.profile_columns:
            available |= {name for name, _ in self.profile.defaults}
        if available.isdisjoint(SENDER_FIELDS):
            missing.append("the practice or the sender")
        return missing

    def is_repeated_in(self, row: dict[int, str]) -> bool:
        """Return whether a row repeats the heading, as on every page of a printed report.

        A single cell repeats only a heading of a single cell: "Message" may be all that somebody
        wrote.
        """
        if not row or len(row) < min(2, len(self.labels)):
            return False
        if max(map(len, row.values())) > MAX_HEADING_LENGTH:
            return False
        if all(self.keys.get(column) == self.meanings.fold(text) for column, text in row.items()):
            return True
        return self.has_two_rows and any(self._is_same(labels, row) for labels in self.label_rows)

    def _is_same(self, labels: dict[int, str], row: dict[int, str]) -> bool:
        fold = self.meanings.fold
        return labels.keys() == row.keys() and all(fold(labels[c]) == fold(row[c]) for c in row)

    def join(self, other: "Heading") -> "Heading":
        """Return this heading of one row together with that of a table beside it."""
        columns = {
            name: [*self.columns.get(name, []), *other.columns.get(name, [])]
            for name in self.columns.keys() | other.columns.keys()
        }
        return replace(
            self,
            columns=columns,
            labels=dict(sorted({**self.labels, **other.labels}.items())),
            keys={**self.keys, **other.keys},
            label_rows=({**self.label_rows[0], **other.label_rows[0]},),
        )

    def split_tables(self) -> list["Heading"]:
        """Return the headings of tables side by side, each with a text and a sender of its own.

        Blank columns separate them, and so does a heading that names practice or sender and message
        text once more. Where only one block is a table of messages, the others keep their labels,
        but no column of theirs stands in for one of the messages': the practice in a summary beside
        is another's.
        """
        tables = self._list_tables()
        if not tables:
            return [self]
        if len(tables) > 1:
            return [self._select(first, last) for first, last in find_column_spans(tables)]
        [table] = tables
        columns = {
            name: own if name in DETAIL_FIELDS else table.columns.get(name, own)
            for name, own in self.columns.items()
        }
        return [replace(self, columns=columns)]

    def _list_tables(self) -> list["Heading"]:
        """Return the blocks of columns that are tables of messages."""
        blocks = [block for run in _iter_runs(self.labels) for block in self._divide(*run)]
        tables = [block for block in blocks if block.is_complete]
        if len(tables) <= 1 and self.labels:  # blank columns separate no two tables
            parts = self._divide(min(self.labels), max(self.labels))
            return parts if len(parts) > 1 else tables
        return tables

    @property
    def is_complete(self) -> bool:
        """True where there is a column for the message text and one for who asks."""
        return "body" in self.columns and not self.columns.keys().isdisjoint(SENDER_FIELDS)

    def _divide(self, first: int, last: int) -> list["Heading"]:
        """Return the heading of these columns as those of several tables, or as one.

        A second one may begin without a blank column before it.
        """
        block = self._select(first, last)
        start = self._find_second_start(block)
        if start is None:
            return [block]
        return [*self._divide(first, start - 1), *self._divide(start, last)]

    def _find_second_start(self, block: "Heading") -> int | None:
        """Return the column in which the second of two tables begins.

        None where the block is one table. A table usually begins with the same column as the one on
        its left. Where none does, a second column of text is more likely the last of the left table
        than the first of the right one.
        """
        filled_columns = sorted(column for column, text in block.labels.items() if text)
        if len(filled_columns) < 4:  # noqa: PLR2004 - two tables of two columns each
            return None
        first, last = filled_columns[0], filled_columns[-1]
        names, fields = _list_names(block), _list_fields(block)
        starts: list[tuple[int, int, int]] = []
        for place, column in enumerate(filled_columns[1:], start=1):
            name, field_name = names[column], fields.get(column)
            on_left = filled_columns[:place]
            is_name_again = any(name == names[c] for c in on_left)
            is_field_again = field_name and any(field_name == fields.get(c) for c in on_left)
            if not is_name_again and not is_field_again:
                continue
            left, right = self._select(first, column - 1), self._select(column, last)
            if not _is_second_table(left, right):
                continue
            # A table that names its practice twice has taken the second from its neighbour.
            duplicates = sum(max(len(left.columns.get(who, ())) - 1, 0) for who in SENDER_FIELDS)
            likely = (name == names[first], field_name == fields.get(first), field_name != "body")
            rank = likely.index(True) if any(likely) else len(likely)
            starts.append((duplicates, rank, column))
        return min(starts)[-1] if starts else None

    def _select(self, first: int, last: int | None) -> "Heading":
        """Return the heading of these columns alone, to the last one where `last` is None."""
        rows = [
            {c: text for c, text in row.items() if c >= first and (last is None or c <= last)}
            for row in self.label_rows
        ]
        upper, lower = rows[0], rows[1] if self.has_two_rows else {}
        block = _make_heading(upper, lower, self.end, self.meanings)
        return replace(block, fingerprint=self.fingerprint)


def find_column_spans(blocks: Sequence[Heading]) -> list[tuple[int, int | None]]:
    """Return the first and last column of tables side by side, None for the last one to the end.

    Columns between two tables belong to the one on their left, without a heading.
    """
    firsts = [1, *(min(block.labels) for block in blocks[1:])]
    lasts = [*(first - 1 for first in firsts[1:]), None]
    return list(zip(firsts, lasts, strict=True))


class _Meanings:
    """Meanings of headings: those in a profile first, then those we know ourselves."""

    def __init__(self, profile: Profile | None) -> None:
        self.profile = profile
        self._own = dict(profile.columns) if profile else {}
        self._ranks = {key: rank for rank, key in enumerate(self._own, start=-len(self._own))}

    def fold(self, text: str) -> str:
        """Return a heading as a key."""
        split = normalize.fold_label(text)
        return split if split in self._own else normalize.fold_label(text, _RANKS)

    def find(self, key: str) -> tuple[str, int] | None:
        """Return the field of a folded heading, and its rank: the lower, the less doubt.

        None where it is none of ours.
        """
        if key in self._own:
            return (self._own[key], self._ranks[key]) if self._own[key] else None
        return _RANKS.get(key)

    def is_in_profile(self, key: str) -> bool:
        """Return whether the profile names this folded heading."""
        return key in self._own

    def is_known(self, key: str) -> bool:
        """Return whether this folded heading is in the profile, or one of ours."""
        return self.is_in_profile(key) or self.find(key) is not None


def _list_meanings(profiles: Sequence[Profile]) -> list[_Meanings]:
    """Return the meanings by each profile for any headings, then those we know ourselves."""
    general = [profile for profile in profiles if not profile.fingerprint]
    return [_Meanings(profile) for profile in (*general, None)]


def is_sender_label(text: str) -> bool:
    """Return whether a text is a heading of a field for who asks, as "Practice"."""
    meaning = _RANKS.get(normalize.fold_label(text, _RANKS))
    return meaning is not None and meaning[0] in SENDER_FIELDS


def find_practice_field(text: str) -> str:
    """Return "company" or "company_number" for a label that means one of them, else ""."""
    meaning = _RANKS.get(normalize.fold_label(text, _RANKS))
    return meaning[0] if meaning and meaning[0] in {"company", "company_number"} else ""


def find_heading(
    rows: Sequence[dict[int, str]], profiles: Sequence[Profile] = ()
) -> Heading | None:
    """Return the heading among a sheet's first rows (texts by column).

    None where no row has a heading of ours. The heading may lack required fields, see
    `missing_fields`. It may be one row, or two, the upper one merged. A profile for exactly these
    headings goes before one that names some of them, and that before the ones we know ourselves.
    """
    best = _find_exact(rows, profiles) or _find_best(rows, profiles)
    if best is None or best.missing_fields:
        return best
    # A table above the best one is a table too: its rows must not end as titles of the next.
    finder = HeadingFinder(profiles)
    above = (finder.find_at(rows[place], rows[place + 1], place) for place in range(best.start))
    return next((heading for heading in above if heading and not heading.missing_fields), best)


def _find_exact(rows: Sequence[dict[int, str]], profiles: Sequence[Profile]) -> Heading | None:
    """Return the heading that a profile is for, by its fingerprint."""
    places = fingerprint_rows(rows)
    for profile in profiles:
        if profile.fingerprint in places:
            place, has_two_rows = places[profile.fingerprint]
            heading = parse_heading(rows, place, profile, has_two_rows=has_two_rows)
            if not heading.missing_fields:
                return heading
    return None


def _find_best(rows: Sequence[dict[int, str]], profiles: Sequence[Profile]) -> Heading | None:
    """Return the row, or two rows, in which most headings are known."""
    candidates = [
        heading
        for meanings in _list_meanings(profiles)
        for heading in _iter_readings(rows, meanings)
        if _is_candidate(heading)
    ]
    return min(candidates, key=_rate_heading, default=None)


class HeadingFinder:
    """Recogniser of a further table's heading anywhere in a sheet, at little cost for other rows.

    `find_heading` finds the first heading leniently, among a few rows. Here every row of a file is
    a candidate, and a request must not be taken for a heading: at least half of its cells have to
    be known headings, and the others have to look like some. `Heading.is_sure` is false where it
    may still be a request.
    """

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self._meanings = _list_meanings(profiles)
        self._exact = {one.fingerprint: one for one in reversed(profiles) if one.fingerprint}
        self._exact_words = {word for one in self._exact.values() for word, _ in one.columns}
        self._words = _RANKS.keys() | {word for one in profiles for word, _ in one.columns}
        # No heading of ours holds a digit, but one in a profile may.
        self._has_digits = any(_DIGIT.search(word) for word in self._words)

    def may_begin(self, row: dict[int, str]) -> bool:
        """Return quickly whether a row may be the beginning of a heading."""
        if not all(map(self._may_be_label, row.values())):
            return False
        unknown_count, max_unknown, has_exact_word = 0, len(row) // 2, False
        for text in row.values():
            word = normalize.fold_label(text, self._words)
            has_exact_word = has_exact_word or word in self._exact_words
            unknown_count += word not in self._words
            if unknown_count > max_unknown and not self._exact:
                return False
        return has_exact_word or (unknown_count <= max_unknown and len(row) > 1)

    def _may_be_label(self, text: str) -> bool:
        if len(text) > MAX_HEADING_LENGTH:
            return False
        return bool(self._exact) or self._has_digits or not _NO_LABEL.search(text)

    def find_at(self, row: dict[int, str], following: dict[int, str], place: int) -> Heading | None:
        """Return the heading that begins in this row, None where none does.

        `following` is the next row, {} where there is none; `place` rows stand above this one. The
        heading may lack required fields: then its table holds no messages.
        """
        if not self.may_begin(row):
            return None
        rows = [row, following] if following else [row]
        heading = self._find_exact(rows) or self._find_best(rows)
        return replace(heading, end=heading.end + place) if heading else None

    def _find_exact(self, rows: Sequence[dict[int, str]]) -> Heading | None:
        """Return the heading in the first of these rows that a profile is for."""
        for fingerprint, (place, has_two_rows) in fingerprint_rows(rows).items():
            if place == 0 and fingerprint in self._exact:
                profile = self._exact[fingerprint]
                heading = parse_heading(rows, 0, profile, has_two_rows=has_two_rows)
                if not heading.missing_fields:
                    return heading
        return None

    def _find_best(self, rows: Sequence[dict[int, str]]) -> Heading | None:
        """Return the heading that begins in the first of these rows and has most known labels."""
        candidates = [
            heading
            for meanings in self._meanings
            for heading in _iter_readings(rows, meanings)
            if heading.start == 0 and _is_candidate(heading) and _is_certain(heading)
        ]
        return min(candidates, key=_rate_heading, default=None)


def _is_certain(heading: Heading) -> bool:
    """Return whether a row is headings, and no request whose cells happen to be such words."""
    known_count, heading_count = heading.recognised_count, len(heading.keys)
    if known_count == heading_count:
        # Two words may be anything, unless they are for the text and for who asks.
        has_many = heading_count >= MANY_HEADINGS
        return heading_count > 1 and (has_many or not heading.missing_fields)
    if heading.missing_fields or 2 * known_count < heading_count:
        return False
    unknown = (text for column, text in heading.labels.items() if not heading.is_recognised(column))
    return not any(_NO_LABEL.search(text) for text in unknown if text)


def _is_second_table(left: Heading, right: Heading) -> bool:
    """Return whether the columns on the right are a table of their own, not part of the left one.

    The very same headings for who asks and for the text are sure. In other words, "Created by" and
    "Notes" behind "From" and "Message" are columns of one table: there every field for who asks has
    to stand on the right as well.
    """
    if not (left.is_complete and right.is_complete):
        return False
    has_same_sender = not _list_sender_keys(left).isdisjoint(_list_sender_keys(right))
    has_same_text = not _list_keys(left, "body").isdisjoint(_list_keys(right, "body"))
    if has_same_sender and has_same_text:
        return True
    senders = left.columns.keys() & set(SENDER_FIELDS)
    if not senders <= right.columns.keys():
        return False
    if senders & {"company", "company_number"} and senders & {"sender", "email"}:
        return True
    return not _list_keys(right, "body").isdisjoint(_MESSAGE_WORDS)


def _list_names(heading: Heading) -> dict[int, str]:
    """Return the folded headings by column, as they are written where folding leaves nothing."""
    return {c: heading.keys.get(c) or text.strip() for c, text in heading.labels.items()}


def _list_fields(heading: Heading) -> dict[int, str]:
    """Return the fields of ours by column."""
    return {column: name for name, columns in heading.columns.items() for column in columns}


def _list_sender_keys(heading: Heading) -> set[str]:
    return {key for name in SENDER_FIELDS for key in _list_keys(heading, name)}


def _list_keys(heading: Heading, name: str) -> set[str]:
    return {heading.keys[column] for column in heading.columns.get(name, ())}


def _iter_runs(labels: dict[int, str]) -> Iterator[tuple[int, int]]:
    """Yield first and last column of each run of columns with a heading, without blank ones."""
    filled_columns = sorted(column for column, text in labels.items() if text)
    first = last = filled_columns[0] if filled_columns else 0
    for column in filled_columns[1:]:
        if column > last + 1:
            yield first, last
            first = column
        last = column
    if filled_columns:
        yield first, last


def fingerprint_rows(rows: Sequence[dict[int, str]]) -> dict[str, tuple[int, bool]]:
    """Return the fingerprints of a sheet's first rows, each taken as a heading.

    With each the place of the row, and whether it is a heading together with the next one.
    """
    alone = {
        _make_fingerprint(row): (place, False) for place, row in enumerate(rows[:MAX_SEARCHED_ROWS])
    }
    pairs = {
        _make_fingerprint(upper, lower): (place, True)
        for place, (upper, lower) in enumerate(pairwise(rows[: MAX_SEARCHED_ROWS + 1]))
    }
    return pairs | alone


def parse_heading(
    rows: Sequence[dict[int, str]],
    place: int,
    profile: Profile | None,
    *,
    has_two_rows: bool = False,
) -> Heading:
    """Return the row at a place as a heading, with the next one or alone, whatever they hold."""
    meanings = _Meanings(profile)
    if not has_two_rows or place + 1 == len(rows):
        return _make_heading(rows[place], {}, place + 1, meanings)
    return _make_heading(rows[place], rows[place + 1], place + 2, meanings)


def _is_candidate(heading: Heading) -> bool:
    """Return whether a heading has a field of ours, by a profile that is for it or by none.

    A profile without a fingerprint is for headings one of which it names; one without any column is
    for all.
    """
    if not heading.columns:
        return False
    return heading.profile is None or heading.profile_columns > 0 or not heading.profile.columns


def _rate_heading(heading: Heading) -> tuple[int, int, int, int, bool]:
    """Return a key that sorts the best heading first.

    Of two readings that are as good, two rows are one heading only where they make up a label
    together.
    """
    return (
        len(heading.missing_fields),
        -heading.profile_columns,
        -len(heading.columns),
        -heading.joined_labels,
        heading.has_two_rows,
    )


def _iter_readings(rows: Sequence[dict[int, str]], meanings: _Meanings) -> Iterator[Heading]:
    """Yield each row as a heading by itself, and together with the next one.

    The latter only where all texts of the next row are headings too, and the upper row adds a label
    or a part of one: else it may be a title, as "Practice:" beside a name.
    """
    for place in range(min(len(rows), MAX_SEARCHED_ROWS)):
        alone = _make_heading(rows[place], {}, place + 1, meanings)
        yield alone
        if place + 1 == len(rows) or not rows[place + 1]:
            continue
        lower = rows[place + 1]
        both = _make_heading(rows[place], lower, place + 2, meanings)
        known = {column for columns in both.columns.values() for column in columns}
        known |= {column for column, key in both.keys.items() if meanings.is_in_profile(key)}
        adds_something = both.joined_labels or not rows[place].keys() <= lower.keys()
        if lower.keys() <= known and adds_something and not alone.is_repeated_in(lower):
            yield both


def _spread(upper: dict[int, str], lower: dict[int, str]) -> dict[int, str]:
    """Return the upper row with each merged heading in all columns it covers.

    Excel keeps its text in the first of them.
    """
    labels, last = dict(upper), ""
    for column in sorted(upper.keys() | lower.keys()):
        last = upper.get(column) or last
        labels[column] = last
    return labels


def _join_labels(
    upper: dict[int, str], lower: dict[int, str], meanings: _Meanings
) -> tuple[dict[int, str], int]:
    """Return the label of each column of two rows, and how many are made of both texts.

    A label is both texts together where that is a known heading and the lower text differs from it,
    else the lower one, else the upper one. Without a lower row the labels are the upper one's.
    """
    upper_labels = _spread(upper, lower) if lower else upper
    joined_labels: dict[int, str] = {}
    for column, text in lower.items():
        if column in upper_labels:
            both = f"{upper_labels[column]} {text}".strip()
            if both != text and meanings.is_known(meanings.fold(both)):
                joined_labels[column] = both
    labels = {
        column: joined_labels.get(column) or lower.get(column) or upper_labels[column]
        for column in sorted({*upper_labels, *lower})
    }
    return labels, len(joined_labels)


def _assign_columns(
    labels: dict[int, str], keys: dict[int, str], meanings: _Meanings
) -> dict[str, list[int]]:
    """Return the columns of each field of ours, the best first.

    `keys` are the labels folded, without blank ones. A label that is too long is no heading.
    """
    ranked_columns: dict[str, list[tuple[int, int]]] = {}
    for column, key in keys.items():
        meaning = meanings.find(key) if len(labels[column]) <= MAX_HEADING_LENGTH else None
        if meaning is not None:
            name, rank = meaning
            ranked_columns.setdefault(name, []).append((rank, column))
    return {name: [column for _, column in sorted(pairs)] for name, pairs in ranked_columns.items()}


def _make_heading(
    upper: dict[int, str], lower: dict[int, str], end: int, meanings: _Meanings
) -> Heading:
    """Return a heading of two rows, or of the upper one alone where the lower one is empty."""
    labels, joined_count = _join_labels(upper, lower, meanings)
    keys = {column: meanings.fold(text) for column, text in labels.items() if text}
    return Heading(
        columns=_assign_columns(labels, keys, meanings),
        labels=labels,
        keys=keys,
        end=end,
        fingerprint=_make_fingerprint(upper, lower),
        profile=meanings.profile,
        profile_columns=sum(map(meanings.is_in_profile, keys.values())),
        joined_labels=joined_count,
        has_two_rows=bool(lower),
        meanings=meanings,
        label_rows=(upper, lower) if lower else (upper,),
    )


def _make_fingerprint(*rows: dict[int, str]) -> str:
    """Return a digest of the folded headings in their order.

    Their spelling, and blank columns between them, do not count.
    """
    labels = (
        "\x1f".join(normalize.fold_label(row[column]) for column in sorted(row))
        for row in rows
        if row
    )
    return hashlib.sha256("\x1e".join(labels).encode()).hexdigest()[:32]
