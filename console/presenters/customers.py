"""Companies, contacts and people of the desk as plain data: the JSON shapes of CLI and API."""

from typing import Any

from workflow.models.core import Company, Contact, Staff

Data = dict[str, Any]


def present_company(row: Company) -> Data:
    """Return a company (practice)."""
    return {
        "id": row.id,
        "name": row.name,
        "number": row.number,
        "manager": row.manager.name if row.manager else None,
        "consultant": row.consultant.name if row.consultant else None,
        "domains": sorted(d.domain for d in row.domains),
        "merged_into": row.merged_into_id,
    }


def present_contact(row: Contact) -> Data:
    """Return a contact of a customer."""
    return {
        "id": row.id,
        "email": row.email,
        "name": row.name,
        "phone": row.phone,
        "company": row.company_id,
        "unreachable": row.unreachable,
        "unsubscribed": row.unsubscribed,
        "merged_into": row.merged_into_id,
    }


def present_staff(row: Staff) -> Data:
    """Return a member of staff."""
    return {"id": row.id, "name": row.name, "role": row.role, "email": row.email}
