"""Every page, light and dark, wide and narrow: accessible, inside its window, loading nothing from elsewhere."""

from collections.abc import Callable

import pytest

from tests.browser.seat import NARROW, WIDE, Seat
from tests.house import mail, ticket_of
from workflow.house import House
from workflow.states import Role

OPERATIONS = ("", "/ledger", "/deliveries", "/outbox", "/next-week", "/audit", "/profiles", "/settings")
PAGES = (
    "/", "/nothing-here", "/account", "/change", "/tf-setup", "/mf-recovery-codes", "/people",
    *(f"/operations{page}" for page in OPERATIONS),
)  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible_and_fits(house: House, seat: Callable[..., Seat], scheme: str) -> None:
    ticket_of(house, mail("The claim was denied", subject="Denied"))
    one = seat(color_scheme=scheme).sign_in(Role.ADMIN)
    for path in PAGES:
        one.page.goto(path)
        one.faults[:] = [f for f in one.faults if "404" not in f]  # the page that is not there says so
        for size in (WIDE, NARROW):
            one.page.set_viewport_size(size)
            one.check()


def test_signing_in_needs_no_mouse(seat: Callable[..., Seat]) -> None:
    one = seat().sign_in()
    one.page.keyboard.press("Tab")
    assert one.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    one.page.get_by_role("button", name="Sign out").press("Enter")
    one.page.wait_for_url("**/login")
    one.check()
