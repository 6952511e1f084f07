"""Searches for companies and contacts by words; a merged one leads to the one that goes on."""

from typing import TypeVar

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from workflow.customers import company_names, company_numbers
from workflow.models.core import Company, Contact

RecordT = TypeVar("RecordT", Company, Contact)


def select_companies_named(words: str) -> Select[int]:
    """Return the query of the ids of companies with these words in the name, or this number.

    The words are compared in their normal form, and as they are written: "total" finds Total
    Health. 471 finds 00471.
    """
    key, number = company_names.normalize(words), company_numbers.normalize(words)
    conditions = [_has_part(Company.name, words)]
    if key:
        conditions.append(Company.key.contains(key, autoescape=True))
    if number:
        conditions.append(Company.number == number)
    if company_numbers.is_plain(number):
        conditions.append(func.ltrim(Company.number, "0") == company_numbers.fold(number))
    return _select_with_merges(Company, or_(*conditions))


def select_companies_beginning(words: str) -> Select[int]:
    """Return the query of the ids of companies whose names begin with these words."""
    written = func.lower(Company.name).startswith(words.strip().casefold(), autoescape=True)
    key = company_names.normalize(words)
    normal = Company.key.startswith(key, autoescape=True) if key else written
    return _select_with_merges(Company, or_(normal, written))


def select_contacts_named(words: str) -> Select[int]:
    """Return the query of the ids of contacts with these words in the name or address."""
    return _select_with_merges(
        Contact, or_(_has_part(Contact.email, words), _has_part(Contact.name, words))
    )


def _has_part(column: InstrumentedAttribute[str], words: str) -> ColumnElement[bool]:
    return func.lower(column).contains(words.strip().casefold(), autoescape=True)


def _select_with_merges(kind: type[RecordT], condition: ColumnElement[bool]) -> Select[int]:
    """Return the query of the ids of what a condition is true of, and of those they go on as."""
    found = select(kind.id, kind.merged_into_id).where(condition).cte("found", recursive=True)
    target = select(kind.id, kind.merged_into_id).join(found, kind.id == found.c.merged_into_id)
    return select(found.union(target).c.id)
