"""API of companies and contacts: list, get, create, change."""

from flask import Response, jsonify
from marshmallow import fields
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, number_input, text_input
from console.api.paging import JsonObject, respond_with_rows
from console.api.tickets import find_person
from console.perform import merge_customers, unmerge_customers
from console.presenters import customers
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff, now
from workflow.customers import records, search
from workflow.customers.records import CompanyData
from workflow.models.core import Company, Contact, Staff
from workflow.permissions import Right

ABOUT = "companies and contacts"
_LOAD_RELATIONS = (  # what `present_company` shows: else a query for each company of a page
    joinedload(Company.manager),
    joinedload(Company.consultant),
    selectinload(Company.domains),
)


class CompanyQuery(PageQuery):
    """Query of the list of companies."""

    q = text_input(
        200, load_default="", metadata={"description": "Part of the name, or the whole number."}
    )


class ContactQuery(PageQuery):
    """Query of the list of contacts."""

    email = text_input(320, load_default="")
    company = number_input(load_default=None)


class CompanyChange(StrictSchema):
    """Fields of a company to change; those left out keep their values."""

    name = text_input(400, 1)
    number = text_input(64, allow_none=True)
    domains = fields.List(
        text_input(255),
        metadata={"description": "All of them; senders with these domains belong to the company."},
    )
    manager = text_input(
        320, allow_none=True, metadata={"description": "A name or mail address, `me`, or null."}
    )
    consultant = text_input(320, allow_none=True)


class NewCompany(CompanyChange):
    """Fields of a new company."""

    name = text_input(400, 1, required=True)


class ContactChange(StrictSchema):
    """Fields of a contact to change; those left out keep their values."""

    email = text_input(320, 1)
    name = text_input(400)
    phone = text_input(64)
    company = number_input(allow_none=True)


class NewContact(ContactChange):
    """Fields of a new contact."""

    email = text_input(320, 1, required=True)


@endpoint(
    "GET",
    "/companies",
    Right.READ,
    schemas.make_page_schema(schemas.Company),
    about=ABOUT,
    query=CompanyQuery,
)
def companies(filters: JsonObject) -> Response:
    """List the companies, oldest first."""
    query = select(Company).where(Company.merged_into_id.is_(None)).options(*_LOAD_RELATIONS)
    if filters["q"]:
        query = query.where(Company.id.in_(search.select_companies_named(filters["q"])))
    return respond_with_rows(get_session(), query, Company.id, filters, customers.present_company)


@endpoint("GET", "/companies/<int:number>", Right.READ, schemas.Company, about=ABOUT)
def company(number: int) -> Response:
    """Get a company."""
    return jsonify(customers.present_company(_get_company(get_session(), number)))


@endpoint(
    "POST",
    "/companies",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    body=NewCompany,
    status=201,
    refuses=[409],
)
def company_new(body: JsonObject) -> Response:
    """Create a company. 409 when another has its name, number or one of its domains."""
    response = _save_company(None, body)
    response.status_code = 201
    return response


@endpoint(
    "PATCH",
    "/companies/<int:number>",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    body=CompanyChange,
    refuses=[409],
)
def company_change(body: JsonObject, number: int) -> Response:
    """Change a company. 409 when another has its name, number or one of its domains."""
    return _save_company(number, body)


@endpoint(
    "GET",
    "/contacts",
    Right.READ,
    schemas.make_page_schema(schemas.Contact),
    about=ABOUT,
    query=ContactQuery,
)
def contacts(filters: JsonObject) -> Response:
    """List the contacts, oldest first."""
    query = select(Contact)
    if filters["email"]:
        query = query.where(Contact.email == filters["email"].strip().casefold())
    else:
        query = query.where(Contact.merged_into_id.is_(None))
    if filters["company"] is not None:
        query = query.where(Contact.company_id == filters["company"])
    return respond_with_rows(get_session(), query, Contact.id, filters, customers.present_contact)


@endpoint("GET", "/contacts/<int:number>", Right.READ, schemas.Contact, about=ABOUT)
def contact(number: int) -> Response:
    """Get a contact."""
    return jsonify(customers.present_contact(_get_contact(get_session(), number)))


@endpoint(
    "POST",
    "/contacts",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    body=NewContact,
    status=201,
    refuses=[409],
)
def contact_new(body: JsonObject) -> Response:
    """Create a contact. 409 when its mail address is not valid, or another contact has it."""
    response = _save_contact(None, body)
    response.status_code = 201
    return response


@endpoint(
    "PATCH",
    "/contacts/<int:number>",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    body=ContactChange,
    refuses=[409],
)
def contact_change(body: JsonObject, number: int) -> Response:
    """Change a contact.

    A new company is also set on their open tickets that have none.
    """
    return _save_contact(number, body)


class MergeTarget(StrictSchema):
    """The one that goes on."""

    into = number_input(required=True)


@endpoint(
    "POST",
    "/companies/<int:number>/merge",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    body=MergeTarget,
    refuses=[409],
)
def company_merge(body: JsonObject, number: int) -> Response:
    """Merge a company into another: tickets, contacts and domains move, its name and number too."""
    _get_company(get_session(), number)
    merge_customers(get_context(), "company", number, body["into"], by=get_staff().name)
    return _answer_with_company(number)


@endpoint(
    "POST",
    "/companies/<int:number>/unmerge",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    refuses=[409],
)
def company_unmerge(number: int) -> Response:
    """Undo the merge of a company: what it moved goes back."""
    _get_company(get_session(), number)
    unmerge_customers(get_context(), "company", number, by=get_staff().name)
    return _answer_with_company(number)


@endpoint(
    "POST",
    "/contacts/<int:number>/merge",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    body=MergeTarget,
    refuses=[409],
)
def contact_merge(body: JsonObject, number: int) -> Response:
    """Merge a contact into another, who is the same person with another address."""
    _get_contact(get_session(), number)
    merge_customers(get_context(), "contact", number, body["into"], by=get_staff().name)
    return _answer_with_contact(number)


@endpoint(
    "POST",
    "/contacts/<int:number>/unmerge",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    refuses=[409],
)
def contact_unmerge(number: int) -> Response:
    """Undo the merge of a contact: their tickets go back."""
    _get_contact(get_session(), number)
    unmerge_customers(get_context(), "contact", number, by=get_staff().name)
    return _answer_with_contact(number)


def _answer_with_company(number: int) -> Response:
    """Answer with a company as it is after a change."""
    with get_context().store.read_only() as session:
        return jsonify(customers.present_company(_get_company(session, number)))


def _answer_with_contact(number: int) -> Response:
    """Answer with a contact as it is after a change."""
    with get_context().store.read_only() as session:
        return jsonify(customers.present_contact(_get_contact(session, number)))


def _save_company(number: int | None, body: JsonObject) -> Response:
    """Create a company, or change the one of this number, and answer with it."""
    with get_context().store.transaction() as session:
        row = _get_company(session, number) if number is not None else None
        present = CompanyData(name="") if row is None else CompanyData.from_company(row)
        data = CompanyData(
            name=body.get("name", present.name),
            number=body.get("number", present.number) or "",
            domains=body.get("domains", present.domains),
            manager=_find_staff(session, body, "manager", present.manager),
            consultant=_find_staff(session, body, "consultant", present.consultant),
        )
        saved_id = records.save_company(session, row, data, by=get_staff().name, now=now()).id
    # Read again: the row that was saved does not know its new relations.
    with get_context().store.read_only() as session:
        return jsonify(customers.present_company(_get_company(session, saved_id)))


def _save_contact(number: int | None, body: JsonObject) -> Response:
    """Create a contact, or change the one of this number, and answer with it."""
    with get_context().store.transaction() as session:
        row = _get_contact(session, number) if number is not None else None
        company_id = body.get("company", row.company_id if row else None)
        company_row = session.get(Company, company_id) if company_id is not None else None
        # Not left to the foreign key: its error would be a 500.
        if company_id is not None and company_row is None:
            raise ApiError(422, fields={"company": ["There is no such company."]})
        saved_row = records.save_contact(
            session,
            row,
            email=body.get("email", row.email if row else ""),
            name=body.get("name", row.name if row else ""),
            phone=body.get("phone", row.phone if row else ""),
            company=company_row,
            by=get_staff().name,
            now=now(),
        )
        return jsonify(customers.present_contact(saved_row))


def _find_staff(
    session: Session, body: JsonObject, field: str, present: Staff | None
) -> Staff | None:
    """Return the person a field names, the present one where the body leaves the field out."""
    if field not in body:
        return present
    return find_person(session, body[field], field) if body[field] else None


def _get_company(session: Session, number: int) -> Company:
    row = session.scalar(select(Company).where(Company.id == number).options(*_LOAD_RELATIONS))
    if row is None:
        raise ApiError(404, f"There is no company {number}.")
    return row


def _get_contact(session: Session, number: int) -> Contact:
    row = session.get(Contact, number)
    if row is None:
        raise ApiError(404, f"There is no contact {number}.")
    return row
