"""A seat at the desk: a real browser in front of a real server, watched for what no page may do."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    Response,
    expect,
)
from waitress.server import create_server

from tests.support.signed_in_client import PASSWORD, invite
from workflow.context import AppContext
from workflow.models.states import Role

# Milliseconds after which a page hangs: a busy machine takes seconds for what takes none otherwise.
HANG_LIMIT = 60_000
expect.set_options(timeout=HANG_LIMIT)
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
MAX_PAGE_BYTES = (
    300 * 1000
)  # of a page with everything it loads, Bootstrap's files apart: they are cached
IMAGES = Path(__file__).parents[3] / "docs" / "images"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
_SIDEWAYS = """() => {
  const root = document.documentElement;
  const over = root.scrollWidth - root.clientWidth;
  const clipped = (e) => e.closest(".table-responsive, dialog:not([open])");
  const wide = over <= 0 ? [] : [...document.querySelectorAll("body *")].filter(
    (e) => e.getBoundingClientRect().right > root.clientWidth + 1 && !clipped(e));
  return [over, wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 200)).join(" | ")];
}"""
_FOCUSED = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return "";
  return e.labels?.[0]?.textContent.trim() || e.ariaLabel || e.textContent.trim()
    || e.name || e.tagName;
}"""
# Marked by an outline or a shadow, its middle neither outside the window nor under something else.
_SHOWS_FOCUS = """() => {
  const e = document.activeElement;
  if (!e || e === document.body) return false;
  if (e.tagName === "IFRAME") return true;
  const style = getComputedStyle(e);
  const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const marked = outlined || style.boxShadow !== "none";
  const box = [...e.getClientRects()].find((r) => r.width && r.height) ?? e.getBoundingClientRect();
  const at = document.elementFromPoint(
    Math.min(box.left + box.width / 2, innerWidth - 1),
    Math.min(Math.max(box.top, 0) + 4, innerHeight - 1));
  const labelled = at && [...(e.labels ?? [])].some((l) => l.contains(at));
  const seen = at && (e.contains(at) || at.contains(e) || labelled);
  const inside = box.right > 0 && box.left < innerWidth
    && box.bottom > 0 && box.top < innerHeight;
  return Boolean(marked && seen && inside);
}"""


@contextmanager
def serve(app: Flask | Callable[..., Any]) -> Iterator[str]:
    """The app on a port of its own; its address."""
    server = create_server(app, host="127.0.0.1", port=0, threads=4)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.effective_port}"
    finally:
        server.close()
        server.task_dispatcher.shutdown()
        thread.join(5)


class BrowserUser:
    """A person's browser.

    `faults` are script errors, breaches of the content policy, and requests to other hosts.
    """

    def __init__(
        self, browser: Browser, address: str, app_context: AppContext, **context: Any
    ) -> None:
        self.app_context, self.address = app_context, address
        # Nothing moves: colours are measured, and a button is where it was a moment ago.
        usual = {"base_url": address, "viewport": WIDE, "reduced_motion": "reduce"}
        self.context: BrowserContext = browser.new_context(**usual | context)
        self.context.set_default_timeout(HANG_LIMIT)
        self.faults: list[str] = []
        self._answers: list[Response] = []
        self.page = self.open()

    def open(self) -> Page:
        """Another tab."""
        page = self.context.new_page()
        page.on("console", self._record_console_message)
        page.on("pageerror", lambda e: self.faults.append(f"script: {e}"))
        page.on("request", self._is_ours)
        page.on("response", self._has)
        return page

    def goto(self, path: str) -> int:
        """Go to a page and return how many bytes it took until it had loaded."""
        self._answers.clear()
        self.page.goto(path)
        ours = [
            a for a in self._answers if "/bootstrap/" not in a.url and not a.url.startswith("data:")
        ]
        return sum(a.request.sizes()["responseBodySize"] for a in ours)

    def _record_console_message(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(
            "Failed to load resource"
        ):  # _has knows better
            self.faults.append(f"console: {message.text}")

    def _has(self, answer: Response) -> None:
        self._answers.append(answer)
        if answer.status >= 500 or (
            answer.status >= 400 and not answer.request.is_navigation_request()
        ):
            self.faults.append(f"{answer.status}: {urlsplit(answer.url).path}")

    def _is_ours(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if (
            parts.scheme not in {"data", "blob", "about"}
            and f"{parts.scheme}://{parts.netloc}" != self.address
        ):
            self.faults.append(f"loads from elsewhere: {parts.scheme}://{parts.netloc}")

    def sign_in(self, role: Role = Role.AGENT, name: str = "Ann Lee") -> "BrowserUser":
        """Come in as a new person: by the link, then by address and password."""
        email = f"{name.split(maxsplit=1)[0].casefold()}@pmb.example"
        self.page.goto(f"/join/{invite(self.app_context, name, role)}")
        self.page.get_by_label("Your name").fill(name)
        self.page.get_by_label("Mail address").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_label("Repeat the password").fill(PASSWORD)
        self.page.get_by_role("button", name="Create the account").click()
        self.page.get_by_label("Email").fill(email)
        self.page.get_by_label("Password", exact=True).fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url(f"{self.address}/")
        return self

    def check(self, *, rules: list[str] | None = None) -> None:
        """Check the page: no accessibility violation, no scrolling sideways, no fault.

        `rules` are those of axe-core to check; None checks all that we hold.
        """
        only = {"type": "rule", "values": rules} if rules else {"type": "tag", "values": RULES}
        result = Axe().run(self.page, options={"runOnly": only, "resultTypes": ["violations"]})
        violations = [
            f"{v['id']}: {v['help']}: {[n['html'][:160] for n in v['nodes'][:3]]}"
            for v in result.response["violations"]
        ]
        assert not violations, f"{self.page.url}: {violations}"
        self.check_width()
        assert not self.faults, self.faults

    def check_width(self) -> None:
        """No scrolling sideways."""
        wide, cause = self.page.evaluate(_SIDEWAYS)
        assert wide <= 0, f"{self.page.url} is {wide} pixels wider than the window: {cause}"

    def open_everything(self) -> None:
        """Unfold what the page keeps folded: it has to be as good as the rest."""
        self.page.evaluate(
            "document.querySelectorAll('details:not([open])').forEach(d => { d.open = true })"
        )

    def get_focused_label(self) -> str:
        """Return label, text or name of the element with the focus; "" where nothing has it."""
        return str(self.page.evaluate(_FOCUSED))

    def is_focus_visible(self) -> bool:
        """Return whether a person can see which element has the focus."""
        return bool(self.page.evaluate(_SHOWS_FOCUS))

    def save_screenshot(self, name: str) -> None:
        """Keep a screenshot for the README, where that is asked for (INTAKE_PICTURES=1)."""
        if os.environ.get("INTAKE_PICTURES"):
            IMAGES.mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(IMAGES / f"{name}.png"))
