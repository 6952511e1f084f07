"""Which column of a table holds what, told by its headings alone.

Never by what the rows look like.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from parsers.options import Profile
from parsers.text import normalize

# Our field -> headings it goes by, as `fields.label` folds them, the most telling first.
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
    "company": [
        "practice name",
        "practice",
        "company name",
        "company",
        "client name",
        "client",
        "customer name",
        "customer",
        "clinic name",
        "clinic",
        "account name",
        "organization",
        "facility",
        "facility name",
    ],
    "company_number": [
        "practice id",
        "practice number",
        "practice no",
        "kareo practice id",
        "kareo id",
        "company id",
        "client id",
        "customer id",
        "customer number",
        "account id",
        "account number",
        "account no",
        "account",
    ],
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
        "contact email",
        "email address",
        "email",
        "e mail",
        "e mail address",
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
    "subject": ["subject", "message subject", "title", "re", "issue", "topic"],
    "phone": [
        "phone",
        "phone number",
        "contact phone",
        "callback",
        "callback number",
        "call back number",
        "telephone",
        "telephone number",
        "mobile",
        "cell phone",
    ],
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
_RANKS = {
    synonym: (name, rank)
    for name, listed in HEADINGS_BY_FIELD.items()
    for rank, synonym in enumerate(listed)
}
PATIENT_FIELDS = (
    "patient",
    "patient_id",
    "birth_date",
    "patient_data",
)  # shown among a ticket's details, nowhere else
# What a ticket shows among its details: an item has no place of their own for it, or a ticket none
# for the item's.
DETAIL_FIELDS = (
    "to",
    "phone",
    "category",
    "provider",
    "attachments",
    "status",
    "flagged",
    *PATIENT_FIELDS,
)
SENDER_FIELDS = ("company", "company_number", "sender", "email")
# What staff call our fields.
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
MAX_SEARCHED_ROWS = 30  # rows: titles and filters above a table are fewer
_DIGIT = re.compile(r"\d")
_NO_LABEL = re.compile(
    r"[\d@]|[.!?;]\s*$|[.!?;]\s|,\s"
)  # figures, addresses, sentences: no heading of ours has any


@dataclass(frozen=True, slots=True)
class Heading:
    """The heading found: the columns of each field, best first.

    Labels as written and as folded, by column.
    """

    columns: dict[str, list[int]]
    labels: dict[int, str]
    keys: dict[int, str]
    end: int  # how many rows of the table are above its first message, titles included
    fingerprint: str  # of the heading's own rows: 32 hexadecimal digits, whatever is above or below
    profile: Profile | None = None  # by which it was read
    profile_columns: int = 0  # columns the profile names
    joined_labels: int = 0  # columns whose label is that of two rows together
    has_two_rows: bool = False
    meanings: "_Known" = field(repr=False, default_factory=lambda: _Known(None))
    label_rows: tuple[dict[int, str], ...] = ()  # texts of the heading's own rows, one or two

    @property
    def start(self) -> int:
        """Return how many rows stand above the heading's first row."""
        return self.end - (2 if self.has_two_rows else 1)

    def is_recognised(self, column: int) -> bool:
        """Tell whether the heading of a column is one that is known."""
        key = self.keys.get(column, "")
        return self.meanings.names(key) or self.meanings.meaning(key) is not None

    @property
    def recognised_count(self) -> int:
        """Return how many headings are known."""
        return sum(map(self.is_recognised, self.keys))

    @property
    def is_sure(self) -> bool:
        """Tell whether so many headings are known that the row cannot be a request."""
        count, of = self.recognised_count, len(self.keys)
        return count == of or (count > 2 and 3 * count >= 2 * of)  # noqa: PLR2004 - nearly all of them

    @property
    def missing_fields(self) -> list[str]:
        """Return what has to be there and is not, in words for staff."""
        given = (
            {name for name, _ in self.profile.defaults}
            if self.profile and self.profile_columns
            else set()
        )
        who = (
            []
            if (self.columns.keys() | given) & set(SENDER_FIELDS)
            else ["the practice or the sender"]
        )
        return [*([] if "body" in self.columns else ["the message text"]), *who]

    def is_repeated_in(self, row: dict[int, str]) -> bool:
        """Tell a heading row repeated among the messages, as on every page of a printed report.

        A single cell repeats only a heading of a single cell: "Message" may be all that somebody
        wrote.
        """
        if (
            not row
            or len(row) < min(2, len(self.labels))
            or max(map(len, row.values())) > MAX_HEADING_LENGTH
        ):
            return False
        if all(self.keys.get(column) == self.meanings.key(text) for column, text in row.items()):
            return True
        return self.has_two_rows and any(self._is_same(own, row) for own in self.label_rows)

    def _is_same(self, own: dict[int, str], row: dict[int, str]) -> bool:
        return own.keys() == row.keys() and all(
            self.meanings.key(own[c]) == self.meanings.key(row[c]) for c in row
        )

    def join(self, other: "Heading") -> "Heading":
        """Return this heading of one row with that of a table beside it."""
        names = self.columns.keys() | other.columns.keys()
        return replace(
            self,
            columns={
                name: [*self.columns.get(name, []), *other.columns.get(name, [])] for name in names
            },
            labels=dict(sorted({**self.labels, **other.labels}.items())),
            keys={**self.keys, **other.keys},
            label_rows=({**self.label_rows[0], **other.label_rows[0]},),
        )

    def split_tables(self) -> list["Heading"]:
        """Divide the headings of tables side by side.

        Each has a message text and a sender of its own.

        Blank columns part them, and so does a heading that names practice or sender and message
        text once more. Where only one block is a table of messages, the others keep their labels,
        but no column of theirs stands in for one of the messages': the practice in a summary beside
        is another's.
        """
        runs = [part for run in _runs(self.labels) for part in self._divide(*run)]
        whole = [block for block in runs if block.is_complete]
        if len(whole) < 2 and self.labels:  # noqa: PLR2004 - blank columns part no two tables
            parts = self._divide(min(self.labels), max(self.labels))
            whole = parts if len(parts) > 1 else whole
        if not whole:
            return [self]
        if len(whole) == 1:
            columns = {
                name: taken if name in DETAIL_FIELDS else whole[0].columns.get(name, taken)
                for name, taken in self.columns.items()
            }
            return [replace(self, columns=columns)]
        return [self._within(first, last) for first, last in find_column_spans(whole)]

    @property
    def is_complete(self) -> bool:
        """Tell whether there is a column for the message text and one for who asks."""
        return "body" in self.columns and not self.columns.keys().isdisjoint(SENDER_FIELDS)

    def _divide(self, first: int, last: int) -> list["Heading"]:
        """Divide the headings of these columns into those of two tables.

        A second one may begin without a blank column before it.
        """
        block = self._within(first, last)
        start = self._second_start(block)
        if start is None:
            return [block]
        return [*self._divide(first, start - 1), *self._divide(start, last)]

    def _second_start(self, block: "Heading") -> int | None:
        """Return the column in which the second of two tables begins.

        None where the block is one table.

        A table usually begins with the same column as the one on its left. Where none does, a
        second column of text is more likely the last of the left table than the first of the right
        one.
        """
        filled = sorted(column for column, text in block.labels.items() if text)
        if len(filled) < 4:  # noqa: PLR2004 - two tables of two columns each
            return None
        first, last = filled[0], filled[-1]
        names, fields = _names(block), _fields(block)
        starts: list[tuple[int, int, int]] = []
        for at, column in enumerate(filled[1:], start=1):
            name, field_ = names[column], fields.get(column)
            met = filled[:at]
            if not any(name == names[c] or (field_ and field_ == fields.get(c)) for c in met):
                continue
            left, right = self._within(first, column - 1), self._within(column, last)
            if _is_second_table(left, right):
                # A table that names its practice twice has taken the second from its neighbour.
                taken = sum(max(len(left.columns.get(who, ())) - 1, 0) for who in SENDER_FIELDS)
                likely = (name == names[first], field_ == fields.get(first), field_ != "body")
                rank = next((place for place, holds in enumerate(likely) if holds), len(likely))
                starts.append((taken, rank, column))
        return min(starts)[-1] if starts else None

    def _within(self, first: int, last: int | None) -> "Heading":
        rows = [
            {c: t for c, t in row.items() if c >= first and (last is None or c <= last)}
            for row in self.label_rows
        ]
        upper, lower = rows[0], rows[1] if self.has_two_rows else {}
        block = _heading(upper, lower, self.end, self.meanings)
        return replace(block, fingerprint=self.fingerprint)


def find_column_spans(blocks: Sequence[Heading]) -> list[tuple[int, int | None]]:
    """Return the first and last column of tables side by side, None for the last one to the end.

    What stands between two tables belongs to the one on its left, as a column without a heading.
    """
    firsts = [1, *(min(block.labels) for block in blocks[1:])]
    lasts = [*(first - 1 for first in firsts[1:]), None]
    return list(zip(firsts, lasts, strict=True))


class _Known:
    """What headings mean: what a profile says of them first, then what we know ourselves."""

    def __init__(self, profile: Profile | None) -> None:
        self.profile = profile
        self._own = dict(profile.columns) if profile else {}
        self._ranks = {key: rank for rank, key in enumerate(self._own, start=-len(self._own))}

    def key(self, text: str) -> str:
        """A heading, folded."""
        split = normalize.fold_label(text)
        return split if split in self._own else normalize.fold_label(text, _RANKS)

    def meaning(self, key: str) -> tuple[str, int] | None:
        """The field of a folded heading, and how telling it is, the lower the better.

        None where it is none of ours.
        """
        if key in self._own:
            return (self._own[key], self._ranks[key]) if self._own[key] else None
        return _RANKS.get(key)

    def names(self, key: str) -> bool:
        """Return whether the profile itself says what this heading means."""
        return key in self._own


def _all_known(profiles: Sequence[Profile]) -> list[_Known]:
    """Return what the profiles for any headings say, then what we know ourselves."""
    general = [profile for profile in profiles if not profile.fingerprint]
    return [_Known(profile) for profile in (*general, None)]


def is_sender_label(text: str) -> bool:
    """Tell a text that is the name of one of our fields that say who asks, as "Practice"."""
    meaning = _RANKS.get(normalize.fold_label(text, _RANKS))
    return meaning is not None and meaning[0] in SENDER_FIELDS


def find_heading(
    rows: Sequence[dict[int, str]], profiles: Sequence[Profile] = ()
) -> Heading | None:
    """Find the heading among a sheet's first rows (texts by column).

    None where no row has a heading of ours.

    What comes back may lack required fields: ask `missing`. A heading may be one row, or two, the
    upper one merged. A profile for exactly these headings goes before one that names some of them,
    and that before what we know ourselves.
    """
    best = _exact(rows, profiles) or _best(rows, profiles)
    if best is None or best.missing_fields:
        return best
    # A table above the best one is a table too: its rows must not end as titles of the next.
    finder = HeadingFinder(profiles)
    above = (finder.find_at(rows[at], rows[at + 1], at) for at in range(best.start))
    return next((heading for heading in above if heading and not heading.missing_fields), best)


def _exact(rows: Sequence[dict[int, str]], profiles: Sequence[Profile]) -> Heading | None:
    """Return the heading that a profile is for, by its fingerprint."""
    places = fingerprint_rows(rows)
    for profile in profiles:
        if profile.fingerprint in places:
            at, of_two = places[profile.fingerprint]
            heading = parse_heading(rows, at, profile, of_two=of_two)
            if not heading.missing_fields:
                return heading
    return None


def _best(rows: Sequence[dict[int, str]], profiles: Sequence[Profile]) -> Heading | None:
    """Return the row, or two rows, in which most headings are known."""
    known = _all_known(profiles)
    candidates = [
        heading
        for one in known
        for heading in _readings(rows, one)
        if heading.columns and _serves(heading)
    ]
    return min(candidates, key=_merit, default=None)


class HeadingFinder:
    """Recogniser of a further table's heading anywhere in a sheet.

    It costs little for all other rows.

    `find_heading` looks for the first heading leniently, among a few rows. Here every row of a file is a
    candidate, and a request must not be taken for a heading: at least half of its cells have to be
    headings that are known, and the others have to look like some. Ask `is_sure` whether it may
    still be a request.
    """

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self._known = _all_known(profiles)
        self._exact = {one.fingerprint: one for one in reversed(profiles) if one.fingerprint}
        self._exact_words = {word for one in self._exact.values() for word, _ in one.columns}
        self._words = _RANKS.keys() | {word for one in profiles for word, _ in one.columns}
        self._numbered = any(
            _DIGIT.search(word) for word in self._words
        )  # no heading of ours holds a digit

    def may_begin(self, row: dict[int, str]) -> bool:
        """Tell quickly whether a row may be the beginning of a heading."""
        unknown, exact = len(row) // 2, False
        for text in row.values():
            if len(text) > MAX_HEADING_LENGTH or (
                _NO_LABEL.search(text) and not (self._exact or self._numbered)
            ):
                return False
            word = normalize.fold_label(text, self._words)
            exact = exact or word in self._exact_words
            if word not in self._words:
                unknown -= 1
                if unknown < 0 and not self._exact:
                    return False
        return (unknown >= 0 and len(row) > 1) or exact

    def find_at(self, row: dict[int, str], following: dict[int, str], place: int) -> Heading | None:
        """Return the heading that begins in this row, None where none does.

        `place` rows stand above it.

        It may lack required fields: then it is the heading of a table that holds no messages.
        """
        if not self.may_begin(row):
            return None
        rows = [row, following] if following else [row]
        for fingerprint, (at, of_two) in fingerprint_rows(rows).items():
            if at == 0 and fingerprint in self._exact:
                exact = parse_heading(rows, 0, self._exact[fingerprint], of_two=of_two)
                if not exact.missing_fields:
                    return replace(exact, end=exact.end + place)
        candidates = [
            heading
            for known in self._known
            for heading in _readings(rows, known)
            if heading.start == 0 and heading.columns and _serves(heading) and _is_certain(heading)
        ]
        best = min(candidates, key=_merit, default=None)
        return replace(best, end=best.end + place) if best else None


def _is_certain(heading: Heading) -> bool:
    """Tell a row of headings from a request whose cells happen to be words of headings."""
    count, of = heading.recognised_count, len(heading.keys)
    if count == of:
        return of > 1 and (not heading.missing_fields or of > 2)  # noqa: PLR2004 - two words may be anything
    others = (
        text
        for column, text in heading.labels.items()
        if text and not heading.is_recognised(column)
    )
    return not heading.missing_fields and 2 * count >= of and not any(map(_NO_LABEL.search, others))


def _is_second_table(left: Heading, right: Heading) -> bool:
    """Tell whether the columns on the right are a table of their own.

    And no further columns of the left one.

    The very same headings for who asks and for the text are sure. In other words, "Created by" and
    "Notes" behind "From" and "Message" are columns of one table: there all that says who asks has
    to stand on the right as well.
    """
    if not (left.is_complete and right.is_complete):
        return False
    if _who_keys(left) & _who_keys(right) and _keys_of(left, "body") & _keys_of(right, "body"):
        return True
    asks = left.columns.keys() & set(SENDER_FIELDS)
    if not asks <= right.columns.keys():
        return False
    names_both = asks & {"company", "company_number"} and asks & {"sender", "email"}
    return bool(names_both) or not _keys_of(right, "body").isdisjoint(_MESSAGE_WORDS)


def _names(heading: Heading) -> dict[int, str]:
    """Return the folded headings by column, as they are written where folding leaves nothing."""
    return {c: heading.keys.get(c) or text.strip() for c, text in heading.labels.items()}


def _fields(heading: Heading) -> dict[int, str]:
    """Return the fields of ours by column."""
    return {column: name for name, taken in heading.columns.items() for column in taken}


def _who_keys(heading: Heading) -> set[str]:
    return {key for name in SENDER_FIELDS for key in _keys_of(heading, name)}


def _keys_of(heading: Heading, name: str) -> set[str]:
    return {heading.keys[column] for column in heading.columns.get(name, ())}


def _runs(labels: dict[int, str]) -> Iterator[tuple[int, int]]:
    """Yield first and last column of each run of columns with a heading.

    Blank columns between them belong to the run.
    """
    filled = sorted(column for column, text in labels.items() if text)
    first = last = filled[0] if filled else 0
    for column in filled[1:]:
        if column > last + 1:
            yield first, last
            first = column
        last = column
    if filled:
        yield first, last


def fingerprint_rows(rows: Sequence[dict[int, str]]) -> dict[str, tuple[int, bool]]:
    """What a sheet's first rows are told by, each taken as a heading.

    Which row that is, and whether with the next.
    """
    alone = {_fingerprint(row): (at, False) for at, row in enumerate(rows[:MAX_SEARCHED_ROWS])}
    pairs = enumerate(pairwise(rows[: MAX_SEARCHED_ROWS + 1]))
    return {_fingerprint(upper, lower): (at, True) for at, (upper, lower) in pairs} | alone


def parse_heading(
    rows: Sequence[dict[int, str]], at: int, profile: Profile | None, *, of_two: bool = False
) -> Heading:
    """Take the row at this place for the heading, with the next one or alone, whatever it says."""
    known = _Known(profile)
    if not of_two or at + 1 == len(rows):
        return _heading(rows[at], {}, at + 1, known)
    return _heading(rows[at], rows[at + 1], at + 2, known)


def _serves(heading: Heading) -> bool:
    """Whether a profile without a fingerprint is meant for this.

    It names a heading that is there, or none at all.
    """
    return heading.profile is None or heading.profile_columns > 0 or not heading.profile.columns


def _merit(heading: Heading) -> tuple[int, int, int, int, bool]:
    # Of two readings that say as much, two rows are one heading only where they make up a label
    # together.
    return (
        len(heading.missing_fields),
        -heading.profile_columns,
        -len(heading.columns),
        -heading.joined_labels,
        heading.has_two_rows,
    )


def _readings(rows: Sequence[dict[int, str]], known: _Known) -> Iterator[Heading]:
    """Each row as a heading by itself.

    And together with the next where all of that one's texts are headings too.
    """
    for at in range(min(len(rows), MAX_SEARCHED_ROWS)):
        alone = _heading(rows[at], {}, at + 1, known)
        yield alone
        if at + 1 == len(rows) or not rows[at + 1]:
            continue
        both = _heading(rows[at], rows[at + 1], at + 2, known)
        meant = {column for columns in both.columns.values() for column in columns}
        meant |= {column for column, key in both.keys.items() if known.names(key)}
        if rows[at + 1].keys() <= meant and not alone.is_repeated_in(rows[at + 1]):
            yield both


def _spread(upper: dict[int, str], lower: dict[int, str]) -> dict[int, str]:
    """Carry a merged upper heading over the columns it covers.

    Excel keeps its text in the first of them.
    """
    spread, last = dict(upper), ""
    for column in sorted(upper.keys() | lower.keys()):
        last = upper.get(column) or last
        spread[column] = last
    return spread


def _heading(upper: dict[int, str], lower: dict[int, str], rows: int, known: _Known) -> Heading:
    spread = _spread(upper, lower) if lower else upper
    both = {
        column: f"{spread.get(column, '')} {text}".strip()
        for column, text in lower.items()
        if column in spread
    }
    joined = {
        column: text
        for column, text in both.items()
        if _is_told(known, text) and text != lower[column]
    }
    labels = {
        column: joined.get(column) or lower.get(column) or spread[column]
        for column in sorted({*spread, *lower})
    }
    keys = {column: known.key(text) for column, text in labels.items() if text}
    ranked: dict[str, list[tuple[int, int]]] = {}
    for column, key in keys.items():
        meaning = known.meaning(key) if len(labels[column]) <= MAX_HEADING_LENGTH else None
        if meaning:
            ranked.setdefault(meaning[0], []).append((meaning[1], column))
    return Heading(
        columns={name: [column for _, column in sorted(found)] for name, found in ranked.items()},
        labels=labels,
        keys=keys,
        end=rows,
        fingerprint=_fingerprint(upper, lower),
        profile=known.profile,
        profile_columns=sum(map(known.names, keys.values())),
        joined_labels=len(joined),
        has_two_rows=bool(lower),
        meanings=known,
        label_rows=(upper, lower) if lower else (upper,),
    )


def _is_told(known: _Known, text: str) -> bool:
    key = known.key(text)
    return known.names(key) or known.meaning(key) is not None


def _fingerprint(*rows: dict[int, str]) -> str:
    """A digest of what the headings say, in their order.

    Not of how they are written, nor of the columns between.
    """
    told = (
        "\x1f".join(normalize.fold_label(row[column]) for column in sorted(row))
        for row in rows
        if row
    )
    return hashlib.sha256("\x1e".join(told).encode()).hexdigest()[:32]
