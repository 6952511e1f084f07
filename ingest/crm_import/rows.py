"""Rows of a CRM's export as what they were there: tickets, companies and contacts.

A row that is none says why.
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
MILESTONES = {  # property -> the box it is; the property's value says when, or only that
    "customer_notified": Milestone.CUSTOMER_NOTIFIED,
    "follow_up_sent": Milestone.FOLLOW_UP_SENT,
    "resolved": Milestone.RESOLVED,
    "recap_sent": Milestone.RECAP_SENT,
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS = re.compile(r"1\d{12}")  # 2001 to 2033
_TRAILING = re.compile(r"\s*\([^()]*\)\s*\Z")  # "4-In Progress (Service Pipeline 2)"
_LIST = re.compile(r"[;\n]")
_STATES = {str(s): s for s in Status}


class InvalidRowError(ValueError):  # the row is at fault, not the program
    """A row that cannot be imported.

    The text says why and what to do, and quotes no patient's data.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What the person who imports has said of the other system's words."""

    stages: Mapping[str, Stage] = field(default_factory=dict)  # their status, folded by `fold_name`
    owners: Mapping[str, str] = field(
        default_factory=dict
    )  # their owner, folded -> a person on the desk
    time_zone: tzinfo = UTC  # where a time names none


def fold_name(word: str) -> str:
    """A status or owner's name for comparison."""
    return " ".join(word.casefold().split())


def find_stage(status: str, terms: Vocabulary) -> Stage | None:
    """The stage their status is.

    As told, or by the manual's label, a pipeline's name in brackets after it or not.
    """
    known = {fold_name(s): s for s in Stage} | dict(terms.stages)
    word = fold_name(status)
    return known.get(word) or known.get(_TRAILING.sub("", word))


def parse_ticket(record: Record, terms: Vocabulary) -> SourceTicket:
    """A row as the ticket it was. Raises InvalidRowError."""
    record_id = record.text("record_id")
    if not record_id:
        raise InvalidRowError("no Record ID: by it a ticket is known again")
    said = record.text("stage")
    stage = find_stage(said, terms)
    if stage is None:
        raise InvalidRowError(
            f'status {said or "(none)"} is no stage of ours: say which, as in --stage "{said}=4-In'
            ' Progress"'
        )
    caveats: list[str] = []
    created, closed = (_moment(record, name, terms, caveats) for name in ("created", "closed"))
    completed = (
        closed or _moment(record, "modified", terms, []) if stage is Stage.COMPLETED else None
    )
    owner = record.text("owner")
    return SourceTicket(
        record_id=record_id,
        stage=stage,
        status=_status(record, stage, caveats),
        subject=normalize.to_one_line(record.text("subject") or record.text("name")),
        text=record.text("text"),
        details=record.cells,
        pipeline=_pipeline(record),
        type=_type(record.text("type")),
        owner=terms.owners.get(fold_name(owner), owner),
        company=_company(record, caveats),
        company_number=record.text("company_number"),
        contacts=_contacts(record),
        phone=record.text("phone"),
        link=_link(record),
        created_at=created,
        completed_at=completed,
        milestones=_milestones(record, terms),
        unresolved=fold_name(record.text("resolution")) == "no",
        caveats=tuple(caveats),
    )


def parse_company(record: Record, _: Vocabulary) -> SourceCompany:
    """A row as a company. Raises InvalidRowError."""
    name = normalize.to_one_line(record.text("name"))
    if not directory.build_company_key(name):
        raise InvalidRowError("no company name")
    words = re.split(r"[;,\s]+", record.text("domains").casefold())
    domains = dict.fromkeys(w.removeprefix("@").removeprefix("www.") for w in words if "." in w)
    return SourceCompany(
        name=name,
        number=record.text("number"),
        domains=tuple(d for d in domains if directory.is_valid_address(f"x@{d}")),
        manager=record.text("manager"),
        consultant=record.text("consultant"),
    )


def parse_contact(record: Record, _: Vocabulary) -> SourceContact:
    """A row as a contact. Raises InvalidRowError."""
    found = normalize.find_emails(record.text("email"))
    if not found or not directory.is_valid_address(found[0].casefold()):
        raise InvalidRowError(
            "no e-mail address that mail can be sent to: by it a contact is known"
        )
    names = (record.text("first_name"), record.text("last_name"))
    name = record.text("name") or " ".join(n for n in names if n)
    return SourceContact(
        email=found[0],
        name=normalize.to_one_line(name),
        phone=record.text("phone"),
        company=_first(record.text("company")),
        company_number=record.text("company_number"),
    )


def _moment(record: Record, name: str, terms: Vocabulary, caveats: list[str]) -> datetime | None:
    value = record.value(name)
    found = parse_moment(value, terms.time_zone)
    if found is None and value.text:
        caveats.append(f"its {name} date cannot be read: {normalize.to_one_line(value.text)[:40]}")
    return found


def parse_moment(value: Value, zone: tzinfo) -> datetime | None:
    """A cell as an aware moment: a date, a time in ISO 8601, or milliseconds since 1970.

    None if it is none.
    """
    if _MILLISECONDS.fullmatch(value.text):
        return _EPOCH + timedelta(milliseconds=int(value.text))
    found = value.moment if value.moment is not None else dates.parse_moment(value.text)
    if found is None or isinstance(found, time):
        return None
    try:
        return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
    except OverflowError:
        return None


def _status(record: Record, stage: Stage, caveats: list[str]) -> Status:
    said = _STATES.get(fold_name(record.text("state")))
    if said is Status.MERGED:
        caveats.append("merged into another ticket where it came from")
        return Status.WITHDRAWN
    if said in {Status.SPAM, Status.WITHDRAWN}:
        return said
    return Status.COMPLETED if stage is Stage.COMPLETED else Status.OPEN


def _pipeline(record: Record) -> str:
    said = normalize.to_one_line(record.text("pipeline"))
    return (
        process.PIPELINE if not said or said.isdigit() else said
    )  # an internal id says nothing to anybody


def _type(said: str) -> str:
    word = fold_name(said.replace("_", " "))
    return TICKET_TYPES.get(word, normalize.to_one_line(said) or process.TICKET_TYPE)


def _first(listed: str) -> str:
    return next((normalize.to_one_line(one) for one in _LIST.split(listed) if one.strip()), "")


def _company(record: Record, caveats: list[str]) -> str:
    listed = record.text("company")
    first = _first(listed)
    if sum(bool(one.strip()) for one in _LIST.split(listed)) > 1:
        caveats.append("it belonged to several companies: the first is used")
    return first


def _contacts(record: Record) -> tuple[Address, ...]:
    """Pair contacts with their names where both columns list them alike.

    Forms: `Pat Doe (pat@clinic.example)`, or a name column beside an address column.
    """
    names = [one for one in _LIST.split(record.text("contact")) if one.strip()]
    emails = [
        e
        for one in (record.text("contact_emails"), record.text("contact"))
        for e in normalize.find_emails(one)
    ]
    emails = list({e.casefold(): e for e in emails}.values())
    beside = {e.casefold(): one for one in names for e in normalize.find_emails(one)}
    paired = (
        dict(zip(map(str.casefold, emails), names, strict=False))
        if len(names) == len(emails)
        else {}
    )
    named = paired | beside
    return tuple(
        normalize.parse_sender(_TRAILING.sub("", named.get(e.casefold(), "")), e)[0] for e in emails
    )


def _link(record: Record) -> str:
    said = record.text("link")
    return said if said.startswith(("https://", "http://")) and said.isprintable() else ""


def _milestones(record: Record, terms: Vocabulary) -> tuple[tuple[Milestone, datetime | None], ...]:
    """The boxes ticked.

    In columns of their own, in the list of actions, or as the property Resolution.
    """
    found: dict[Milestone, datetime | None] = {}
    actions = {
        normalize.fold_label(one) for one in _LIST.split(record.text("actions")) if one.strip()
    }
    for milestone in Milestone:
        if normalize.fold_label(milestone) in actions:
            found[milestone] = None
    if fold_name(record.text("resolution")) in {"yes", "true"}:
        found[Milestone.RESOLVED] = None
    for name, milestone in MILESTONES.items():
        if fold_name(record.text(name)) not in NO_VALUES:
            found[milestone] = parse_moment(record.value(name), terms.time_zone)
    return tuple(found.items())
