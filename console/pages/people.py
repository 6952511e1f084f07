"""Pages of companies and contacts: their data and tickets, and the form for a phone call."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlencode
from uuid import uuid4

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload
from werkzeug.wrappers import Response

from console.perform import merge_customers, unmerge_customers
from console.web.request import get_actor, get_context, get_session, get_staff, now, requires
from ingest.phone_call import InvalidAddress, PhoneCall, write_down
from parsers.phone_call import Contact as CallContact
from workflow.customers import company_names, directory, merging, records
from workflow.customers.records import CompanyData
from workflow.database.ids import parse_id
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, Contact, Message, Staff, Ticket, TicketContact
from workflow.models.states import Status
from workflow.permissions import Right
from workflow.process import PIPELINE, STEPS, TICKET_NAME, TICKET_TYPE

pages = Blueprint("people", __name__)
MAX_RECENT = 50  # entries of a timeline
Answer = Response | str | tuple[str, int]
MAX_CONTACTS = 200  # of a company, on a page


@pages.get("/companies")
@requires(Right.READ)
def list_companies() -> str:
    """List fifty companies by name; with a search, those with such a name or number."""
    words, after = request.args.get("q", "")[:200], request.args.get("after", "")
    companies = records.search_companies(get_session(), words, after)
    is_full_page = len(companies) == records.PAGE_SIZE
    next_query = urlencode({"q": words, "after": companies[-1].key}) if is_full_page else ""
    unknown_senders = records.count_unknown_senders(get_session())
    return render_template(
        "people/companies.html",
        companies=companies,
        words=words,
        open_tickets=_count_open_tickets(get_session(), [c.id for c in companies]),
        unknown_senders=unknown_senders,
        has_more_senders=unknown_senders == records.PAGE_SIZE,  # where their list stops
        next_query=next_query,
    )


@pages.get("/companies/new")
@requires(Right.WORK)
def show_new_company_form() -> str:
    """Show the form for a new company."""
    return _render_company_form(None, {})


@pages.get("/companies/<int:number>/edit")
@requires(Right.WORK)
def show_company_form(number: int) -> str:
    """Show the form that changes a company."""
    company = _get_company(get_session(), number)
    data = CompanyData.from_company(company)
    values = {
        "name": data.name,
        "number": data.number,
        "domains": " ".join(data.domains),
        "manager": data.manager.id if data.manager else None,
        "consultant": data.consultant.id if data.consultant else None,
    }
    return _render_company_form(company, values)


@pages.post("/companies/new")
@pages.post("/companies/<int:number>/edit")
@requires(Right.WORK)
def save_company(number: int | None = None) -> Answer:
    """Create or change a company; 409 and the form as it was filled in when not allowed."""
    form = request.form
    try:
        with get_context().store.transaction() as session:
            company = _get_company(session, number) if number is not None else None
            data = CompanyData(
                name=form.get("name", ""),
                number=form.get("number", ""),
                domains=form.get("domains", "").replace(",", " ").split(),
                manager=_find_staff(session, "manager"),
                consultant=_find_staff(session, "consultant"),
            )
            saved = records.save_company(session, company, data, by=get_staff().name, now=now())
            saved_id = saved.id
    except ActionNotAllowed as error:
        company = _get_company(get_session(), number) if number is not None else None
        return _render_company_form(company, form, str(error)), 409
    flash("The company is saved.", "success")
    return redirect(f"/companies/{saved_id}")


def _render_company_form(
    company: Company | None, values: Mapping[str, object], error: str = ""
) -> str:
    return render_template(
        "people/company_form.html",
        company=company,
        values=values,
        desk=_list_staff(
            get_session(), *((company.manager, company.consultant) if company else ())
        ),
        error=error,
    )


@pages.get("/companies/<int:number>")
@requires(Right.READ)
def show_company(number: int) -> Answer:
    """Show a company with its contacts, its tickets and their shared activity."""
    company = _get_company(get_session(), number)
    if company.merged_into_id is not None:
        return redirect(f"/companies/{company.merged_into_id}")
    contacts = get_session().scalars(
        select(Contact)
        .where(Contact.company_id == number, Contact.merged_into_id.is_(None))
        .order_by(Contact.name)
        .limit(MAX_CONTACTS)
    )
    tickets = select(Ticket).where(Ticket.company_id == number).options(joinedload(Ticket.owner))
    is_shared = and_(Ticket.company_id == number, Ticket.share_activity)
    return render_template(
        "people/company.html",
        company=company,
        domains=[row.domain for row in company.domains],
        merged=[
            (directory.describe_company(one), f"/companies/{one.id}")
            for one in merging.list_merged_companies(get_session(), company)
        ],
        near=directory.list_near_records(directory.CustomerLookup(get_session()), company),
        contacts=list(contacts),
        tickets=get_session().scalars(tickets.order_by(Ticket.id.desc()).limit(MAX_RECENT)).all(),
        activity=_load_activity(get_session(), is_shared),
    )


@pages.get("/contacts/<int:number>")
@requires(Right.READ)
def show_contact(number: int) -> Answer:
    """Show a contact with their addresses, their tickets and their shared activity."""
    contact = get_session().get(Contact, number) or abort(404)
    if contact.merged_into_id is not None:
        return redirect(f"/contacts/{contact.merged_into_id}")
    links = select(TicketContact).where(TicketContact.contact_id == number)
    tickets = get_session().scalars(
        select(Ticket)
        .where(Ticket.id.in_(links.with_only_columns(TicketContact.ticket_id)))
        .options(joinedload(Ticket.owner))
        .order_by(Ticket.id.desc())
        .limit(MAX_RECENT)
    )
    shared_ticket_ids = links.where(TicketContact.share_activity).with_only_columns(
        TicketContact.ticket_id
    )
    return render_template(
        "people/contact.html",
        contact=contact,
        merged=[
            (_describe_contact(one), f"/contacts/{one.id}")
            for one in merging.list_merged_contacts(get_session(), contact)
        ],
        tickets=list(tickets),
        activity=_load_activity(get_session(), Ticket.id.in_(shared_ticket_ids)),
        companies=records.search_companies(get_session(), request.args.get("q", "")[:200]),
    )


@pages.post("/contacts/<int:number>")
@requires(Right.WORK)
def save_contact(number: int) -> Answer:
    """Change a contact."""
    form = request.form
    try:
        with get_context().store.transaction() as session:
            contact = session.get(Contact, number) or abort(404)
            records.save_contact(
                session,
                contact,
                email=form.get("email", ""),
                name=form.get("name", ""),
                phone=form.get("phone", ""),
                company=_find_company(session),
                by=get_staff().name,
                now=now(),
            )
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
        return redirect(f"/contacts/{number}")
    flash("The contact is saved.", "success")
    return redirect(f"/contacts/{number}")


@pages.get("/companies/<int:number>/merge")
@requires(Right.WORK)
def show_company_merge(number: int) -> str:
    """Show what merging a company moves, and the companies to merge it into."""
    company, words = _get_company(get_session(), number), request.args.get("q", "")[:200]
    others = records.search_companies(get_session(), words)
    return render_template(
        "people/merge.html",
        kind="company",
        name=directory.describe_company(company),
        address=f"/companies/{number}",
        extent=merging.measure_company(get_session(), company),
        words=words,
        choices=[(one.id, directory.describe_company(one)) for one in others if one != company],
    )


@pages.get("/contacts/<int:number>/merge")
@requires(Right.WORK)
def show_contact_merge(number: int) -> str:
    """Show what merging a contact moves, and the contacts to merge it into."""
    contact = get_session().get(Contact, number) or abort(404)
    words = request.args.get("q", contact.name)[:200]
    others = records.search_contacts(get_session(), words)
    return render_template(
        "people/merge.html",
        kind="contact",
        name=_describe_contact(contact),
        address=f"/contacts/{number}",
        extent=merging.measure_contact(get_session(), contact),
        words=words,
        choices=[(one.id, _describe_contact(one)) for one in others if one != contact],
    )


def _describe_contact(contact: Contact) -> str:
    return f"{contact.name} <{contact.email}>" if contact.name else contact.email


@pages.post("/companies/<int:number>/merge")
@requires(Right.WORK)
def merge_company(number: int) -> Response:
    """Merge a company into the chosen one, and show that one."""
    return _merge("company", number, "/companies")


@pages.post("/contacts/<int:number>/merge")
@requires(Right.WORK)
def merge_contact(number: int) -> Response:
    """Merge a contact into the chosen one, and show that one."""
    return _merge("contact", number, "/contacts")


@pages.post("/companies/<int:number>/unmerge")
@requires(Right.WORK)
def unmerge_company(number: int) -> Response:
    """Undo the merge of a company, and show it."""
    return _unmerge("company", number, "/companies")


@pages.post("/contacts/<int:number>/unmerge")
@requires(Right.WORK)
def unmerge_contact(number: int) -> Response:
    """Undo the merge of a contact, and show it."""
    return _unmerge("contact", number, "/contacts")


def _merge(kind: str, number: int, place: str) -> Response:
    into = parse_id(request.form.get("into"))
    try:
        words = merge_customers(get_context(), kind, number, into, by=get_staff().name)
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
        return redirect(f"{place}/{number}/merge")
    flash(f"{words}.", "success")
    return redirect(f"{place}/{into}")


def _unmerge(kind: str, number: int, place: str) -> Response:
    try:
        words = unmerge_customers(get_context(), kind, number, by=get_staff().name)
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
    else:
        flash(f"{words}.", "success")
    return redirect(f"{place}/{number}")


@pages.get("/senders")
@requires(Right.READ)
def list_senders() -> str:
    """List the people who have written and belong to no company yet."""
    companies = records.search_companies(get_session(), request.args.get("q", "")[:200])
    return render_template(
        "people/senders.html",
        senders=[
            (contact, contact.email.rpartition("@")[2], count)
            for contact, count in records.list_unknown_senders(get_session())
        ],
        companies=companies,
    )


@pages.post("/senders/<int:number>")
@requires(Right.WORK)
def assign_sender(number: int) -> Response:
    """Assign a sender to a company; on request everybody of their mail domain."""
    try:
        with get_context().store.transaction() as session:
            sender = session.get(Contact, number) or abort(404)
            company = _find_company(session)
            whole_domain = request.form.get("domain") == "yes"
            count = _assign_senders(session, sender, company, whole_domain=whole_domain)
    except ActionNotAllowed as error:
        flash(f"Nothing was changed: {error}.", "error")
    else:
        flash(f"Associated, with {count} open ticket{'' if count == 1 else 's'}.", "success")
    return redirect("/senders")


def _assign_senders(
    session: Session, sender: Contact, company: Company | None, *, whole_domain: bool
) -> int:
    """Assign the sender, or all of their mail domain without a company; count changed tickets.

    Raises ActionNotAllowed without a company, or for a domain that no company can own.
    """
    if company is None:
        raise ActionNotAllowed("choose a company")
    contacts = [sender]
    if whole_domain:
        domain = sender.email.rpartition("@")[2]
        records.add_domain(session, domain, company)
        has_domain = Contact.email.endswith(f"@{domain}", autoescape=True)
        query = select(Contact).where(Contact.company_id.is_(None), has_domain)
        contacts = list(session.scalars(query))
    return sum(
        records.set_contact_company(session, contact, company, by=get_staff().name, now=now())
        for contact in contacts
    )


@pages.get("/companies/<int:number>/add-ticket")
@requires(Right.WORK)
def show_call_form(number: int) -> str:
    """Show the manual's form for a ticket made by hand, with its default values."""
    return _render_call_form(number, {}, "")


@pages.post("/companies/<int:number>/add-ticket")
@requires(Right.WORK)
def record_call(number: int) -> Answer:
    """Record a phone call as a delivery, like every other request, and show its ticket.

    409 and the form as it was filled in when that is not possible.
    """
    form = request.form
    company = _get_company(get_session(), number)
    try:
        contacts = _get_contacts(get_session(), company)
        # The form has no field for their address: it is that of the contact who has this name.
        name, email = _find_caller(form.get("name", ""), contacts)
        call = PhoneCall(
            contacts=contacts,
            company=company.name,
            call_id=form.get("call_id", "")[:64],
            name=name,
            email=email,
            phone=form.get("phone", ""),
            subject=form.get("subject", ""),
            text=form.get("text", ""),
            telemedicine=form.get("telemedicine") == "yes",
            on_company=form.get("on_company") == "yes",
        )
        ticket = write_down(get_context(), call, actor=get_actor(), take=True).ticket
    except ActionNotAllowed as error:
        return _render_call_form(number, form, str(error)), 409
    flash(f"Ticket #{ticket} is yours.", "success")
    return redirect(f"/tickets/{ticket}")


def _render_call_form(number: int, values: Mapping[str, str], error: str) -> str:
    company = _get_company(get_session(), number)
    contacts = get_session().scalars(
        select(Contact)
        .where(Contact.company_id == number, Contact.merged_into_id.is_(None))
        .order_by(Contact.name)
        .limit(MAX_CONTACTS)
    )
    return render_template(
        "people/add_ticket.html",
        company=company,
        contacts=list(contacts),
        values=values,
        error=error,
        # One id a form: pressed twice, or sent again after an error, it is still one ticket.
        call_id=values.get("call_id") or uuid4().hex,
        pipeline=PIPELINE,
        stage=STEPS[0].stage,
        type=TICKET_TYPE,
        name=TICKET_NAME.format(company=company.name),
        chosen_ids=request.form.getlist("contact"),
        shared_ids=request.form.getlist("share"),
    )


def _get_contacts(session: Session, company: Company) -> list[CallContact]:
    """Return the ticked contacts, each with its choice about its timeline, and a new one.

    Raises InvalidAddress for one that is none.
    """
    ids = [
        number for text in request.form.getlist("contact") if (number := parse_id(text)) is not None
    ]
    contacts = session.scalars(
        select(Contact).where(Contact.id.in_(ids), Contact.company_id == company.id)
    )
    shared_ids = set(request.form.getlist("share"))
    call_contacts = [
        CallContact(name=c.name, email=c.email, share_activity=str(c.id) in shared_ids)
        for c in contacts
    ]
    new_email, new_name = (
        request.form.get("new_email", "").strip().casefold(),
        request.form.get("new_name", ""),
    )
    if new_email and not directory.is_valid_address(new_email):
        raise InvalidAddress(new_email)
    if new_email or new_name.strip():
        call_contacts.append(CallContact(new_name, new_email, share_activity="new" in shared_ids))
    return call_contacts


def _find_caller(name: str, contacts: Sequence[CallContact]) -> tuple[str, str]:
    """Return the caller's name and address.

    The address is that of the one chosen contact of this name, or of the only contact where it
    has no name yet. Otherwise somebody else called, and it is empty. Without a name, the parser
    takes the first contact.
    """
    key = company_names.fold(name)
    if not key:
        return name, ""
    matches = [c for c in contacts if company_names.fold(c.name) == key]
    if len(contacts) == 1 and not contacts[0].name:
        matches = list(contacts)
    return name, matches[0].email if len(matches) == 1 else ""


def _get_company(session: Session, number: int) -> Company:
    """Return a company with its people and domains; aborts with 404 where there is none."""
    query = select(Company).where(Company.id == number)
    query = query.options(joinedload(Company.manager), joinedload(Company.consultant))
    return session.scalar(query.options(selectinload(Company.domains))) or abort(404)


def _find_staff(session: Session, field: str) -> Staff | None:
    number = parse_id(request.form.get(field))
    return session.get(Staff, number) if number is not None else None


def _find_company(session: Session) -> Company | None:
    number = parse_id(request.form.get("company"))
    company = session.get(Company, number) if number is not None else None
    # The page that it was chosen on may be older than a merge.
    return directory.CustomerLookup(session).follow_merge(company) if company else None


def _list_staff(session: Session, *chosen: Staff | None) -> list[Staff]:
    """Return the people who can be chosen, and those who are chosen now although they have left."""
    present = list(session.scalars(directory.select_present_staff()))
    left = [person for person in chosen if person is not None and person not in present]
    return sorted({*present, *left}, key=lambda person: person.name)


def _count_open_tickets(session: Session, companies: list[int]) -> dict[int, int]:
    """Return the number of open tickets by company id; companies without one are missing."""
    counts = (
        select(Ticket.company_id, func.count())
        .where(Ticket.company_id.in_(companies), Ticket.status == Status.OPEN)
        .group_by(Ticket.company_id)
    )
    return {int(company): int(count) for company, count in session.execute(counts) if company}


def _load_activity(session: Session, which: object) -> list[tuple[datetime, Message, Ticket]]:
    """Return the latest messages on the tickets of a condition, newest first.

    The page shows who, when and which ticket, never the text.
    """
    query = (
        select(Message.at, Message, Ticket)
        .join(Ticket, Ticket.id == Message.ticket_id)
        .where(or_(which))  # type: ignore[arg-type]
    )
    rows = session.execute(query.order_by(Message.id.desc()).limit(MAX_RECENT))
    return [tuple(row) for row in rows]  # type: ignore[misc]
