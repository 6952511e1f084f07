"""Companies and contacts by the API: listed, put on record, changed."""

from flask import Response, jsonify
from marshmallow import fields
from sqlalchemy import or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import Paged, Strict, number, words
from console.api.paging import Data, listed
from console.api.tickets import person
from console.presenters import customers
from console.web.api_errors import Refused
from console.web.request import db, house, now, staff
from workflow.customers import directory, records
from workflow.customers.records import CompanySays
from workflow.models.core import Company, Contact, Staff
from workflow.permissions import Right

ABOUT = "companies and contacts"
_WHOLE = (
    joinedload(Company.manager),
    joinedload(Company.consultant),
    selectinload(Company.domains),
)


class Companies(Paged):
    """Which companies."""

    q = words(200, load_default="", metadata={"description": "In its name, or its number."})


class Contacts(Paged):
    """Which contacts."""

    email = words(320, load_default="")
    company = number(load_default=None)


class CompanyChange(Strict):
    """What is to change; what is not named stays."""

    name = words(400, 1)
    number = words(64, allow_none=True)
    domains = fields.List(
        words(255), metadata={"description": "All of them: senders there belong to it."}
    )
    manager = words(
        320, allow_none=True, metadata={"description": "A name or mail address, `me`, or null."}
    )
    consultant = words(320, allow_none=True)


class CompanyNew(CompanyChange):
    """A company to be put on record."""

    name = words(400, 1, required=True)


class ContactChange(Strict):
    """What is to change; what is not named stays."""

    email = words(320, 1)
    name = words(400)
    phone = words(64)
    company = number(allow_none=True)


class ContactNew(ContactChange):
    """A contact to be put on record."""

    email = words(320, 1, required=True)


@endpoint(
    "GET", "/companies", Right.READ, schemas.page_of(schemas.Company), about=ABOUT, query=Companies
)
def companies(told: Data) -> Response:
    """The companies on record."""
    query = select(Company).options(*_WHOLE)
    if told["q"]:
        key = directory.company_key(told["q"])
        named = Company.key.contains(key, autoescape=True) if key else Company.key == key
        query = query.where(or_(named, Company.number == told["q"].strip()))
    return listed(db(), query, Company.id, told, customers.company)


@endpoint("GET", "/companies/<int:number>", Right.READ, schemas.Company, about=ABOUT)
def company(number: int) -> Response:
    """A company."""
    return jsonify(customers.company(_company(db(), number)))


@endpoint(
    "POST",
    "/companies",
    Right.WORK,
    schemas.Company,
    about=ABOUT,
    body=CompanyNew,
    status=201,
    refuses=[409],
)
def company_new(told: Data) -> Response:
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
def company_change(told: Data, number: int) -> Response:
    """Change what is on record of a company."""
    return _keep(number, told)


@endpoint(
    "GET", "/contacts", Right.READ, schemas.page_of(schemas.Contact), about=ABOUT, query=Contacts
)
def contacts(told: Data) -> Response:
    """The contacts on record."""
    query = select(Contact)
    if told["email"]:
        query = query.where(Contact.email == told["email"].strip().casefold())
    if told["company"] is not None:
        query = query.where(Contact.company_id == told["company"])
    return listed(db(), query, Contact.id, told, customers.contact)


@endpoint("GET", "/contacts/<int:number>", Right.READ, schemas.Contact, about=ABOUT)
def contact(number: int) -> Response:
    """A contact."""
    return jsonify(customers.contact(_contact(db(), number)))


@endpoint(
    "POST",
    "/contacts",
    Right.WORK,
    schemas.Contact,
    about=ABOUT,
    body=ContactNew,
    status=201,
    refuses=[409],
)
def contact_new(told: Data) -> Response:
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
def contact_change(told: Data, number: int) -> Response:
    """Change what is on record of a contact.

    Their open tickets of no company become the company's.
    """
    return _keep_contact(number, told)


def _keep(number: int | None, told: Data) -> Response:
    with house().store.transaction() as session:
        row = _company(session, number) if number is not None else None
        says = CompanySays(
            name=told.get("name", row.name if row else ""),
            number=told.get("number", row.number if row else "") or "",
            domains=told.get("domains", [d.domain for d in row.domains] if row else []),
            manager=_person(session, told, "manager", row.manager if row else None),
            consultant=_person(session, told, "consultant", row.consultant if row else None),
        )
        kept = records.keep_company(session, row, says, by=staff().name, now=now()).id
    with house().store.reading() as session:
        return jsonify(customers.company(_company(session, kept)))


def _keep_contact(number: int | None, told: Data) -> Response:
    with house().store.transaction() as session:
        row = _contact(session, number) if number is not None else None
        of = told.get("company", row.company_id if row else None)
        belongs = session.get(Company, of) if of is not None else None
        if of is not None and belongs is None:
            raise Refused(422, fields={"company": ["There is no such company."]})
        kept = records.keep_contact(
            session,
            row,
            email=told.get("email", row.email if row else ""),
            name=told.get("name", row.name if row else ""),
            phone=told.get("phone", row.phone if row else ""),
            company=belongs,
            by=staff().name,
            now=now(),
        )
        return jsonify(customers.contact(kept))


def _person(session: Session, told: Data, field: str, before: Staff | None) -> Staff | None:
    if field not in told:
        return before
    return person(session, told[field], field) if told[field] else None


def _company(session: Session, number: int) -> Company:
    found = session.scalar(select(Company).where(Company.id == number).options(*_WHOLE))
    if found is None:
        raise Refused(404, f"There is no company {number}.")
    return found


def _contact(session: Session, number: int) -> Contact:
    found = session.get(Contact, number)
    if found is None:
        raise Refused(404, f"There is no contact {number}.")
    return found
