"""The second factor in the browser: set up, asked for, and the recovery code when the phone is lost."""

import re
from collections.abc import Callable

from passlib.totp import TOTP
from playwright.sync_api import Page, expect

from tests.browser.seat import NARROW, Seat
from tests.web import PASSWORD


def test_a_second_factor_is_set_up_asked_for_and_got_round_by_a_recovery_code(seat: Callable[..., Seat]) -> None:
    ann = seat(viewport=NARROW).sign_in()
    page = ann.page
    page.goto("/tf-setup")
    page.get_by_label(re.compile("authenticator", re.IGNORECASE)).check()
    page.get_by_role("button").last.click()
    ann.check()
    app = TOTP(page.locator("code").inner_text())
    _code(page, app.generate().token)
    page.goto("/mf-recovery-codes")
    page.locator("#main form[method=post]").get_by_role("button").click()
    ann.check()
    code = page.locator("#main code").first.inner_text()

    _again(page)
    expect(page.get_by_role("main")).to_contain_text("authenticator app shows now")
    ann.check()
    page.get_by_role("link", name="recovery code").click()
    ann.check()
    _code(page, code)
    expect(page).to_have_title(re.compile("PMB Support"))
    page.goto("/verify")
    ann.check()


def _code(page: Page, code: str) -> None:
    page.get_by_label(re.compile("code", re.IGNORECASE)).fill(code)
    page.locator("#main form").last.locator("[type=submit]").click()


def _again(page: Page) -> None:
    page.goto("/account")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Email").fill("ann@pmb.example")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
