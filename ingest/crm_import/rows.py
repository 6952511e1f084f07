"""Parse rows of a CRM export into tickets, companies and contacts.

A row that cannot be imported raises InvalidRowError with the reason.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo

from parsers.crm_export.table import Record
from parsers.item import Address
from parsers.spreadsheets.cell_values import Value
from parsers.text import dates, normalize
from workflow import process
from workflow.customers import directory
from workflow.imports.people import SourceCompany, SourceContact
from workflow.imports.tickets import SourceTicket
from workflow.models.states import Status
from workflow.process import Milestone, Stage

NO_VALUES = frozenset({"", "no", "false", "0", "n", "off", "none", "unchecked"})
TICKET_TYPES = {"billing issue": process.TICKET_TYPE}
MILESTONES = {  # property -> milestone; its value is the time, or only a yes
    "customer_notified": Milestone.CUSTOMER_NOTIFIED,
    "follow_up_sent": Milestone.FOLLOW_UP_SENT,
    "resolved": Milestone.RESOLVED,
    "recap_sent": Milestone.RECAP_SENT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = re.compile(r"1\d{12}")  # 2001 to 2033
_TRAILING_BRACKETS = re.compile(r"\s*\([^()]*\)\s*\Z")  # "4-In Progress (Service Pipeline 2)"
_LIST_SEPARATOR = re.compile(r"[;\n]")
_STATES = {str(s): s for s in Status}


class InvalidRowError(ValueError):  # the row is at fault, not the program
    """A row cannot be imported.

    The text gives the reason and what to do, and quotes no patient's data.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Mapping of the other system's words to ours, chosen by the person who imports."""

    stages: Mapping[str, Stage] = field(default_factory=dict)  # by their folded status
    # their folded owner -> a person on the desk
    owners: Mapping[str, str] = field(default_factory=dict)
    time_zone: tzinfo = UTC  # of times without a zone


def fold_name(word: str) -> str:
    """Return a status or owner's name in the form used for comparison."""
    return " ".join(word.casefold().split())


def find_stage(status: str, vocabulary: Vocabulary) -> Stage | None:
    """Return the stage that a status of the other system maps to, or None.

    First by the person's choice, then by the manual's label, with or without a pipeline's name in
    brackets after it.
    """
    known = {fold_name(s): s for s in Stage} | dict(vocabulary.stages)
    word = fold_name(status)
    return known.get(word) or known.get(_TRAILING_BRACKETS.sub("", word))


def parse_ticket(record: Record, vocabulary: Vocabulary) -> SourceTicket:
    """Parse a row as a ticket. Raises InvalidRowError without a Record ID or a known stage."""
    record_id = record.get_text("record_id")
    if not record_id:
        raise InvalidRowError("no Record ID: by it a ticket is recognised")
    status_text = record.get_text("stage")
    stage = find_stage(status_text, vocabulary)
    if stage is None:
        raise InvalidRowError(
            f"status {status_text or '(none)'} is no stage of ours: say which, as in"
            f' --stage "{status_text}=4-In Progress"'
        )
    caveats: list[str] = []
    created_at, closed_at = (
        _parse_date(record, name, vocabulary, caveats) for name in ("created", "closed")
    )
    completed_at = None
    if stage is Stage.COMPLETED:
        completed_at = closed_at or _parse_date(record, "modified", vocabulary, [])
    owner = record.get_text("owner")
    return SourceTicket(
        record_id=record_id,
        stage=stage,
        status=_parse_status(record, stage, caveats),
        subject=normalize.to_one_line(record.get_text("subject") or record.get_text("name")),
        text=record.get_text("text"),
        details=record.cells,
        pipeline=_parse_pipeline(record),
        type=_parse_type(record.get_text("type")),
        owner=vocabulary.owners.get(fold_name(owner), owner),
        company=_take_company(record, caveats),
        company_number=record.get_text("company_number"),
        contacts=_parse_contacts(record),
        phone=record.get_text("phone"),
        link=_parse_link(record),
        created_at=created_at,
        completed_at=completed_at,
        milestones=_parse_milestones(record, vocabulary),
        is_unresolved=fold_name(record.get_text("resolution")) == "no",
        caveats=tuple(caveats),
    )


def parse_company(record: Record, _: Vocabulary) -> SourceCompany:
    """Parse a row as a company. Raises InvalidRowError without a usable name."""
    name = normalize.to_one_line(record.get_text("name"))
    if not directory.build_company_key(name):
        raise InvalidRowError("no company name")
    words = re.split(r"[;,\s]+", record.get_text("domains").casefold())
    domains = dict.fromkeys(w.removeprefix("@").removeprefix("www.") for w in words if "." in w)
    return SourceCompany(
        name=name,
        number=record.get_text("number"),
        domains=tuple(d for d in domains if directory.is_valid_address(f"x@{d}")),
        manager=record.get_text("manager"),
        consultant=record.get_text("consultant"),
    )


def parse_contact(record: Record, _: Vocabulary) -> SourceContact:
    """Parse a row as a contact. Raises InvalidRowError without a usable e-mail address."""
    emails = normalize.find_emails(record.get_text("email"))
    if not emails or not directory.is_valid_address(emails[0].casefold()):
        raise InvalidRowError(
            "no e-mail address that mail can be sent to: by it a contact is known"
        )
    names = (record.get_text("first_name"), record.get_text("last_name"))
    name = record.get_text("name") or " ".join(n for n in names if n)
    return SourceContact(
        email=emails[0],
        name=normalize.to_one_line(name),
        phone=record.get_text("phone"),
        company=_take_first(record.get_text("company")),
        company_number=record.get_text("company_number"),
    )


def _parse_date(
    record: Record, name: str, vocabulary: Vocabulary, caveats: list[str]
) -> datetime | None:
    """Return a date of the row, or None; adds a caveat when it is there and cannot be read."""
    value = record.get_value(name)
    moment = parse_moment(value, vocabulary.time_zone)
    if moment is None and value.text:
        caveats.append(f"its {name} date cannot be read: {normalize.to_one_line(value.text)[:40]}")
    return moment


def parse_moment(value: Value, zone: tzinfo) -> datetime | None:
    """Return a cell as an aware UTC moment, or None when it is none.

    A cell may hold a date, an ISO 8601 time, or milliseconds since 1970.
    """
    if _MILLISECONDS.fullmatch(value.text):
        return _EPOCH + timedelta(milliseconds=int(value.text))
    moment = value.moment if value.moment is not None else dates.parse_moment(value.text)
    if moment is None or isinstance(moment, time):
        return None
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        return None


def _parse_status(record: Record, stage: Stage, caveats: list[str]) -> Status:
    """Return our status; a ticket merged over there counts as withdrawn, with a caveat."""
    status = _STATES.get(fold_name(record.get_text("state")))
    if status is Status.MERGED:
        caveats.append("merged into another ticket where it came from")
        return Status.WITHDRAWN
    if status in {Status.SPAM, Status.WITHDRAWN}:
        return status
    return Status.COMPLETED if stage is Stage.COMPLETED else Status.OPEN


def _parse_pipeline(record: Record) -> str:
    """Return the pipeline's name; ours where the cell is empty or holds only an internal id."""
    name = normalize.to_one_line(record.get_text("pipeline"))
    # an internal id means nothing to a reader
    return process.PIPELINE if not name or name.isdigit() else name


def _parse_type(text: str) -> str:
    """Return the ticket type: ours for known words, else the cell's text."""
    word = fold_name(text.replace("_", " "))
    return TICKET_TYPES.get(word, normalize.to_one_line(text) or process.TICKET_TYPE)


def _take_first(text: str) -> str:
    """Return the first entry of a list in a cell; "" without any."""
    return next(
        (normalize.to_one_line(one) for one in _LIST_SEPARATOR.split(text) if one.strip()), ""
    )


def _take_company(record: Record, caveats: list[str]) -> str:
    """Return the row's company; adds a caveat when it belonged to several."""
    text = record.get_text("company")
    first = _take_first(text)
    if sum(bool(one.strip()) for one in _LIST_SEPARATOR.split(text)) > 1:
        caveats.append("it belonged to several companies: the first is used")
    return first


def _parse_contacts(record: Record) -> tuple[Address, ...]:
    """Return the contacts, paired with their names where both columns list as many.

    Forms: `Pat Doe (pat@clinic.example)`, or a name column beside an address column.
    """
    names = [one for one in _LIST_SEPARATOR.split(record.get_text("contact")) if one.strip()]
    emails = [
        e
        for one in (record.get_text("contact_emails"), record.get_text("contact"))
        for e in normalize.find_emails(one)
    ]
    emails = list({e.casefold(): e for e in emails}.values())
    beside = {e.casefold(): one for one in names for e in normalize.find_emails(one)}
    names_in_order = (
        dict(zip(map(str.casefold, emails), names, strict=False))
        if len(names) == len(emails)
        else {}
    )
    names_by_email = names_in_order | beside
    return tuple(
        normalize.parse_sender(_TRAILING_BRACKETS.sub("", names_by_email.get(e.casefold(), "")), e)[
            0
        ]
        for e in emails
    )


def _parse_link(record: Record) -> str:
    """Return the http(s) link of the row, "" when there is no usable one."""
    link = record.get_text("link")
    return link if link.startswith(("https://", "http://")) and link.isprintable() else ""


def _parse_milestones(
    record: Record, vocabulary: Vocabulary
) -> tuple[tuple[Milestone, datetime | None], ...]:
    """Return the ticked boxes with their time, None where the time is unknown.

    A box is ticked in a column of its own, in the list of actions, or by the property Resolution.
    """
    times_by_milestone: dict[Milestone, datetime | None] = {}
    actions = {
        normalize.fold_label(one)
        for one in _LIST_SEPARATOR.split(record.get_text("actions"))
        if one.strip()
    }
    for milestone in Milestone:
        if normalize.fold_label(milestone) in actions:
            times_by_milestone[milestone] = None
    if fold_name(record.get_text("resolution")) in {"yes", "true"}:
        times_by_milestone[Milestone.RESOLVED] = None
    for name, milestone in MILESTONES.items():
        if fold_name(record.get_text(name)) not in NO_VALUES:
            times_by_milestone[milestone] = parse_moment(
                record.get_value(name), vocabulary.time_zone
            )
    return tuple(times_by_milestone.items())
