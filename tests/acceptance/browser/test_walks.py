"""A ticket of each channel, in the browser, from the queue to completed.

Two people act at once, and a mail is undone within ten seconds.
"""

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.browser.browser import BrowserUser
from tests.acceptance.browser.channels import (
    CHANNELS,
    FORM_KEY,
    RUBY,
    SUBJECT,
    TEXT,
    run_workers,
    send_mail,
)
from tests.support.context import HandClock
from tests.support.servers import Relay
from workflow.context import AppContext
from workflow.models.states import Role
from workflow.settings.settings import Settings

Take = Callable[..., BrowserUser]
RECAP = "Billing Support Recap of Resolution"


@pytest.fixture
def settings(tmp_path: Path, relay: Relay) -> Settings:
    return Settings(
        home=tmp_path / "home",
        relay_url=relay.url,
        formstack_key=FORM_KEY,
        smtp_listen="127.0.0.1:0",
        folder_settle_seconds=0,
        desk_lead="Lena",
        fallback_supervisor="Sam",
    )  # type: ignore[arg-type]


def list_texts(relay: Relay) -> list[str]:
    """Return the texts of all mails that the relay has taken."""
    mails = (
        message_from_bytes(bytes(e.content or b""), policy=policy.default) for e in relay.taken
    )
    return [m.get_content() for m in mails]


def take_to_in_progress(page: Page) -> None:
    """From the queue into one's own hands, followed up."""
    page.goto("/")
    take = page.get_by_role("button", name="Take ticket 1")
    if take.count():  # one made by hand has an owner already
        take.click()
        expect(page.get_by_role("main")).to_contain_text("1 ticket is yours: #1.")
    page.goto("/?view=mine")
    page.get_by_role("link", name="#1", exact=True).click()
    expect(page.locator("#missing")).to_contain_text("5-Audit")
    page.locator("#how-FOLLOW_UP_SENT").fill("phone")
    page.get_by_role("button", name="Tick 4-Support Follow Up Sent").click()
    expect(page.locator("#notices")).to_contain_text("now at 5-Audit")


def send_recap(page: Page, words: str) -> None:
    """The recap from its template, looked at, then sent."""
    page.get_by_role("link", name="Reply").click()
    page.get_by_label("Canned response").select_option(RECAP)
    page.get_by_role("button", name="Insert").click()
    text = page.get_by_label("Text", exact=True)
    text.fill(re.sub(r"\[[^]]*\]|…", "", text.input_value()) + f"\n{words}\n")
    page.locator("main").get_by_role("button", name="Preview").last.click()
    expect(page.locator("#preview")).to_contain_text(words)
    expect(page.locator("#preview")).to_contain_text("5-Recap of Resolution Sent")
    page.locator("#preview").get_by_role("button", name="Send").click()


@pytest.mark.parametrize("script", [True, False], ids=["", "without-javascript"])
@pytest.mark.parametrize("channel", CHANNELS)
def test_a_ticket_walks_from_the_queue_to_completed(
    app_context: AppContext,
    clock: HandClock,
    relay: Relay,
    seat: Take,
    channel: str,
    *,
    script: bool,
) -> None:
    ann = seat(java_script_enabled=script).sign_in()
    CHANNELS[channel](app_context, ann)
    run_workers(app_context)
    assert [e.rcpt_tos for e in relay.taken] == [[RUBY[1]]]
    assert TEXT not in list_texts(relay)[0]

    page = ann.page
    take_to_in_progress(page)
    page.get_by_role("button", name="Yes", exact=True).click()
    send_recap(page, "The claim was filed again and paid.")
    clock.turn(seconds=11)
    run_workers(app_context)
    page.goto("/tickets/1")
    expect(page.locator("header")).to_contain_text("6-Completed")
    assert "The claim was filed again and paid." in list_texts(relay)[1]

    run_workers(app_context)
    link = re.search(r"http\S+/survey/\S+", list_texts(relay)[2])
    assert link
    _answer_survey(seat(java_script_enabled=script).page, urlsplit(link[0]).path)
    page.goto("/dashboard?days=7")
    scores = page.get_by_role("region", name="Scores by consultant", exact=True)
    scores.get_by_text("Table", exact=True).click()
    expect(scores.get_by_role("row", name="Ann Lee 5.0 1")).to_be_visible()


def _answer_survey(page: Page, path: str) -> None:
    """Answer the survey as a customer, who has no account."""
    page.goto(path)
    page.get_by_label("5 – very good").check()
    page.get_by_label(re.compile("Any comments")).fill("Quick and friendly.")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("main")).to_contain_text("Thank you")


@pytest.fixture
def ann_and_page(app_context: AppContext, seat: Take) -> tuple[BrowserUser, Page]:
    """A mail's ticket that Ann has followed up."""
    ann = seat().sign_in()
    send_mail(app_context, ann)
    run_workers(app_context)
    take_to_in_progress(ann.page)
    return ann, ann.page


def test_a_mail_sent_can_be_undone_for_ten_seconds(
    app_context: AppContext, clock: HandClock, relay: Relay, ann_and_page: tuple[BrowserUser, Page]
) -> None:
    ann, page = ann_and_page
    send_recap(page, "Too early.")
    expect(page.get_by_role("main")).to_contain_text("Sending your mail to")
    ann.check()
    page.get_by_role("button", name="Undo sending").click()
    expect(page.get_by_label("Text", exact=True)).to_have_value(re.compile("Too early."))
    clock.turn(seconds=11)
    run_workers(app_context)
    assert len(relay.taken) == 1, "only the notice has left"


def test_two_who_answer_at_once_are_told_before_the_second_mail_leaves(
    app_context: AppContext,
    clock: HandClock,
    relay: Relay,
    seat: Take,
    ann_and_page: tuple[BrowserUser, Page],
) -> None:
    ann, page = ann_and_page
    page.goto("/tickets/1/answer")
    page.get_by_label("Text", exact=True).fill("My own answer.")
    olga = seat().sign_in(Role.AGENT, "Olga Petrova")
    olga.page.goto("/tickets/1/answer")
    expect(olga.page.get_by_role("main")).to_contain_text("Ann Lee")
    olga.page.get_by_label("Text", exact=True).fill("Olga was faster.")
    olga.page.locator("#answer").get_by_role("button", name="Send").last.click()
    expect(olga.page.get_by_role("main")).to_contain_text("Sending your mail to")

    page.locator("#answer").get_by_role("button", name="Send").last.click()
    expect(page.locator("#changed")).to_contain_text("Not sent yet")
    expect(page.locator("#changed")).to_contain_text("Olga was faster.")
    expect(page.get_by_label("Text", exact=True)).to_have_value(re.compile("My own answer."))
    ann.check()
    clock.turn(seconds=11)
    run_workers(app_context)
    assert ["Olga was faster." in text for text in list_texts(relay)] == [False, True]


def test_two_who_tick_at_once_are_asked_again(
    seat: Take, ann_and_page: tuple[BrowserUser, Page]
) -> None:
    ann, page = ann_and_page
    olga = seat().sign_in(Role.AGENT, "Olga Petrova")
    olga.page.goto("/tickets/1")
    olga.page.get_by_role("button", name="Yes", exact=True).click()
    page.get_by_role("button", name="No", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("has changed since you opened it")
    ann.check()
    page.get_by_role("link", name="View the ticket").click()
    expect(page.get_by_role("button", name="Yes", exact=True)).to_have_attribute(
        "aria-pressed", "true"
    )


def test_what_was_ticked_can_be_undone(ann_and_page: tuple[BrowserUser, Page]) -> None:
    ann, page = ann_and_page
    page.locator("#notices").get_by_role("button", name="Undo").click()
    expect(page.locator("header").nth(0)).to_contain_text("4-In Progress")
    expect(page.get_by_role("button", name="Tick 4-Support Follow Up Sent")).to_be_visible()
    ann.check()


def test_new_tickets_appear_by_themselves_and_the_title_counts(
    app_context: AppContext, seat: Take
) -> None:
    ann = seat()
    ann.page.clock.install()  # the page asks each quarter of a minute
    ann.sign_in()
    expect(ann.page).to_have_title(re.compile(r"^\(0\) PMB Support Unassigned/Open Tickets"))
    send_mail(app_context, ann)
    run_workers(app_context)
    ann.page.clock.fast_forward(16_000)
    expect(ann.page).to_have_title(re.compile(r"^\(1\) PMB Support Unassigned/Open Tickets"))
    expect(ann.page.locator("#rows")).to_contain_text(SUBJECT)
    expect(ann.page.get_by_role("status").filter(has_text="One new ticket")).to_have_count(1)
    ann.check()
