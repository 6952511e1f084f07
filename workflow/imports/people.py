"""Companies and contacts from another system.

Put on record, gaps filled, nothing that is here overwritten.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from parsers.item import Address
from workflow.audit import record as audit
from workflow.customers import directory, records
from workflow.database.text_safety import make_storable
from workflow.imports.tickets import ImportResult, StaffRoster
from workflow.models.core import Company, CompanyDomain, Contact
from workflow.models.states import RowOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCompany:
    """A practice as another system has it.

    Manager and consultant are names or addresses of people on the desk.
    """

    name: str
    number: str = ""
    domains: tuple[str, ...] = ()
    manager: str = ""
    consultant: str = ""

    @property
    def key(self) -> str:
        """Return what no second row of a file may share."""
        return self.number or directory.build_company_key(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContact:
    """A customer's person as another system has them."""

    email: str
    name: str = ""
    phone: str = ""
    company: str = ""
    company_number: str = ""

    @property
    def key(self) -> str:
        """Return what no second row of a file may share."""
        return self.email.casefold()


def preview_company(session: Session, past: SourceCompany, roster: StaffRoster) -> ImportResult:
    """Return what `import_company` would do; changes nothing."""
    past = make_storable(past)
    found = directory.find_company(directory.CustomerLookup(session), past.name, past.number)
    changes = _changes(session, past, found, roster)
    named = (past.manager, past.consultant)
    unknown = tuple(dict.fromkeys(n for n in named if n and roster.find(n) is None))
    outcome = (
        RowOutcome.ADDED
        if found is None
        else RowOutcome.CHANGED
        if changes.any
        else RowOutcome.KNOWN
    )
    new = past.name if found is None else ""
    return ImportResult(
        outcome=outcome, reason="; ".join(changes.left), unknown_people=unknown, new_company=new
    )


def import_company(
    session: Session,
    past: SourceCompany,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> ImportResult:
    """Put a practice on record, or fill what its record lacks.

    `reason` says what was left as it is.
    """
    past = make_storable(past)
    brought = preview_company(session, past, roster)
    company = directory.find_company(directory.CustomerLookup(session), past.name, past.number)
    changes = _changes(session, past, company, roster)
    if company is None:
        company = directory.create_company(
            directory.CustomerLookup(session), past.name, past.number, now
        )
    if company is None or brought.outcome is RowOutcome.KNOWN:
        return brought
    company.number = company.number or changes.number or None
    company.consultant = company.consultant or roster.find(past.consultant)
    if company.manager is None and (manager := roster.find(past.manager)) is not None:
        records.set_manager(session, company, manager, by=by, now=now)
    session.flush()
    session.add_all(
        CompanyDomain(domain=domain, company_id=company.id) for domain in changes.domains
    )
    audit.record(session, "company", by=by, cause=cause, now=now, company=company.id)
    session.flush()
    return brought


def preview_contact(session: Session, past: SourceContact) -> ImportResult:
    """Return what `import_contact` would do; changes nothing."""
    past = make_storable(past)
    known = session.scalar(select(Contact).where(Contact.email == past.key))
    company = directory.find_company(
        directory.CustomerLookup(session), past.company, past.company_number
    )
    new = past.company if company is None and directory.build_company_key(past.company) else ""
    if known is None:
        return ImportResult(outcome=RowOutcome.ADDED, new_company=new, new_contacts=(past.key,))
    if known.company is not None:
        other = bool(new) or (company is not None and company is not known.company)
        left = "it belongs to another company here: left as it is" if other else ""
        gap = bool((past.name and not known.name) or (past.phone and not known.phone))
        return ImportResult(outcome=RowOutcome.CHANGED if gap else RowOutcome.KNOWN, reason=left)
    gap = bool((past.name and not known.name) or (past.phone and not known.phone) or new or company)
    return ImportResult(outcome=RowOutcome.CHANGED if gap else RowOutcome.KNOWN, new_company=new)


def import_contact(
    session: Session, past: SourceContact, *, cause: str, by: str, now: datetime
) -> ImportResult:
    """Put a customer's person on record, or fill what their record lacks."""
    past = make_storable(past)
    brought = preview_contact(session, past)
    if brought.outcome is RowOutcome.KNOWN:
        return brought
    company = directory.find_company(
        directory.CustomerLookup(session), past.company, past.company_number
    )
    if company is None and brought.new_company:
        company = directory.create_company(
            directory.CustomerLookup(session), past.company, past.company_number, now
        )
    person = Address(past.name, past.email)
    contact = directory.find_or_create_contact(
        directory.CustomerLookup(session), person, past.phone, company, vouched=True, now=now
    )
    assert contact is not None  # rows without a usable address are refused before
    session.flush()
    audit.record(session, "contact", by=by, cause=cause, now=now, contact=contact.id)
    return brought


@dataclass(frozen=True, slots=True)
class _Changes:
    number: str
    domains: list[str]
    people: bool
    left: list[str]

    @property
    def any(self) -> bool:
        return bool(self.number or self.domains or self.people)


def _changes(
    session: Session, past: SourceCompany, company: Company | None, roster: StaffRoster
) -> _Changes:
    """Return what the row adds to the record, and what it says otherwise, which is left."""
    left, number = [], ""
    if company is not None and past.number and not company.number:
        number = past.number[:64]
    fills = False
    for word, said, here in (
        ("manager", past.manager, company.manager if company else None),
        ("consultant", past.consultant, company.consultant if company else None),
    ):
        person = roster.find(said) if said else None
        if said and person is None:
            left.append(f"its {word} is not on the desk: {said}")
        elif person is not None and here is not None and here is not person:
            left.append(f"its {word} here is {here.name}: left as it is")
        fills = fills or (person is not None and here is None)
    domains = []
    for domain in past.domains:
        if fault := directory.find_domain_fault(session, domain, company):
            left.append(fault)
        elif session.get(CompanyDomain, domain) is None:
            domains.append(domain)
    return _Changes(number, domains, fills, left)
