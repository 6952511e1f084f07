"""One row of a table of secure messages, under its heading, as an item.

Or as a row that is no request.
"""

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise, takewhile
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from parsers.item import Address, Format, InboundItem, ParseResult, RejectedRow
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.secure_message import columns as secure_message_columns
from parsers.secure_message.columns import FIELD_LABELS, Heading
from parsers.spreadsheets.cell_values import ERROR, NOT_A_DATE, UNSOLVED, CellReader, Value
from parsers.spreadsheets.formats.delimited import QUOTES
from parsers.spreadsheets.formats.xlsx_sheet import MISNUMBERED, MISPLACED, NO_SUCH_TEXT
from parsers.text import normalize

NO_TEXT = "neither message text nor subject: write the message into this row"
NO_SENDER = "neither practice nor sender nor e-mail address: write into this row who asks"
NO_VALUE = "the message text is {flaw}; and there is no subject"
DAMAGED = "{flaw}: export the messages again, or write this row anew"
PATIENT = "{label} (patient data)"

# characters: what is shorter under a bare "ID" may count rows, and would hide next week's messages
_SHORT_ID = 6
_LONGEST_ID = 200
_MOST_KNOWN = 4096  # senders kept in mind, so that each is taken apart once
_APART = re.compile(r"[\s;|]+|,(?=\s|https?://|$)")  # between the links of one cell
_LINK = re.compile(r"https?://\S", re.IGNORECASE)
_OF_CONTENT = re.compile(r"row-[0-9a-f]{64}")
# Up to 999, as "7", "#7", "No. 7", "007" or "7.0": so short a number counts something.
_COUNTER = re.compile(r"(?:#|n[or]\.?|row|msg|message)?\s*#?\s*0*\d{1,3}(?:[.,]0+)?", re.IGNORECASE)
# Excel shows a number of 12 digits or more in a narrow or General column so, and saves it so as
# text.
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]?\d+")
_WHOLE = re.compile(r"(\d+)(?:[.,]0+)?")
_GROUPED = re.compile(r"\d{1,3}(?:([, \u00a0\u202f'])\d{3})(?:\1\d{3})+")
_EXACT_DIGITS = 15  # Excel keeps so many of a number, the others become zeros
_SHOWN_DIGITS, _SHOWN_FROM = 6, 12  # General shows six digits of a number that has twelve or more
_ENDS_IN_NUMBER = re.compile(r"(.*?)(\d{1,18})", re.DOTALL)
_FEWEST_COUNTED, _FEWEST_PREFIXED = (
    3,
    4,
)  # rows in a sequence: fewer may be ids that happen to be neighbours
_NO_TEXT = {ERROR, UNSOLVED, NO_SUCH_TEXT}
_DAMAGE = {MISPLACED, MISNUMBERED, QUOTES}  # which column says what cannot be known
_LINKED = (
    "external_id",
    "subject",
    "thread_id",
)  # a link behind one of these leads to the message itself
_BLANK = Value("")
NO_MERGED_VALUES: Mapping[int, tuple[int, Value]] = MappingProxyType({})
# Where what stands outside of any table can be written, so that it is read the next time.
_PLAIN_HEADINGS = (("Practice", ""), ("From", ""), ("Message", ""))


class SheetRow(NamedTuple):
    """A row's values by column, blank ones left out unless something is wrong with them.

    `carried` are the values of merged cells that reach down into this row, with the number of the
    row they stand in.
    """

    number: int
    hidden: bool
    values: dict[int, Value]
    merged_values: Mapping[int, tuple[int, Value]] = NO_MERGED_VALUES
    is_after_blank: bool = False  # a blank row stands above it

    def fill_merged(self, heading: int) -> "SheetRow":
        """Return the row with the values of merged cells.

        But of none that begins at or above the heading's row.
        """
        if not self.merged_values:
            return self
        reaching = {
            column: value for column, (row, value) in self.merged_values.items() if row > heading
        }
        return self._replace(values=dict(sorted({**reaching, **self.values}.items())))

    @property
    def texts(self) -> dict[int, str]:
        """The texts alone."""
        return {column: value.text for column, value in self.values.items() if value.text}


class _Said(NamedTuple):
    """What a row says of the fields whose columns may have to be shown as they are."""

    sent_at: datetime | None
    sender: Address
    email: str
    link: str
    company: str
    behind: str  # the address that a cell leads to, where the link is taken from there
    unused: tuple[str, ...]  # id fields that have a value which identifies nothing


class RowReader:
    """The rows under one heading.

    Which columns feed which field is worked out once, so that a row costs little.
    """

    def __init__(
        self,
        heading: Heading,
        sheet: str,
        how: CellReader,
        options: Options = DEFAULT_OPTIONS,
        around: tuple[tuple[str, str], ...] = (),
        *,
        counting: Collection[str] = (),
    ) -> None:
        profile = heading.profile
        self._counting = counting  # id fields whose columns count the rows of this sheet
        self._heading, self._sheet, self._how = heading, sheet, how
        self.table_details = around  # details that every row of the table has, as titles above it
        self._columns = {
            name: tuple(heading.columns.get(name, ()))
            for name in secure_message_columns.HEADINGS_BY_FIELD
        }
        self._defaults = dict(profile.defaults) if profile else {}
        self._zone = ZoneInfo((profile and profile.time_zone) or options.time_zone)
        self._order = profile.date_order if profile else "mdy"
        self._senders: dict[tuple[str, str], tuple[Address, tuple[str, ...]]] = {}
        self._known_recipients: dict[str, tuple[Address, ...]] = {"": ()}
        patient = {
            column
            for name in secure_message_columns.PATIENT_FIELDS
            for column in self._columns[name]
        }
        one_line = {column: normalize.to_one_line(text) for column, text in heading.labels.items()}
        self._labels = {
            c: PATIENT.format(label=text) if c in patient else text for c, text in one_line.items()
        }
        kept = {
            column
            for name in secure_message_columns.DETAIL_FIELDS
            for column in self._columns[name]
        }
        ours = {column for columns in heading.columns.values() for column in columns}
        self._quiet = frozenset(ours - kept)  # the item says what they say
        self._kept = frozenset(kept)
        self._several = {
            n: cs
            for n, cs in self._columns.items()
            if len(cs) > 1 and n not in secure_message_columns.DETAIL_FIELDS
        }

    @property
    def columns(self) -> Mapping[str, tuple[int, ...]]:
        """Return the columns of each field of ours, () where it has none."""
        return self._columns

    def parse(self, line: SheetRow) -> ParseResult:
        """Make the item of a row.

        What is missing or damaged becomes a caveat, unless nothing of a request is left.
        """
        values = line.values
        odd = [
            c
            for c, v in values.items()
            if v.flaw or v.link or len(v.text) > normalize.MAX_LINE_LENGTH
        ]
        text, subject = self._text(values), self._line(values, "subject")
        company, number = (
            self._line(values, "company"),
            self._line(values, "company_number").lstrip("'"),
        )
        if not (company or number):
            company, number = (
                self._defaults.get("company", ""),
                self._defaults.get("company_number", ""),
            )
        email = self._line(values, "email") or (
            self._behind(values, "mailto:", "email", "sender") if odd else ""
        )
        sender, caveats = self._sender(self._line(values, "sender"), email)
        somebody = bool(company or number or sender.name or sender.email)
        wrong = self._wrong(line, odd, text, subject, somebody=somebody)
        if wrong is not None:
            return wrong
        sent_at = self._sent_at(values)
        category, link = self._or_default(values, "category"), self._line(values, "link")
        behind = (
            self._behind(values, "http", "link", *_LINKED) if odd and not _is_link(link) else ""
        )
        given_id, given_thread = (
            self._given(values, "external_id"),
            self._given(values, "thread_id"),
        )
        own_id, thread_id = self._own_id(values, "external_id"), self._own_id(values, "thread_id")
        unused = (("external_id",) if given_id and not own_id else ()) + (
            ("thread_id",) if given_thread and not thread_id else ()
        )
        said = _Said(sent_at, sender, email, link, company, behind, unused)
        return InboundItem(
            format=Format.SECURE_MESSAGE,
            external_id=own_id
            or f"row-{_digest(number or company, sender, sent_at, subject, text)}",
            unreliable_id="" if own_id else given_id[:_LONGEST_ID],
            sender=sender,
            to=self._recipients(self._or_default(values, "to")),
            company=company,
            company_number=number,
            phone=self._or_default(values, "phone"),
            category=category,
            subject=subject or self._defaults.get("subject", ""),
            text=text,
            details=(*self._details(values, odd, said), *self.table_details),
            link=link if _is_link(link) else behind,
            thread_id=thread_id,
            sent_at=sent_at,
            telemedicine=bool(normalize.TELEMEDICINE.search(f"{category} {subject}")),
            caveats=tuple(
                dict.fromkeys((*self._caveats(line, odd, said, text, company or number), *caveats))
            ),
        )

    def _wrong(
        self, line: SheetRow, odd: list[int], text: str, subject: str, *, somebody: bool
    ) -> RejectedRow | None:
        """The row as one that is no request, with what is wrong; None where it is one."""
        flaws = {column: line.values[column].flaw for column in odd}
        damaged = [column for column, flaw in flaws.items() if flaw in _DAMAGE]
        if damaged:
            return self._rejected(line, DAMAGED.format(flaw=flaws[damaged[0]]), damaged[:1])
        bodies = self._columns["body"]
        lost = [column for column in bodies if flaws.get(column) in _NO_TEXT and not subject]
        if lost:
            return self._rejected(line, NO_VALUE.format(flaw=flaws[lost[0]]), lost[:1])
        if not (text or subject):
            return self._rejected(line, NO_TEXT, bodies)
        return (
            None
            if somebody
            else self._rejected(line, NO_SENDER, self._of(*secure_message_columns.SENDER_FIELDS))
        )

    def _of(self, *names: str) -> list[int]:
        return [column for name in names for column in self._columns[name]]

    def _rejected(self, line: SheetRow, reason: str, columns: Sequence[int]) -> RejectedRow:
        cell = f"{name_column(columns[0])}{line.number}" if len(columns) == 1 else ""
        everywhere = sorted(
            {*self._heading.labels, *line.values}
        )  # what is missing has to be written somewhere
        told = (
            (self._heading_of(column), line.values.get(column, _BLANK).text)
            for column in everywhere
        )
        return RejectedRow(
            sheet=self._sheet, row=line.number, cell=cell, reason=reason, values=tuple(told)
        )

    # -- one field ----

    def _first(self, values: dict[int, Value], name: str) -> Value:
        """The first answered column of a field; a blank value where none is."""
        for column in self._columns[name]:
            value = values.get(column)
            if value is not None and value.text:
                return value
        return _BLANK

    def _line(self, values: dict[int, Value], name: str) -> str:
        for column in self._columns[name]:
            value = values.get(column)
            if value is not None and value.text:
                return normalize.to_one_line(value.text)
        return ""

    def _or_default(self, values: dict[int, Value], name: str) -> str:
        return self._line(values, name) or self._defaults.get(name, "")

    def _text(self, values: dict[int, Value]) -> str:
        """The first answered column; those of the very same heading are all text."""
        taken = self._text_columns(values)
        if len(taken) == 1:
            return values[taken[0]].text
        return "\n\n".join(values[column].text for column in taken)

    def _text_columns(self, values: dict[int, Value]) -> list[int]:
        answered = [c for c in self._columns["body"] if c in values and values[c].text]
        keys = self._heading.keys
        return (
            [c for c in answered if keys[c] == keys[answered[0]]] if len(answered) > 1 else answered
        )

    def _sender(self, name: str, email: str) -> tuple[Address, tuple[str, ...]]:
        known = self._senders.get((name, email))
        if known is None:
            known = normalize.parse_sender(name or self._defaults.get("sender", ""), email)
            if not known[0].email and not email and self._defaults.get("email"):
                known = normalize.parse_sender(known[0].name, self._defaults["email"])
            if len(self._senders) < _MOST_KNOWN:
                self._senders[name, email] = known
        return known

    def _recipients(self, text: str) -> tuple[Address, ...]:
        """The addresses in a recipient column, or else the name or inbox that stands there."""
        known = self._known_recipients.get(text)
        if known is None:
            known = tuple(Address(email=one) for one in normalize.find_emails(text)) or (
                Address(name=text),
            )
            if len(self._known_recipients) < _MOST_KNOWN:
                self._known_recipients[text] = known
        return known

    def _behind(self, values: dict[int, Value], kind: str, *names: str) -> str:
        """The first address of a kind that a cell of these fields leads to."""
        links = (values[column].link for column in self._of(*names) if column in values)
        found = next((link for link in links if link.startswith(kind)), "")
        return found.removeprefix("mailto:").partition("?")[0] if kind == "mailto:" else found

    def _sent_at(self, values: dict[int, Value]) -> datetime | None:
        clock = self._first(values, "clock")
        return self._how.read_moment(
            self._first(values, "sent_at"),
            clock if clock.text else None,
            zone=self._zone,
            order=self._order,
        )

    def _given(self, values: dict[int, Value], name: str) -> str:
        """Return an id as the row gives it.

        Excel users put an apostrophe before what is to stay text.
        """
        return self._line(values, name).lstrip("'")

    def _own_id(self, values: dict[int, Value], name: str) -> str:
        """Return the id in an id field.

        Or "" where it has none that tells it from every other message or thread.
        """
        for column in self._columns[name]:
            value = values.get(column)
            if value is None or not value.text:
                continue
            given = normalize.to_one_line(value.text).lstrip("'")
            short = len(given) < _SHORT_ID and self._heading.keys[column] == "id"
            odd = name == "external_id" and (value.flaw or len(given) > _LONGEST_ID)
            if short or odd or name in self._counting or is_unusable_id(given):
                return ""
            return given
        return ""

    # -- what else the row says ----

    def _details(
        self, values: dict[int, Value], odd: list[int], said: _Said
    ) -> Iterator[tuple[str, str]]:
        """Every column that is none of our fields.

        And those of ours that hold more than the item says of them.
        """
        told, attached = self._quiet, self._columns["attachments"]
        more = self._more(values, odd, said)
        if more or self._several:
            taken = (self._taken(name, values) for name in self._columns if name not in more)
            told = frozenset(column for columns in taken for column in columns) - self._kept
        for column, value in values.items():
            if column not in told and value.text:
                label = self._label(column)
                if column in attached:
                    yield from _attached(label, value.text)
                else:
                    yield label, value.text
        for column in odd:  # where a cell leads to, unless the item or its own text says so
            address = values[column].link
            if (
                address
                and address not in {said.link, said.behind, values[column].text}
                and not address.startswith("mailto:")
            ):
                yield f"{self._label(column)}: leads to", address

    def _label(self, column: int) -> str:
        return self._labels.get(column) or f"Column {name_column(column)}"

    def _heading_of(self, column: int) -> str:
        return (
            normalize.to_one_line(self._heading.labels.get(column, ""))
            or f"Column {name_column(column)}"
        )

    def _taken(self, name: str, values: dict[int, Value]) -> list[int]:
        """The columns that a field of this row was taken from."""
        if name == "body":
            return self._text_columns(values)
        return [
            column for column in self._columns[name] if column in values and values[column].text
        ][:1]

    def _more(self, values: dict[int, Value], odd: list[int], said: _Said) -> set[str]:
        """Fields whose columns hold more than the item says of them."""
        more = set()
        if said.sent_at is None and (self._columns["sent_at"] or self._columns["clock"]):
            more |= {"sent_at", "clock"}
        elif self._columns["clock"] and said.sent_at == self._how.read_moment(
            self._first(values, "sent_at"), zone=self._zone, order=self._order
        ):  # the date has a time already, or this one cannot be read
            more.add("clock")
        if not _says(said.sender, self._line(values, "sender")):
            more.add("sender")
        if said.email and said.sender.email != said.email:
            more.add("email")
        if said.link and not _is_link(said.link):
            more.add("link")
        if not said.company:  # the number may be on no record
            more.add("company_number")
        more.update(said.unused)
        long = [column for column in odd if len(values[column].text) > normalize.MAX_LINE_LENGTH]
        if long:
            more |= {
                n
                for n, columns in self._columns.items()
                if n != "body" and not set(columns).isdisjoint(long)
            }
        return more

    def _caveats(
        self, line: SheetRow, odd: list[int], said: _Said, text: str, practice: str
    ) -> list[str]:
        found = []
        if not text:
            found.append("no message text in this row")
        if not practice:
            found.append("practice not given")
        if said.sent_at is None and self._first(line.values, "sent_at").text:
            found.append(f"date: {NOT_A_DATE}")
        if line.hidden:
            found.append("this row is hidden in the sheet")
        found += [
            f"{self._word(column)}: {flaw}" for column in odd if (flaw := line.values[column].flaw)
        ]
        return found

    def _word(self, column: int) -> str:
        name = next((name for name, columns in self._columns.items() if column in columns), "")
        return FIELD_LABELS.get(name, name) or "another column"


def is_unusable_id(given: str) -> bool:
    """Say whether an id is none.

    A small number, which counts something, or a number that Excel has rounded.
    """
    if _COUNTER.fullmatch(given) or _SCIENTIFIC.fullmatch(given):
        return True
    plain = re.sub(r"[, \u00a0\u202f']", "", given) if _GROUPED.fullmatch(given) else given
    whole = _WHOLE.fullmatch(plain)
    if whole is None:
        return False
    digits = whole[1]
    beyond_exact = digits[_EXACT_DIGITS:]
    beyond_shown = digits[_SHOWN_DIGITS:] if len(digits) >= _SHOWN_FROM else ""
    return any(rest and not rest.strip("0") for rest in (beyond_exact, beyond_shown))


def find_counting_fields(heading: Heading, rows: Sequence[dict[int, Value]]) -> frozenset[str]:
    """Return the id fields whose column counts the rows of its table.

    By the first rows below the heading.

    Rows are looked at down to the first without a number there: another table may follow. Plain
    numbers count where each is one more, or one less, than the one above. With letters before the
    number ids of one system may be neighbours: there the sequence has to begin at 1.
    """
    found = set()
    for name in ("external_id", "thread_id"):
        columns = heading.columns.get(name, ())
        given = [
            rows_values[columns[0]].text
            for rows_values in rows
            if columns and columns[0] in rows_values
        ]
        if _is_sequence(given):
            found.add(name)
    return frozenset(found)


def _is_sequence(given: Sequence[str]) -> bool:
    parts = (
        _ENDS_IN_NUMBER.fullmatch(normalize.to_one_line(text).lstrip("'")) for text in given if text
    )
    found = [part for part in takewhile(bool, parts) if part is not None]
    if len({part[1] for part in found}) != 1:
        return False
    numbers = [int(part[2]) for part in found]
    steps = {after - before for before, after in pairwise(numbers)}
    if len(steps) != 1 or not steps <= {1, -1}:
        return False
    if not found[0][1]:
        return len(numbers) >= _FEWEST_COUNTED
    return len(numbers) >= _FEWEST_PREFIXED and 1 in {numbers[0], numbers[-1]}


def reject_stray(line: SheetRow, sheet: str, reason: str) -> RejectedRow:
    """Make a rejected row of one that stands under no heading.

    Its cells by the letters of their columns.
    """
    cells = (
        (f"Column {name_column(column)}", value.text)
        for column, value in sorted(line.values.items())
    )
    return RejectedRow(
        sheet=sheet, row=line.number, reason=reason, values=(*_PLAIN_HEADINGS, *cells)
    )


def digest_content(item: InboundItem, around: int) -> str:
    """Tell a row of a file by everything it says, 64 hexadecimal digits.

    Also by what `digest_message` leaves out.

    `around` of its details are not its own, but stand around its table. A value that counts rows
    says nothing: two rows that differ in nothing else are one message.
    """
    details = item.details[: len(item.details) - around]
    own = [pair for pair in details if not item.unreliable_id or pair[1] != item.unreliable_id]
    parts = (
        digest_message(item),
        item.company,
        item.thread_id,
        item.link,
        *(text for pair in own for text in pair),
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def is_digest_id(external_id: str) -> bool:
    """Tell an id that is a digest of the message, because it has none of its own."""
    return bool(_OF_CONTENT.fullmatch(external_id))


def digest_message(item: InboundItem) -> str:
    """Tell a message by its content, 64 hexadecimal digits.

    Practice, sender, time, subject and text.
    """
    if is_digest_id(item.external_id):  # it is the digest
        return item.external_id[len("row-") :]
    return _digest(
        item.company_number or item.company, item.sender, item.sent_at, item.subject, item.text
    )


def name_column(column: int) -> str:
    """Name a column, counted from 1, as Excel does."""
    name = ""
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _digest(
    practice: str, sender: Address, sent_at: datetime | None, subject: str, text: str
) -> str:
    parts = (
        practice,
        sender.name,
        sender.key,
        sent_at.isoformat() if sent_at else "",
        subject,
        text,
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _says(sender: Address, text: str) -> bool:
    """Tell whether the sender, as taken, says all that the cell says."""
    name, email = sender.name, sender.email
    if text in {"", name, email}:
        return True
    return text in {f"{name} <{email}>", f"{name} ({email})", f"{email} {name}"}


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _attached(label: str, text: str) -> Iterator[tuple[str, str]]:
    """The links in a cell of attachments, each by itself, and what is no link as it stands."""
    if text.startswith(("https://", "http://")) and not _APART.search(text):
        yield label, text
        return
    parts = [part.strip("<>\"'(),") for part in _APART.split(text)] if _LINK.search(text) else []
    links = [part for part in parts if _LINK.match(part)]
    others = " ".join(part for part in parts if part and not _LINK.match(part)) if links else text
    for number, link in enumerate(links, start=1):
        yield (label if len(links) == 1 else f"{label} {number} of {len(links)}"), link
    if others:
        yield label, others
