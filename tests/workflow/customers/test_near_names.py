"""Near names of practices: a caveat and one click, never a silent second company."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from console.perform import get_actions
from parsers.item import Format, InboundItem
from tests.support.context import START, create_company, create_staff, deliver
from workflow.context import AppContext
from workflow.customers import company_names, near_names
from workflow.customers.near_names import NearNames
from workflow.errors import ActionNotAllowed
from workflow.models.core import Company, Ticket
from workflow.tickets.actions import Actor, CreateNamedCompany, Undo, UseNearCompany

FIRST_WORDS = ("Quillfield", "Lanternwood", "Harborview", "Elmcrest", "Stonebridge")
KINDS = ("Pediatrics", "Cardiology", "Family Practice", "Dental Associates", "Eye Center")
TOWNS = ("Austin", "Dayton", "Salem")
_ids = count(1)


def make_row(**values: Any) -> InboundItem:
    """A secure message as the parser gives it."""
    fields = {"external_id": f"NM-{next(_ids)}", "sent_at": START, "text": "help", **values}
    return InboundItem(format=Format.SECURE_MESSAGE, **fields)


def are_near(one: str, other: str) -> bool:
    index: NearNames[int] = NearNames()
    index.add(company_names.normalize(one), 1)
    return index.find(company_names.normalize(other)).values == [1]


names = st.builds("{} {}".format, st.sampled_from(FIRST_WORDS), st.sampled_from(KINDS))
ERRORS: tuple[Callable[[str], str], ...] = (
    lambda name: name[:3] + name[4:],  # a letter is missing
    lambda name: name[:3] + name[4] + name[3] + name[5:],  # two are exchanged
    lambda name: name[:4] + "x" + name[4:],
    lambda name: name[:4] + "x" + name[5:],
    lambda name: name[:5] + " " + name[5:],
    lambda name: name.rpartition(" ")[0],
    lambda name: name + " Austin",
    lambda name: name.removesuffix("s"),
    lambda name: name.replace("Associates", "Assoc.").replace("Center", "Ctr") + " Inc",
    lambda name: "The " + name.replace("Pediatrics", "Peds"),
)


@given(names, st.sampled_from(ERRORS))
def test_errors_make_a_near_name(name: str, make_error: Callable[[str], str]) -> None:
    wrong = make_error(name)
    if company_names.normalize(wrong) != company_names.normalize(name):
        assert are_near(name, wrong), (name, wrong)
        assert are_near(wrong, name), (name, wrong)


@given(names, names, st.sampled_from(TOWNS), st.sampled_from(TOWNS))
def test_another_town_speciality_or_word_is_no_near_name(
    one: str, other: str, town: str, other_town: str
) -> None:
    if one != other:
        assert not are_near(one, other)
    if town != other_town:
        assert not are_near(f"{one} {town}", f"{one} {other_town}")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Quill Clinic 1", "Quill Clinic 2"),
        ("Quill Clinic", "Quill Clinic 2"),
        ("Quill Clinic A", "Quill Clinic B"),
        ("Urology Associates", "Neurology Associates"),
        ("North Medical Group", "South Medical Group"),
        ("Family Practice", "Sunrise Family Practice"),
        ("Acme", "Acne"),
    ],
)
def test_these_are_others(one: str, other: str) -> None:
    assert not are_near(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("St. Mary Clinic", "Saint Mary Clinic"),
        ("Vale Orthopaedic Centre", "Vale Orthopedic Center"),
        ("Quill Family Clinic", "Quill Clinic"),
        ("Quill Med Group", "Quill Medical Grp"),
        ("Harbor Holdings LLC dba Sunrise Clinic", "Sunrise Clinic"),
        ("Quill Field Pediatrics", "Quillfield Pediatrics"),
    ],
)
def test_these_are_perhaps_one(one: str, other: str) -> None:
    assert are_near(one, other)


def count_companies(context: AppContext) -> int:
    with context.store.read_only() as session:
        return session.scalar(select(func.count(Company.id))) or 0


def create_quillfield(context: AppContext) -> int:
    with context.store.transaction() as session:
        return create_company(session, "Quillfield Pediatrics", number="00471").id


def get_ticket(context: AppContext, number: int | None) -> Ticket:
    with context.store.read_only() as session:
        return session.get_one(Ticket, number)


ANN = "Ann"


def make_actor(context: AppContext) -> Actor:
    with context.store.transaction() as session:
        return Actor.person(create_staff(session, ANN))


@pytest.mark.parametrize("item_format", [Format.SECURE_MESSAGE, Format.FORMSTACK, Format.PHONE])
def test_a_near_name_is_a_caveat_and_one_click(
    any_context: AppContext, item_format: Format
) -> None:
    known = create_quillfield(any_context)
    item = replace(make_row(company="Quillfeld Pediatric"), format=item_format)
    number = deliver(any_context, item).ticket_id
    assert number is not None
    ticket = get_ticket(any_context, number)
    assert ticket.company_id is None
    assert ticket.near_companies == [known]
    assert any("perhaps Quillfield Pediatrics (no. 00471)" in c for c in ticket.caveats)
    assert count_companies(any_context) == 1
    ann, actions = make_actor(any_context), get_actions(any_context)
    actions.perform(number, UseNearCompany(), actor=ann, now=any_context.clock())
    ticket = get_ticket(any_context, number)
    assert (ticket.company_id, ticket.near_companies) == (known, [])
    assert ticket.name == "Support – Quillfield Pediatrics"
    assert not any("perhaps Quillfield" in c for c in ticket.caveats)
    actions.perform(number, Undo(), actor=ann, now=any_context.clock())
    ticket = get_ticket(any_context, number)
    assert (ticket.company_id, ticket.near_companies) == (None, [known])
    assert any("perhaps Quillfield" in c for c in ticket.caveats)


def test_another_practice_is_put_on_record_by_one_click(any_context: AppContext) -> None:
    known = create_quillfield(any_context)
    item = make_row(company="Quillfeld Pediatrics")
    number = deliver(any_context, item).ticket_id
    assert number is not None
    ann, actions = make_actor(any_context), get_actions(any_context)
    with pytest.raises(ActionNotAllowed):
        actions.perform(number, UseNearCompany(999), actor=ann, now=any_context.clock())
    actions.perform(number, CreateNamedCompany(), actor=ann, now=any_context.clock())
    own = get_ticket(any_context, number).company_id
    assert own not in {None, known}
    again = deliver(any_context, make_row(company="Quillfeld Pediatrics")).ticket_id
    assert get_ticket(any_context, again).company_id == own
    with pytest.raises(ActionNotAllowed):
        actions.perform(number, UseNearCompany(), actor=ann, now=any_context.clock())


def test_undoing_a_new_practice_takes_it_off_the_record(any_context: AppContext) -> None:
    known = create_quillfield(any_context)
    item = make_row(company="Quillfeld Pediatrics")
    number = deliver(any_context, item).ticket_id
    assert number is not None
    ann, actions = make_actor(any_context), get_actions(any_context)
    actions.perform(number, CreateNamedCompany(), actor=ann, now=any_context.clock())
    actions.perform(number, Undo(), actor=ann, now=any_context.clock())
    assert count_companies(any_context) == 1
    again = deliver(any_context, make_row(company="Quillfeld Pediatrics")).ticket_id
    assert get_ticket(any_context, again).near_companies == [known]
    # What another ticket is about stays.
    actions.perform(number, CreateNamedCompany(), actor=ann, now=any_context.clock())
    deliver(any_context, make_row(company="Quillfeld Pediatrics"))
    actions.perform(number, Undo(), actor=ann, now=any_context.clock())
    assert count_companies(any_context) == 2


def test_another_number_makes_no_near_name(any_context: AppContext) -> None:
    known = create_quillfield(any_context)
    item = make_row(company="Quillfeld Pediatrics", company_number="00999")
    ticket = get_ticket(any_context, deliver(any_context, item).ticket_id)
    assert ticket.company_id not in {None, known}
    assert ticket.near_companies == []
    same = make_row(company="Quillfeld Pediatrics", company_number="471")
    assert get_ticket(any_context, deliver(any_context, same).ticket_id).company_id == known


def test_rows_of_one_thread_join_while_their_practice_is_in_doubt(any_context: AppContext) -> None:
    create_quillfield(any_context)
    first, second, other = (
        deliver(any_context, make_row(company=name, thread_id="t", text=name + text)).ticket_id
        for name, text in (
            ("Quillfeld Pediatrics", "a"),
            ("Quillfeld Pediatrics", "b"),
            ("Quillfielt Pediatrics", "c"),
        )
    )
    assert first == second != other


def test_distances_are_symmetrical() -> None:
    words = [near_names.list_variants(company_names.normalize(n))[0] for n in FIRST_WORDS + KINDS]
    for one in words:
        for other in words:
            assert near_names.measure(one, other) == near_names.measure(other, one)
