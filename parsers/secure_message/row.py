"""Parser of a row under its heading: into an item, or a rejected row where it is no request."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum, auto
from itertools import pairwise, takewhile
from types import MappingProxyType
from typing import NamedTuple
from zoneinfo import ZoneInfo

from parsers.item import Address, Direction, Format, InboundItem, ParseResult, RejectedRow
from parsers.options import DEFAULT_OPTIONS, Options
from parsers.secure_message import headings
from parsers.secure_message.headings import FIELD_LABELS, Heading
from parsers.secure_message.unquoted import UNSURE
from parsers.spreadsheets.cell_values import ERROR, NOT_A_DATE, UNSOLVED, CellReader, Value
from parsers.spreadsheets.formats.delimited import QUOTES
from parsers.spreadsheets.formats.xlsx_sheet import MISNUMBERED, MISPLACED, NO_SUCH_TEXT
from parsers.text import dates, normalize

NO_TEXT = "neither message text nor subject: write the message into this row"
NO_SENDER = "neither practice nor sender nor e-mail address: write into this row who asks"
OPEN_DATE = "the date can be read in two ways: it was read as {order}"
SWAPPED_DATE = (
    "the date has perhaps day and month swapped: other dates of this column have the day first"
)
NO_VALUE = "the message text is {flaw}; and there is no subject"
DAMAGED = "{flaw}: export the messages again, or write this row anew"
PATIENT = "{label} (patient data)"

# Characters: a shorter id under a bare "ID" may count rows, and would hide next week's messages.
_MIN_ID_LENGTH = 6
_MAX_ID_LENGTH = 200
_MAX_CACHED = 4096  # senders and recipients that are parsed only once
_SEPARATOR = re.compile(r"[\s;|]+|,(?=\s|https?://|$)")  # between the links of one cell
_LINK = re.compile(r"https?://\S", re.IGNORECASE)
_DIGEST_ID = re.compile(r"row-[0-9a-f]{64}")
# Up to 999, as "7", "#7", "No. 7", "007" or "7.0": so short a number counts something.
_COUNTER = re.compile(r"(?:#|n[or]\.?|row|msg|message)?\s*#?\s*0*\d{1,3}(?:[.,]0+)?", re.IGNORECASE)
# Excel shows a number of 12 digits or more in a narrow or General column so, and saves it so as
# text.
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:[.,]\d*)?[eE][+-]?\d+")
# What a column of directions or folders says of a message that the desk has sent.
_SENT = re.compile(
    r"(?:out(?:bound|going)?|sent(?: (?:items|messages?|mail|by us|to practice))?|outbox|from us)",
    re.IGNORECASE,
)
_WHOLE = re.compile(r"(\d+)(?:[.,]0+)?")
_GROUPED = re.compile(r"\d{1,3}(?:([, \u00a0\u202f'])\d{3})(?:\1\d{3})+")
_MONTHS = 12
_EXACT_DIGITS = 15  # Excel keeps so many of a number, the others become zeros
_SHOWN_DIGITS, _SHOWN_FROM = 6, 12  # General shows six digits of a number that has twelve or more
_ENDS_IN_NUMBER = re.compile(r"(.*?)(\d{1,18})", re.DOTALL)
# Rows in a sequence, without and with text before the number; fewer may be ids of neighbours.
_MIN_COUNTED, _MIN_PREFIXED = 3, 4
_NO_TEXT = {ERROR, UNSOLVED, NO_SUCH_TEXT}
_DAMAGE = {MISPLACED, MISNUMBERED, QUOTES, UNSURE}  # the columns of the values are not certain
# A link behind one of these leads to the message itself.
_LINKED_FIELDS = ("external_id", "subject", "thread_id")
_ID_FIELDS = ("external_id", "thread_id")
_BLANK = Value("")
_ORDER_NAMES = {"mdy": "month/day", "dmy": "day/month", "ymd": "year/month/day"}
NO_FIELDS: Mapping[str, str] = MappingProxyType({})
NO_MERGED_VALUES: Mapping[int, tuple[int, Value]] = MappingProxyType({})
# Headings for a row outside of any table: once its values stand below them, it is read.
_PLAIN_HEADINGS = (("Practice", ""), ("From", ""), ("Message", ""))


class RowContext(NamedTuple):
    """Additions to a row by what stands around it, as by the group row above it.

    `fields` are pairs of a field of ours and its value for a row that has none.
    """

    fields: tuple[tuple[str, str], ...] = ()
    details: tuple[tuple[str, str], ...] = ()
    caveats: tuple[str, ...] = ()


NO_CONTEXT = RowContext()


class DateOrder(NamedTuple):
    """Order of day and month in a column of dates, and how certain it is.

    `order` is as in `dates.parse_moment`. `is_open` is true where nothing in the column decides it;
    `may_be_swapped` where texts are day first, but date cells look as if Excel read month first.
    """

    order: str = "mdy"
    is_open: bool = False
    may_be_swapped: bool = False


class SheetRow(NamedTuple):
    """A row's values by column, blank ones left out unless they have a flaw.

    `merged_values` are those of merged cells that reach down into this row, each with the number of
    the row it stands in.
    """

    number: int
    hidden: bool
    values: dict[int, Value]
    merged_values: Mapping[int, tuple[int, Value]] = NO_MERGED_VALUES
    is_after_blank: bool = False  # a blank row stands above it
    fields: Sequence[str] = ()  # of a text file, see `model.Row`
    # What the rows around say about this one: fields it lacks, further details, caveats.
    context: RowContext = NO_CONTEXT

    def fill_merged(self, heading: int) -> "SheetRow":
        """Return the row with the values of merged cells that begin below the heading's row."""
        if not self.merged_values:
            return self
        reaching = {
            column: value for column, (row, value) in self.merged_values.items() if row > heading
        }
        return self._replace(values=dict(sorted({**reaching, **self.values}.items())))

    @property
    def texts(self) -> dict[int, str]:
        """The texts of the values that have one, by column."""
        return {column: value.text for column, value in self.values.items() if value.text}


class _Content(NamedTuple):
    """Content of a row by field, "" for a field that it lacks."""

    text: str
    subject: str
    company: str
    company_number: str
    email: str
    sender: Address
    sender_caveats: tuple[str, ...]
    sent_at: datetime | None
    category: str
    link: str  # the text of the link column
    web_link: str  # the address a cell leads to, where that text is no link
    external_id: str  # "" where the one in `given_id` identifies nothing
    given_id: str
    thread_id: str  # likewise
    given_thread_id: str

    @property
    def practice(self) -> str:
        """Name of the practice, else its number."""
        return self.company or self.company_number

    @property
    def has_sender(self) -> bool:
        """True where anything names who asks."""
        return bool(self.practice or self.sender.name or self.sender.email)

    @property
    def unused_fields(self) -> tuple[str, ...]:
        """Id fields whose value identifies nothing."""
        ids = (
            ("external_id", self.given_id, self.external_id),
            ("thread_id", self.given_thread_id, self.thread_id),
        )
        return tuple(name for name, given, usable in ids if given and not usable)


class RowReader:
    """Reader of the rows under one heading.

    `cells` reads the sheet's cells; `table_details` are details that every row of the table has, as
    titles above it; `counting` are the id fields whose columns count rows. `table_fields` are
    values by field that titles name for all rows without one. The columns of each field are worked
    out once, so that a row costs little.
    """

    def __init__(
        self,
        heading: Heading,
        sheet: str,
        cells: CellReader,
        options: Options = DEFAULT_OPTIONS,
        table_details: tuple[tuple[str, str], ...] = (),
        *,
        counting: Collection[str] = (),
        table_fields: Mapping[str, str] = NO_FIELDS,
        date_order: DateOrder | None = None,
    ) -> None:
        profile = heading.profile
        self._counting = counting
        self._heading, self._sheet, self._cells = heading, sheet, cells
        self.table_details = table_details
        self._columns = {
            name: tuple(heading.columns.get(name, ())) for name in headings.HEADINGS_BY_FIELD
        }
        self._defaults = dict(profile.defaults) if profile else {}
        self._zone = ZoneInfo((profile and profile.time_zone) or options.time_zone)
        self._table_fields = table_fields
        self._dates = date_order or DateOrder(profile.date_order if profile else "mdy")
        self._date_order = self._dates.order
        self._senders: dict[tuple[str, str], tuple[Address, tuple[str, ...]]] = {}
        self._recipients: dict[str, tuple[Address, ...]] = {"": ()}
        self._labels = self._make_labels()
        self._detail_columns = frozenset(self._list_columns(*headings.DETAIL_FIELDS))
        ours = {column for columns in heading.columns.values() for column in columns}
        # Their content is in a field of the item, so it is no detail.
        self._field_columns = frozenset(ours - self._detail_columns)
        self._has_several_columns = any(
            len(columns) > 1 and name not in headings.DETAIL_FIELDS
            for name, columns in self._columns.items()
        )

    def _make_labels(self) -> dict[int, str]:
        """Return the labels of details by column; those of patient data are marked."""
        labels = {
            column: normalize.to_one_line(text) for column, text in self._heading.labels.items()
        }
        for column in self._list_columns(*headings.PATIENT_FIELDS):
            labels[column] = PATIENT.format(label=labels[column])
        return labels

    @property
    def columns(self) -> Mapping[str, tuple[int, ...]]:
        """The columns of each field of ours, () where it has none."""
        return self._columns

    def list_sender_columns(self) -> frozenset[int]:
        """Return the columns for who asks."""
        return frozenset(self._list_columns(*headings.SENDER_FIELDS))

    def parse(self, row: SheetRow) -> ParseResult:
        """Return the item of a row, or the rejected row where it is no request.

        Missing or damaged values become caveats, unless nothing of a request is left.
        """
        odd = [
            column
            for column, value in row.values.items()
            if value.flaw or value.link or len(value.text) > normalize.MAX_LINE_LENGTH
        ]
        content = self._read(row.values, dict(row.context.fields), has_links=bool(odd))
        rejected = self._reject_faulty(row, odd, content)
        if rejected is not None:
            return rejected
        details = self._iter_details(row.values, odd, content)
        caveats = (*self._list_caveats(row, odd, content), *content.sender_caveats)
        return InboundItem(
            format=Format.SECURE_MESSAGE,
            external_id=content.external_id or _make_digest_id(content),
            unreliable_id="" if content.external_id else content.given_id[:_MAX_ID_LENGTH],
            sender=content.sender,
            direction=_find_direction(self._find(row.values, "direction")),
            to=self._parse_recipients(self._find_or_default(row.values, "to")),
            company=content.company,
            company_number=content.company_number,
            phone=_strip_apostrophe(self._find_or_default(row.values, "phone")),
            category=content.category,
            subject=content.subject or self._defaults.get("subject", ""),
            text=content.text,
            details=(*details, *row.context.details, *self.table_details),
            link=content.link if _is_link(content.link) else content.web_link,
            thread_id=content.thread_id,
            sent_at=content.sent_at,
            telemedicine=bool(
                normalize.TELEMEDICINE.search(f"{content.category} {content.subject}")
            ),
            caveats=tuple(dict.fromkeys(caveats)),
        )

    def _read(
        self, values: dict[int, Value], around: Mapping[str, str], *, has_links: bool
    ) -> _Content:
        company = self._find(values, "company")
        company_number = _strip_apostrophe(self._find(values, "company_number"))
        if not (company or company_number):
            company, company_number = self._find_practice_around(around)
        email, link = self._find(values, "email"), self._find(values, "link")
        web_link = ""
        if has_links:
            email = email or self._find_mail_link(values)
            web_link = "" if _is_link(link) else self._find_web_link(values)
        sender, sender_caveats = self._parse_sender(self._find(values, "sender"), email)
        return _Content(
            text=self._join_text(values),
            subject=self._find(values, "subject"),
            company=company,
            company_number=company_number,
            email=email,
            sender=sender,
            sender_caveats=sender_caveats,
            sent_at=self._read_moment(values),
            category=self._find_or_default(values, "category"),
            link=link,
            web_link=web_link,
            external_id=self._find_usable_id(values, "external_id"),
            given_id=_strip_apostrophe(self._find(values, "external_id")),
            thread_id=self._find_usable_id(values, "thread_id"),
            given_thread_id=_strip_apostrophe(self._find(values, "thread_id")),
        )

    def _find_practice_around(self, around: Mapping[str, str]) -> tuple[str, str]:
        """Return name and number of the practice of a row that has neither.

        The nearest counts: the group row above, then the titles, then the profile.
        """
        for fields in (around, self._table_fields, self._defaults):
            if "company" in fields or "company_number" in fields:
                return fields.get("company", ""), fields.get("company_number", "")
        return "", ""

    def _reject_faulty(
        self, row: SheetRow, odd: list[int], content: _Content
    ) -> RejectedRow | None:
        """Return the rejected row of one that is no request; None for a request."""
        damaged = self._find_flaw(row, odd, _DAMAGE)
        if damaged is not None:
            return self._reject(row, DAMAGED.format(flaw=row.values[damaged].flaw), [damaged])
        bodies = self._columns["body"]
        if not content.subject:
            lost = self._find_flaw(row, bodies, _NO_TEXT)
            if lost is not None:
                return self._reject(row, NO_VALUE.format(flaw=row.values[lost].flaw), [lost])
            if not content.text:
                return self._reject(row, NO_TEXT, bodies)
        if not content.has_sender:
            senders = self._list_columns(*headings.SENDER_FIELDS)
            return self._reject(row, NO_SENDER, senders)
        return None

    def _find_flaw(
        self, row: SheetRow, columns: Iterable[int], flaws: Collection[str]
    ) -> int | None:
        """Return the first of these columns whose value has one of some flaws; None without any."""
        for column in columns:
            value = row.values.get(column)
            if value is not None and value.flaw in flaws:
                return column
        return None

    def _list_columns(self, *names: str) -> list[int]:
        return [column for name in names for column in self._columns[name]]

    def _reject(self, row: SheetRow, reason: str, columns: Sequence[int]) -> RejectedRow:
        """Return a rejected row with all columns of the heading: staff fill in the missing ones."""
        cell = f"{name_column(columns[0])}{row.number}" if len(columns) == 1 else ""
        values = (
            (self._name_heading(column), row.values.get(column, _BLANK).text)
            for column in sorted({*self._heading.labels, *row.values})
        )
        return RejectedRow(
            sheet=self._sheet, row=row.number, cell=cell, reason=reason, values=tuple(values)
        )

    # -- a single field ----

    def _find_column(self, values: dict[int, Value], name: str) -> int | None:
        """Return the first column of a field that has a text; None where none has."""
        for column in self._columns[name]:
            value = values.get(column)
            if value is not None and value.text:
                return column
        return None

    def _find_value(self, values: dict[int, Value], name: str) -> Value:
        """Return the first value of a field that has a text; a blank value where none has."""
        column = self._find_column(values, name)
        return _BLANK if column is None else values[column]

    def _find(self, values: dict[int, Value], name: str) -> str:
        """Return the first text of a field on one line, "" where it has none."""
        for column in self._columns[name]:  # not by `_find_column`: ten times a row
            value = values.get(column)
            if value is not None and value.text:
                return normalize.to_one_line(value.text)
        return ""

    def _find_or_default(self, values: dict[int, Value], name: str) -> str:
        return self._find(values, name) or self._defaults.get(name, "")

    def _join_text(self, values: dict[int, Value]) -> str:
        """Return the message text; columns of the very same heading are joined."""
        return "\n\n".join(values[column].text for column in self._list_text_columns(values))

    def _list_text_columns(self, values: dict[int, Value]) -> list[int]:
        filled = [c for c in self._columns["body"] if c in values and values[c].text]
        keys = self._heading.keys
        return [column for column in filled if keys[column] == keys[filled[0]]]

    def _parse_sender(self, name: str, email: str) -> tuple[Address, tuple[str, ...]]:
        cached = self._senders.get((name, email))
        if cached is not None:
            return cached
        sender = normalize.parse_sender(name or self._defaults.get("sender", ""), email)
        default_email = self._defaults.get("email", "")
        if default_email and not email and not sender[0].email:
            sender = normalize.parse_sender(sender[0].name, default_email)
        if len(self._senders) < _MAX_CACHED:
            self._senders[name, email] = sender
        return sender

    def _parse_recipients(self, text: str) -> tuple[Address, ...]:
        """Return the addresses in a recipient column, or else the name or inbox in it."""
        cached = self._recipients.get(text)
        if cached is not None:
            return cached
        recipients = tuple(Address(email=email) for email in normalize.find_emails(text))
        recipients = recipients or (Address(name=text),)
        if len(self._recipients) < _MAX_CACHED:
            self._recipients[text] = recipients
        return recipients

    def _find_link(self, values: dict[int, Value], scheme: str, *names: str) -> str:
        """Return the first address with a scheme that a cell of these fields leads to, or ""."""
        links = (values[c].link for c in self._list_columns(*names) if c in values)
        return next((link for link in links if link.startswith(scheme)), "")

    def _find_mail_link(self, values: dict[int, Value]) -> str:
        link = self._find_link(values, "mailto:", "email", "sender")
        return link.removeprefix("mailto:").partition("?")[0]

    def _find_web_link(self, values: dict[int, Value]) -> str:
        return self._find_link(values, "http", "link", *_LINKED_FIELDS)

    def _read_moment(self, values: dict[int, Value]) -> datetime | None:
        clock = self._find_value(values, "clock")
        return self._cells.read_moment(
            self._find_value(values, "sent_at"),
            clock if clock.text else None,
            zone=self._zone,
            order=self._date_order,
        )

    def _find_usable_id(self, values: dict[int, Value], name: str) -> str:
        """Return the id in an id field, "" where it may be that of other messages or threads."""
        column = self._find_column(values, name)
        if column is None or name in self._counting:
            return ""
        text = _strip_apostrophe(normalize.to_one_line(values[column].text))
        is_short = len(text) < _MIN_ID_LENGTH and self._heading.keys[column] == "id"
        if is_short or is_unusable_id(text):
            return ""
        is_of_message = name == "external_id"
        if is_of_message and (values[column].flaw or len(text) > _MAX_ID_LENGTH):
            return ""
        return text

    # -- further content of the row ----

    def _iter_details(
        self, values: dict[int, Value], odd: list[int], content: _Content
    ) -> Iterator[tuple[str, str]]:
        """Yield label and text of columns that are none of our fields, and of some that are.

        Of ours those that hold more than the item has of them. Then where cells lead to, unless
        the item or the text itself has that.
        """
        covered = self._list_covered(values, odd, content)
        attachments = self._columns["attachments"]
        for column, value in values.items():
            if column not in covered and value.text:
                label = self._name_detail(column)
                if column in attachments:
                    yield from _split_attachments(label, value.text)
                else:
                    yield label, value.text
        for column in odd:
            address = values[column].link
            known = {"", content.link, content.web_link, values[column].text}
            if address not in known and not address.startswith("mailto:"):
                yield f"{self._name_detail(column)}: leads to", address

    def _list_covered(
        self, values: dict[int, Value], odd: list[int], content: _Content
    ) -> frozenset[int]:
        """Return the columns whose whole content is in a field of the item."""
        partial = self._list_partial_fields(values, odd, content)
        if not partial and not self._has_several_columns:
            return self._field_columns
        used = (self._list_used(name, values) for name in self._columns if name not in partial)
        return frozenset(column for columns in used for column in columns) - self._detail_columns

    def _name_detail(self, column: int) -> str:
        return self._labels.get(column) or f"Column {name_column(column)}"

    def _name_heading(self, column: int) -> str:
        heading = normalize.to_one_line(self._heading.labels.get(column, ""))
        return heading or f"Column {name_column(column)}"

    def _list_used(self, name: str, values: dict[int, Value]) -> list[int]:
        """Return the columns that a field of this row was taken from."""
        if name == "body":
            return self._list_text_columns(values)
        column = self._find_column(values, name)
        return [] if column is None else [column]

    def _list_partial_fields(
        self, values: dict[int, Value], odd: list[int], content: _Content
    ) -> set[str]:
        """Return the fields whose columns hold more than the item has of them."""
        partial = {*content.unused_fields, *self._list_partial_times(values, content)}
        if not _is_complete(content.sender, self._find(values, "sender")):
            partial.add("sender")
        if content.email and content.sender.email != content.email:
            partial.add("email")
        if content.link and not _is_link(content.link):
            partial.add("link")
        if not content.company:  # the number may be on no record
            partial.add("company_number")
        return partial | (self._list_cut_fields(values, odd) if odd else set())

    def _list_cut_fields(self, values: dict[int, Value], odd: list[int]) -> set[str]:
        """Return the fields whose value is too long for one line; a message text is never cut."""
        too_long = {c for c in odd if len(values[c].text) > normalize.MAX_LINE_LENGTH}
        return {
            name
            for name, columns in self._columns.items()
            if name != "body" and not too_long.isdisjoint(columns)
        }

    def _list_partial_times(self, values: dict[int, Value], content: _Content) -> set[str]:
        """Return those of date and time column that the item's moment has not been made of."""
        if content.sent_at is None:
            return {name for name in ("sent_at", "clock") if self._columns[name]}
        if not self._columns["clock"]:
            return set()
        date_alone = self._cells.read_moment(
            self._find_value(values, "sent_at"), zone=self._zone, order=self._date_order
        )
        # The date has a time already, or the one beside it cannot be read.
        return {"clock"} if content.sent_at == date_alone else set()

    def _list_caveats(self, row: SheetRow, odd: list[int], content: _Content) -> list[str]:
        caveats = []
        if not content.text:
            caveats.append("no message text in this row")
        if not content.practice:
            caveats.append("practice not given")
        caveats += self._list_date_caveats(row.values, content.sent_at)
        if row.hidden:
            caveats.append("this row is hidden in the sheet")
        flaws = ((column, row.values[column].flaw) for column in odd)
        caveats += [f"{self._name_field(column)}: {flaw}" for column, flaw in flaws if flaw]
        return [*caveats, *row.context.caveats]

    def _list_date_caveats(
        self, values: dict[int, Value], sent_at: datetime | None
    ) -> Iterator[str]:
        day = self._find_value(values, "sent_at")
        if sent_at is None:
            if day.text:
                yield f"date: {NOT_A_DATE}"
        elif self._dates.is_open and can_be_read_two_ways(day):
            yield OPEN_DATE.format(order=_ORDER_NAMES[self._date_order])
        elif self._dates.may_be_swapped and isinstance(day.moment, datetime):
            yield SWAPPED_DATE

    def _name_field(self, column: int) -> str:
        """Return the name of a column's field for staff."""
        for name, columns in self._columns.items():
            if column in columns:
                return FIELD_LABELS.get(name, name)
        return "another column"


def _find_direction(text: str) -> Direction:
    """Return the direction that a column of directions or folders says; incoming for none."""
    return Direction.OUT if _SENT.fullmatch(text.strip()) else Direction.IN


def _strip_apostrophe(text: str) -> str:
    """Return an id without the apostrophe by which Excel users keep a number as text."""
    return text.lstrip("'")


def is_unusable_id(text: str) -> bool:
    """Return whether an id identifies nothing.

    It is a small number, which counts something, or a number that Excel has rounded.
    """
    if _COUNTER.fullmatch(text) or _SCIENTIFIC.fullmatch(text):
        return True
    plain = re.sub(r"[, \u00a0\u202f']", "", text) if _GROUPED.fullmatch(text) else text
    whole = _WHOLE.fullmatch(plain)
    if whole is None:
        return False
    digits = whole[1]
    beyond_exact = digits[_EXACT_DIGITS:]
    beyond_shown = digits[_SHOWN_DIGITS:] if len(digits) >= _SHOWN_FROM else ""
    return any(rest and not rest.strip("0") for rest in (beyond_exact, beyond_shown))


def find_counting_fields(heading: Heading, rows: Sequence[dict[int, Value]]) -> frozenset[str]:
    """Return the id fields whose column counts the rows of its table.

    `rows` are the first ones below the heading. They are looked at down to the first without a
    number there: another table may follow. Plain numbers count where each is one more, or one less,
    than the one above. With text before the number, ids of one system may be neighbours: there the
    sequence has to begin at 1.
    """
    counting = set()
    for name in _ID_FIELDS:
        columns = heading.columns.get(name, ())[:1]
        ids = [values[column].text for values in rows for column in columns if column in values]
        if _is_sequence(ids):
            counting.add(name)
    return frozenset(counting)


def can_be_read_two_ways(day: Value) -> bool:
    """Return whether a date is a text in which either number may be the month."""
    numbers = dates.find_numeric_day(day.text) if day.moment is None else None
    return numbers is not None and max(numbers) <= _MONTHS and numbers[0] != numbers[1]


def find_date_order(days: Iterable[Value], default: str) -> DateOrder:
    """Return the order of a column of dates by those that can be read in one way only.

    26/06 anywhere in the column means day first, and 06/26 month first. With both, or with neither,
    the order is the default one, and open.
    """
    kinds = set(map(_classify_day, days))
    is_day_first = _DayKind.DAY_FIRST in kinds
    if is_day_first == (_DayKind.MONTH_FIRST in kinds) or default == "ymd":
        return DateOrder(default, is_open=True)
    if not is_day_first:
        return DateOrder("mdy")
    is_swapped = _DayKind.EARLY_CELL in kinds and _DayKind.LATE_CELL not in kinds
    return DateOrder("dmy", may_be_swapped=is_swapped)


class _DayKind(Enum):
    """What a date says about the order of its column."""

    DAY_FIRST = auto()  # a text such as 26/06
    MONTH_FIRST = auto()  # a text such as 06/26
    EARLY_CELL = auto()  # a date cell of the first twelve days: day and month may be swapped
    LATE_CELL = auto()  # a date cell of a later day
    NOTHING = auto()


def _classify_day(day: Value) -> _DayKind:
    if isinstance(day.moment, datetime):
        return _DayKind.LATE_CELL if day.moment.day > _MONTHS else _DayKind.EARLY_CELL
    numbers = dates.find_numeric_day(day.text) if day.moment is None else None
    if numbers is None or min(numbers) > _MONTHS or max(numbers) <= _MONTHS:
        return _DayKind.NOTHING
    return _DayKind.DAY_FIRST if numbers[0] > _MONTHS else _DayKind.MONTH_FIRST


def _is_sequence(ids: Sequence[str]) -> bool:
    """Return whether ids are consecutive numbers, all behind the same text or behind none."""
    matches = map(_match_number, filter(None, ids))
    numbered = [match for match in takewhile(bool, matches) if match is not None]
    prefixes = {match[1] for match in numbered}
    numbers = [int(match[2]) for match in numbered]
    steps = {after - before for before, after in pairwise(numbers)}
    if len(prefixes) != 1 or steps not in ({1}, {-1}):
        return False
    if prefixes == {""}:
        return len(numbers) >= _MIN_COUNTED
    return len(numbers) >= _MIN_PREFIXED and 1 in {numbers[0], numbers[-1]}


def _match_number(text: str) -> re.Match[str] | None:
    """Match an id that ends in a number: the text before it, and the number."""
    return _ENDS_IN_NUMBER.fullmatch(_strip_apostrophe(normalize.to_one_line(text)))


def reject_stray(row: SheetRow, sheet: str, reason: str) -> RejectedRow:
    """Return the rejected row of one that stands under no heading, its cells by their columns."""
    cells = (
        (f"Column {name_column(column)}", value.text)
        for column, value in sorted(row.values.items())
    )
    return RejectedRow(
        sheet=sheet, row=row.number, reason=reason, values=(*_PLAIN_HEADINGS, *cells)
    )


def digest_content(item: InboundItem, table_details: int) -> str:
    """Return a digest of everything in a row, 64 hexadecimal digits.

    Also of what `digest_message` leaves out. The last `table_details` details are not the row's
    own, but stand around its table. A value that counts rows means nothing: two rows that differ in
    nothing else are one message.
    """
    details = item.details[: len(item.details) - table_details]
    own = (pair for pair in details if not item.unreliable_id or pair[1] != item.unreliable_id)
    parts = (
        digest_message(item),
        item.company,
        item.thread_id,
        item.link,
        *(text for pair in own for text in pair),
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def is_digest_id(external_id: str) -> bool:
    """Return whether an id is the digest of a message that has no id of its own."""
    return _DIGEST_ID.fullmatch(external_id) is not None


def digest_message(item: InboundItem) -> str:
    """Return a digest of practice, sender, time, subject and text, 64 hexadecimal digits."""
    if is_digest_id(item.external_id):
        return item.external_id[len("row-") :]
    return _digest(
        item.company_number or item.company, item.sender, item.sent_at, item.subject, item.text
    )


def name_column(column: int) -> str:
    """Return the name of a column as in Excel: A for 1, AA for 27."""
    name = ""
    while column:
        column, rest = divmod(column - 1, 26)
        name = chr(ord("A") + rest) + name
    return name


def _make_digest_id(content: _Content) -> str:
    practice = content.company_number or content.company
    digest = _digest(practice, content.sender, content.sent_at, content.subject, content.text)
    return f"row-{digest}"


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


def _is_complete(sender: Address, text: str) -> bool:
    """Return whether a sender has all that the text of a cell has."""
    name, email = sender.name, sender.email
    if text in {"", name, email}:
        return True
    return text in {f"{name} <{email}>", f"{name} ({email})", f"{email} {name}"}


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _split_attachments(label: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the links in a cell of attachments, each by itself, and the text that is no link."""
    links, others = _separate_links(text)
    if not links:
        yield label, text
        return
    for number, link in enumerate(links, start=1):
        yield (label if len(links) == 1 else f"{label} {number} of {len(links)}"), link
    if others:
        yield label, others


def _separate_links(text: str) -> tuple[list[str], str]:
    """Return the links in a text, without marks around them, and the words beside them."""
    if _is_link(text) and not _SEPARATOR.search(text):
        return [text], ""
    parts = [part.strip("<>\"'(),") for part in _SEPARATOR.split(text)]
    links = list(filter(_LINK.match, parts))
    others = [part for part in parts if part and not _LINK.match(part)]
    return links, " ".join(others)
