"""What follows when a ticket is opened, reaches a milestone or enters a stage: a plan of changes.

The process table decides, without a database. `Desk` applies a plan to the ticket of a session;
filing in bulk makes rows of it for many new tickets.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from workflow import process
from workflow.audit.record import RULE
from workflow.models.core import Contact
from workflow.process import Milestone, Stage, Step, Template

NO_ADDRESS_REASON = "no address"
# The task where no mail can reach the customer: its text and its kind.
NOTIFY_TASK, NOTIFY_TASK_KIND = "tell the customer by other means", "tell-customer"


@dataclass(frozen=True, slots=True)
class Situation:
    """Where a ticket stands, as far as it decides what follows.

    `find_obstacles` returns for each contact who may get mail about the ticket why no automatic
    mail may go there now, "" where it may; it is called when a mail is due.
    """

    find_obstacles: Callable[[], Mapping[Contact, str]]
    stage: Stage = process.STEPS[0].stage
    reached: frozenset[Milestone] = frozenset()
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Opened:
    """The ticket is opened: the first change of each."""

    cause: str
    by: str = RULE
    action = "opened"

    @property
    def detail(self) -> dict[str, Any]:
        """Return the numbers and words of the audit row."""
        return {}


@dataclass(frozen=True, slots=True)
class StageEntered:
    """The ticket enters a stage."""

    step: Step
    by: str
    cause: str
    action = "stage"

    @property
    def detail(self) -> dict[str, Any]:
        """Return the numbers and words of the audit row."""
        return {"stage": self.step.stage.name}


@dataclass(frozen=True, slots=True)
class MilestoneReached:
    """A milestone is recorded; `note` says why it counts although nothing was sent."""

    milestone: Milestone
    by: str
    cause: str
    note: str = ""
    action = "reached"

    @property
    def detail(self) -> dict[str, Any]:
        """Return the numbers and words of the audit row."""
        return {"milestone": self.milestone.name}


@dataclass(frozen=True, slots=True)
class MailDue:
    """An automatic mail is queued for a contact."""

    template: Template
    contact: Contact


@dataclass(frozen=True, slots=True)
class SurveyDue:
    """A survey is queued for the customer, unless they had one lately."""


@dataclass(frozen=True, slots=True)
class TaskDue:
    """A person gets a task, once a period for each kind."""

    kind: str
    text: str
    cause: str


Change = Opened | StageEntered | MilestoneReached | MailDue | SurveyDue | TaskDue


def open_ticket(
    situation: Situation, cause: str, *, oversized: bool = False, no_notice_reason: str = ""
) -> Iterator[Change]:
    """Yield what follows from opening a ticket.

    `oversized` says that its mail could not be kept; `no_notice_reason` why nobody needs a notice,
    "" where the customer does.
    """
    yield Opened(cause)
    first = process.STEPS[0]
    if no_notice_reason:
        yield from _enter(situation, replace(first, on_entry=None), RULE, cause)
        note = f"not needed: {no_notice_reason}"
        yield from reach(situation, Milestone.CUSTOMER_NOTIFIED, by=RULE, cause=note, note=note)
        return
    notice = Template.OVERSIZED if oversized else first.on_entry
    yield from _enter(situation, replace(first, on_entry=notice), RULE, cause)


def reach(
    situation: Situation, milestone: Milestone, *, by: str, cause: str, note: str = ""
) -> Iterator[Change]:
    """Yield what follows from a milestone; nothing where it was recorded before."""
    if milestone in situation.reached:
        return
    yield MilestoneReached(milestone, by, cause, note)
    reached = replace(situation, reached=situation.reached | {milestone})
    yield from move_on(reached, by, f"reached {milestone}")


def move_on(situation: Situation, by: str, cause: str) -> Iterator[Change]:
    """Yield what follows from the milestones a ticket has; nothing unless it is open."""
    if situation.is_open:
        for step in process.list_next_steps(situation.stage, situation.reached):
            yield from _enter(situation, step, by, cause)


def describe_unnotified(reason: str) -> str:
    """Return the note of a milestone "Customer notified" for which no notice could be sent."""
    return f"not possible: {reason}"


def _enter(situation: Situation, step: Step, by: str, cause: str) -> Iterator[Change]:
    yield StageEntered(step, by, cause)
    if step.on_entry is Template.SURVEY:
        yield SurveyDue()
    elif step.on_entry is not None:
        entered = replace(situation, stage=step.stage, is_open=bool(step.waits_for))
        yield from _notify(entered, step.on_entry)


def _notify(situation: Situation, template: Template) -> Iterator[Change]:
    """Yield a mail to each contact who may get one, or else a task and the milestone for it."""
    obstacles = situation.find_obstacles()
    able = [contact for contact, reason in obstacles.items() if not reason]
    for contact in able:
        yield MailDue(template, contact)
    if not able:
        reason = next(iter(obstacles.values()), NO_ADDRESS_REASON)
        yield TaskDue(NOTIFY_TASK_KIND, NOTIFY_TASK, reason)
        note = describe_unnotified(reason)
        yield from reach(situation, Milestone.CUSTOMER_NOTIFIED, by=RULE, cause=note, note=note)
