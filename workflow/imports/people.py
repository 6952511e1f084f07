"""Import of companies and contacts from another system.

New ones are created and gaps of existing ones filled; nothing on record is overwritten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from parsers.item import Address
from workflow.audit import record as audit
from workflow.customers import company_numbers, directory, records
from workflow.database.text_safety import make_storable
from workflow.imports.tickets import ImportResult, StaffRoster
from workflow.models.core import Company, CompanyDomain, Contact, Staff
from workflow.models.states import RowOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCompany:
    """A practice in the source system.

    Manager and consultant are names or addresses of people on the desk, "" for nobody.
    """

    name: str
    number: str = ""
    domains: tuple[str, ...] = ()
    manager: str = ""
    consultant: str = ""

    @property
    def key(self) -> str:
        """Return the deduplication key of the row within its file."""
        return self.number or directory.build_company_key(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceContact:
    """A contact in the source system."""

    email: str
    name: str = ""
    phone: str = ""
    company: str = ""
    company_number: str = ""

    @property
    def key(self) -> str:
        """Return the deduplication key of the row within its file."""
        return self.email.casefold()


def preview_company(session: Session, source: SourceCompany, roster: StaffRoster) -> ImportResult:
    """Return what `import_company` would do, without changing anything.

    The reason of the result names what the record has otherwise, and keeps.
    """
    source = make_storable(source)
    lookup = directory.CustomerLookup(session)
    company = directory.find_company(lookup, source.name, source.number)
    additions = _compare_company(session, source, company, roster)
    people = dict.fromkeys((source.manager, source.consultant))
    reasons = list(additions.conflicts)
    near = directory.find_near_companies(lookup, source.name, source.number)
    if company is None and near:
        reasons.append(f"perhaps {_join_names(near)}: merge them if they are one")
    return ImportResult(
        outcome=_compute_company_outcome(company, additions),
        reason="; ".join(reasons),
        unknown_people=tuple(name for name in people if name and roster.find(name) is None),
        new_company=source.name if company is None else "",
    )


def _compute_company_outcome(company: Company | None, additions: "_CompanyAdditions") -> RowOutcome:
    if company is None:
        return RowOutcome.ADDED
    return RowOutcome.KNOWN if additions.is_empty else RowOutcome.CHANGED


def import_company(
    session: Session,
    source: SourceCompany,
    roster: StaffRoster,
    *,
    cause: str,
    by: str,
    now: datetime,
) -> ImportResult:
    """Create a company, or fill the gaps of its record."""
    source = make_storable(source)
    result = preview_company(session, source, roster)
    lookup = directory.CustomerLookup(session)
    company = directory.find_company(lookup, source.name, source.number)
    additions = _compare_company(session, source, company, roster)
    if company is None:
        company = directory.create_company(lookup, source.name, source.number, now)
    if company is None or result.outcome is RowOutcome.KNOWN:
        return result
    # Only gaps are filled: what staff have entered here counts more than an old export.
    company.number = company.number or additions.number or None
    company.consultant = company.consultant or roster.find(source.consultant)
    if company.manager is None and (manager := roster.find(source.manager)) is not None:
        records.set_manager(session, company, manager, by=by, now=now)
    session.flush()
    session.add_all(
        CompanyDomain(domain=domain, company_id=company.id) for domain in additions.domains
    )
    audit.record(session, "company", by=by, cause=cause, now=now, company=company.id)
    session.flush()
    return result


def preview_contact(session: Session, source: SourceContact) -> ImportResult:
    """Return what `import_contact` would do, without changing anything."""
    source = make_storable(source)
    contact = directory.CustomerLookup(session).find_contact(source.key)
    lookup = directory.CustomerLookup(session)
    company = directory.find_company(lookup, source.company, source.company_number)
    near: list[Company] = []
    if company is None:
        near = directory.find_near_companies(lookup, source.company, source.company_number)
    is_new_company = company is None and not near
    is_new_company = is_new_company and bool(directory.build_company_key(source.company))
    new_company = source.company if is_new_company else ""
    doubt = f"its company is perhaps {_join_names(near)}: choose it" if near else ""
    if contact is None:
        return ImportResult(
            outcome=RowOutcome.ADDED,
            reason=doubt,
            new_company=new_company,
            new_contacts=(source.key,),
        )
    fills_gap = _fills_gap(contact, source)
    if contact.company is None:
        is_changed = fills_gap or is_new_company or company is not None
        return ImportResult(
            outcome=_compute_outcome(is_changed=is_changed),
            reason=doubt,
            new_company=new_company,
        )
    is_of_other_company = is_new_company or company not in {None, contact.company}
    return ImportResult(
        outcome=_compute_outcome(is_changed=fills_gap),
        reason="it belongs to another company here: left as it is" if is_of_other_company else "",
    )


def _join_names(companies: list[Company]) -> str:
    return " or ".join(map(directory.describe_company, companies))


def _fills_gap(contact: Contact, source: SourceContact) -> bool:
    """Return whether a row has a name or number that the contact lacks."""
    has_new_name = bool(source.name) and not contact.name
    has_new_phone = bool(source.phone) and not contact.phone
    return has_new_name or has_new_phone


def _compute_outcome(*, is_changed: bool) -> RowOutcome:
    return RowOutcome.CHANGED if is_changed else RowOutcome.KNOWN


def import_contact(
    session: Session, source: SourceContact, *, cause: str, by: str, now: datetime
) -> ImportResult:
    """Create a contact, or fill the gaps of their record."""
    source = make_storable(source)
    result = preview_contact(session, source)
    if result.outcome is RowOutcome.KNOWN:
        return result
    lookup = directory.CustomerLookup(session)
    company = directory.find_company(lookup, source.company, source.company_number)
    if company is None and result.new_company:
        company = directory.create_company(lookup, source.company, source.company_number, now)
    person = Address(source.name, source.email)
    contact = directory.find_or_create_contact(
        lookup, person, source.phone, company, is_confirmed=True, now=now
    )
    assert contact is not None  # rows without a valid address are refused before
    session.flush()
    audit.record(session, "contact", by=by, cause=cause, now=now, contact=contact.id)
    return result


@dataclass(frozen=True, slots=True)
class _CompanyAdditions:
    """Values that a row adds to a company's record, and its conflicts with it, in words.

    `people` says whether it adds a manager or a consultant; "" is no number.
    """

    number: str
    domains: list[str]
    people: bool
    conflicts: list[str]

    @property
    def is_empty(self) -> bool:
        return not (self.number or self.domains or self.people)


def _compare_company(
    session: Session, source: SourceCompany, company: Company | None, roster: StaffRoster
) -> _CompanyAdditions:
    number = ""
    if company is not None and not company.number:
        number = company_numbers.normalize(source.number)
    manager, consultant = (company.manager, company.consultant) if company else (None, None)
    domains, conflicts = _compare_domains(session, source, company)
    return _CompanyAdditions(
        number=number,
        domains=domains,
        people=_is_added(source.manager, manager, roster)
        or _is_added(source.consultant, consultant, roster),
        conflicts=[
            *_list_conflicts("manager", source.manager, manager, roster),
            *_list_conflicts("consultant", source.consultant, consultant, roster),
            *conflicts,
        ],
    )


def _is_added(name: str, current: Staff | None, roster: StaffRoster) -> bool:
    return current is None and roster.find(name) is not None


def _list_conflicts(
    role: str, name: str, current: Staff | None, roster: StaffRoster
) -> Iterator[str]:
    """Yield the conflict about one role, if there is one."""
    person = roster.find(name)
    if name and person is None:
        yield f"its {role} is not on the desk: {name}"
    elif person is not None and current is not None and current is not person:
        yield f"its {role} here is {current.name}: left as it is"


def _compare_domains(
    session: Session, source: SourceCompany, company: Company | None
) -> tuple[list[str], list[str]]:
    """Return the domains that a row adds, and the faults of those it cannot add."""
    new: list[str] = []
    faults: list[str] = []
    for domain in source.domains:
        if fault := directory.find_domain_fault(session, domain, company):
            faults.append(fault)
        elif session.get(CompanyDomain, domain) is None:
            new.append(domain)
    return new, faults
