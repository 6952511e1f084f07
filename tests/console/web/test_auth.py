"""Sign-in and access: accounts, sessions, rights."""

import re
from dataclasses import replace

import pytest
from sqlalchemy import select

from console.web import request
from console.web.auth import LIBRARY_BLUEPRINT
from console.web.auth_accounts import LOCK_DURATION, MAX_FAILURES
from tests.support.context import HandClock
from tests.support.signed_in_client import PASSWORD, Desk, build_app, invite, sign_in_at_desk
from workflow.accounts import invitations
from workflow.context import AppContext
from workflow.models.accounts import Account
from workflow.models.core import AuditEntry
from workflow.models.states import Role

ANN = "ann@pmb.example"


@pytest.fixture
def ann(context: AppContext) -> Desk:
    """A browser that has not signed in; ann has an account."""
    assert Desk(context).join(invite(context), "Ann Lee", ANN).status_code == 302
    return Desk(context)


def test_the_first_admin_comes_by_a_link_that_works_once(context: AppContext) -> None:
    with context.store.transaction() as session:
        token = invitations.create_first_invitation(session, now=context.clock())
        other = invitations.create_first_invitation(session, now=context.clock())
    assert token is not None
    assert other is not None
    assert Desk(context).join(token, "Max Berg", "max@pmb.example").status_code == 302
    assert Desk(context).get(f"/join/{token}").status_code == 404
    assert Desk(context).get(f"/join/{other}").status_code == 404, "somebody has an account now"
    with context.store.transaction() as session:
        assert invitations.create_first_invitation(session, now=context.clock()) is None
        assert session.scalars(select(Account)).one().staff.role is Role.ADMIN


def test_a_link_is_good_for_a_day(context: AppContext, clock: HandClock) -> None:
    token = invite(context)
    clock.turn(hours=24, seconds=1)
    assert Desk(context).get(f"/join/{token}").status_code == 404


def test_signing_in_leads_to_the_queue_under_a_new_session_name(
    context: AppContext, ann: Desk
) -> None:
    ann.get("/login")
    (before,) = [c.value for c in ann.client._cookies.values()]
    assert ann.sign_in(ANN.upper()).headers["Location"] == "/"
    assert "PMB Support Unassigned/Open Tickets" in ann.get("/").text
    planted = Desk(context)
    planted.client.set_cookie("session", before)
    assert planted.get("/").status_code == 302


def test_the_cookie_is_kept_from_scripts_and_other_sites(ann: Desk) -> None:
    cookie = ann.get("/login").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_behind_tls_the_cookie_belongs_to_this_host_alone(context: AppContext) -> None:
    settings = context.settings.model_copy(update={"public_url": "https://desk.pmb.example"})
    cookie = Desk(replace(context, settings=settings)).get("/login").headers["Set-Cookie"]
    assert cookie.startswith("__Host-session=")
    assert "; Secure" in cookie


def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(context: AppContext) -> None:
    desk = sign_in_at_desk(context)
    copied = [(c.key, c.value) for c in desk.client._cookies.values()]
    assert desk.post("/sign-out").status_code == 302
    thief = Desk(context)
    for key, value in copied:
        thief.client.set_cookie(key, value)
    assert thief.get("/").headers["Location"].startswith("/login")


@pytest.mark.parametrize("address", [ANN, "nobody@pmb.example"])
def test_a_wrong_password_and_an_unknown_address_read_alike(ann: Desk, address: str) -> None:
    page = ann.sign_in(address, "not the password")
    assert page.status_code == 200
    assert "Authentication failed" in page.text
    assert "exist" not in page.text


def test_the_page_says_to_everybody_alike_what_wrong_passwords_lead_to(ann: Desk) -> None:
    rest = "After 5 wrong passwords or codes in a row an account is locked for 15 minutes"
    assert rest in ann.get("/login").text
    for _ in range(MAX_FAILURES):
        ann.sign_in(ANN, "not the password")
    known_page, unknown_page = (
        ann.sign_in(who, "not the password").text for who in (ANN, "nobody@pmb.example")
    )
    token = re.compile(r'value="[^"]*"')
    assert rest in known_page
    assert token.sub("", known_page) == token.sub("", unknown_page)


def test_five_wrong_passwords_lock_the_account_for_a_while(ann: Desk, clock: HandClock) -> None:
    for _ in range(MAX_FAILURES):
        ann.sign_in(ANN, "not the password")
    assert ann.sign_in(ANN).status_code == 200, "locked, even with the right one"
    clock.turn(seconds=LOCK_DURATION.total_seconds())
    assert ann.sign_in(ANN).status_code == 302


def test_an_idle_session_ends(context: AppContext, clock: HandClock) -> None:
    desk = sign_in_at_desk(context)
    clock.turn(minutes=14)
    assert desk.get("/").status_code == 200
    clock.turn(minutes=14)
    assert desk.get("/").status_code == 200
    clock.turn(minutes=16)
    assert desk.get("/?x=1").headers["Location"] == "/login?next=/?x%3D1"


def test_a_new_password_ends_the_other_sessions(context: AppContext) -> None:
    desk = sign_in_at_desk(context)
    with context.store.transaction() as session:
        person = session.scalars(select(Account)).one().staff
        token = invitations.create_invitation(
            session, person, person.role, by="test", now=context.clock()
        )
    assert Desk(context).join(token, "Ann Lee", ANN).status_code == 302
    assert desk.get("/").status_code == 302


def test_nothing_is_changed_without_the_token_of_a_page(context: AppContext) -> None:
    desk = sign_in_at_desk(context)
    desk.token = "x"
    assert desk.post("/sign-out").status_code == 400
    assert desk.get("/").status_code == 200


def test_nobody_is_sent_to_another_site(ann: Desk) -> None:
    ann.get("/login")
    answer = ann.client.post(
        "/login?next=https://evil.example/",
        data={"csrf_token": ann.token, "email": ANN, "password": PASSWORD},
    )
    assert not answer.headers.get("Location", "/").startswith(("http", "//"))


def test_every_view_says_who_may_use_it(context: AppContext) -> None:
    app = build_app(context)
    theirs = ("static", "bootstrap.", f"{LIBRARY_BLUEPRINT}.")
    silent_views = [
        n
        for n, v in app.view_functions.items()
        if not n.startswith(theirs) and not hasattr(v, request.RIGHT_ATTRIBUTE)
    ]
    assert not silent_views


def test_sign_ins_are_in_the_audit_log(context: AppContext) -> None:
    sign_in_at_desk(context)
    with context.store.read_only() as session:
        assert "signed in" in set(session.scalars(select(AuditEntry.action)))
