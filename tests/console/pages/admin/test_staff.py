"""People and their accounts: added by a link, changed, let go and let in; the last admin stays."""

import re
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from tests.support.context import HandClock, count_rows, run_in_threads
from tests.support.signed_in_client import PASSWORD, Desk, sign_in_at_desk
from workflow.accounts import accounts
from workflow.accounts.accounts import LAST_ADMIN_MESSAGE, LastAdminError
from workflow.context import AppContext
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import Account, Invitation, WebSession
from workflow.models.core import AuditEntry, Staff
from workflow.models.states import Role

LINK = re.compile(r"/join/([\w-]+)")


def find_number(context: AppContext, name: str) -> int:
    with context.store.read_only() as session:
        return session.scalars(select(Staff.id).where(Staff.name == name)).one()


def get_account(context: AppContext, name: str) -> Account:
    with context.store.read_only() as session:
        return session.scalars(select(Account).join(Account.staff).where(Staff.name == name)).one()


def list_audit_details(context: AppContext, action: str) -> list[dict[str, object]]:
    with context.store.read_only() as session:
        rows = session.scalars(
            select(AuditEntry).where(AuditEntry.action == action, AuditEntry.actor == "Ann Lee")
        )
        return [row.detail for row in rows]


def add_person(
    desk: Desk, name: str = "Bob Ray", role: Role = Role.AGENT, email: str = "bob@pmb.example"
) -> str:
    """Add a person; the token of their link."""
    desk.get("/people")
    page = desk.post("/people", {"name": name, "email": email, "role": role})
    assert page.status_code == 200
    found = LINK.search(page.text)
    assert found
    return found[1]


def sign_in_second(context: AppContext, role: Role = Role.ADMIN, name: str = "Bob Ray") -> Desk:
    return sign_in_at_desk(context, role, name)


@pytest.fixture
def admin(any_context: AppContext) -> Desk:
    return sign_in_at_desk(any_context, Role.ADMIN)


@pytest.mark.parametrize("role", [Role.AGENT, Role.LEAD, Role.AUDITOR])
def test_only_an_admin_sees_or_changes_people(context: AppContext, role: Role) -> None:
    desk = sign_in_at_desk(context, role)
    assert "/people" not in desk.get("/").text
    assert desk.get("/people").status_code == 403
    desk.get("/account")
    for path in (
        "/people",
        "/people/1",
        "/people/1/link",
        "/people/1/do/let-go",
        "/people/1/do/nonsense",
    ):
        assert desk.post(path, {"name": "x", "role": "admin"}).status_code == 403
    assert count_rows(context, Staff) == 1


def test_a_person_is_added_and_comes_in_by_the_link(any_context: AppContext, admin: Desk) -> None:
    token = add_person(admin)
    assert token not in admin.get("/people").text  # shown once
    assert (
        count_rows(any_context, Invitation, Invitation.key == token) == 0
    )  # and only its digest is kept
    bob = Desk(any_context)
    bob.join(token, "Bob Ray", "bob@pmb.example")
    assert bob.sign_in("bob@pmb.example").status_code == 302
    page = admin.get("/people").text
    assert "as bob@pmb.example" in page
    assert [d["role"] for d in list_audit_details(any_context, "person added")] == ["agent"]


def test_what_cannot_be_added_is_said_and_what_was_typed_stays(
    any_context: AppContext, admin: Desk
) -> None:
    add_person(admin)
    for fields, words in (
        ({"name": "Bob Ray", "email": "x@y.example", "role": "lead"}, "is on the desk already"),
        ({"name": " ", "email": "x@y.example", "role": "lead"}, "A name has"),
        ({"name": "Cy", "email": "nonsense", "role": "lead"}, "no mail address"),
        ({"name": "Cy", "email": "ann@pmb.example", "role": "lead"}, "Somebody else signs in"),
        ({"name": "Cy", "email": "x@y.example", "role": "king"}, "Choose a role."),
    ):
        answer = admin.post("/people", fields)
        assert (answer.status_code, words in answer.text) == (422, True), words
        assert (
            f'id="email" name="email" value="{fields["email"]}" type="email" maxlength="320"'
            in answer.text
        )
    assert count_rows(any_context, Staff) == 2


def test_a_new_link_makes_the_one_before_void(any_context: AppContext, admin: Desk) -> None:
    old = add_person(admin)
    page = admin.post(f"/people/{find_number(any_context, 'Bob Ray')}/link").text
    match = LINK.search(page)
    assert match
    stranger = Desk(any_context)
    assert stranger.get(f"/join/{old}").status_code == 404
    assert stranger.get(f"/join/{match[1]}").status_code == 200


def test_letting_go_ends_every_session_and_link_and_can_be_undone(
    any_context: AppContext, admin: Desk
) -> None:
    bob = sign_in_second(any_context, Role.AGENT)
    number = find_number(any_context, "Bob Ray")
    admin.get("/people")
    match = LINK.search(admin.post(f"/people/{number}/link").text)
    assert match
    assert admin.post(f"/people/{number}/do/let-go").status_code == 302
    assert "Bob Ray can no longer sign in" in admin.get("/people").text
    assert bob.get("/").status_code == 302
    assert (
        count_rows(
            any_context, WebSession, WebSession.account_id == get_account(any_context, "Bob Ray").id
        )
        == 0
    )
    assert bob.sign_in("bob@pmb.example").status_code == 200  # the form again
    assert bob.get("/").status_code == 302
    assert Desk(any_context).get(f"/join/{match[1]}").status_code == 404
    assert admin.post(f"/people/{number}/link").status_code == 409  # no way in around it
    assert admin.post(f"/people/{number}/do/let-go").status_code == 409
    admin.post(f"/people/{number}/do/let-in")
    assert bob.sign_in("bob@pmb.example", PASSWORD).status_code == 302
    assert bob.get("/").status_code == 200
    assert (
        len(list_audit_details(any_context, "account ended")),
        len(list_audit_details(any_context, "account restored")),
    ) == (1, 1)


def test_a_role_changes_at_once_and_in_the_links_that_are_out(
    any_context: AppContext, admin: Desk
) -> None:
    token = add_person(admin, role=Role.ADMIN)
    number = find_number(any_context, "Bob Ray")
    admin.get("/people")
    assert (
        admin.post(f"/people/{number}", {"role": "agent", "email": "bob@pmb.example"}).status_code
        == 302
    )
    bob = Desk(any_context)
    bob.join(token, "Bob Ray", "bob@pmb.example")
    bob.sign_in("bob@pmb.example")
    assert bob.get("/people").status_code == 403  # the link was for an admin
    admin.post(f"/people/{number}", {"role": "admin", "email": "bob@pmb.example"})
    assert bob.get("/people").status_code == 200
    changes = [(d["before"], d["after"]) for d in list_audit_details(any_context, "role changed")]
    assert changes == [("admin", "agent"), ("agent", "admin")]


def test_an_address_changes_where_mail_goes_and_how_one_signs_in(
    any_context: AppContext, admin: Desk
) -> None:
    sign_in_second(any_context, Role.AGENT)
    number = find_number(any_context, "Bob Ray")
    admin.get("/people")
    answer = admin.post(f"/people/{number}", {"role": "agent", "email": "ANN@pmb.example"})
    assert (answer.status_code, "Somebody else signs in" in answer.text) == (422, True)
    admin.post(f"/people/{number}", {"role": "agent", "email": " Robert@PMB.example "})
    assert get_account(any_context, "Bob Ray").email == "robert@pmb.example"
    assert Desk(any_context).sign_in("robert@pmb.example").status_code == 302


def test_the_last_admin_stays(any_context: AppContext, admin: Desk) -> None:
    add_person(
        admin, "Eve", Role.ADMIN, "eve@pmb.example"
    )  # has no account yet: she could let nobody in
    me = find_number(any_context, "Ann Lee")
    admin.get("/people")
    answer = admin.post(f"/people/{me}/do/let-go")
    assert (answer.status_code, LAST_ADMIN_MESSAGE in answer.text) == (409, True)
    answer = admin.post(f"/people/{me}", {"role": "agent", "email": "ann@pmb.example"})
    assert (answer.status_code, LAST_ADMIN_MESSAGE in answer.text) == (409, True)
    assert f'id="role{me}" name="role"><option selected>agent' in answer.text
    assert admin.get("/people").status_code == 200
    sign_in_second(any_context)
    assert (
        admin.post(f"/people/{me}", {"role": "agent", "email": "ann@pmb.example"}).status_code
        == 302
    )
    assert admin.get("/people").status_code == 403


@pytest.mark.usefixtures("admin")
def test_two_admins_who_let_each_other_go_at_once_leave_one(any_context: AppContext) -> None:
    sign_in_second(any_context)
    numbers = [find_number(any_context, name) for name in ("Ann Lee", "Bob Ray")]

    def end(number: int) -> None:
        with any_context.store.transaction() as session:
            accounts.deactivate(session, number, by="test", now=any_context.clock())

    raised = run_in_threads(*(lambda n=n: end(n) for n in numbers))
    assert [type(error) for error in raised] == [LastAdminError]
    assert count_rows(any_context, Account, Account.active) == 1


def test_a_locked_account_is_opened(any_context: AppContext, admin: Desk, clock: HandClock) -> None:
    sign_in_second(any_context, Role.AGENT)
    bob = Desk(any_context)
    for _ in range(5):
        bob.sign_in("bob@pmb.example", "a wrong password")
    assert bob.sign_in("bob@pmb.example").status_code == 200
    page = admin.get("/people").text
    assert "locked until" in page
    number = find_number(any_context, "Bob Ray")
    admin.post(f"/people/{number}/do/unlock")
    assert "locked until" not in admin.get("/people").text
    assert bob.sign_in("bob@pmb.example").status_code == 302
    assert list_audit_details(any_context, "account unlocked")
    clock.turn(minutes=1)


def test_a_lost_second_factor_is_reset(any_context: AppContext, admin: Desk) -> None:
    bob = sign_in_second(any_context, Role.AGENT)
    number = find_number(any_context, "Bob Ray")
    assert "reset-second-factor" not in admin.get("/people").text
    values = {"second_factor": "authenticator", "totp_secret": "x", "recovery_codes": ["y"]}
    with any_context.store.transaction() as session:
        session.execute(update(Account).where(Account.staff_id == number).values(values))
    before = get_account(any_context, "Bob Ray").uniquifier
    assert "reset-second-factor" in admin.get("/people").text
    admin.post(f"/people/{number}/do/reset-second-factor")
    found = get_account(any_context, "Bob Ray")
    assert (found.second_factor, found.totp_secret, found.recovery_codes) == (None, None, [])
    assert found.uniquifier != before
    assert bob.get("/").status_code == 302  # signed out
    assert bob.sign_in("bob@pmb.example").status_code == 302
    assert list_audit_details(any_context, "second factor reset")


def test_who_is_not_there_is_said(any_context: AppContext, admin: Desk) -> None:
    add_person(admin)
    number = find_number(any_context, "Bob Ray")
    admin.get("/people")
    assert admin.post("/people/999/do/let-go").status_code == 409
    assert admin.post(f"/people/{number}/do/unlock").status_code == 409  # no account yet
    assert admin.post(f"/people/{number}/do/nonsense").status_code == 404
    with any_context.store.transaction() as session, pytest.raises(ActionNotAllowed):
        accounts.reactivate(
            session, find_number(any_context, "Ann Lee"), by="x", now=any_context.clock()
        )


def test_a_link_says_how_long_it_is_good(
    any_context: AppContext, admin: Desk, clock: HandClock
) -> None:
    add_person(admin)
    assert "valid until" in admin.get("/people").text
    clock.turn(minutes=10)
    with any_context.store.read_only() as session:
        link_ends = {
            p.staff.name: p.link_until
            for p in accounts.list_staff(session, clock() + timedelta(days=1))
        }
    assert link_ends["Bob Ray"] is None
