"""Chromium once a module, the desk's server once a test.

And a desk after a fortnight, to look at, once a session.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import select

from tests.acceptance.browser import awkward_data, fortnight
from tests.acceptance.browser.browser import BrowserUser, serve
from tests.support.context import HandClock, RecordingNotifier
from tests.support.signed_in_client import build_app, sign_in_at_desk
from workflow.accounts import saved_forms
from workflow.accounts.saved_forms import FormContent
from workflow.context import AppContext, open_context
from workflow.models.accounts import Account
from workflow.models.states import Role
from workflow.settings.settings import Mailbox, OAuth2, Settings

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # as root and in containers


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser; skips where there is none.

    Once a module: while Playwright is there no other event loop runs in this thread, and tests of
    others need one.
    """
    if CHROMIUM is None:
        pytest.skip("Chromium left out: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def app_context(context: AppContext) -> AppContext:
    """The app context of a test: here `context` would mean that of a browser."""
    return context


@pytest.fixture
def address(app_context: AppContext) -> Iterator[str]:
    """The address of this test's desk."""
    with serve(build_app(app_context)) as address:
        yield address


@pytest.fixture
def seat(
    browser: Browser, address: str, app_context: AppContext
) -> Iterator[Callable[..., BrowserUser]]:
    """Makes browsers in front of the desk: `seat()`, `seat(color_scheme="dark")`."""
    seats: list[BrowserUser] = []

    def take(**context: Any) -> BrowserUser:
        seats.append(BrowserUser(browser, address, app_context, **context))
        return seats[-1]

    yield take
    faults = [fault for one in seats for fault in one.faults]
    for one in seats:
        one.context.close()
    assert not faults


@dataclass(frozen=True)
class BusyDesk:
    """A desk after a fortnight, its server, and the cookies of an admin. Only to look at."""

    app_context: AppContext
    address: str
    numbers: dict[str, Any]
    signed_in: dict[str, Any]


def _save_form(app_context: AppContext) -> str:
    """Save a form that an admin sent when their session had ended; return its key."""
    fields = (("text", f"{awkward_data.SCRIPT} {awkward_data.LONG}"), ("seen", "1"))
    content = FormContent("/tickets/1/do/note", fields, (("file", awkward_data.LONG),))
    with app_context.store.transaction() as session:
        account = session.scalars(
            select(Account.id).where(Account.email == "ann@pmb.example")
        ).one()
        key = saved_forms.save_form(
            session, app_context.sealer, account, content, app_context.clock()
        )
    assert key is not None
    return key


@pytest.fixture(scope="session")
def busy(sqlite_template: Path, fast_folder: Path) -> Iterator[BusyDesk]:
    """The data that every page is looked at with: made once, because no test changes it."""
    database = fast_folder / "busy.db"
    shutil.copy(sqlite_template, database)
    grant = OAuth2(token_url="https://login.example/token", client_id="us", refresh_token="r")
    settings = Settings(
        home=fast_folder / "busy",
        database_url=f"sqlite:///{database}",
        desk_lead="Priya Nair",
        fallback_supervisor="Marcus Webb",
        mailbox=(Mailbox(host="imap.example", user="support@pmb.example", oauth2=grant),),
    )
    app_context = open_context(settings, notifier=RecordingNotifier(), clock=(clock := HandClock()))
    numbers = vars(fortnight.fill(app_context, clock)) | vars(awkward_data.add(app_context, clock))
    cookie = sign_in_at_desk(app_context, Role.ADMIN).client.get_cookie("session")
    assert cookie is not None
    saved_form = _save_form(app_context)
    signed_in = {
        "cookies": [{"name": "session", "value": cookie.value, "domain": "127.0.0.1", "path": "/"}]
    }
    with serve(build_app(app_context)) as address:
        yield BusyDesk(app_context, address, numbers | {"saved_form": saved_form}, signed_in)
    app_context.close()
