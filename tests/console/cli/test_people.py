"""People on the desk by the command line: what somebody has is handed over."""

from tests.support.command import Intake
from tests.support.context import create_company, create_staff
from workflow.context import AppContext


def test_what_somebody_has_is_handed_over(at_home: AppContext, intake: Intake) -> None:
    with at_home.store.transaction() as session:
        create_staff(session, "Lea")
        create_company(session, "Elm Dental", manager=create_staff(session, "Dan"))
    assert intake("user", "hand-over", "Dan", "Lea").output == (
        "Lea has taken over from Dan: 1 company as its manager\n"
    )
    assert "nobody on the desk" in intake("user", "hand-over", "Nobody", "Lea", code=1).output
    assert "choose a colleague" in intake("user", "hand-over", "Dan", "Dan", code=1).output
