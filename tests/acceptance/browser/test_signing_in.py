"""Signing in by a browser: second factor, recovery code without the phone, single sign-on."""

import re
from collections.abc import Callable

from passlib.totp import TOTP
from playwright.sync_api import Browser, Page, expect
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from tests.acceptance.browser.browser import HANG_LIMIT, NARROW, BrowserUser, serve
from tests.support.oidc_issuer import ANN, add_issuer, run_issuer
from tests.support.signed_in_client import PASSWORD, build_app
from workflow.context import AppContext


def test_a_second_factor_is_set_up_asked_for_and_got_round_by_a_recovery_code(
    seat: Callable[..., BrowserUser],
) -> None:
    ann = seat(viewport=NARROW).sign_in()
    page = ann.page
    page.goto("/tf-setup")
    page.get_by_label(re.compile("authenticator", re.IGNORECASE)).check()
    page.get_by_role("button").last.click()
    ann.check()
    app = TOTP(page.locator("code").inner_text())
    _enter_code(page, app.generate().token)
    page.goto("/mf-recovery-codes")
    page.locator("#main form[method=post]").get_by_role("button").click()
    ann.check()
    code = page.locator("#main code").first.inner_text()

    _sign_in_again(page)
    expect(page.get_by_role("main")).to_contain_text("authenticator app shows now")
    ann.check()
    page.get_by_role("link", name="recovery code").click()
    ann.check()
    _enter_code(page, code)
    expect(page).to_have_title(re.compile("PMB Support"))
    page.goto("/verify")
    ann.check()


def test_a_browser_goes_to_the_issuer_and_comes_back_signed_in(
    browser: Browser, app_context: AppContext
) -> None:
    """Only a browser shows that our policy lets it go there, and that it keeps our cookie."""
    desk = DispatcherMiddleware(NotFound())  # its address is known before it is there
    with run_issuer() as issuer, serve(desk) as address:
        elsewhere = issuer.url.replace(
            "127.0.0.1", "localhost"
        )  # another site, not only another port
        desk.app = build_app(add_issuer(app_context, elsewhere, public_url=address))
        page = browser.new_page()
        page.set_default_timeout(HANG_LIMIT)
        page.goto(f"{address}/tasks")
        page.get_by_role("button", name="Use the clinic").click()
        page.locator("[name=sub]").fill(ANN)
        page.locator("[name=sub]").press("Enter")
        page.wait_for_url(f"{address}/tasks")
        expect(page.locator("body")).to_contain_text("Ann Lee")
        page.close()


def _enter_code(page: Page, code: str) -> None:
    page.get_by_label(re.compile("code", re.IGNORECASE)).fill(code)
    page.locator("#main form").last.locator("[type=submit]").click()


def _sign_in_again(page: Page) -> None:
    page.goto("/account")
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Email").fill("ann@pmb.example")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
