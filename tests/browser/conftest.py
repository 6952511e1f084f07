"""Chromium once a session, the desk's server once a test."""

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, sync_playwright

from console.web.app import create
from tests.browser.seat import Seat, served
from workflow.house import House

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SWITCHES = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]  # as root and in containers


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser; skips where there is none."""
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
