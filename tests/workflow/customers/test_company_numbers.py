"""Numbers of practices: one number in all its forms, and what only looks like a number."""

from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from parsers.item import Format, InboundItem
from tests.support.context import START, create_company, deliver
from workflow.context import AppContext
from workflow.customers import company_numbers, records
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, Ticket

_ids = count(1)
SPELLINGS = (
    *("00471", "471", '="00471"', "=471", "'00471", "471.0", "00471.00", "4.71E+02", "4.71e2"),
    *("#471", "No. 00471", "Practice ID: 471", "\uff14\uff17\uff11", " 0471 ", "471\u200e"),
)
NO_NUMBERS = ("", "0", "000", "0.0", '="0"', "N/A", "none", "-", "Total", "1E+05", "1.0047E+05")


def make_row(**values: Any) -> InboundItem:
    """A secure message as the parser gives it."""
    fields = {"external_id": f"KN-{next(_ids)}", "sent_at": START, "text": "help", **values}
    return InboundItem(format=Format.SECURE_MESSAGE, **fields)


def file_row(context: AppContext, **values: Any) -> Company | None:
    """File a row, and return the company of its ticket."""
    number = deliver(context, make_row(**values)).ticket_id
    with context.store.read_only() as session:
        return session.get_one(Ticket, number).company


@pytest.mark.parametrize("number", SPELLINGS)
def test_one_number_in_all_its_forms_is_one_practice(any_context: AppContext, number: str) -> None:
    with any_context.store.transaction() as session:
        known = create_company(session, "Quillfield Pediatrics", number="00471").id
    found = file_row(any_context, company="QUILLFIELD PEDIATRICS, P.C.", company_number=number)
    assert found is not None
    assert found.id == known
    found = file_row(any_context, company="Another Name", company_number=number)
    assert found is not None
    assert found.id == known


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_no_number_makes_no_two_practices_one(any_context: AppContext, number: str) -> None:
    assert company_numbers.normalize(number) == ""
    one = file_row(any_context, company="Elmcrest Clinic", company_number=number)
    other = file_row(any_context, company="Harborview Dental", company_number=number)
    assert one is not None
    assert other is not None
    assert one.id != other.id
    assert one.number is other.number is None


@pytest.mark.parametrize("code", ["1E5", "A-12", "ID12", "12-3", "4711"])
def test_a_code_stays_as_it_is(code: str) -> None:
    assert company_numbers.normalize(code) == code


@given(st.text(max_size=300))
def test_a_normal_form_is_its_own(number: str) -> None:
    normal = company_numbers.normalize(number)
    assert len(normal) <= company_numbers.MAX_NUMBER
    assert company_numbers.normalize(normal) == normal


def test_a_number_is_given_to_one_company_only(any_context: AppContext) -> None:
    now = any_context.clock()
    with any_context.store.transaction() as session:
        create_company(session, "Quillfield Pediatrics", number="00471")
        elm = create_company(session, "Elmcrest Clinic")
        for number in ("471", '="00471"', "00471.0"):
            data = records.CompanyData(name="Elmcrest Clinic", number=number)
            with pytest.raises(ActionNotAllowed, match=r"Quillfield Pediatrics \(no. 00471\)"):
                records.save_company(session, elm, data, by="Ann", now=now)
        for name, number, words in (
            ("Total", "", "names no practice"),
            ("Elm", "N/A", "no number"),
        ):
            data = records.CompanyData(name=name, number=number)
            with pytest.raises(ActionNotAllowed, match=words):
                records.save_company(session, None, data, by="Ann", now=now)
        data = records.CompanyData(name="Elmcrest\u200f  Clinic", number="No. 00472")
        records.save_company(session, elm, data, by="Ann", now=now)
    with any_context.store.read_only() as session:
        saved = session.scalars(select(Company).where(Company.number == "00472")).one()
        assert saved.name == "Elmcrest Clinic"
