"""Companies and contacts by the API: listed, put on record, changed."""

from flask import Response, jsonify
from marshmallow import fields
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, number_input, text_input
from console.api.paging import JsonObject, respond_with_rows
from console.api.tickets import person
from console.presenters import customers
from console.web.api_errors import ApiError
from console.web.request import get_context, get_session, get_staff, now
from workflow.customers import directory, records
from workflow.customers.records import CompanyData
from workflow.models.core import Company, Contact, Staff
from workflow.permissions import Right

ABOUT = "companies and contacts"
_WHOLE = (
    joinedload(Company.manager),
    joinedload(Company.consultant),
    selectinload(Company.domains),
)


class CompanyQuery(PageQuery):
    """Which companies."""

    q = text_input(200, load_default="", metadata={"description": "In its name, or its number."})


class ContactQuery(PageQuery):
    """Which contacts."""

    email = text_input(320, load_default="")
    company = number_input(load_default=None)


class CompanyChange(StrictSchema):
    """What is to change; what is not named stays."""

    name = text_input(400, 1)
    number = text_input(64, allow_none=True)
    domains = fields.List(
        text_input(255), metadata={"description": "All of them: senders there belong to it."}
    )
    manager = text_input(
        320, allow_none=True, metadata={"description": "A name or mail address, `me`, or null."}
    )
    consultant = text_input(320, allow_none=True)


class NewCompany(CompanyChange):
    """A company to be put on record."""

    name = text_input(400, 1, required=True)


class ContactChange(StrictSchema):
    """What is to change; what is not named stays."""

    email = text_input(320, 1)
    name = text_input(400)
    phone = text_input(64)
    company = number_input(allow_none=True)


class NewContact(ContactChange):
    """A contact to be put on record."""

    email = text_input(320, 1, required=True)


@endpoint(
    "GET",
    "/companies",
    Right.READ,
    schemas.make_page_schema(schemas.Company),
    about=ABOUT,
    query=CompanyQuery,
)
def companies(told: JsonObject) -> Response:
    """The companies on record."""
    query = select(Company).options(*_WHOLE)
    if told["q"]:
        key = directory.build_company_key(told["q"])
        named = Company.key.contains(key, autoescape=True) if key else Company.key == key
        query = query.where(or_(named, Company.number == told["q"].strip()))
    return respond_with_rows(get_session(), query, Company.id, told, customers.present_company)


@endpoint("GET", "/companies/<int:number>", Right.READ, schemas.Company, about=ABOUT)
def company(number: int) -> Response:
    """A company."""
    return jsonify(customers.present_company(_company(get_session(), number)))


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
def company_new(told: JsonObject) -> Response:
    """Put a company on record. 409 when another has its name, number or domain."""
    answer = _keep(None, told)
    answer.status_code = 201
    return answer


@endpoint(
    "PATCH",
    "/companies/<int:number>",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    body=CompanyChange,
    refuses=[409],
)
def company_change(told: JsonObject, number: int) -> Response:
    """Change what is on record of a company."""
    return _keep(number, told)


@endpoint(
    "GET",
    "/contacts",
    Right.READ,
    schemas.make_page_schema(schemas.Contact),
    about=ABOUT,
    query=ContactQuery,
)
def contacts(told: JsonObject) -> Response:
    """The contacts on record."""
    query = select(Contact)
    if told["email"]:
        query = query.where(Contact.email == told["email"].strip().casefold())
    if told["company"] is not None:
        query = query.where(Contact.company_id == told["company"])
    return respond_with_rows(get_session(), query, Contact.id, told, customers.present_contact)


@endpoint("GET", "/contacts/<int:number>", Right.READ, schemas.Contact, about=ABOUT)
def contact(number: int) -> Response:
    """A contact."""
    return jsonify(customers.present_contact(_contact(get_session(), number)))


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
def contact_new(told: JsonObject) -> Response:
    """Put a contact on record. 409 when its address is none, or another's."""
    answer = _keep_contact(None, told)
    answer.status_code = 201
    return answer


@endpoint(
    "PATCH",
    "/contacts/<int:number>",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    body=ContactChange,
    refuses=[409],
)
def contact_change(told: JsonObject, number: int) -> Response:
    """Change what is on record of a contact.

    Their open tickets of no company become the company's.
    """
    return _keep_contact(number, told)


def _keep(number: int | None, told: JsonObject) -> Response:
    with get_context().store.transaction() as session:
        row = _company(session, number) if number is not None else None
        says = CompanyData(
            name=told.get("name", row.name if row else ""),
            number=told.get("number", row.number if row else "") or "",
            domains=told.get("domains", [d.domain for d in row.domains] if row else []),
            manager=_person(session, told, "manager", row.manager if row else None),
            consultant=_person(session, told, "consultant", row.consultant if row else None),
        )
        kept = records.save_company(session, row, says, by=get_staff().name, now=now()).id
    with get_context().store.read_only() as session:
        return jsonify(customers.present_company(_company(session, kept)))


def _keep_contact(number: int | None, told: JsonObject) -> Response:
    with get_context().store.transaction() as session:
        row = _contact(session, number) if number is not None else None
        of = told.get("company", row.company_id if row else None)
        belongs = session.get(Company, of) if of is not None else None
        if of is not None and belongs is None:
            raise ApiError(422, fields={"company": ["There is no such company."]})
        kept = records.save_contact(
            session,
            row,
            email=told.get("email", row.email if row else ""),
            name=told.get("name", row.name if row else ""),
            phone=told.get("phone", row.phone if row else ""),
            company=belongs,
            by=get_staff().name,
            now=now(),
        )
        return jsonify(customers.present_contact(kept))


def _person(session: Session, told: JsonObject, field: str, before: Staff | None) -> Staff | None:
    if field not in told:
        return before
    return person(session, told[field], field) if told[field] else None


def _company(session: Session, number: int) -> Company:
    found = session.scalar(select(Company).where(Company.id == number).options(*_WHOLE))
    if found is None:
        raise ApiError(404, f"There is no company {number}.")
    return found


def _contact(session: Session, number: int) -> Contact:
    found = session.get(Contact, number)
    if found is None:
        raise ApiError(404, f"There is no contact {number}.")
    return found
