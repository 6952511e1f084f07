"""Mail and files of customers are harmless in the reader's browser.

Pages that were read are not shown again after signing out.
"""

import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Frame, Page, expect

from ingest.intake import Arrival, Intake, Transport
from ingest.processing.process import process_waiting
from parsers.item import Format
from parsers.text import html as text_html
from tests.acceptance.browser.awkward_data import PAGE, SVG, build_hostile_mail
from tests.acceptance.browser.browser import BrowserUser
from tests.acceptance.browser.conftest import CHROMIUM, SWITCHES
from tests.support.context import make_mail, open_ticket
from workflow.context import AppContext

Take = Callable[..., BrowserUser]
SECRET = "what only the desk may read"


class Elsewhere:
    """A server of somebody else's: remembers what it was asked for, and frames our pages."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.referrers: dict[str, str | None] = {}  # of the first request of each path
        self.frames = ""
        elsewhere = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                elsewhere.asked.append(self.path)
                elsewhere.referrers.setdefault(self.path, self.headers["Referer"])
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(
                    f'<!doctype html><iframe src="{elsewhere.frames}"></iframe>'.encode()
                )

            do_POST = do_GET  # noqa: N815  # the library's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Tests are quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True  # a browser keeps connections open on which it never asks
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    server = Elsewhere()
    yield server
    server.stop()


def receive(app_context: AppContext, elsewhere: Elsewhere) -> None:
    raw = build_hostile_mail().replace(b"http://elsewhere.example", elsewhere.url.encode())
    Intake(app_context).accept(Arrival(transport=Transport.SMTP, format=Format.MAIL, raw=raw))
    process_waiting(app_context)


def show_original_mail(page: Page) -> Frame:
    """The ticket with the mail as its sender designed it; the frame with it."""
    page.goto("/tickets/1")
    page.get_by_text("Original formatting").click()
    frame = page.frame_locator("iframe.mail")
    expect(frame.locator("body")).to_contain_text("Sign in again")
    return page.frames[1]


def test_hostile_html_does_nothing(
    app_context: AppContext, seat: Take, elsewhere: Elsewhere
) -> None:
    receive(app_context, elsewhere)
    ann = seat().sign_in()
    frame = show_original_mail(ann.page)
    assert (
        frame.locator(
            "script, form, iframe, object, [onerror], [onload], [href^=javascript]"
        ).count()
        == 0
    )
    _assert_unharmed(ann.page, elsewhere)
    ann.check()


def test_if_the_cleaning_let_everything_through_it_would_still_do_nothing(
    app_context: AppContext, seat: Take, elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame's sandbox and the policy of its page stand by themselves."""
    receive(app_context, elsewhere)
    monkeypatch.setattr(text_html, "sanitise", lambda html: html)
    ann = seat().sign_in()
    frame = show_original_mail(ann.page)
    assert frame.locator("script").count(), "this test lets scripts through"
    frame.get_by_role("button", name="Go").press("Enter")
    _assert_unharmed(ann.page, elsewhere)
    refusals = [
        f
        for f in ann.faults
        if "sandbox" in f or "Content Security Policy" in f or "elsewhere" in f
    ]
    assert len(refusals) == len(ann.faults) > 3
    ann.faults.clear()


def test_a_link_of_a_mail_opens_after_a_warning_and_without_a_referrer(
    app_context: AppContext, seat: Take, elsewhere: Elsewhere
) -> None:
    html = f'<p>Sign in again: <a href="{elsewhere.url}/pay">clinic.example</a></p>'
    open_ticket(app_context, make_mail(html=html))
    page = seat().sign_in().page
    frame = show_original_mail(page)
    with page.expect_popup() as opened:
        frame.get_by_role("link", name="clinic.example").click()
    warning = opened.value
    expect(warning.get_by_role("alert")).to_contain_text("Its words name another host")
    assert elsewhere.asked == []
    warning.get_by_role("link", name="Open 127.0.0.1").click()
    warning.wait_for_url(f"{elsewhere.url}/pay")
    assert "/pay" in elsewhere.asked
    # Its own page may ask for more, such as an icon, with itself as referrer.
    assert elsewhere.referrers["/pay"] is None
    expect(page.get_by_role("heading", level=1)).to_contain_text("#1")


def _assert_unharmed(page: Page, elsewhere: Elsewhere) -> None:
    page.wait_for_load_state("networkidle")
    assert elsewhere.asked == []
    for frame in page.frames:
        if frame.url.startswith("http"):  # one that is folded away has no page yet to be asked
            assert frame.evaluate("window.name") == ""
    expect(page.get_by_role("heading", level=1)).to_contain_text("#1")


def test_files_are_saved_and_never_shown(
    app_context: AppContext, seat: Take, elsewhere: Elsewhere
) -> None:
    receive(app_context, elsewhere)
    page = seat().sign_in().page
    page.goto("/tickets/1")
    for name, content in (("picture.svg", SVG), ("invoice.pdf.html", PAGE)):
        link = page.get_by_role("link", name=name)
        with page.expect_download() as saved:
            link.click()
        assert saved.value.suggested_filename == name
        assert saved.value.path().read_bytes().strip() == content
        path = link.get_attribute("href")
        answer = page.request.get(f"{path}/view")
        assert answer.status == 404
        answer = page.request.get(f"{path}")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment")
    _assert_unharmed(page, elsewhere)


def test_no_other_site_can_put_the_desk_into_a_frame(
    app_context: AppContext, browser: Browser, seat: Take, address: str, elsewhere: Elsewhere
) -> None:
    open_ticket(app_context, make_mail(SECRET))
    cookies = seat().sign_in().context.storage_state()
    context = browser.new_context(storage_state=cookies)
    for path in ("/", "/tickets/1", "/messages/1/text", "/login"):
        elsewhere.frames = f"{address}{path}"
        page = context.new_page()
        page.goto(elsewhere.url)
        page.wait_for_load_state("networkidle")
        assert page.frames[1].url.startswith("chrome-error:"), path
    context.close()


def test_scripts_see_no_cookie_and_nothing_of_the_customers_is_kept(
    app_context: AppContext, seat: Take
) -> None:
    open_ticket(app_context, make_mail(SECRET))
    page = seat().sign_in().page
    page.goto("/tickets/1")
    assert page.evaluate("document.cookie") == ""
    kept = page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert "only the desk" not in kept
    assert page.evaluate("indexedDB.databases()") == page.evaluate("caches.keys()") == []
    assert all(c["httpOnly"] and c["sameSite"] == "Lax" for c in page.context.cookies())


def test_going_back_after_signing_out_shows_nothing(
    app_context: AppContext, browser: Browser, address: str
) -> None:
    """In a browser that keeps pages whole for going back, as people's do.

    Playwright switches that off.
    """
    open_ticket(app_context, make_mail(SECRET))
    as_people_have_it = browser.browser_type.launch(
        executable_path=CHROMIUM,
        args=SWITCHES,
        ignore_default_args=["--disable-back-forward-cache"],
    )
    page = BrowserUser(as_people_have_it, address, app_context).sign_in().page
    page.goto("/tickets/1")
    expect(page.get_by_role("main")).to_contain_text(SECRET)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    for _ in range(2):
        page.evaluate("history.back()")
        expect(page).to_have_url(re.compile("/login"))
        assert SECRET not in page.content()
    as_people_have_it.close()
