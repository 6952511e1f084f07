"""The desk without a mouse.

Everything is reached by Tab and keys, the focus is visible, and nothing is lost.
"""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.browser.browser import NARROW, BrowserUser
from tests.support.context import HandClock, make_mail, open_ticket, reach
from tests.support.signed_in_client import PASSWORD
from workflow.context import AppContext
from workflow.process import Milestone

Take = Callable[..., BrowserUser]
MOST_TABS = 90


@pytest.fixture
def numbers(app_context: AppContext, clock: HandClock) -> list[int]:
    """Three tickets in the queue, oldest first, their customers notified."""
    tickets = []
    for subject in ("Denied", "Underpaid", "A code"):
        tickets.append(
            open_ticket(app_context, make_mail(f"{subject}: please help", subject=subject))
        )
        reach(app_context, tickets[-1], Milestone.CUSTOMER_NOTIFIED, by="rule")
        clock.turn(minutes=7)
    return tickets


def press_tab_until(seat: BrowserUser, words: str) -> None:
    """Press Tab until the control with this label has the focus.

    Each stop on the way shows that it has it.
    """
    labels = [seat.get_focused_label()]
    while not re.search(words, labels[-1]) and len(labels) < MOST_TABS:
        seat.page.keyboard.press("Tab")
        labels.append(seat.get_focused_label())
        last = not labels[-1]  # behind it comes the browser itself, then the first again
        assert last or seat.is_focus_visible(), f"nobody sees where the keyboard is: {labels[-1]!r}"
    if re.search(words, labels[-1]):
        return
    raise AssertionError(f"{words!r} is not reached by Tab, but {labels}")


def test_a_day_without_a_mouse(seat: Take, numbers: list[int]) -> None:
    ann = seat().sign_in()
    page, press = ann.page, ann.page.keyboard.press
    press("j")
    press("j")
    press("k")
    assert ann.get_focused_label() == f"#{numbers[0]}"
    press("Enter")
    page.wait_for_url(f"**/tickets/{numbers[0]}")

    press_tab_until(ann, "^Assign to me")
    press("Enter")
    expect(page.locator("#notices")).to_contain_text("Assigned to Ann Lee")
    press_tab_until(ann, "4-Support Follow Up Sent")
    page.keyboard.type("phone")
    press("Enter")  # in the field presses its button
    expect(page.locator("#notices")).to_contain_text("now at 5-Audit")
    assert "now at 5-Audit" in ann.get_focused_label(), "the focus is on the notice"
    press_tab_until(ann, "^Undo")
    press("Enter")
    expect(page.get_by_role("main")).to_contain_text("Undone")

    press_tab_until(ann, "^Reply")
    press("Enter")
    page.wait_for_url("**/answer")
    press_tab_until(ann, "^Text")
    page.keyboard.type("We have called the payer.")
    press_tab_until(ann, "^Send")
    press("Enter")
    page.wait_for_url("**/tickets/1#sending-*")
    assert "Sending your mail to" in ann.get_focused_label(), (
        "ten seconds are short: it is a key away"
    )
    press("Tab")
    assert ann.get_focused_label() == "Undo sending"
    _sign_out(ann)


def _sign_out(ann: BrowserUser) -> None:
    press_tab_until(ann, "^Sign out")
    ann.page.keyboard.press("Enter")
    ann.page.wait_for_url("**/login")


def test_signing_in_and_the_way_past_the_menu(seat: Take) -> None:
    ann = seat().sign_in()
    page, press = ann.page, ann.page.keyboard.press
    press("Tab")
    assert ann.get_focused_label() == "Skip to the content"
    press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.goto("/account")
    _sign_out(ann)
    press_tab_until(ann, "^Email")
    page.keyboard.type("ann@pmb.example")
    press_tab_until(ann, "^Password")
    page.keyboard.type(PASSWORD)
    press("Enter")
    expect(page).to_have_title(re.compile("PMB Support"))


def test_the_queue_keeps_its_place(seat: Take, numbers: list[int]) -> None:
    ann = seat().sign_in()
    page, press = ann.page, ann.page.keyboard.press
    press("j")
    press("j")
    press("Enter")
    page.wait_for_url(f"**/tickets/{numbers[1]}")
    page.go_back()
    press("j")
    assert ann.get_focused_label() == f"#{numbers[2]}", (
        "on with the one after the one that was read"
    )


@pytest.mark.usefixtures("numbers")
def test_on_a_phone_the_first_ticket_comes_before_lists_and_filters_and_both_unfold(
    seat: Take,
) -> None:
    ann = seat().sign_in()
    page = ann.page
    page.set_viewport_size(NARROW)
    page.goto("/?stage=4-In+Progress")
    expect(page.get_by_role("link", name="#1", exact=True)).to_be_in_viewport()
    expect(page.get_by_label("Assigned to")).to_be_hidden()
    press_tab_until(ann, "^Lists")
    ann.page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Overdue")).to_be_visible()
    press_tab_until(ann, "^Filtered: 4-In Progress$")
    ann.page.keyboard.press("Enter")
    press_tab_until(ann, "^Assigned to")
    ann.check()


@pytest.mark.usefixtures("numbers")
def test_without_scripts_lists_filters_and_search_are_there_on_any_width(seat: Take) -> None:
    signed_in = seat().sign_in().context.storage_state()
    plain = seat(java_script_enabled=False, storage_state=signed_in)
    page = plain.page
    page.goto("/")
    expect(page.get_by_role("link", name="Overdue")).to_be_visible()
    expect(page.get_by_label("Assigned to")).to_be_visible()
    page.set_viewport_size(NARROW)
    expect(page.get_by_label("Search tickets")).to_be_visible()
    for summary, inside in (
        ("Lists", page.get_by_role("link", name="Overdue")),
        ("Filter and order", page.get_by_label("Assigned to")),
    ):
        expect(inside).to_be_hidden()
        page.get_by_text(summary, exact=True).click()
        expect(inside).to_be_visible()


def test_help_is_a_key_away_and_gives_the_keyboard_back(seat: Take, numbers: list[int]) -> None:
    ann = seat().sign_in()
    page, press = ann.page, ann.page.keyboard.press
    press("j")
    press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    ann.check()
    press("j")
    press("Escape")
    assert ann.get_focused_label() == f"#{numbers[0]}"
    press("/")
    assert ann.get_focused_label() == "Search tickets"
    page.keyboard.type("jk?")  # in a field a key types, and is no shortcut
    expect(page.get_by_label("Search tickets")).to_have_value("jk?")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_single_keys_can_be_switched_off(seat: Take, numbers: list[int]) -> None:
    ann = seat().sign_in()
    page, press = ann.page, ann.page.keyboard.press
    press("?")
    press_tab_until(ann, "Use these keys")
    press("Space")
    press("Escape")
    press("j")
    assert ann.get_focused_label() != f"#{numbers[0]}"
    page.reload()
    press("j")
    assert ann.get_focused_label() == ""


@pytest.mark.parametrize(
    "path",
    ["/", "/tickets/1", "/tickets/1/answer", "/tasks", "/companies", "/dashboard", "/account"],
)
@pytest.mark.usefixtures("numbers")
def test_whatever_tab_reaches_can_be_seen(seat: Take, path: str) -> None:
    """On a phone's width too: not outside the window, not under something, and marked."""
    ann = seat().sign_in()
    for width in (1280, 360):
        ann.page.set_viewport_size({"width": width, "height": 740})
        ann.page.goto(path)
        _walk_through(ann, ann.page)


def _walk_through(seat: BrowserUser, page: Page) -> None:
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        if not (words := seat.get_focused_label()):  # past the last one
            return
        assert seat.is_focus_visible(), (
            f"nobody sees where the keyboard is: {words!r} on {page.url}"
        )
