"""Every page, light and dark, wide and narrow.

Accessible, inside its window, small, loading nothing from elsewhere.
"""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser

from console.presenters.tickets.links import make_key
from tests.acceptance.browser.awkward_data import FAKE_LINK
from tests.acceptance.browser.browser import MAX_PAGE_BYTES, NARROW, WIDE, BrowserUser
from tests.acceptance.browser.conftest import BusyDesk
from tests.support.signed_in_client import build_app, invite
from workflow.context import AppContext
from workflow.mail.compose import STATUS_PURPOSE

# Every address that shows a page, by its rule: where a test goes to see it. {…} are fields of
# Fortnight or Awkward.
PAGES = {
    "/": (
        "/",
        "/?view=open",
        "/?view=mine",
        "/?view=spam",
        "/?view=withdrawn",
        "/?view=all&q=claim",
        "/?sort=due",
    ),
    "/account": ("/account",),
    "/account/tokens": ("/account/tokens",),
    "/automated": ("/automated",),
    "/change": ("/change",),
    "/companies": ("/companies", "/companies?q=nobody"),
    "/companies/<int:number>": ("/companies/1",),
    "/companies/<int:number>/add-ticket": ("/companies/1/add-ticket",),
    "/companies/<int:number>/edit": ("/companies/1/edit",),
    "/companies/<int:number>/merge": (
        "/companies/1/merge",
        "/companies/1/merge?q=e",
    ),
    "/companies/new": ("/companies/new",),
    "/contacts/<int:number>": ("/contacts/1",),
    "/contacts/<int:number>/merge": ("/contacts/1/merge?q=e",),
    "/attachments/<int:number>/message": ("/attachments/{attached_message}/message",),
    "/attachments/<int:number>/rows": ("/attachments/{attached_rows}/rows",),
    "/dashboard": ("/dashboard", "/dashboard?days=7"),
    "/kept-forms": ("/kept-forms",),
    "/kept-forms/<key>": ("/kept-forms/{saved_form}",),
    "/mail-texts": ("/mail-texts",),
    "/messages/<int:number>/text": ("/messages/1/text",),
    "/messages/<int:number>/links/<key>": (f"/messages/{{linked}}/links/{make_key(FAKE_LINK)}",),
    "/mf-recovery-codes": ("/mf-recovery-codes",),
    "/operations": ("/operations",),
    "/operations/audit": ("/operations/audit",),
    "/operations/deliveries": ("/operations/deliveries", "/operations/deliveries?state=failed"),
    "/operations/deliveries/<int:number>": (
        "/operations/deliveries/{failed}",
        "/operations/deliveries/1",
    ),
    "/operations/deliveries/<int:number>/map": ("/operations/deliveries/{unmapped}/map",),
    "/operations/deliveries/<int:number>/raw": ("/operations/deliveries/{failed}/raw",),
    "/operations/ledger": ("/operations/ledger",),
    "/operations/next-week": ("/operations/next-week",),
    "/operations/outbox": ("/operations/outbox", "/operations/outbox?state=refused"),
    "/operations/profiles": ("/operations/profiles",),
    "/operations/senders": ("/operations/senders",),
    "/operations/settings": ("/operations/settings",),
    "/operations/webhooks": ("/operations/webhooks",),
    "/people": ("/people",),
    "/search": ("/search?q=claim", "/search?q=%3Cimg", "/search?q=nothinglikethis"),
    "/senders": ("/senders",),
    "/tasks": ("/tasks", "/tasks?view=team", "/tasks?view=done"),
    "/tf-setup": ("/tf-setup",),
    "/tickets/<int:number>": (
        "/tickets/{rich}",
        "/tickets/{form}",
        "/tickets/{row}",
        "/tickets/{called}",
        "/tickets/{completed}",
        "/tickets/{merged}",
        "/tickets/{automatic}",
        "/tickets/{hostile}",
        "/tickets/{long}",
        "/nothing-here",
    ),
    "/tickets/<int:number>/answer": (
        "/tickets/{rich}/answer?text=Billing+Support+Recap+of+Resolution",
        "/tickets/{hostile}/answer",
    ),
}
# The same for whoever has not signed in; {…} are tokens.
PUBLIC = {
    "/join/<token>": ("/join/{join}", "/join/nobody"),
    "/login": ("/login",),
    "/status/<token>": ("/status/{status}",),
    "/survey/<token>": ("{survey}",),
    "/unsubscribe/<token>": ("{unsubscribe}",),
}
# What answers a GET and is no page, or is one only on the way through a form.
OTHERS = {
    "/answer-files/<int:number>",
    "/attachments/<int:number>",
    "/attachments/<int:number>/message/files/<int:position>",
    "/attachments/<int:number>/view",
    "/kept-forms/newest",
    "/bootstrap/static/<path:filename>",
    "/dashboard/<name>.csv",
    "/dashboard/<name>.svg",
    "/health",
    "/messages/<int:number>/html",
    "/metrics",
    "/operations/audit.csv",
    "/operations/deliveries.csv",
    "/operations/deliveries/<int:number>/original",
    "/operations/deliveries/<int:number>/rejected.xlsx",
    "/operations/ledger.csv",
    "/operations/next-week.csv",
    "/operations/outbox.csv",
    "/queue/news",
    "/sign-in-static/<path:filename>",
    "/static/<path:filename>",
    # the second factor, between password and desk: test_signing_in.py goes there
    "/mf-recovery",
    "/tf-rescue",
    "/tf-select",
    "/tf-validate",
    "/verify",
}


@pytest.fixture
def looking(browser: Browser, busy: BusyDesk) -> Iterator[Callable[..., BrowserUser]]:
    """A browser in front of the busy desk, signed in or not."""
    seats: list[BrowserUser] = []

    def take(**context: object) -> BrowserUser:
        seats.append(BrowserUser(browser, busy.address, busy.app_context, **context))
        return seats[-1]

    yield take
    for one in seats:
        one.context.close()


def test_every_page_is_listed(app_context: AppContext) -> None:
    rules = [
        rule
        for rule in build_app(app_context).url_map.iter_rules()
        if "GET" in (rule.methods or ())
    ]
    shown = {str(rule) for rule in rules if not str(rule).startswith("/api/")}  # for programs
    assert shown == {*PAGES, *PUBLIC, *OTHERS}


@pytest.mark.parametrize("path", [path for paths in PAGES.values() for path in paths])
def test_a_page_is_accessible_fits_and_is_small(
    busy: BusyDesk, looking: Callable[..., BrowserUser], path: str
) -> None:
    _look(looking(storage_state=busy.signed_in), path.format_map(busy.numbers))


@pytest.mark.parametrize("path", [path for paths in PUBLIC.values() for path in paths])
def test_a_page_for_customers_is_accessible_fits_and_is_small(
    busy: BusyDesk, looking: Callable[..., BrowserUser], path: str
) -> None:
    survey = busy.numbers["survey"]
    path_values = {
        "join": invite(busy.app_context, "Somebody New"),
        "status": busy.app_context.signer.make_token(STATUS_PURPOSE, 1),
        "survey": survey,
        "unsubscribe": survey.replace("/survey/", "/unsubscribe/"),
    }
    _look(looking(), path.format_map(path_values))


def _look(seat: BrowserUser, path: str) -> None:
    """Wide and narrow, folded and unfolded; of the dark, only colours are another matter."""
    size = seat.goto(path)
    assert size < MAX_PAGE_BYTES, f"{path} takes {size} bytes"
    for window in (WIDE, NARROW):
        seat.page.set_viewport_size(window)
        seat.check_width()
    seat.open_everything()
    for window in (NARROW, WIDE):
        seat.page.set_viewport_size(window)
        seat.check()
    seat.page.emulate_media(color_scheme="dark")
    seat.check(rules=["color-contrast"])
    assert re.search(r"\S", seat.page.title())
