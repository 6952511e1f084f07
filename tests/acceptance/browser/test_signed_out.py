"""A session that ends while somebody writes.

In a real browser, the text typed comes back after signing in, with scripts and without.
"""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select

from tests.acceptance.browser.browser import NARROW, BrowserUser
from tests.support.context import HandClock, count_rows, create_company, open_ticket
from tests.support.signed_in_client import PASSWORD
from workflow.context import AppContext
from workflow.models.core import Message

WORDS = "Quincy called about claim 1001.\nHe will call again."
LOST = "You were signed out. Nothing was lost: check and send again"


def sign_in_again(page: Page) -> None:
    expect(page.get_by_role("main")).to_contain_text("what you typed is saved")
    page.get_by_label("Email").fill("ann@pmb.example")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(LOST)


@pytest.mark.parametrize("scripts", [True, False])
def test_a_note_typed_while_signed_out_is_added_by_one_press(
    seat: Callable[..., BrowserUser], app_context: AppContext, clock: HandClock, *, scripts: bool
) -> None:
    number = open_ticket(app_context)
    ann = seat(java_script_enabled=scripts).sign_in()
    page = ann.page
    page.goto(f"/tickets/{number}")
    page.get_by_label("Internal note; the customer").fill(WORDS)
    clock.turn(minutes=20)
    page.get_by_role("button", name="Add internal note").click()
    sign_in_again(page)
    expect(page.get_by_label("Text")).to_have_value(WORDS)
    assert count_rows(app_context, Message, Message.direction == "note") == 0
    if scripts:
        ann.check()
    page.get_by_role("button", name="Send it now").click()
    expect(page.get_by_role("article", name="Note")).to_contain_text("claim 1001")
    with app_context.store.read_only() as session:
        assert session.scalars(select(Message.text).where(Message.direction == "note")).all() == [
            WORDS
        ]
    page.goto("/")
    expect(page.get_by_text("Nothing was lost")).to_have_count(0)


def test_a_call_typed_while_signed_out_becomes_a_ticket(
    seat: Callable[..., BrowserUser], app_context: AppContext, clock: HandClock
) -> None:
    with app_context.store.transaction() as session:
        number = create_company(session, "Sunrise").id
    ann = seat(viewport=NARROW).sign_in()
    page = ann.page
    page.goto(f"/companies/{number}/add-ticket")
    page.get_by_label("Description").fill(WORDS)
    page.get_by_label("Caller").fill("Quincy Vale")
    page.get_by_label("Callback number").fill("(212) 555-0142")
    clock.turn(hours=17)
    page.get_by_role("button", name="Add the ticket").click()
    sign_in_again(page)
    ann.check()
    page.get_by_label("Phone").fill("(212) 555-0199")
    page.goto("/tasks")
    page.get_by_role("link", name="Nothing was lost").click()
    ann.check()
    page.get_by_role("link", name=f"/companies/{number}/add-ticket").click()
    page.get_by_role("button", name="Send it now").click()
    expect(page.get_by_text("is yours.")).to_be_visible()
    main = page.get_by_role("main")
    expect(main).to_contain_text("Quincy Vale")
    expect(main).to_contain_text("(212) 555-0142")
