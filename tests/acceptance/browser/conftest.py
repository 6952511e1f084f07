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

from console.app import create
from tests.acceptance.browser import awkward_data, fortnight
from tests.acceptance.browser.browser import Seat, served
from tests.support.context import HandClock, Woken
from tests.support.signed_in_client import at_desk
from workflow.accounts import saved_forms
from workflow.accounts.saved_forms import Filled
from workflow.context import House, open_house
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
def address(house: House) -> Iterator[str]:
    """Where this test's desk answers."""
    with served(create(house)) as address:
        yield address


@pytest.fixture
def seat(browser: Browser, address: str, house: House) -> Iterator[Callable[..., Seat]]:
    """Makes browsers in front of the desk: `seat()`, `seat(color_scheme="dark")`."""
    seats: list[Seat] = []

    def take(**context: Any) -> Seat:
        seats.append(Seat(browser, address, house, **context))
        return seats[-1]

    yield take
    faults = [fault for one in seats for fault in one.faults]
    for one in seats:
        one.context.close()
    assert not faults


@dataclass(frozen=True)
class Busy:
    """A desk after a fortnight, its server, and the cookies of an admin. Only to look at."""

    house: House
    address: str
    numbers: dict[str, Any]
    signed_in: dict[str, Any]


def _keep_a_form(house: House) -> str:
    """Keep what an admin typed when their session had ended; return its key."""
    fields = (("text", f"{awkward_data.SCRIPT} {awkward_data.LONG}"), ("seen", "1"))
    filled = Filled("/tickets/1/do/note", fields, (("file", awkward_data.LONG),))
    with house.store.transaction() as session:
        account = session.scalars(
            select(Account.id).where(Account.email == "ann@pmb.example")
        ).one()
        key = saved_forms.keep(session, house.sealer, account, filled, house.clock())
    assert key is not None
    return key


@pytest.fixture(scope="session")
def busy(sqlite_template: Path, fast_folder: Path) -> Iterator[Busy]:
    """What every page is looked at with: made once, because nobody changes it."""
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
    house = open_house(settings, waker=Woken(), clock=(clock := HandClock()))
    numbers = vars(fortnight.fill(house, clock)) | vars(awkward_data.add(house, clock))
    cookie = at_desk(house, Role.ADMIN).client.get_cookie("session")
    assert cookie is not None
    kept = _keep_a_form(house)
    signed_in = {
        "cookies": [{"name": "session", "value": cookie.value, "domain": "127.0.0.1", "path": "/"}]
    }
    with served(create(house)) as address:
        yield Busy(house, address, numbers | {"kept": kept}, signed_in)
    house.close()
