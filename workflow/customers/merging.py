"""Merges of two companies, or of two contacts who are one person, and their undoing.

A merged record stays: its name, number or address leads to the one that goes on, so that later mail
and rows land there. Tickets, contacts and mail domains move. What was moved is stored with the
merge, and moves back when it is undone; what came meanwhile stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.customers import directory, records
from workflow.database.engine import Store
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.models.core import (
    Company,
    CompanyDomain,
    Contact,
    CustomerMerge,
    Ticket,
    TicketContact,
)
from workflow.models.states import Status
from workflow.process import TICKET_NAME

COMPANY, CONTACT = "company", "contact"  # kinds of merges
_CAUSE = "customers merged"
_MOST_LATE = 500  # tickets, contacts and links moved in one round
_UNDO_CAUSE = "merge of customers undone"
# What a contact lacks and takes over from the one merged into it, with the value of lacking it.
_FILLED = {"name": "", "phone": "", "company_id": None, "unsubscribed": False}
_LINK = ("ticket_id", "contact_id", "share_activity", "from_ticket_id")

RecordT = TypeVar("RecordT", Company, Contact)


@dataclass(frozen=True, slots=True)
class MergeExtent:
    """Counts of what a merge moves."""

    tickets: int
    open_tickets: int
    contacts: int = 0
    domains: int = 0


def measure_company(session: Session, company: Company) -> MergeExtent:
    """Count what merging a company moves."""
    tickets = select(func.count(Ticket.id)).where(Ticket.company_id == company.id)
    contacts = select(func.count(Contact.id)).where(Contact.company_id == company.id)
    domains = select(func.count()).where(CompanyDomain.company_id == company.id)
    return MergeExtent(
        tickets=session.scalar(tickets) or 0,
        open_tickets=session.scalar(tickets.where(Ticket.status == Status.OPEN)) or 0,
        contacts=session.scalar(contacts) or 0,
        domains=session.scalar(domains) or 0,
    )


def measure_contact(session: Session, contact: Contact) -> MergeExtent:
    """Count what merging a contact moves."""
    tickets = (
        select(func.count(TicketContact.id))
        .join(Ticket, Ticket.id == TicketContact.ticket_id)
        .where(TicketContact.contact_id == contact.id)
    )
    return MergeExtent(
        tickets=session.scalar(tickets) or 0,
        open_tickets=session.scalar(tickets.where(Ticket.status == Status.OPEN)) or 0,
    )


def list_merged_companies(session: Session, company: Company) -> list[Company]:
    """List the companies merged into one, the oldest first."""
    merged = select(Company).where(Company.merged_into_id == company.id)
    return list(session.scalars(merged.order_by(Company.id)))


def list_merged_contacts(session: Session, contact: Contact) -> list[Contact]:
    """List the contacts merged into one, the oldest first."""
    merged = select(Contact).where(Contact.merged_into_id == contact.id)
    return list(session.scalars(merged.order_by(Contact.id)))


# -- companies ----


def merge_companies(
    session: Session, source: Company, target: Company, *, by: str, now: datetime
) -> None:
    """Merge a company into another one.

    The manager and the consultant follow where the other has none. Raises ActionNotAllowed where
    one of them is merged already, or both are the same.
    """
    _lock(session, Company, source, target)
    contact_ids = _list_ids(session, select(Contact.id).where(Contact.company_id == source.id))
    moved: dict[str, Any] = {
        "contacts": contact_ids,
        "domains": [row.domain for row in source.domains],
        "manager": source.manager_id if target.manager_id is None else None,
        "consultant": source.consultant_id if target.consultant_id is None else None,
    }
    if moved["manager"] is not None:
        records.set_manager(session, target, source.manager, by=by, now=now)
    if moved["consultant"] is not None:
        target.consultant = source.consultant
    moved["tickets"] = _list_ids(session, select(Ticket.id).where(Ticket.company_id == source.id))
    _move_parts(session, moved, source, target)
    _move_tickets(session, moved["tickets"], source, target, by=by, cause=_CAUSE, now=now)
    _record_merge(session, COMPANY, source, target, moved, by=by, now=now)


def unmerge_company(session: Session, source: Company, *, by: str, now: datetime) -> Company:
    """Undo the merge of a company; return the company that it was merged into.

    Raises ActionNotAllowed where it is not merged.
    """
    merge = _get_merge(session, COMPANY, source)
    target = session.get_one(Company, merge.target_id)
    # A company that was merged further on has passed everything on.
    holder = target
    while holder.merged_into_id is not None:
        holder = session.get_one(Company, holder.merged_into_id)
    source.merged_into_id = None
    moved = merge.moved
    if moved["manager"] is not None and target.manager_id == moved["manager"]:
        records.set_manager(session, target, None, by=by, now=now)
    if moved["consultant"] is not None and target.consultant_id == moved["consultant"]:
        target.consultant = None
    _move_parts(session, moved, holder, source)
    _move_tickets(session, moved["tickets"], holder, source, by=by, cause=_UNDO_CAUSE, now=now)
    _finish_undo(session, merge, by=by, now=now)
    return holder


def _move_parts(session: Session, moved: dict[str, Any], source: Company, target: Company) -> None:
    """Move contacts and domains, those that are still the source's."""
    session.flush()
    session.execute(
        update(Contact)
        .where(Contact.id.in_(moved["contacts"]), Contact.company_id == source.id)
        .values(company_id=target.id)
    )
    session.execute(
        update(CompanyDomain)
        .where(CompanyDomain.domain.in_(moved["domains"]), CompanyDomain.company_id == source.id)
        .values(company_id=target.id)
    )
    session.expire(source, ["domains"])
    session.expire(target, ["domains"])


def _move_tickets(
    session: Session,
    ids: Sequence[int],
    source: Company,
    target: Company,
    *,
    by: str,
    cause: str,
    now: datetime,
) -> None:
    """Move tickets, those that are still the source's, with their names and caveats."""
    old_name = TICKET_NAME.format(company=source.name)
    with audit.collect_rows(session):
        for number in sorted(ids):  # in one order, so that two at once do not wait for each other
            ticket = session.get_one(Ticket, number)
            lock_ticket(session, ticket)
            if ticket.company_id != source.id:
                continue
            name = ticket.name
            records.set_ticket_company(session, ticket, target, by=by, now=now, cause=cause)
            if name != old_name:  # somebody has named it otherwise
                ticket.name = name
            if ticket.status is not Status.OPEN:
                ticket.caveats = [c for c in ticket.caveats if c != records.NO_MANAGER]
        session.flush()


# -- contacts ----


def merge_contacts(
    session: Session, source: Contact, target: Contact, *, by: str, now: datetime
) -> None:
    """Merge a contact into another one, who is the same person with another address.

    Telephone number, name and company follow where the other has none; who wants no surveys gets
    none. Raises ActionNotAllowed where one of them is merged already, or both are the same.
    """
    _lock(session, Contact, source, target)
    links = session.scalars(
        select(TicketContact)
        .where(TicketContact.contact_id == source.id)
        .order_by(TicketContact.ticket_id)
    ).all()
    moved_ids: list[int] = []
    dropped: list[dict[str, Any]] = []
    for link in links:
        values = {name: getattr(link, name) for name in _LINK}
        if _move_link(session, link, target, by=by, now=now):
            moved_ids.append(link.id)
        else:
            dropped.append(values)
    filled = {
        name: getattr(source, name)
        for name in _FILLED
        if not getattr(target, name) and getattr(source, name)
    }
    for name, value in filled.items():
        setattr(target, name, value)
    session.flush()
    moved = {"links": moved_ids, "dropped": dropped, "filled": filled}
    _record_merge(session, CONTACT, source, target, moved, by=by, now=now)


def unmerge_contact(session: Session, source: Contact, *, by: str, now: datetime) -> Contact:
    """Undo the merge of a contact; return the contact that it was merged into.

    Raises ActionNotAllowed where it is not merged.
    """
    merge = _get_merge(session, CONTACT, source)
    target = session.get_one(Contact, merge.target_id)
    source.merged_into_id = None
    moved = merge.moved
    for number in moved["links"]:
        link = session.get(TicketContact, number)
        if link is not None:
            _return_link(session, link.ticket, source, by=by, now=now, link=link)
    for values in moved["dropped"]:
        ticket = session.get_one(Ticket, values["ticket_id"])
        if all(one.contact_id != source.id for one in ticket.contacts):
            link = TicketContact(**values)
            _return_link(session, ticket, source, by=by, now=now, link=link)
    for name, value in moved["filled"].items():
        if getattr(target, name) == value:
            setattr(target, name, _FILLED[name])
    _finish_undo(session, merge, by=by, now=now)
    session.expire_all()
    return target


def _return_link(
    session: Session,
    ticket: Ticket,
    contact: Contact,
    *,
    by: str,
    now: datetime,
    link: TicketContact,
) -> None:
    """Give a ticket a contact back."""
    lock_ticket(session, ticket)
    link.contact_id = contact.id
    session.add(link)
    _record_link(session, ticket.id, contact, by=by, cause=_UNDO_CAUSE, now=now)


def _record_link(
    session: Session, ticket: int, contact: Contact, *, by: str, cause: str, now: datetime
) -> None:
    audit.record(session, "contact", by=by, cause=cause, now=now, ticket=ticket, contact=contact.id)


# -- both ----


def follow_merges(store: Store, *, now: datetime) -> int:
    """Move tickets and contacts that are still of a merged record; return how many there were.

    PostgreSQL: a worker that read the record before the merge was committed may file on it after.
    """
    late_tickets = (
        select(Ticket.id, Ticket.company_id)
        .join(Company, Company.id == Ticket.company_id)
        .where(Company.merged_into_id.is_not(None))
        .limit(_MOST_LATE)
    )
    late_contacts = (
        select(Contact.id)
        .join(Company, Company.id == Contact.company_id)
        .where(Company.merged_into_id.is_not(None), Contact.merged_into_id.is_(None))
        .limit(_MOST_LATE)
    )
    late_links = (
        select(TicketContact.id)
        .join(Contact, Contact.id == TicketContact.contact_id)
        .where(Contact.merged_into_id.is_not(None))
        .limit(_MOST_LATE)
    )
    with store.read_only() as session:
        tickets = session.execute(late_tickets).all()
        contacts = session.scalars(late_contacts).all()
        links = session.scalars(late_links).all()
    if not (tickets or contacts or links):
        return 0
    with store.transaction() as session:
        lookup = directory.CustomerLookup(session)
        for ticket, company in tickets:
            source = session.get_one(Company, company)
            target = lookup.follow_merge(source)
            if target is not source:  # separated again meanwhile
                _move_tickets(session, [ticket], source, target, by=RULE, cause=_CAUSE, now=now)
        for number in contacts:
            contact = session.get_one(Contact, number)
            if contact.company is not None:
                contact.company = lookup.follow_merge(contact.company)
        for number in links:
            link = session.get(TicketContact, number)
            if link is not None:
                target_contact = lookup.follow_contact_merge(link.contact)
                if target_contact is not link.contact:
                    _move_link(session, link, target_contact, by=RULE, now=now)
    return len(tickets) + len(contacts) + len(links)


def _move_link(
    session: Session, link: TicketContact, target: Contact, *, by: str, now: datetime
) -> bool:
    """Give a ticket another contact; where it has that one, only take the first one off it.

    Returns whether the link stays.
    """
    ticket = link.ticket
    lock_ticket(session, ticket)
    stays = all(one.contact_id != target.id for one in ticket.contacts)
    if stays:
        link.contact_id = target.id
    else:
        session.delete(link)
    _record_link(session, ticket.id, target, by=by, cause=_CAUSE, now=now)
    session.flush()
    session.expire(ticket, ["contacts"])
    return stays


def _lock(session: Session, kind: type[RecordT], source: RecordT, target: RecordT) -> None:
    """Lock two records. Raises ActionNotAllowed where they cannot be merged."""
    session.scalars(
        select(kind)
        .where(kind.id.in_([source.id, target.id]))
        .order_by(kind.id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).all()
    if source.id == target.id:
        raise ActionNotAllowed("choose another one to merge it into")
    for record in (source, target):
        if record.merged_into_id is not None:
            raise ActionNotAllowed(f"{_describe(record)} is merged into another one already")


def _describe(record: Company | Contact) -> str:
    return record.name if isinstance(record, Company) else record.email


def _list_ids(session: Session, query: Any) -> list[int]:
    return sorted(session.scalars(query))


def _record_merge(
    session: Session,
    kind: str,
    source: Company | Contact,
    target: Company | Contact,
    moved: dict[str, Any],
    *,
    by: str,
    now: datetime,
) -> None:
    source.merged_into_id = target.id
    merge = CustomerMerge(
        kind=kind, source_id=source.id, target_id=target.id, by=by, at=now, moved=moved
    )
    session.add(merge)
    detail = {kind: source.id, "into": target.id}
    audit.record(session, f"{kind} merged", by=by, cause=_CAUSE, now=now, **detail)
    session.flush()


def _get_merge(session: Session, kind: str, source: Company | Contact) -> CustomerMerge:
    """Return the merge of a record that is in force. Raises ActionNotAllowed without one."""
    merges = select(CustomerMerge).where(
        CustomerMerge.kind == kind,
        CustomerMerge.source_id == source.id,
        CustomerMerge.undone_at.is_(None),
    )
    merge = session.scalar(merges.order_by(CustomerMerge.id.desc()).limit(1).with_for_update())
    if merge is None or source.merged_into_id is None:
        raise ActionNotAllowed(f"{_describe(source)} is not merged into another one")
    return merge


def _finish_undo(session: Session, merge: CustomerMerge, *, by: str, now: datetime) -> None:
    merge.undone_at = now
    detail = {merge.kind: merge.source_id, "from": merge.target_id}
    audit.record(session, f"{merge.kind} unmerged", by=by, cause=_UNDO_CAUSE, now=now, **detail)
    session.flush()
