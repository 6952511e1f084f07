"""Commands: every change that a person can make to a ticket, with its rules in one place.

A command is a frozen dataclass. Its class says what it is called, which right it takes, in which
states of a ticket it is allowed, whether it can be undone, and whether somebody is asked again when
others have changed the ticket since it was seen. Its handler says what else has to hold and what
the answer is. Pages, queue, API and command line only build commands and show the answer.

`Actions.perform` checks, carries out, and records audit and undo. Handlers that need more than this
package (corrections of a filing, mail, deliveries read again) stand beside what they need and are
handed to `Actions`; `console.perform` puts them together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from sqlalchemy.orm import Session

from workflow import process
from workflow.customers import directory, records
from workflow.database.engine import Store
from workflow.errors import (
    ActionNotAllowed,
    ChangedSinceSeen,
    NotPermitted,
    VersionMismatch,
    WrongStatus,
)
from workflow.models.core import Company, Staff, Task, Ticket
from workflow.models.states import Role, Status, Verdict
from workflow.permissions import RIGHTS_BY_ROLE, Right, describe_missing_right, may
from workflow.process import Milestone, Stage
from workflow.tickets import notes, presence, relations, undo
from workflow.tickets.desk import NO, YES, Desk, get_ticket

LONGEST_REASON = 500  # characters of a reason, or of a note how something was done
MOST_AT_ONCE = 200  # tickets of one bulk operation

ANY_STATUS = frozenset(Status)
IN_PROCESS = frozenset({Status.OPEN, Status.COMPLETED})
OPEN_ONLY = frozenset({Status.OPEN})
ENDED = ANY_STATUS - OPEN_ONLY


# -- who asks, and what they have seen ----


@dataclass(frozen=True)
class Actor:
    """The person or program that asks for a change, and the rights it has."""

    name: str
    rights: frozenset[Right]
    email: str = ""
    staff_id: int | None = None  # None: an operator at the shell who is not on the desk

    @classmethod
    def person(cls, staff: Staff, rights: frozenset[Right] | None = None) -> Self:
        """Return somebody on the desk; with fewer `rights` where a token has fewer."""
        rights_held = (
            RIGHTS_BY_ROLE[staff.role] if rights is None else RIGHTS_BY_ROLE[staff.role] & rights
        )
        return cls(staff.name, rights_held, staff.email, staff.id)

    @classmethod
    def operator(cls, name: str, staff: Staff | None = None) -> Self:
        """Return the person at the shell of this machine: an administrator, whatever their role."""
        rights = RIGHTS_BY_ROLE[Role.ADMIN]
        if staff is None:
            return cls(name, rights)
        return cls(staff.name, rights, staff.email, staff.id)


@dataclass(frozen=True)
class SeenVersion:
    """The caller saw the ticket at this audit row, and is asked again about later ones."""

    version: int


@dataclass(frozen=True)
class ExactVersions:
    """The caller insists that the ticket is at one of these audit rows (If-Match)."""

    versions: frozenset[int]


@dataclass(frozen=True)
class SeenOwner:
    """The caller saw the ticket in a list, with this owner."""

    owner_id: int | None


Expectation: TypeAlias = SeenVersion | ExactVersions | SeenOwner | None


# -- the commands ----


@dataclass(frozen=True)
class Command:
    """A change that somebody asks for. The class holds its rules, the instance what is asked.

    Fields of free text may hold patient data and are left out of the repr.
    """

    label: ClassVar[str]  # an infinitive, for "Still …?" and for the undo button
    right: ClassVar[Right] = Right.WORK
    statuses: ClassVar[frozenset[Status]] = IN_PROCESS
    undoable: ClassVar[bool] = True
    asks_again: ClassVar[bool] = True

    @property
    def other_ticket(self) -> int | None:
        """The number of a second ticket that it changes; an undo puts that one back, too."""
        return None


@dataclass(frozen=True)
class Assign(Command):
    """Give the ticket to its owner."""

    owner_id: int
    label = "assign the ticket"


@dataclass(frozen=True)
class Tick(Command):
    """Tick a box of the process; `note` says how it was done, for the record."""

    milestone: Milestone
    note: str = field(default="", repr=False)
    label = "tick the box"


@dataclass(frozen=True)
class FollowUp(Tick):
    """Tick 4-Support Follow Up Sent."""

    milestone: Milestone = Milestone.FOLLOW_UP_SENT


@dataclass(frozen=True)
class Untick(Command):
    """Untick a box. The ticket stays at its stage."""

    milestone: Milestone
    label = "untick the box"


@dataclass(frozen=True)
class Resolve(Command):
    """Set the property Resolution."""

    yes: bool
    label = f"set {Milestone.RESOLVED}"


@dataclass(frozen=True)
class MoveBack(Command):
    """Move the ticket back to an earlier stage."""

    stage: Stage
    reason: str = field(repr=False)
    label = "move the ticket back"


@dataclass(frozen=True)
class Reopen(Command):
    """Take an ended ticket up again."""

    reason: str = field(repr=False)
    label = "reopen the ticket"
    statuses = ENDED


@dataclass(frozen=True)
class CloseAsSpam(Command):
    """Close the ticket as spam."""

    reason: str = field(repr=False)
    label = "close the ticket"
    statuses = OPEN_ONLY


@dataclass(frozen=True)
class Withdraw(Command):
    """Close the ticket as withdrawn by the customer."""

    reason: str = field(repr=False)
    label = "close the ticket"
    statuses = OPEN_ONLY


@dataclass(frozen=True)
class Merge(Command):
    """End the ticket as a duplicate of another; `across_companies` confirms two customers."""

    into: int
    across_companies: bool = False
    label = "merge the ticket"

    @property
    def other_ticket(self) -> int | None:
        """The ticket that goes on."""
        return self.into


@dataclass(frozen=True)
class HandToTelemedicine(Command):
    """Task the telemedicine specialist or group; the owner stays owner."""

    label = "hand over"


@dataclass(frozen=True)
class FinishTask(Command):
    """Say that a task of the ticket is done."""

    task_id: int
    label = "finish the task"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class ReopenTask(Command):
    """Open a task again that was closed too soon."""

    task_id: int
    label = "open the task again"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class AddNote(Command):
    """Put a note on the timeline that only the desk sees."""

    text: str = field(repr=False)
    label = "add the note"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class Settle(Command):
    """Say that a caveat of the ticket was asked about."""

    caveat: str = field(repr=False)
    label = "take it off the list"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class Relate(Command):
    """Say what another ticket is to this one: linked, unrelated, or not decided yet."""

    other: int
    verdict: Verdict
    label = "mark the related ticket"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class MarkWrittenByPerson(Command):
    """Correct a judgement: a person wrote this message (0: the newest that was judged)."""

    message_id: int = 0
    label = "have it count as a person's"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class MarkAutomatic(Command):
    """Say that a program sent this message (0: the customer's newest)."""

    message_id: int = 0
    label = "have it count as automatic"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class UseSender(Command):
    """Make the sender of a message the contact, in place of the customer it was taken for.

    `message_id` 0 is the newest message that somebody else sent (`parsers.item.Route`).
    """

    message_id: int = 0
    label = "make the sender the contact"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class UseNearCompany(Command):
    """Take a company that the ticket's practice perhaps is (0: the nearest) for its company."""

    company_id: int = 0
    label = "take the company"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class CreateNamedCompany(Command):
    """Put the practice that the ticket names on record, because it is none of those near to it."""

    label = "put the practice on record"
    statuses = ANY_STATUS
    asks_again = False


@dataclass(frozen=True)
class SplitMessage(Command):
    """Make a customer's message a ticket of its own (0: the newest); with `notify`, with a notice.

    Its files go with it, and so do later answers to it.
    """

    message_id: int = 0
    notify: bool = False
    label = "make the message a ticket of its own"


@dataclass(frozen=True)
class FileSeparately(Command):
    """Open a ticket of a delivery that was taken for a duplicate (0: the newest such delivery)."""

    delivery_id: int = 0
    label = "make it a ticket of its own"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class AttachedFile:
    """A file that goes with a mail. `name` is safe to store and send."""

    name: str
    mime: str
    content: bytes = field(repr=False)


@dataclass(frozen=True)
class SendRecap(Command):
    """Send the recap mail to the ticket's contacts; its box is ticked once it is sent."""

    text: str = field(default="", repr=False)
    template: str = ""  # the name of a canned response; "" takes the recap's fixed words
    cc: Sequence[str] = ()
    files: Sequence[AttachedFile] = ()
    across_companies: bool = False
    checked: bool = False  # somebody has looked: what seems to be patient data is none
    key: str = ""  # the same key is the same mail, however often it is sent
    label = "send the recap"


@dataclass(frozen=True)
class SendMail(Command):
    """Send a mail that was written on the answer page, in ten seconds.

    `confirmed_content` is the `content_digest` of a mail that seemed to hold patient data, once its
    writer has looked; `confirmed_recipients` the `recipients_digest` of one to two companies, once
    its writer has confirmed them. "" confirms nothing. Changes of others are asked about by the
    page, which shows them beside the mail.
    """

    written_id: int
    confirmed_content: str = ""
    confirmed_recipients: str = ""
    label = "send the mail"
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class UndoSend(Command):
    """Withhold a mail that the actor wrote on the answer page, and make it a draft again."""

    written_id: int
    label = "undo the sending"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


@dataclass(frozen=True)
class Undo(Command):
    """Undo what the actor did to the ticket (None: what they did last)."""

    undo_id: int | None = None
    label = "undo it"
    statuses = ANY_STATUS
    undoable = False
    asks_again = False


# -- carrying them out ----


@dataclass(frozen=True)
class CommandContext:
    """A command being carried out, in a transaction that holds its ticket."""

    desk: Desk
    session: Session
    ticket: Ticket
    actor: Actor
    now: datetime
    preparation: object = None  # what the handler's `prepare` returned


@dataclass(frozen=True)
class HandlerResult:
    """The answer of a handler: what was done, in words that begin a sentence."""

    words: str
    has_changed: bool = True  # False: it was so already, and nothing was recorded
    opened_ticket: int | None = None  # the ticket that it opened, if it opened one


@dataclass(frozen=True)
class Result:
    """The outcome of a command."""

    ticket: int
    words: str
    has_changed: bool
    undo_id: int | None  # what the actor can undo now
    opened_ticket: int | None


C = TypeVar("C", bound=Command)


@dataclass(frozen=True)
class Handler:
    """The functions that carry out a kind of command.

    `prepare` gets the ticket's number and the command, and works before the transaction, so that
    reading a delivery locks nothing.
    """

    handle: Callable[[CommandContext, Any], HandlerResult]
    prepare: Callable[[int, Any], object] | None = None


Handlers: TypeAlias = Mapping[type[Command], Handler]


def make_handler(
    kind: type[C],
    handle: Callable[[CommandContext, C], HandlerResult],
    prepare: Callable[[int, C], object] | None = None,
) -> tuple[type[Command], Handler]:
    """Return an entry of a table of handlers; the types of command and function have to agree."""
    return kind, Handler(handle, prepare)


@dataclass(frozen=True)
class Order:
    """A command for one ticket of a bulk operation."""

    ticket: int
    command: Command
    expectation: Expectation = None


@dataclass
class BulkResult:
    """The outcome of a bulk operation: what was done; the tickets left alone, with the reason."""

    results: list[Result] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)


class Actions:
    """Carries out commands on tickets."""

    def __init__(self, store: Store, desk: Desk, handlers: Handlers) -> None:
        self._store = store
        self._desk = desk
        self._handlers = handlers

    def perform(
        self,
        number: int,
        command: Command,
        *,
        actor: Actor,
        now: datetime,
        expectation: Expectation = None,
    ) -> Result:
        """Carry out a command in a transaction of its own.

        Raises NoSuchTicket; NotPermitted; WrongStatus; ChangedSinceSeen and VersionMismatch where
        the ticket is not as `expectation`; AcrossCompanies where somebody has to confirm that two
        companies come together; ActionNotAllowed with what stands in the way otherwise. Nothing is
        changed then.
        """
        require_right(actor, command.right)
        preparation = self._prepare(number, command)
        with self._store.transaction() as session:
            ticket = get_ticket(session, number)
            return self._carry_out(session, ticket, command, actor, now, expectation, preparation)

    def perform_in(
        self,
        session: Session,
        ticket: Ticket,
        command: Command,
        *,
        actor: Actor,
        now: datetime,
        expectation: Expectation = None,
    ) -> Result:
        """Carry out a command in the caller's transaction.

        Raises as `perform` does; the caller rolls back then, at least to a savepoint of before.
        """
        require_right(actor, command.right)
        preparation = self._prepare(ticket.id, command)
        return self._carry_out(session, ticket, command, actor, now, expectation, preparation)

    def perform_each(self, orders: Sequence[Order], *, actor: Actor, now: datetime) -> BulkResult:
        """Carry out a command for each of many tickets, 200 at most, in one transaction.

        A ticket that refuses is left as it is, and so is one where nothing is to be changed; the
        others go on. Raises NotPermitted.
        """
        result = BulkResult()
        # in the order of their numbers, so that two at once do not wait for each other
        sorted_orders = sorted(orders, key=lambda order: order.ticket)
        for order in sorted_orders[:MOST_AT_ONCE]:
            require_right(actor, order.command.right)
        with self._store.transaction() as session:
            for order in sorted_orders[:MOST_AT_ONCE]:
                try:
                    with session.begin_nested():
                        ticket = get_ticket(session, order.ticket)
                        order_result = self._carry_out(
                            session, ticket, order.command, actor, now, order.expectation, None
                        )
                except ActionNotAllowed as refusal:
                    result.refusals[order.ticket] = str(refusal)
                    continue
                if order_result.has_changed:
                    result.results.append(order_result)
                else:
                    result.refusals[order.ticket] = order_result.words
        result.refusals |= {o.ticket: "too many at once" for o in sorted_orders[MOST_AT_ONCE:]}
        return result

    def _prepare(self, number: int, command: Command) -> object:
        prepare = self._handlers[type(command)].prepare
        return prepare(number, command) if prepare is not None else None

    def _carry_out(  # one step of each of the three above
        self,
        session: Session,
        ticket: Ticket,
        command: Command,
        actor: Actor,
        now: datetime,
        expectation: Expectation,
        preparation: object,
    ) -> Result:
        _require_expected(session, ticket, command, actor, expectation)
        if refusal := find_status_refusal(ticket, command):
            raise WrongStatus(refusal, has_ended=ticket.status not in IN_PROCESS)
        handle = self._handlers[type(command)].handle
        execution = CommandContext(self._desk, session, ticket, actor, now, preparation)
        if not command.undoable:
            result = handle(execution, command)
            return Result(ticket.id, result.words, result.has_changed, None, result.opened_ticket)
        other = session.get(Ticket, command.other_ticket) if command.other_ticket else None
        with undo.record_undo(
            session, ticket, command.label, by=actor.name, now=now, other=other
        ) as recording:
            stage = ticket.stage
            result = handle(execution, command)
            recording.words, recording.opened_ticket = result.words, result.opened_ticket
            if ticket.stage is not stage:
                recording.words += f" – now at {ticket.stage}"
        return Result(
            ticket.id, recording.words, result.has_changed, recording.undo_id, result.opened_ticket
        )


# -- the rules that all commands share ----


def require_right(actor: Actor, right: Right) -> None:
    """Raise NotPermitted where the actor does not have the right."""
    if right not in actor.rights:
        raise NotPermitted(describe_missing_right(right))


def _require_expected(
    session: Session, ticket: Ticket, command: Command, actor: Actor, expectation: Expectation
) -> None:
    """Hold the caller to what they saw. Raises ChangedSinceSeen, VersionMismatch."""
    match expectation:
        case SeenVersion(version) if command.asks_again:
            changes = presence.list_changes(session, ticket.id, version, actor.name)
            if changes:
                raise ChangedSinceSeen([change.id for change in changes])
        case ExactVersions(versions):
            if presence.get_version(session, ticket.id) not in versions:
                raise VersionMismatch
        case SeenOwner(owner_id):
            if ticket.owner_id != owner_id:
                raise ChangedSinceSeen([])


def find_status_refusal(ticket: Ticket, command: Command | type[Command]) -> str:
    """Return why a command is not for a ticket in this status; "" where it is."""
    if ticket.status in command.statuses:
        return ""
    match ticket.status:
        case Status.OPEN:
            return "the ticket is open already"
        case Status.COMPLETED:
            return "the ticket is completed: reopen it, or move it back"
        case Status.MERGED:
            return f"the ticket is merged into #{ticket.merged_into_id}: go on there, or reopen it"
        case _:
            return f"the ticket is closed as {ticket.status}: reopen it first"


def make_one_line(text: str) -> str:
    """Return a text as one line of printable characters.

    Raises ActionNotAllowed where it is longer than a reason may be.
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if len(line) > LONGEST_REASON:
        raise ActionNotAllowed(
            f"that is longer than {LONGEST_REASON} characters: write a note instead"
        )
    return line


def _require_reason(text: str) -> str:
    if not (reason := make_one_line(text)):
        raise ActionNotAllowed("say why, in a few words: the next person has to understand it")
    return reason


def find_box(name: str) -> Milestone:
    """Return the box that a person ticks, by its name on the page or in the code.

    Raises ActionNotAllowed where there is none.
    """
    for milestone in process.list_boxes():
        if name in {milestone.name, milestone.value}:
            return milestone
    raise ActionNotAllowed(f"there is no such box; the boxes: {', '.join(process.list_boxes())}")


def find_stage(name: str) -> Stage:
    """Return a stage by its name on the page or in the code, or by its number alone.

    Raises ActionNotAllowed where there is none.
    """
    for stage in Stage:
        if name in {stage.name, stage.value, stage.value.partition("-")[0]}:
            return stage
    raise ActionNotAllowed(f"no stage is called {name}; the stages: {', '.join(Stage)}")


def require_may_own(person: Staff) -> Staff:
    """Return the person.

    Raises ActionNotAllowed where their role only looks on: nobody would work it.
    """
    if not may(person.role, Right.WORK):
        raise ActionNotAllowed(
            f"{person.name} only looks on ({person.role}): choose somebody who works tickets"
        )
    return person


# -- what each does ----


def _assign(run: CommandContext, command: Assign) -> HandlerResult:
    owner = run.session.get(Staff, command.owner_id)
    if owner is None:
        raise ActionNotAllowed("choose who is to own the ticket")
    require_may_own(owner)
    records.require_present(run.session, owner)
    if run.ticket.owner_id == owner.id:
        return HandlerResult(f"Assigned to {owner.name} already", has_changed=False)
    run.desk.assign(run.session, run.ticket, owner, by=run.actor.name, now=run.now)
    return HandlerResult(f"Assigned to {owner.name}")


def _tick(run: CommandContext, command: Tick) -> HandlerResult:
    milestone, note = _check_box(command.milestone), make_one_line(command.note)
    recorded = run.desk.record_milestone(
        run.session, run.ticket, milestone, by=run.actor.name, now=run.now, note=note
    )
    if not recorded:
        return HandlerResult(f"{milestone} was recorded before", has_changed=False)
    return HandlerResult(f"Ticked {milestone}")


def _untick(run: CommandContext, command: Untick) -> HandlerResult:
    milestone = _check_box(command.milestone)
    if not run.desk.retract_milestone(
        run.session, run.ticket, milestone, by=run.actor.name, now=run.now
    ):
        return HandlerResult(f"{milestone} is not ticked", has_changed=False)
    return HandlerResult(f"Unticked {milestone}")


def _check_box(milestone: Milestone) -> Milestone:
    return find_box(milestone.name)


def _resolve(run: CommandContext, command: Resolve) -> HandlerResult:
    word = YES if command.yes else NO
    if run.ticket.resolution == word:
        return HandlerResult(f"{Milestone.RESOLVED} is {word} already", has_changed=False)
    run.desk.resolve(run.session, run.ticket, yes=command.yes, by=run.actor.name, now=run.now)
    return HandlerResult(f"{Milestone.RESOLVED} set to {word}")


def _move_back(run: CommandContext, command: MoveBack) -> HandlerResult:
    reason = _require_reason(command.reason)
    run.desk.move_back(
        run.session, run.ticket, command.stage, by=run.actor.name, reason=reason, now=run.now
    )
    return HandlerResult("Moved back")


def _reopen(run: CommandContext, command: Reopen) -> HandlerResult:
    reason = _require_reason(command.reason)
    run.desk.reopen(run.session, run.ticket, by=run.actor.name, cause=reason, now=run.now)
    return HandlerResult("Reopened")


def _close_as_spam(run: CommandContext, command: CloseAsSpam) -> HandlerResult:
    return _close(run, Status.SPAM, command.reason)


def _withdraw(run: CommandContext, command: Withdraw) -> HandlerResult:
    return _close(run, Status.WITHDRAWN, command.reason)


def _close(run: CommandContext, status: Status, reason: str) -> HandlerResult:
    reason = _require_reason(reason)
    run.desk.close(run.session, run.ticket, status, by=run.actor.name, reason=reason, now=run.now)
    return HandlerResult(f"Closed as {status}")


def _merge(run: CommandContext, command: Merge) -> HandlerResult:
    into = get_ticket(run.session, command.into)
    run.desk.merge(
        run.session,
        run.ticket,
        into,
        by=run.actor.name,
        now=run.now,
        across_companies=command.across_companies,
    )
    return HandlerResult(f"Merged into #{into.id}")


def _hand_to_telemedicine(run: CommandContext, _: HandToTelemedicine) -> HandlerResult:
    task = run.desk.create_telemedicine_task(
        run.session, run.ticket, by=run.actor.name, now=run.now
    )
    if task is None:
        return HandlerResult("It was handed over before: see its tasks", has_changed=False)
    if run.ticket.owner is None:
        return HandlerResult(f"Task for {task.assignee}")
    return HandlerResult(f"Handed over to {task.assignee}; {run.ticket.owner.name} stays the owner")


def _finish_task(run: CommandContext, command: FinishTask) -> HandlerResult:
    task = _find_task(run, command.task_id)
    if not run.desk.finish_task(run.session, task, by=run.actor.name, now=run.now):
        return HandlerResult("The task is done already", has_changed=False)
    return HandlerResult(f"Task done: {task.text}")


def _reopen_task(run: CommandContext, command: ReopenTask) -> HandlerResult:
    task = _find_task(run, command.task_id)
    if not run.desk.reopen_task(run.session, task, by=run.actor.name, now=run.now):
        return HandlerResult("The task is open already", has_changed=False)
    return HandlerResult(f"Task open again: {task.text}")


def _find_task(run: CommandContext, number: int) -> Task:
    for task in run.ticket.tasks:
        if task.id == number:
            return task
    task_numbers = ", ".join(str(task.id) for task in run.ticket.tasks) or "none"
    raise ActionNotAllowed(
        f"ticket {run.ticket.id} has no task {number}; its tasks: {task_numbers}"
    )


def _add_note(run: CommandContext, command: AddNote) -> HandlerResult:
    actor = run.actor
    notes.add_note(
        run.session, run.ticket, command.text, by=actor.name, email=actor.email, now=run.now
    )
    return HandlerResult("Note added. Only the desk sees it.")


def _settle(run: CommandContext, command: Settle) -> HandlerResult:
    notes.settle_question(run.session, run.ticket, command.caveat, by=run.actor.name, now=run.now)
    return HandlerResult("Settled: it is off the list of what to ask")


RELATION_WORDS = {
    Verdict.LINKED: "Linked with",
    Verdict.UNRELATED: "Not related to",
    Verdict.OPEN: "Possibly related to",
}


def _relate(run: CommandContext, command: Relate) -> HandlerResult:
    has_changed = relations.relate_tickets(
        run.session, run.ticket, command.other, command.verdict, by=run.actor.name, now=run.now
    )
    return HandlerResult(
        f"{RELATION_WORDS[command.verdict]} #{command.other}", has_changed=has_changed
    )


def _use_near_company(run: CommandContext, command: UseNearCompany) -> HandlerResult:
    near = _require_near_companies(run)
    company = near[0]
    if command.company_id:
        chosen = run.session.get(Company, command.company_id)
        lookup = directory.CustomerLookup(run.session)
        chosen = lookup.follow_merge(chosen) if chosen is not None else None
        if chosen not in near:
            numbers = ", ".join(str(one.id) for one in near)
            raise ActionNotAllowed(f"it is perhaps company {numbers}, and no other")
        company = chosen
    records.set_ticket_company(run.session, run.ticket, company, by=run.actor.name, now=run.now)
    return HandlerResult(f"The company is {company.name} now")


def _create_named_company(run: CommandContext, _: CreateNamedCompany) -> HandlerResult:
    _require_near_companies(run)
    ticket, lookup = run.ticket, directory.CustomerLookup(run.session)
    # Another ticket may have put it on record meanwhile.
    company = directory.find_company(lookup, ticket.named_company, ticket.named_number)
    if company is None:
        company = directory.create_company(
            lookup, ticket.named_company, ticket.named_number, run.now
        )
    if company is None:
        raise ActionNotAllowed("that is no name of a practice")
    records.set_ticket_company(run.session, ticket, company, by=run.actor.name, now=run.now)
    return HandlerResult(f"{company.name} is on record")


def _require_near_companies(run: CommandContext) -> list[Company]:
    """Return the companies that a ticket's practice perhaps is, while that is undecided."""
    near = records.list_near_companies(run.session, run.ticket)
    if not near:
        raise ActionNotAllowed("the company of this ticket is not in doubt")
    return near


def _undo(run: CommandContext, command: Undo) -> HandlerResult:
    words = undo.undo_action(
        run.session, run.ticket, command.undo_id, by=run.actor.name, now=run.now
    )
    return HandlerResult(f"Undone: {words}")


HANDLERS: Handlers = dict(
    [
        make_handler(Assign, _assign),
        make_handler(Tick, _tick),
        make_handler(FollowUp, _tick),
        make_handler(Untick, _untick),
        make_handler(Resolve, _resolve),
        make_handler(MoveBack, _move_back),
        make_handler(Reopen, _reopen),
        make_handler(CloseAsSpam, _close_as_spam),
        make_handler(Withdraw, _withdraw),
        make_handler(Merge, _merge),
        make_handler(HandToTelemedicine, _hand_to_telemedicine),
        make_handler(FinishTask, _finish_task),
        make_handler(ReopenTask, _reopen_task),
        make_handler(AddNote, _add_note),
        make_handler(Settle, _settle),
        make_handler(Relate, _relate),
        make_handler(UseNearCompany, _use_near_company),
        make_handler(CreateNamedCompany, _create_named_company),
        make_handler(Undo, _undo),
    ]
)
