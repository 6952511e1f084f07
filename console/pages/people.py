"""Companies and contacts.

Their records, what has happened on them, and "+ Add ticket" for who telephones.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import uuid4

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload
from werkzeug.wrappers import Response

from console.web.request import actor, get_context, get_session, get_staff, now, requires
from ingest.phone_call import InvalidAddress, PhoneCall, write_down
from parsers.phone_call import Contact as Chosen
from workflow.customers import directory, records
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


@pages.get("/companies")
@requires(Right.READ)
def companies() -> str:
    """Companies by name, a page of fifty; those whose name or number is asked for."""
    words, after = request.args.get("q", "")[:200], request.args.get("after", "")
    found = records.search_companies(get_session(), words, after)
    open_ones = _open_tickets(get_session(), [c.id for c in found])
    unknown = records.list_unknown_senders(get_session())
    return render_template(
        "people/companies.html",
        companies=found,
        words=words,
        open_ones=open_ones,
        unknown=len(unknown),
    )


@pages.get("/companies/new")
@requires(Right.WORK)
def new_company() -> str:
    """The form of a company that is not on record yet."""
    return render_template(
        "people/company_form.html", company=None, says={}, desk=_desk(get_session()), fault=""
    )


@pages.get("/companies/<int:number>/edit")
@requires(Right.WORK)
def edit_company(number: int) -> str:
    """The form of a company's record."""
    company = _company(get_session(), number)
    says = {
        "name": company.name,
        "number": company.number or "",
        "domains": " ".join(d.domain for d in company.domains),
        "manager": company.manager_id,
        "consultant": company.consultant_id,
    }
    return render_template(
        "people/company_form.html", company=company, says=says, desk=_desk(get_session()), fault=""
    )


@pages.post("/companies/new")
@pages.post("/companies/<int:number>/edit")
@requires(Right.WORK)
def keep_company(number: int | None = None) -> Answer:
    """Put it on record, or say what is in the way and keep what was typed."""
    said = request.form
    try:
        with get_context().store.transaction() as session:
            company = _company(session, number) if number is not None else None
            says = CompanyData(
                name=said.get("name", ""),
                number=said.get("number", ""),
                domains=said.get("domains", "").replace(",", " ").split(),
                manager=_person(session, "manager"),
                consultant=_person(session, "consultant"),
            )
            kept = records.save_company(session, company, says, by=get_staff().name, now=now()).id
    except ActionNotAllowed as fault:
        company = _company(get_session(), number) if number is not None else None
        page = render_template(
            "people/company_form.html",
            company=company,
            says=said,
            desk=_desk(get_session()),
            fault=str(fault),
        )
        return page, 409
    flash("The company is on record.", "success")
    return redirect(f"/companies/{kept}")


@pages.get("/companies/<int:number>")
@requires(Right.READ)
def company(number: int) -> str:
    """A company: who manages it, its contacts, its tickets.

    And the activity its record is to show.
    """
    found = _company(get_session(), number)
    contacts = get_session().scalars(
        select(Contact).where(Contact.company_id == number).order_by(Contact.name).limit(200)
    )
    tickets = select(Ticket).where(Ticket.company_id == number).options(joinedload(Ticket.owner))
    listed = get_session().scalars(tickets.order_by(Ticket.id.desc()).limit(MAX_RECENT)).all()
    shown = and_(Ticket.company_id == number, Ticket.share_activity)
    return render_template(
        "people/company.html",
        company=found,
        contacts=list(contacts),
        tickets=listed,
        activity=_activity(get_session(), shown),
    )


@pages.get("/contacts/<int:number>")
@requires(Right.READ)
def contact(number: int) -> str:
    """A contact: how to reach them, their tickets, and the activity their record is to show."""
    found = get_session().get(Contact, number) or abort(404)
    links = select(TicketContact).where(TicketContact.contact_id == number)
    tickets = get_session().scalars(
        select(Ticket)
        .where(Ticket.id.in_(links.with_only_columns(TicketContact.ticket_id)))
        .options(joinedload(Ticket.owner))
        .order_by(Ticket.id.desc())
        .limit(MAX_RECENT)
    )
    shown = links.where(TicketContact.share_activity).with_only_columns(TicketContact.ticket_id)
    choices = records.search_companies(get_session(), request.args.get("q", "")[:200])
    return render_template(
        "people/contact.html",
        contact=found,
        tickets=list(tickets),
        activity=_activity(get_session(), Ticket.id.in_(shown)),
        companies=choices,
        fault="",
    )


@pages.post("/contacts/<int:number>")
@requires(Right.WORK)
def keep_contact(number: int) -> Answer:
    """Change a contact's record."""
    said = request.form
    try:
        with get_context().store.transaction() as session:
            found = session.get(Contact, number) or abort(404)
            records.save_contact(
                session,
                found,
                email=said.get("email", ""),
                name=said.get("name", ""),
                phone=said.get("phone", ""),
                company=_chosen_company(session),
                by=get_staff().name,
                now=now(),
            )
    except ActionNotAllowed as fault:
        flash(f"Nothing was changed: {fault}.", "error")
        return redirect(f"/contacts/{number}")
    flash("The contact is on record.", "success")
    return redirect(f"/contacts/{number}")


@pages.get("/senders")
@requires(Right.READ)
def senders() -> str:
    """People who have written and belong to no company yet."""
    found = records.list_unknown_senders(get_session())
    choices = records.search_companies(get_session(), request.args.get("q", "")[:200])
    return render_template("people/senders.html", senders=found, companies=choices)


@pages.post("/senders/<int:number>")
@requires(Right.WORK)
def claim(number: int) -> Response:
    """One click: this sender, or everybody of their mail domain, belongs to the company."""
    try:
        with get_context().store.transaction() as session:
            person = session.get(Contact, number) or abort(404)
            company = _chosen_company(session)
            moved = _claim(session, person, company, whole=request.form.get("domain") == "yes")
    except ActionNotAllowed as fault:
        flash(f"Nothing was changed: {fault}.", "error")
    else:
        flash(f"Associated; with it {moved} open ticket{'' if moved == 1 else 's'}.", "success")
    return redirect("/senders")


def _claim(session: Session, person: Contact, company: Company | None, *, whole: bool) -> int:
    if company is None:
        raise ActionNotAllowed("choose a company")
    alike = [person]
    if whole:
        domain = person.email.rpartition("@")[2]
        records.add_domain(session, domain, company)
        theirs = Contact.email.endswith(f"@{domain}", autoescape=True)
        alike = list(session.scalars(select(Contact).where(Contact.company_id.is_(None), theirs)))
    return sum(
        records.set_contact_company(session, one, company, by=get_staff().name, now=now())
        for one in alike
    )


@pages.get("/companies/<int:number>/add-ticket")
@requires(Right.WORK)
def add_ticket(number: int) -> str:
    """The manual's form of a ticket made by hand, with its defaults."""
    return _call_form(number, {}, "")


@pages.post("/companies/<int:number>/add-ticket")
@requires(Right.WORK)
def added_ticket(number: int) -> Answer:
    """Write the call down, by the one door every request comes through."""
    said = request.form
    company = _company(get_session(), number)
    try:
        contacts = _chosen_contacts(get_session(), company)
        name, email = _caller(said.get("name", ""), contacts)
        call = PhoneCall(
            contacts=contacts,
            company=company.name,
            call_id=said.get("call_id", "")[:64],
            name=name,
            email=email,
            phone=said.get("phone", ""),
            subject=said.get("subject", ""),
            text=said.get("text", ""),
            telemedicine=said.get("telemedicine") == "yes",
            on_company=said.get("on_company") == "yes",
        )
        ticket = write_down(get_context(), call, actor=actor(), take=True).ticket
    except ActionNotAllowed as fault:
        return _call_form(number, said, str(fault)), 409
    flash(f"Ticket #{ticket} is yours.", "success")
    return redirect(f"/tickets/{ticket}")


def _call_form(number: int, said: Mapping[str, str], fault: str) -> str:
    company = _company(get_session(), number)
    contacts = get_session().scalars(
        select(Contact).where(Contact.company_id == number).order_by(Contact.name).limit(200)
    )
    return render_template(
        "people/add_ticket.html",
        company=company,
        contacts=list(contacts),
        said=said,
        fault=fault,
        call_id=said.get("call_id") or uuid4().hex,
        pipeline=PIPELINE,
        stage=STEPS[0].stage,
        type=TICKET_TYPE,
        name=TICKET_NAME.format(company=company.name),
        chosen=request.form.getlist("contact"),
        shared=request.form.getlist("share"),
    )


def _chosen_contacts(session: Session, company: Company) -> list[Chosen]:
    """The contacts ticked, each with its own box, and a new address.

    Raises InvalidAddress for one that is none.
    """
    ids = [
        number for said in request.form.getlist("contact") if (number := parse_id(said)) is not None
    ]
    known = session.scalars(
        select(Contact).where(Contact.id.in_(ids), Contact.company_id == company.id)
    )
    shared = set(request.form.getlist("share"))
    chosen = [Chosen(name=c.name, email=c.email, share_activity=str(c.id) in shared) for c in known]
    new, name = (
        request.form.get("new_email", "").strip().casefold(),
        request.form.get("new_name", ""),
    )
    if new and not directory.is_valid_address(new):
        raise InvalidAddress(new)
    if new or name.strip():
        chosen.append(Chosen(name, new, share_activity="new" in shared))
    return chosen


def _caller(name: str, contacts: Sequence[Chosen]) -> tuple[str, str]:
    """Return name and address of who called.

    Of a chosen contact of that name, or of the only one if it has none.

    Somebody else called, without an address, where there is no such contact. Where no name was
    typed the parser takes the first contact.
    """
    typed = directory.build_company_key(name)
    same = [c for c in contacts if typed and directory.build_company_key(c.name) == typed]
    if typed and len(contacts) == 1 and not contacts[0].name:
        same = list(contacts)
    return name, same[0].email if len(same) == 1 else ""


def _company(session: Session, number: int) -> Company:
    people_of = (
        joinedload(Company.manager),
        joinedload(Company.consultant),
        selectinload(Company.domains),
    )
    return session.scalar(select(Company).where(Company.id == number).options(*people_of)) or abort(
        404
    )


def _person(session: Session, field: str) -> Staff | None:
    number = parse_id(request.form.get(field))
    return session.get(Staff, number) if number is not None else None


def _chosen_company(session: Session) -> Company | None:
    number = parse_id(request.form.get("company"))
    return session.get(Company, number) if number is not None else None


def _desk(session: Session) -> list[Staff]:
    return list(session.scalars(select(Staff).order_by(Staff.name)))


def _open_tickets(session: Session, companies: list[int]) -> dict[int, int]:
    counted = select(Ticket.company_id, func.count()).where(
        Ticket.company_id.in_(companies), Ticket.status == Status.OPEN
    )
    return {
        int(c): int(n)
        for c, n in session.execute(counted.group_by(Ticket.company_id))
        if c is not None
    }


def _activity(session: Session, which: object) -> list[tuple[datetime, Message, Ticket]]:
    """The latest messages on tickets whose box allows it, newest first.

    Who, when and which ticket, never the text.
    """
    query = (
        select(Message.at, Message, Ticket)
        .join(Ticket, Ticket.id == Message.ticket_id)
        .where(or_(which))  # type: ignore[arg-type]
    )
    rows = session.execute(query.order_by(Message.id.desc()).limit(MAX_RECENT))
    return [tuple(row) for row in rows]  # type: ignore[misc]
