"""The pictures of the README, made from the fortnight: `make pictures`."""

import os
from collections.abc import Callable

import pytest

from tests.acceptance.browser import fortnight
from tests.acceptance.browser.browser import IMAGES, NARROW, WIDE, BrowserUser
from tests.acceptance.browser.fortnight import ME
from tests.support.context import HandClock
from workflow.context import AppContext
from workflow.models.states import Role
from workflow.settings.settings import Settings

MOST_BYTES = 200 * 1000
RECAP = (
    "We sent the three claims again with their authorization numbers.\nBlue Shield expects to pay"
    " them by March 20."
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(
        update={"desk_lead": "Priya Nair", "fallback_supervisor": "Marcus Webb"}
    )


@pytest.mark.skipif(
    not os.environ.get("INTAKE_PICTURES"), reason="pictures are made by `make pictures`"
)
def test_the_pictures_of_the_readme(
    app_context: AppContext, clock: HandClock, seat: Callable[..., BrowserUser]
) -> None:
    numbers = fortnight.fill(app_context, clock)
    ann = seat().sign_in(Role.LEAD, ME)
    page = ann.page

    def compose() -> None:
        page.get_by_label("Text", exact=True).fill(
            f"Hello Ruby,\n\n{RECAP}\n\nAnn Lee\nBilling Support"
        )

    def phone() -> None:
        page.get_by_label("Description").fill(
            "Ruby calls: the refund check of February came back. New address?"
        )
        page.get_by_label("Subject").fill("Refund check came back")
        page.get_by_label("Callback number").fill("555-0119")
        page.get_by_label("Ruby Chen", exact=True).check()

    pictures: dict[str, tuple[str, Callable[[], object]]] = {
        "queue": ("/", lambda: None),
        "ticket": (f"/tickets/{numbers.rich}", lambda: None),
        "compose": (
            f"/tickets/{numbers.rich}/answer?text=Billing+Support+Recap+of+Resolution",
            compose,
        ),
        "dashboard": ("/dashboard", lambda: None),
        "operations": ("/operations", lambda: None),
        "phone-form": ("/companies/1/add-ticket", phone),
    }
    for name, (path, prepare) in pictures.items():
        for suffix, window in (("", WIDE), ("-360", NARROW)):
            page.set_viewport_size(window)
            page.goto(path, wait_until="networkidle")
            prepare()
            page.evaluate("document.activeElement.blur()")
            page.evaluate("scrollTo(0, 0)")
            ann.save_screenshot(name + suffix)
            assert (IMAGES / f"{name}{suffix}.png").stat().st_size < MOST_BYTES, name
