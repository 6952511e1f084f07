"""Names of practices: spellings of one name have one normal form, other names another."""

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from parsers.item import Address, Format, InboundItem
from tests.support.context import START, create_company, deliver
from tests.support.servers import Postgres
from workflow.context import AppContext
from workflow.customers import company_names, directory
from workflow.database.engine import Store, make_alembic_config, migrate
from workflow.models.core import Company, CompanyDomain, Ticket

NAMES = ("Quillfield Pediatrics", "Harbor & Vale ENT", "St. Mary's Clinic", "Müller Family Care")
FORMS = (
    "",
    "{}, Inc.",
    "{} LLC",
    "{}, L.L.C.",
    "{} L. L. C.",
    "{} P C",
    "{}, P.C.",
    "{} PA",
    "{}, P.L.L.C.",
    "{} LLP",
    "{} Co.",
    "{} & Co",
    "{} Corporation",
    "{} Ltd",
    "{} GmbH",
    "{}, a Professional Corporation",
    "{} Professional Association",
    "{} Professional Limited Liability Company",
    "{} Inc., d/b/a",
    "  {}\u00a0 ",
)
SPELLINGS = (
    str,
    str.upper,
    str.lower,
    lambda name: name.replace("&", "and"),
    lambda name: name.replace(" ", "  ").replace("'", "\u2019"),
    lambda name: name.replace("ü", "u\u0308").replace(" ", "-"),
    lambda name: name.replace("St.", "St"),
    lambda name: f"\u202e{name[:4]}\u200f{name[4:]}\u00ad\ufeff",  # marks that show nothing
)


_ids = count(1)


def make_row(**values: Any) -> InboundItem:
    """A secure message as the parser gives it."""
    fields = {"external_id": f"KM-{next(_ids)}", "sent_at": START, "text": "help", **values}
    return InboundItem(format=Format.SECURE_MESSAGE, **fields)


@given(st.sampled_from(NAMES), st.sampled_from(FORMS), st.sampled_from(SPELLINGS))
def test_legal_form_and_spelling_make_no_other_practice(
    name: str, form: str, spell: Callable[[str], str]
) -> None:
    written = (form or "{}").format(spell(name))
    assert company_names.normalize(written) == company_names.normalize(name)


@given(st.text(max_size=40))
def test_a_normal_form_is_short_and_has_single_spaces(name: str) -> None:
    form = company_names.normalize(name)
    assert form == " ".join(form.split())
    assert len(form) <= company_names.MAX_KEY


@pytest.mark.parametrize("part", ["x", "co ", "P.C. ", "a.", "\u200f", "\ufdfa", "and "])
def test_of_a_name_without_end_the_beginning_counts(part: str) -> None:
    name = "Quillfield " + part * 500_000
    assert len(company_names.normalize(name)) <= company_names.MAX_KEY
    assert len(company_names.clean(name)) <= company_names.MAX_KEY


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Quillfield Pediatrics", "Quillfield Cardiology"),
        ("Smith PA", "Smythe PA"),
        ("John Smith MD", "John Smith DO"),
        ("Co Op Clinic", "Op Clinic"),
        ("Quill LLC dba Sunrise", "Quill LLC dba Sunset"),
        ("Clinic A", "Clinic"),
    ],
)
def test_other_names_are_other_practices(one: str, other: str) -> None:
    assert company_names.normalize(one) != company_names.normalize(other)


@pytest.mark.parametrize("name", ["PC", "Inc.", "LLC Inc", "The Co", "Co.", "P.A.", "A"])
def test_something_is_left_of_a_name_of_legal_forms_alone(name: str) -> None:
    assert company_names.normalize(name)


@pytest.mark.parametrize(
    "name",
    [
        *("Total", "TOTAL:", "Totals", "Grand Total", "Sub-Total", "Subtotal", "Total (12)"),
        *("Summe", "Gesamtsumme", "N/A", "n.a.", "none", "Unknown", "--", " ", ""),
    ],
)
def test_totals_and_empty_words_name_no_practice(any_context: AppContext, name: str) -> None:
    assert company_names.normalize(name) == ""
    filing = deliver(any_context, make_row(company=name, sender=Address("Nora Quill")))
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, filing.ticket_id).company is None
        assert session.scalar(select(func.count(Company.id))) == 0


def test_a_total_in_a_name_is_part_of_it() -> None:
    assert company_names.normalize("Total Health Clinic") == "total health clinic"
    assert company_names.normalize("Sum It Up Billing LLC") == "sum it up billing"


@pytest.mark.parametrize("number", ["", "00471"])
def test_a_practice_on_record_is_found_by_each_spelling(
    any_context: AppContext, number: str
) -> None:
    with any_context.store.transaction() as session:
        known = create_company(session, "Quillfield Pediatrics, P.C.", number=number or None).id
    for name in ("QUILLFIELD PEDIATRICS", "Quillfield Pediatrics Inc", "quillfield pediatrics llc"):
        filing = deliver(
            any_context,
            make_row(company=name, company_number="471" if number else ""),
        )
        with any_context.store.read_only() as session:
            assert session.get_one(Ticket, filing.ticket_id).company_id == known


def test_another_number_is_another_practice_of_the_name(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        known = create_company(session, "Quillfield Pediatrics", number="471").id
    item = make_row(company="Quillfield Pediatrics LLC", company_number="472")
    filing = deliver(any_context, item)
    with any_context.store.read_only() as session:
        ticket = session.get_one(Ticket, filing.ticket_id)
        assert ticket.company_id != known
        assert ticket.company is not None
        assert directory.is_namesake(ticket.company)


def create_twins(session: Session) -> list[Company]:
    """Put two practices of one name on record."""
    records = directory.CustomerLookup(session)
    made = [
        directory.create_company(records, "Quillfield Pediatrics", number, START)
        for number in ("471", "472")
    ]
    return [company for company in made if company is not None]


def test_a_name_alone_that_two_practices_have_is_asked_about(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        create_twins(session)
    filing = deliver(any_context, make_row(company="QUILLFIELD Pediatrics, LLC"))
    with any_context.store.read_only() as session:
        ticket = session.get_one(Ticket, filing.ticket_id)
        assert ticket.company is None
        [caveat] = filter(directory.is_near_caveat, ticket.caveats)
        assert "Quillfield Pediatrics (no. 471) or Quillfield Pediatrics (no. 472)" in caveat


def test_two_practices_of_one_name_that_were_merged_are_one(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        first, second = create_twins(session)
        second.merged_into_id = first.id
    filing = deliver(any_context, make_row(company="Quillfield Pediatrics"))
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, filing.ticket_id).company_id == first.id


def test_the_sender_decides_between_two_practices_of_one_name(any_context: AppContext) -> None:
    with any_context.store.transaction() as session:
        _, known = create_twins(session)
        session.add(CompanyDomain(domain="quillfield.example", company_id=known.id))
    sender = Address("Nora", "nora@quillfield.example")
    filing = deliver(any_context, make_row(company="Quillfield Pediatrics", sender=sender))
    with any_context.store.read_only() as session:
        assert session.get_one(Ticket, filing.ticket_id).company_id == known.id


@pytest.fixture(params=["sqlite", "postgresql"])
def old_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table in it."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'old.db'}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    server.run("CREATE DATABASE practices")
    yield server.build_url("practices")
    server.drop("practices")


def fill_companies(store: Store, companies: list[tuple[str, str, str | None]]) -> None:
    """Insert companies of an old schema: name, key and number."""
    insert = text(
        "INSERT INTO companies (id, name, key, number, created_at)"
        " VALUES (:id, :name, :key, :number, :at)"
    )
    with store.engine.begin() as connection:
        connection.execute(
            insert,
            [
                {"id": number, "name": name, "key": key, "number": practice, "at": str(START)}
                for number, (name, key, practice) in enumerate(companies, 1)
            ],
        )


def list_columns(store: Store, column: str) -> list[str | None]:
    with store.engine.begin() as connection:
        query = text(f"SELECT {column} FROM companies ORDER BY id")  # noqa: S608
        return list(connection.execute(query).scalars())


def test_keys_of_ten_thousand_companies_stay_unique(old_url: str) -> None:
    command.upgrade(make_alembic_config(old_url), "0026")
    store = Store(old_url)
    forms = ("", ", Inc.", " LLC", ", P.C.", " PLLC", " & Co", " Ltd", " Corp.", " GmbH", " LLP")
    names = [
        f"Quill {chr(97 + n % 26)}{n // 26} Clinic{form}" for n in range(1_000) for form in forms
    ]
    companies = [
        (name, company_names.fold(name), f"{number:05}" if number % 3 else None)
        for number, name in enumerate(names)
    ]
    # Each old key is another company's new one, in a ring through all of them.
    fill_companies(store, [*companies, ("Ring LLC", "ring", None), ("Ring", "ring llc", "00472.0")])
    migrate(old_url)
    keys, numbers = list_columns(store, "key"), list_columns(store, "number")
    assert len(set(keys)) == len(keys) == 10_002
    normal_forms = {company_names.normalize(name) for name in names}
    assert normal_forms < set(keys)
    assert sum(" #" in str(key) for key in keys) == 9_001
    assert numbers[:-1] == [number for _, _, number in companies] + [None]
    assert numbers[-1] == "00472.0"  # 00472 is on record
    command.downgrade(make_alembic_config(old_url), "0026")
    assert len(set(list_columns(store, "key"))) == 10_002
    migrate(old_url)
    store.close()


def test_numbers_of_before_become_normal_forms(old_url: str) -> None:
    command.upgrade(make_alembic_config(old_url), "0026")
    store = Store(old_url)
    numbers = ['="00471"', "00472.0", "0", "N/A", "No. 8", "8", "00009", "A-12", "1E5"]
    fill_companies(store, [(f"Clinic {n}", f"clinic {n}", n) for n in numbers])
    migrate(old_url)
    after = ["00471", "00472", None, None, "No. 8", "8", "00009", "A-12", "1E5"]
    assert list_columns(store, "number") == after
    store.close()


def test_keys_of_before_become_normal_forms(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    command.upgrade(make_alembic_config(url), "0026")
    store = Store(url)
    names: list[tuple[str, str, str | None]] = [
        ("Acme, Inc.", "acme inc", None),
        ("Acme", "acme", None),
        ("Acme LLC", "acme llc", "7"),
        ("Vale & Co", "vale & co", None),
        ("Acme", "acme #8", "8"),
        ("Total", "total", None),
    ]
    fill_companies(store, names)
    migrate(url)
    keys = list_columns(store, "key")
    assert keys == ["acme #id 1", "acme", "acme #7", "vale", "acme #8", "total"]
    store.close()


def test_a_row_with_its_legal_form_comes_again_without(any_context: AppContext) -> None:
    first = make_row(external_id="a", company="Quillfield Pediatrics, Inc.")
    again = make_row(external_id="a", company="Quillfield Pediatrics")
    assert deliver(any_context, first).ticket_id == deliver(any_context, again).ticket_id
