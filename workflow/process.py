"""The process of a billing support ticket as a table (operations manual).

Stages, milestones, mails and deadlines, in the manual's order and words.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise

QUEUE_NAME = "PMB Support Unassigned/Open Tickets"  # a query: open and no owner
PIPELINE = "Service Pipeline 2 [Blitz/FTE, Billing Support, WC/Auto]"
TICKET_TYPE = "Billing Issue"
TICKET_NAME = "Support – {company}"
UNKNOWN_COMPANY = "Unknown"


class Stage(StrEnum):
    """Stage of a ticket.

    Stages 2 and 3 belong to other ticket types of the shared pipeline.
    """

    SUBMITTED = "1-Submitted"
    IN_PROGRESS = "4-In Progress"
    AUDIT = "5-Audit"
    COMPLETED = "6-Completed"


class Milestone(StrEnum):
    """A required step, recorded once with who and when."""

    CUSTOMER_NOTIFIED = "Customer notified"
    FOLLOW_UP_SENT = "4-Support Follow Up Sent"
    RESOLVED = "Resolution"
    RECAP_SENT = "5-Recap of Resolution Sent"


class Template(StrEnum):
    """A mail we send: the value is the manual's name, the member name the file in templates/."""

    NOTICE = "Billing Support New Ticket"
    RECAP = "Billing Support Recap of Resolution"
    SURVEY = "Billing Support Survey"
    OVERSIZED = "Billing Support Message Too Large"
    TASK = "Billing Support Task"  # to a person of the desk
    ANSWER = "Billing Support Answer"


class Person(StrEnum):
    """The person who gets a task."""

    OWNER = "the ticket owner"
    MANAGER = "the Manager on the Company record"


@dataclass(frozen=True)
class Step:
    """A stage: what is sent on entering it, and what it waits for."""

    stage: Stage
    on_entry: Template | None
    waits_for: tuple[Milestone, ...]


@dataclass(frozen=True)
class Deadline:
    """A milestone not recorded within this time of the ticket's creation raises a task."""

    milestone: Milestone
    within: timedelta
    person: Person
    task: str


STEPS = (
    Step(Stage.SUBMITTED, Template.NOTICE, (Milestone.CUSTOMER_NOTIFIED,)),
    Step(Stage.IN_PROGRESS, None, (Milestone.FOLLOW_UP_SENT,)),
    Step(Stage.AUDIT, None, (Milestone.RESOLVED, Milestone.RECAP_SENT)),
    Step(Stage.COMPLETED, Template.SURVEY, ()),
)

DEADLINES = (
    Deadline(
        Milestone.FOLLOW_UP_SENT, timedelta(days=2), Person.OWNER, "follow up with the customer"
    ),
    Deadline(Milestone.RESOLVED, timedelta(days=3), Person.MANAGER, "escalate the ticket"),
)

# Recorded when the mail of their stage is sent: they have no box to tick.
RECORDED_BY_RULE = frozenset({Milestone.CUSTOMER_NOTIFIED})
# A property with Yes or No; every other milestone is a box to tick.
PROPERTY_MILESTONES = frozenset({Milestone.RESOLVED})

# Mails that a person writes, as opposed to automatic mail.
WRITTEN_BY_PERSON = frozenset({Template.ANSWER, Template.RECAP})

# A reply to a completed ticket reopens it at this stage, with new deadlines.
REOPENING_STAGE = Stage.IN_PROGRESS


def get_step(stage: Stage) -> Step:
    """Return the row of a stage."""
    return next(s for s in STEPS if s.stage is stage)


def list_missing(stage: Stage, reached: Iterable[Milestone]) -> list[Milestone]:
    """Return what this stage still waits for, in the manual's order."""
    done = set(reached)
    return [m for m in get_step(stage).waits_for if m not in done]


def list_next_steps(stage: Stage, reached_milestones: Iterable[Milestone]) -> list[Step]:
    """Return the stages that a ticket enters from here, in order.

    Empty when a milestone is missing, several when milestones were recorded early.
    """
    done = set(reached_milestones)
    next_steps = []
    for step, following in pairwise(STEPS):
        if step.stage is stage and not list_missing(stage, done):
            next_steps.append(following)
            stage = following.stage
    return next_steps


def list_boxes() -> list[Milestone]:
    """Return the milestones that a person ticks, in the manual's order."""
    without_box = RECORDED_BY_RULE | PROPERTY_MILESTONES
    return [m for s in STEPS for m in s.waits_for if m not in without_box]


def list_implied(stage: Stage) -> tuple[Milestone, ...]:
    """Return the milestones of the stages before this one: a ticket at this stage has them."""
    before = STEPS[: [s.stage for s in STEPS].index(stage)]
    return tuple(m for s in before for m in s.waits_for)


def list_carried_on_reopening() -> tuple[Milestone, ...]:
    """Return the milestones that stay recorded when a ticket is reopened."""
    return list_implied(REOPENING_STAGE)


_CONDITIONS = {  # as in the column "Moves on when"
    Milestone.CUSTOMER_NOTIFIED: "that notice has been sent, or recorded as not possible",
    Milestone.FOLLOW_UP_SENT: "box **4-Support Follow Up Sent** is ticked",
    Milestone.RESOLVED: "**Resolution** = Yes",
    Milestone.RECAP_SENT: "box **5-Recap of Resolution Sent** is ticked",
}


def describe_milestone(milestone: Milestone) -> str:
    """Return the condition that a milestone is recorded, in words for people."""
    return _CONDITIONS.get(milestone, f"box **{milestone}** is ticked").replace("**", "")


def render_markdown() -> str:
    """Return the process as Markdown tables, as `intake process` prints and the README shows it."""
    rows = ["| Stage | On entering it | Moves on when |", "|---|---|---|"]
    for s in STEPS:
        sends = f"sends *{s.on_entry}*" if s.on_entry else "—"
        conditions = " and ".join(_CONDITIONS[m] for m in s.waits_for)
        rows.append(f"| {s.stage} | {sends} | {conditions or '—'} |")
    rows += [
        "",
        "| Unless recorded | within (of the ticket's creation) | this person | gets this task |",
        "|---|---|---|---|",
    ]
    rows += [f"| {d.milestone} | {d.within.days} days | {d.person} | {d.task} |" for d in DEADLINES]
    return "\n".join(rows)
