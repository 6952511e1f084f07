"""Plans of what follows from opening a ticket and from its milestones."""

import pytest

from workflow import process
from workflow.models.core import Contact
from workflow.process import Milestone, Stage, Template
from workflow.tickets import transitions
from workflow.tickets.transitions import (
    MailDue,
    MilestoneReached,
    Opened,
    Situation,
    StageEntered,
    SurveyDue,
    TaskDue,
)

ANN, BOB = Contact(email="ann@practice.example"), Contact(email="bob@practice.example")


def list_entered_stages(changes: list[transitions.Change]) -> list[Stage]:
    return [change.step.stage for change in changes if isinstance(change, StageEntered)]


@pytest.mark.parametrize(
    ("is_oversized", "template"), [(False, Template.NOTICE), (True, Template.OVERSIZED)]
)
def test_a_new_ticket_waits_for_the_notices_to_all_who_may_get_one(
    *, is_oversized: bool, template: Template
) -> None:
    obstacles = {ANN: "", BOB: "our own address"}
    changes = list(
        transitions.open_ticket(Situation(lambda: obstacles), "delivery 1", oversized=is_oversized)
    )
    assert changes[0] == Opened("delivery 1")
    assert changes[2:] == [MailDue(template, ANN)]
    assert list_entered_stages(changes) == [Stage.SUBMITTED]


@pytest.mark.parametrize(
    ("obstacles", "reason"), [({}, "no address"), ({BOB: "our own address"}, "our own address")]
)
def test_a_new_ticket_whose_customer_gets_no_notice_moves_on_with_a_task(
    obstacles: dict[Contact, str], reason: str
) -> None:
    changes = list(transitions.open_ticket(Situation(lambda: obstacles), "delivery 1"))
    assert TaskDue("tell-customer", "tell the customer by other means", reason) in changes
    (reached,) = (change for change in changes if isinstance(change, MilestoneReached))
    assert (reached.milestone, reached.note) == (
        Milestone.CUSTOMER_NOTIFIED,
        f"not possible: {reason}",
    )
    assert list_entered_stages(changes) == [Stage.SUBMITTED, Stage.IN_PROGRESS]
    assert not any(isinstance(change, MailDue) for change in changes)


def test_the_last_milestone_takes_a_ticket_through_all_stages_it_waited_for() -> None:
    waiting = Situation(dict, Stage.IN_PROGRESS, frozenset(Milestone) - {Milestone.FOLLOW_UP_SENT})
    changes = list(transitions.reach(waiting, Milestone.FOLLOW_UP_SENT, by="Olga", cause="page"))
    assert list_entered_stages(changes) == [Stage.AUDIT, Stage.COMPLETED]
    assert isinstance(changes[-1], SurveyDue)
    again = Situation(dict, Stage.AUDIT, frozenset(Milestone))
    assert not list(transitions.reach(again, Milestone.FOLLOW_UP_SENT, by="Olga", cause="page"))


def test_a_ticket_that_is_not_open_keeps_its_stage() -> None:
    closed = Situation(dict, Stage.IN_PROGRESS, is_open=False)
    changes = transitions.reach(closed, Milestone.FOLLOW_UP_SENT, by="Olga", cause="page")
    assert [type(change) for change in changes] == [MilestoneReached]


def test_another_process_table_changes_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    without_notice = (
        process.Step(Stage.SUBMITTED, None, (Milestone.FOLLOW_UP_SENT,)),
        *process.STEPS[1:],
    )
    monkeypatch.setattr(process, "STEPS", without_notice)
    changes = list(transitions.open_ticket(Situation(lambda: {ANN: ""}), "delivery 1"))
    assert changes == [Opened("delivery 1"), StageEntered(without_notice[0], "rule", "delivery 1")]
