"""One row of a table of secure messages, under its heading, as an item."""

import hashlib
from datetime import datetime
from typing import NamedTuple

from parsers import fields, headings
from parsers.cells import NOT_A_DATE, Cells, Value
from parsers.headings import Heading
from parsers.item import Address, Format, InboundItem

# What staff call our fields, for caveats.
WORDS = {
    "body": "message text",
    "company": "practice",
    "company_number": "practice number",
    "email": "e-mail address",
    "external_id": "message id",
    "thread_id": "thread id",
    "sent_at": "date",
    "clock": "time",
    "to": "recipient",
}
_SHORT_ID = 6  # characters: what is shorter under a bare "ID" may count rows, and would hide next week's messages
_LONGEST_ID = 200
_BLANK = Value("")


class Line(NamedTuple):
    """A row's values by column, blank ones left out unless something is wrong with them."""

    number: int
    hidden: bool
    values: dict[int, Value]

    @property
    def texts(self) -> dict[int, str]:
        """The texts alone."""
        return {column: value.text for column, value in self.values.items() if value.text}


class _Picked(NamedTuple):
    """A row sorted into our fields: their values, each as one line too, and the columns they were taken from."""

    values: dict[str, Value]
    lines: dict[str, str]
    columns: dict[str, list[int]]

    def value(self, field: str) -> Value:
        return self.values.get(field, _BLANK)

    def line(self, field: str) -> str:
        return self.lines.get(field, "")


def item(line: Line, heading: Heading, how: Cells) -> InboundItem:
    """Make the item of a row; what is missing or damaged becomes a caveat, never an error."""
    picked = _pick(line, heading)
    sender, sender_caveats = fields.sender(picked.line("sender"), picked.line("email"))
    text = picked.value("body").text
    sent_at = how.sent_at(picked.value("sent_at"), picked.values.get("clock"))
    category, subject, link = picked.line("category"), picked.line("subject"), picked.line("link")
    company, number = picked.line("company"), picked.line("company_number").lstrip("'")
    caveats = (*_caveats(picked, line, sent_at), *sender_caveats, *_flaws(line, heading))
    return InboundItem(
        format=Format.SECURE_MESSAGE,
        external_id=_given_id(picked, heading) or f"row-{_digest(number or company, sender, sent_at, subject, text)}",
        sender=sender,
        to=_recipients(picked.line("to")),
        company=company,
        company_number=number,
        phone=picked.line("phone"),
        category=category,
        subject=subject,
        text=text,
        details=_details(picked, line, heading, said={"sent_at": sent_at, "email": sender.email}),
        link=link if _is_link(link) else "",
        thread_id=picked.line("thread_id").lstrip("'"),
        sent_at=sent_at,
        telemedicine=bool(fields.TELEMEDICINE.search(f"{category} {subject}")),
        caveats=tuple(dict.fromkeys(caveats)),
    )


def digest(item: InboundItem) -> str:
    """Tell a message by its content, 64 hexadecimal digits: practice, sender, time, subject and text."""
    return _digest(item.company_number or item.company, item.sender, item.sent_at, item.subject, item.text)


def _digest(practice: str, sender: Address, sent_at: datetime | None, subject: str, text: str) -> str:
    parts = (practice, sender.name, sender.key, sent_at.isoformat() if sent_at else "", subject, text)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()


def _pick(line: Line, heading: Heading) -> _Picked:
    """Take the first answered column of each field; columns of the very same heading as the text's are all text."""
    picked = _Picked({}, {}, {})
    for field, columns in heading.columns.items():
        answered = [column for column in columns if column in line.values]
        if not answered:
            continue
        taken = answered[:1]
        if field == "body":
            taken = [column for column in answered if heading.keys[column] == heading.keys[answered[0]]]
        text = "\n\n".join(line.values[column].text for column in taken)
        picked.values[field] = line.values[taken[0]] if len(taken) == 1 else Value(text.strip())
        picked.lines[field] = fields.one_line(picked.values[field].text)
        picked.columns[field] = taken
    return picked


def _details(
    picked: _Picked, line: Line, heading: Heading, said: dict[str, datetime | str | None]
) -> tuple[tuple[str, str], ...]:
    """Every column that is none of our fields, and those of ours that hold more than the item says of them."""
    more = {field for field, value in picked.values.items() if len(value.text) > fields.LONGEST_LINE} - {"body"}
    more |= picked.columns.keys() & set(headings.KEPT_FIELDS)
    if not said["sent_at"]:
        more |= {"sent_at", "clock"}
    if said["email"] != picked.line("email"):
        more.add("email")
    if not _is_link(picked.line("link")):
        more.add("link")
    told = {column for field, columns in picked.columns.items() if field not in more for column in columns}
    return tuple(
        (fields.one_line(heading.labels[column]), value.text)
        for column, value in line.values.items()
        if column not in told and value.text and column in heading.labels
    )


def _is_link(text: str) -> bool:
    return text.startswith(("https://", "http://"))


def _recipients(text: str) -> tuple[Address, ...]:
    """The addresses in a recipient column, or else the name or inbox that stands there."""
    return tuple(Address(email=one) for one in fields.emails(text)) or ((Address(name=text),) if text else ())


def _given_id(picked: _Picked, heading: Heading) -> str:
    """The message's own id, or "" where it has none that tells it from every other message."""
    given = picked.line("external_id").lstrip("'")
    if not given or picked.value("external_id").flaw or len(given) > _LONGEST_ID:
        return ""
    bare = all(heading.keys[column] == "id" for column in picked.columns["external_id"])
    return "" if bare and len(given) < _SHORT_ID else given


def _caveats(picked: _Picked, line: Line, sent_at: datetime | None) -> list[str]:
    told = {
        "no message text in this row": not picked.line("body"),
        "practice not given": not (picked.line("company") or picked.line("company_number")),
        f"date: {NOT_A_DATE}": sent_at is None and bool(picked.line("sent_at")),
        "this row is hidden in the sheet": line.hidden,
    }
    return [caveat for caveat, is_so in told.items() if is_so]


def _flaws(line: Line, heading: Heading) -> list[str]:
    flawed = {column: value.flaw for column, value in line.values.items() if value.flaw}
    if not flawed:
        return []
    fields_of = {column: field for field, columns in heading.columns.items() for column in columns}
    words = {column: WORDS.get(fields_of.get(column, ""), fields_of.get(column, "another column")) for column in flawed}
    return [f"{words[column]}: {flaw}" for column, flaw in flawed.items()]
