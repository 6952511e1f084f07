"""Somebody who cannot sign in does no work: deadlines, choices, the hand-over of what they have."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from parsers.item import Address
from tests.support.context import (
    HandClock,
    create_company,
    create_staff,
    make_mail,
    open_ticket,
)
from tests.support.signed_in_client import sign_in_at_desk
from workflow.accounts import accounts, departures
from workflow.context import AppContext
from workflow.customers import directory, records
from workflow.customers.records import CompanyData
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account, make_uniquifier
from workflow.models.core import Company, CompanyDomain, Staff, Task, Ticket
from workflow.models.states import Role
from workflow.operations import sweep
from workflow.settings.settings import Settings
from workflow.tickets import desk as desk_module
from workflow.tickets import upcoming


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"desk_lead": "Lea Lead", "fallback_supervisor": "Sue Super"})


@pytest.fixture
def leaver(any_context: AppContext) -> int:
    """The number of Dan, who owns a ticket of his company; Lea, Sue and an admin are there too."""
    with any_context.store.transaction() as session:
        dan = create_staff(session, "Dan Dee")
        create_staff(session, "Lea Lead", Role.LEAD)
        create_staff(session, "Sue Super", Role.LEAD)
        create_company(
            session, "Elm Dental", manager=dan, domains=[CompanyDomain(domain="elm.example")]
        )
        for person, is_admin in ((dan, False), (create_staff(session, "Ada", Role.ADMIN), True)):
            session.add(
                Account(
                    staff_id=person.id,
                    email=f"{'ada' if is_admin else 'dan'}@desk.example",
                    uniquifier=make_uniquifier(),
                    created_at=any_context.clock(),
                )
            )
        number = dan.id
    ticket = open_ticket(any_context, make_mail(sender=Address("Jo", "jo@elm.example")))
    with any_context.store.transaction() as session:
        any_context.desk.assign(
            session,
            desk_module.get_ticket(session, ticket),
            session.get_one(Staff, number),
            by="Ada",
            now=any_context.clock(),
        )
    return number


def let_go(context: AppContext, number: int) -> None:
    with context.store.transaction() as session:
        accounts.deactivate(session, number, by="Ada", now=context.clock())


def list_assignees(context: AppContext) -> dict[str, str]:
    with context.store.read_only() as session:
        return {task.text: task.assignee for task in session.scalars(select(Task))}


@pytest.mark.parametrize("has_left", [True, False])
def test_deadlines_of_somebody_who_has_left_go_to_lead_and_supervisor(
    any_context: AppContext, clock: HandClock, leaver: int, *, has_left: bool
) -> None:
    if has_left:
        let_go(any_context, leaver)
    with any_context.store.read_only() as session:
        shown, _ = upcoming.list_upcoming(session, any_context.settings, clock())
        expected = ["Lea Lead", "Sue Super"] if has_left else ["Dan Dee", "Dan Dee"]
        assert {one.person for one in shown} <= set(expected)
    clock.turn(days=3, minutes=1)
    sweep.raise_tasks(any_context, clock())
    tasks = list_assignees(any_context)
    assert tasks["follow up with the customer"] == expected[0]
    assert tasks["escalate the ticket"] == expected[1]
    with any_context.store.read_only() as session:
        caveats = session.scalars(select(Ticket)).one().caveats
    assert any("manager has left" in caveat for caveat in caveats) is has_left


def test_a_cover_who_has_left_covers_nobody(
    any_context: AppContext, clock: HandClock, leaver: int
) -> None:
    with any_context.store.transaction() as session:
        owner = directory.find_staff(session, "Lea Lead")
        assert owner is not None
        session.execute(update(Ticket).values(owner_id=owner.id))
        owner.cover_id, owner.away_since = leaver, clock()
    let_go(any_context, leaver)
    clock.turn(days=2, minutes=1)
    sweep.raise_tasks(any_context, clock())
    assert list_assignees(any_context)["follow up with the customer"] == "Lea Lead"


def test_nobody_can_choose_somebody_who_has_left(any_context: AppContext, leaver: int) -> None:
    let_go(any_context, leaver)
    now = any_context.clock()
    with any_context.store.transaction() as session:
        dan, lea = session.get_one(Staff, leaver), directory.find_staff(session, "Lea Lead")
        assert lea is not None
        assert dan not in session.scalars(directory.select_present_staff()).all()
        with pytest.raises(ActionNotAllowed, match="has left"):
            desk_module.get_staff(session, "Dan Dee")
        for role in ("manager", "consultant"):
            data = CompanyData(name="Oak", **{role: dan})  # type: ignore[arg-type]
            with pytest.raises(ActionNotAllowed, match="has left"):
                records.save_company(session, None, data, by="Ada", now=now)
        with pytest.raises(ActionNotAllowed, match="has left"):
            records.set_absence(session, lea, since=now, until=None, cover=dan, by="Ada", now=now)
        with pytest.raises(ActionNotAllowed, match="has left"):
            departures.hand_over(session, any_context.desk, lea, dan, by="Ada", now=now)
        # A record that names them already can be saved with another change.
        company = session.scalars(select(Company)).one()
        data = CompanyData.from_company(company)
        assert records.save_company(session, company, data, by="Ada", now=now).manager is dan


def test_handing_over_leaves_nothing_behind(
    any_context: AppContext, clock: HandClock, leaver: int
) -> None:
    clock.turn(days=3, minutes=1)
    sweep.raise_tasks(any_context, clock())
    let_go(any_context, leaver)
    with any_context.store.transaction() as session:
        dan = session.get_one(Staff, leaver)
        lea = directory.find_staff(session, "Lea Lead")
        work = departures.count_work(session, dan)
        assert str(work) == "1 open ticket, 2 open tasks, 1 company as its manager"
        assert (
            departures.hand_over(
                session, any_context.desk, dan, lea, by="Ada", now=clock() + timedelta(minutes=1)
            )
            == work
        )
        assert not departures.count_work(session, dan)
        assert str(departures.count_work(session, dan)) == "nothing"
    assert set(list_assignees(any_context).values()) == {"Lea Lead"}
    with any_context.store.read_only() as session:
        ticket = session.scalars(select(Ticket)).one()
        assert ticket.owner is not None
        assert (ticket.owner.name, ticket.company and ticket.company.manager_id) == (
            "Lea Lead",
            ticket.owner_id,
        )


def test_the_page_says_what_somebody_has_and_hands_it_over(
    any_context: AppContext, leaver: int
) -> None:
    admin = sign_in_at_desk(any_context, Role.ADMIN, "Ann Lee")
    admin.get("/people")
    assert admin.post(f"/people/{leaver}/do/let-go").status_code == 302
    page = admin.get("/people").text
    assert "Dan Dee still has 1 open ticket, 1 company as its manager" in page
    with any_context.store.read_only() as session:
        lea = directory.find_staff(session, "Lea Lead")
        assert lea is not None
        to = lea.id
        company = session.scalars(select(Company.id)).one()
    assert f'<option value="{leaver}"' in admin.get(f"/companies/{company}/edit").text
    assert admin.post(f"/people/{leaver}/hand-over", {"to": leaver}).status_code == 409
    admin.get("/people")
    assert admin.post(f"/people/{leaver}/hand-over", {"to": to}).status_code == 302
    assert "Lea Lead has taken over from Dan Dee" in admin.get("/people").text
    for path in ("/", "/tickets/1", "/account", f"/companies/{company}/edit"):
        assert f'<option value="{leaver}"' not in admin.get(path).text
