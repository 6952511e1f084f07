"""Every command through every caller, against the same situations: all of them answer alike.

Every caller of a command finds the database as it was for the others. What is compared: allowed or
refused, the words of the refusal, the ticket afterwards, the audit rows, and the undo offered.
"""

import ast
import html
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import select
from sqlalchemy.orm import Session

from console.cli.main import cli
from console.pages.tickets.ticket import BUTTONS
from console.perform import get_actions
from parsers import phone_call
from parsers.item import Format
from tests.console.api.test_api import V1
from tests.support.command import Intake
from tests.support.context import reach
from tests.support.signed_in_client import Desk, sign_in_at_desk
from workflow.accounts import api_tokens
from workflow.context import AppContext, open_context
from workflow.customers import records
from workflow.filing.file_item import file_item
from workflow.mail import answer as mail_answer
from workflow.models.core import AuditEntry, Delivery, Filing, Message, Staff, Ticket
from workflow.models.states import DeliveryState, Judgement, Outcome, Role, Status
from workflow.permissions import RIGHTS_BY_ROLE
from workflow.process import Milestone
from workflow.settings.settings import load_settings
from workflow.tickets import actions, merged_messages, notes, presence, relations, undo
from workflow.tickets.actions import Command

CAVEAT = "no phone number given"
OWNER, OTHER_OWNER = "Ann Agent", "Olga Other"
PEOPLE = {
    OWNER: Role.AGENT,
    OTHER_OWNER: Role.AGENT,
    "Lea Lead": Role.LEAD,
    "Ada Admin": Role.ADMIN,
    "Otto Auditor": Role.AUDITOR,
}
SITUATIONS = ("open", "in audit", "completed", "withdrawn", "merged", "spam")
_numbers = count(1)


# -- the places where people act ----


@dataclass
class World:
    """One database with an app over it and everybody signed in, for all tests of this module."""

    context: AppContext
    desks: dict[str, Desk]
    tokens: dict[str, str]
    intake: Intake = field(default_factory=Intake)
    # The database without tickets, and with one as `prepare` makes it.
    empty: sqlite3.Connection = field(init=False)
    prepared: dict[object, tuple["PreparedTicket", sqlite3.Connection]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.empty = self.copy_database()

    def copy_database(self) -> sqlite3.Connection:
        """Return a copy of the database in memory."""
        copy = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(self.context.settings.home / "intake.db")) as database:
            database.backup(copy)
        return copy

    def restore_database(self, copy: sqlite3.Connection) -> None:
        """Make the database what it was when it was copied."""
        with closing(sqlite3.connect(self.context.settings.home / "intake.db")) as database:
            copy.backup(database)

    def close(self) -> None:
        for copy in (self.empty, *(copy for _, copy in self.prepared.values())):
            copy.close()
        self.context.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder: Path = tmp_path_factory.mktemp("actions")
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("INTAKE_")]:
            patch.delenv(name)
        patch.setenv("INTAKE_HOME", str(folder / "home"))
        patch.setenv("INTAKE_CONFIG", str(folder / "intake.toml"))
        Intake()("migrate")
        context = open_context(load_settings())
        desks, tokens = {}, {}
        for name, role in PEOPLE.items():
            desks[name] = sign_in_at_desk(context, role, name)
            with context.store.transaction() as session:
                person = session.scalars(select(Staff).where(Staff.name == name)).one()
                scopes = sorted(RIGHTS_BY_ROLE[role])
                _, tokens[name] = api_tokens.create_token(
                    session, person, "test", scopes, by="test", now=context.clock()
                )
        world = World(context, desks, tokens)
        yield world
        world.close()


# -- a ticket with something for every command ----


@dataclass
class PreparedTicket:
    """A ticket in a situation, and the numbers of what belongs to it."""

    number: int
    other: int
    task: int
    done_task: int
    delivery: int
    owner: int | None
    new_owner: int
    version: int
    first_audit: int


def file_call(context: AppContext, session: Session, raw: bytes) -> Filing:
    content, _ = context.blob_store.store(raw)
    delivery = Delivery(
        transport="console",
        format=Format.PHONE,
        digest=sha256(f"{next(_numbers)}".encode()).hexdigest(),
        content=content,
        size=len(raw),
        envelope={},
        received_at=context.clock(),
        not_before=context.clock(),
        state=DeliveryState.PROCESSED,
    )
    session.add(delivery)
    session.flush()
    (item,) = phone_call.parse(raw)
    return file_item(context.desk, session, item, delivery, 0, context.clock())


def prepare(world: World, situation: str, owner: str, case: "Case", actor: str) -> PreparedTicket:
    """Make the database one with a ticket in a situation, the same for the same arguments."""
    kind = (case.judged, case.routed, case.followed, case.before)
    key = (situation, owner, kind, case.before and actor)
    if key not in world.prepared:
        world.restore_database(world.empty)
        ticket = make_ticket(world, situation, owner, case, actor)
        world.prepared[key] = (ticket, world.copy_database())
    ticket, copy = world.prepared[key]
    world.restore_database(copy)
    return ticket


def make_ticket(
    world: World, situation: str, owner: str, case: "Case", actor: str
) -> PreparedTicket:
    """Make a ticket in a situation."""
    context, n = world.context, next(_numbers)
    email, desk = f"jo@practice{n}.example", context.desk
    call = partial(phone_call.compose, company="", name="Jo", email=email, text="Claim 7 is denied")
    with context.store.transaction() as session:
        raw = call(call_id=f"call-{n}")
        filing = file_call(context, session, raw)
        duplicate = file_call(context, session, raw)
        assert duplicate.outcome is Outcome.DUPLICATE
        other = file_call(context, session, call(call_id=f"other-{n}", text="Claim 8 is denied"))
        assert filing.ticket_id is not None
        assert other.ticket_id is not None
        number, other_number, delivery = filing.ticket_id, other.ticket_id, duplicate.delivery_id
        ticket = session.get_one(Ticket, number)
        ticket.caveats = [CAVEAT]
        tasks = [
            desk.raise_task(session, ticket, kind, f"{kind} it", now=context.clock(), cause="test")
            for kind in ("check", "done")
        ]
        assert tasks[0] is not None
        assert tasks[1] is not None
        desk.finish_task(session, tasks[1], by="Olga", now=context.clock())
        desk.relate(session, ticket, session.get_one(Ticket, other_number), "possibly about it")
        if case.followed:
            more = file_call(context, session, call(call_id=f"more-{n}", text="Claim 9 is denied"))
            message = session.get_one(Message, more.message_id)
            merged_messages.move_message(session, message, number, None)
            session.flush()
            session.expire(ticket, ["messages"])
        if case.judged:
            ticket.messages[0].judgement = Judgement.AUTOMATIC
        if case.routed:
            ticket.messages[0].route = "relay"
            ticket.messages[0].sent_by_email = f"form@practice{n}.example"
            ticket.messages[0].customer_email = email
        person = session.scalar(select(Staff).where(Staff.name == owner))
        if person is not None:
            desk.assign(session, ticket, person, by="Olga", now=context.clock())
        new_owner = session.scalars(select(Staff.id).where(Staff.name == "Lea Lead")).one()
        task, done_task = tasks[0].id, tasks[1].id
    reach(context, number, Milestone.CUSTOMER_NOTIFIED, by="rule")
    match situation:
        case "in audit":
            reach(context, number, Milestone.FOLLOW_UP_SENT)
        case "completed":
            reach(context, number, *Milestone)
        case "withdrawn" | "spam":
            with context.store.transaction() as session:
                desk.close(
                    session,
                    session.get_one(Ticket, number),
                    Status(situation),
                    by="Olga",
                    reason="test",
                    now=context.clock(),
                )
        case "merged":
            with context.store.transaction() as session:
                target = session.get_one(Ticket, other_number)
                ticket = session.get_one(Ticket, number)
                desk.merge(session, ticket, target, by="Olga", now=context.clock())
    if case.before is not None and situation in {"open", "in audit", "completed"}:
        with context.store.read_only() as session:
            person = session.scalars(select(Staff).where(Staff.name == actor)).one()
            acting = actions.Actor.operator(actor, person)
        get_actions(context).perform(number, case.before, actor=acting, now=context.clock())
    with context.store.read_only() as session:
        ticket = session.get_one(Ticket, number)
        return PreparedTicket(
            number=number,
            other=other_number,
            task=task,
            done_task=done_task,
            delivery=delivery,
            owner=ticket.owner_id,
            new_owner=new_owner,
            version=presence.get_version(session, number),
            first_audit=session.scalars(
                select(AuditEntry.id).order_by(AuditEntry.id.desc()).limit(1)
            ).one(),
        )


# -- the commands, as each caller says them ----


@dataclass(frozen=True)
class Case:
    """How the callers ask for a command; None where a caller does not offer it, see ONLY_BY."""

    command: type[Command]
    page: Callable[[PreparedTicket], tuple[str, dict[str, Any]]] | None
    api: Callable[[PreparedTicket], tuple[str, dict[str, Any]]] | None
    shell: Callable[[PreparedTicket], tuple[object, ...]] | None
    queue: Callable[[PreparedTicket], dict[str, Any]] | None = None
    judged: bool = False  # whether its message was taken for an automatic one
    followed: bool = False  # whether another message of its customer came
    routed: bool = False  # whether its message was sent by another than its customer
    before: Command | None = None  # what the actor did to the ticket before


def press_button(
    action: str, **fields: Any
) -> Callable[[PreparedTicket], tuple[str, dict[str, Any]]]:
    """A button of the ticket page; a field that names one of `Prepared` is its number."""

    def form(it: PreparedTicket) -> tuple[str, dict[str, Any]]:
        return f"/tickets/{it.number}/do/{action}", fill_in(fields, it) | {"seen": it.version}

    return form


def call_api(action: str, **fields: Any) -> Callable[[PreparedTicket], tuple[str, dict[str, Any]]]:
    return lambda it: (f"/tickets/{it.number}/{action}", fill_in(fields, it))


def run_command(*words: Any) -> Callable[[PreparedTicket], tuple[object, ...]]:
    return lambda it: tuple(fill_in(dict(enumerate(words)), it).values())


def fill_in(fields: dict[Any, Any], it: PreparedTicket) -> dict[Any, Any]:
    return {name: value(it) if callable(value) else value for name, value in fields.items()}


def get_other(it: PreparedTicket) -> int:
    return it.other


def get_task(it: PreparedTicket) -> int:
    return it.task


def get_done_task(it: PreparedTicket) -> int:
    return it.done_task


BOX = str(Milestone.FOLLOW_UP_SENT)
CASES = (
    Case(
        actions.Assign,
        press_button("assign", owner=lambda it: it.new_owner),
        call_api("assign", owner="Lea Lead"),
        run_command("assign", "Lea Lead"),
        queue=lambda it: {"ticket": f"{it.number}:{it.owner or 0}", "to": it.new_owner},
    ),
    Case(
        actions.Tick,
        press_button("tick", milestone="RECAP_SENT", note="by phone"),
        call_api("tick", milestone=str(Milestone.RECAP_SENT), note="by phone"),
        run_command("recap", "--note", "by phone"),
    ),
    Case(
        actions.FollowUp,
        press_button("tick", milestone="FOLLOW_UP_SENT", note="by phone"),
        call_api("follow-up", note="by phone"),
        run_command("follow-up", "--note", "by phone"),
    ),
    Case(
        actions.Untick,
        press_button("untick", milestone="FOLLOW_UP_SENT"),
        call_api("untick", milestone=BOX),
        run_command("untick", BOX),
    ),
    Case(
        actions.Resolve,
        press_button("resolve", resolution="yes"),
        call_api("resolve", resolution="yes"),
        run_command("resolve", "yes"),
    ),
    Case(
        actions.Resolve,
        press_button("resolve", resolution="no"),
        call_api("resolve", resolution="no"),
        run_command("resolve", "no"),
    ),
    Case(
        actions.MoveBack,
        press_button("move-back", stage="IN_PROGRESS", reason="wrong person"),
        call_api("move-back", stage="4-In Progress", reason="wrong person"),
        run_command("move-back", "4", "--reason", "wrong person"),
    ),
    Case(
        actions.Reopen,
        press_button("reopen", reason="called again"),
        call_api("reopen", reason="called again"),
        run_command("reopen", "--reason", "called again"),
    ),
    Case(
        actions.CloseAsSpam,
        press_button("end", status="spam", reason="an advert"),
        call_api("end", status="spam", reason="an advert"),
        run_command("spam", "--reason", "an advert"),
    ),
    Case(
        actions.Withdraw,
        press_button("end", status="withdrawn", reason="found it"),
        call_api("end", status="withdrawn", reason="found it"),
        run_command("withdraw", "--reason", "found it"),
    ),
    Case(
        actions.Withdraw,
        press_button("end", status="withdrawn", reason="  "),
        call_api("end", status="withdrawn", reason="  "),
        run_command("withdraw", "--reason", "  "),
    ),
    Case(
        actions.Merge,
        press_button("merge", into=get_other),
        call_api("merge", into=get_other),
        run_command("merge", get_other),
    ),
    Case(
        actions.HandToTelemedicine,
        press_button("telemedicine"),
        call_api("telemedicine"),
        run_command("telemedicine"),
    ),
    Case(
        actions.FinishTask,
        press_button("finish-task", task=get_task),
        call_api("finish-task", task=get_task),
        run_command("task-done", get_task),
    ),
    Case(
        actions.FinishTask,
        press_button("finish-task", task=999_999),
        call_api("finish-task", task=999_999),
        run_command("task-done", 999_999),
    ),
    Case(
        actions.ReopenTask,
        press_button("reopen-task", task=get_done_task),
        call_api("reopen-task", task=get_done_task),
        run_command("task-open", get_done_task),
    ),
    Case(
        actions.AddNote,
        press_button("note", text="she calls back"),
        call_api("note", text="she calls back"),
        run_command("note", "she calls back"),
    ),
    Case(
        actions.Settle,
        press_button("settle", caveat=CAVEAT),
        call_api("settle", caveat=CAVEAT),
        run_command("settle", CAVEAT),
    ),
    Case(
        actions.Relate,
        press_button("link", other=get_other),
        call_api("relate", other=get_other, verdict="linked"),
        run_command("relate", get_other),
    ),
    Case(
        actions.Relate,
        press_button("relation", other=get_other, verdict="not related"),
        call_api("relate", other=get_other, verdict="not related"),
        run_command("relate", get_other, "not-related"),
    ),
    Case(
        actions.MarkWrittenByPerson,
        press_button("not-automatic"),
        call_api("not-automatic"),
        run_command("not-automatic"),
        judged=True,
    ),
    Case(
        actions.MarkAutomatic,
        press_button("automatic"),
        call_api("automatic"),
        run_command("automatic"),
    ),
    Case(
        actions.UseSender,
        press_button("use-sender"),
        call_api("use-sender"),
        run_command("use-sender"),
        routed=True,
    ),
    Case(
        actions.UseSender,
        press_button("use-sender"),
        call_api("use-sender"),
        run_command("use-sender"),
    ),
    Case(
        actions.UseNearCompany,
        press_button("use-company"),
        call_api("use-company"),
        run_command("use-company"),
    ),
    Case(
        actions.CreateNamedCompany,
        press_button("new-company"),
        call_api("new-company"),
        run_command("new-company"),
    ),
    Case(
        actions.SplitMessage,
        press_button("split"),
        call_api("split"),
        run_command("split"),
        followed=True,
    ),
    Case(
        actions.SplitMessage,
        press_button("split", notify="yes"),
        call_api("split", notify=True),
        run_command("split", "--notify"),
        followed=True,
    ),
    Case(
        actions.SplitMessage,
        press_button("split"),
        call_api("split"),
        run_command("split"),
    ),
    Case(
        actions.FileSeparately,
        lambda it: (f"/tickets/{it.number}/separate", {"delivery": it.delivery}),
        call_api("not-duplicate", delivery=lambda it: it.delivery),
        run_command("not-duplicate", lambda it: it.delivery),
    ),
    Case(
        actions.Undo,
        press_button("undo"),
        call_api("undo"),
        run_command("undo"),
    ),
    Case(
        actions.Undo,
        press_button("undo"),
        call_api("undo"),
        run_command("undo"),
        before=actions.AddNote("it is nobody's to undo"),
    ),
    Case(
        actions.Undo,
        press_button("undo"),
        call_api("undo"),
        run_command("undo"),
        before=actions.HandToTelemedicine(),
    ),
    Case(
        actions.SendRecap,
        None,
        call_api("recap", text="It was filed again."),
        run_command("recap", "--text", "It was filed again."),
    ),
    Case(
        actions.SendRecap,
        None,
        call_api("recap", text="Born 1/2/1970."),
        run_command("recap", "--text", "Born 1/2/1970."),
    ),
)
ONLY_BY = {
    actions.SendRecap: "API and command: on the page a person writes the mail, see SendMail",
    actions.SendMail: "the answer page (test_answer.py)",
    actions.UndoSend: "the ticket page, beside a mail of the answer page (test_answer.py)",
}


def iterate_leaves(kind: type[Command]) -> Iterator[type[Command]]:
    yield kind
    for sub in kind.__subclasses__():
        yield from iterate_leaves(sub)


def test_every_command_has_its_callers_here() -> None:
    for kind in set(iterate_leaves(Command)) - {Command}:
        cases = [case for case in CASES if case.command is kind]
        if kind in ONLY_BY:
            continue
        assert cases, f"no caller is tested for {kind.__name__}"
        for case in cases:
            assert case.page, f"{kind.__name__} is not on the page"
            assert case.api, f"{kind.__name__} is not in the API"
            assert case.shell, f"{kind.__name__} is no command of the shell"


# -- what came of it ----


@dataclass(frozen=True)
class Answer:
    """What a caller says, and what became of the ticket; numbers of tickets and rows are blank."""

    allowed: bool
    refusal: str
    ticket: object
    other: object
    audit: object
    undo: str | None


def blank_numbers(text: str) -> str:
    return re.sub(r"\d+", "N", text)


def read_state(session: Session, number: int) -> dict[str, Any]:
    ticket = session.get_one(Ticket, number)
    return {
        "stage": ticket.stage,
        "status": ticket.status,
        "resolution": ticket.resolution,
        "owner": ticket.owner.name if ticket.owner else None,
        "period": ticket.period,
        "merged": ticket.merged_into_id is not None,
        "caveats": [blank_numbers(caveat) for caveat in ticket.caveats],
        "automated": ticket.automated,
        "milestones": sorted(
            (row.period, row.milestone, row.by, row.note) for row in ticket.milestones
        ),
        "tasks": sorted(
            (blank_numbers(row.kind), row.text, row.assignee, row.done_by or "")
            for row in ticket.tasks
        ),
        "mails": sorted((row.template, row.state, row.by) for row in ticket.outbox),
        "messages": [
            (row.direction, row.judgement, row.from_name, row.text) for row in ticket.messages
        ],
        "contacts": len(ticket.contacts),
    }


def read_answer(world: World, it: PreparedTicket, actor: str, refusal: str | None) -> Answer:
    with world.context.store.read_only() as session:
        rows = session.scalars(
            select(AuditEntry)
            .where(AuditEntry.id > it.first_audit, AuditEntry.action.not_in(presence.READING))
            .order_by(AuditEntry.id)
        )
        named = {"stage", "milestone", "period", "owner"}
        audit = [
            (row.action, row.actor, sorted(row.detail), {k: row.detail.get(k) for k in named})
            for row in rows
            if row.ticket_id is not None
        ]
        undo_offer = undo.find_undo(session, it.number, actor, world.context.clock())
        return Answer(
            allowed=refusal is None,
            refusal=blank_numbers(refusal or ""),
            ticket=read_state(session, it.number),
            other=read_state(session, it.other),
            audit=audit,
            undo=blank_numbers(undo_offer.words) if undo_offer else None,
        )


def ask_by_page(world: World, case: Case, it: PreparedTicket, actor: str) -> str | None:
    assert case.page is not None
    desk, (path, form) = world.desks[actor], case.page(it)
    if case.command is actions.Undo:  # as the button on the page says it
        with world.context.store.read_only() as session:
            found = undo.find_undo(session, it.number, actor, world.context.clock())
            form |= {"undo": found.id if found else 0}
    answer = desk.post(path, form)
    if answer.status_code == 302 and path.endswith("/separate"):
        return None if f"/tickets/{it.number}" not in answer.location else "not made a ticket"
    if answer.status_code == 302:
        return None
    found_text = re.search(r'id="fault">Not done: (.*?)\.</div>', answer.text)
    return html.unescape(found_text[1]) if found_text else ""


def ask_by_queue(world: World, case: Case, it: PreparedTicket, actor: str) -> str | None:
    assert case.queue is not None
    desk = world.desks[actor]
    answer = desk.post("/queue/assign", case.queue(it))
    if answer.status_code != 302:
        return ""
    page = html.unescape(desk.get("/").text)
    left = re.search(r"left as before: (.*?)\.\s*<", page)
    return left[1] if left else None


def ask_by_api(world: World, case: Case, it: PreparedTicket, actor: str) -> str | None:
    assert case.api is not None
    path, body = case.api(it)
    heads = {"Authorization": f"Bearer {world.tokens[actor]}"}
    client = world.desks[OWNER].client.application.test_client()
    answer = client.post(V1 + path, json=body, headers=heads)
    if answer.status_code == 200:
        return None
    assert answer.json is not None
    assert answer.status_code in {403, 409}, answer.text
    return re.sub(r"\. Send \w+ = true to confirm it\.$", "", answer.json["detail"])


def ask_by_shell(world: World, case: Case, it: PreparedTicket, actor: str) -> str | None:
    del world  # the command opens the database itself
    assert case.shell is not None
    words = [str(word) for word in ("ticket", it.number, *case.shell(it), "--as", actor)]
    result = CliRunner().invoke(cli, words, prog_name="intake")
    assert result.exit_code in {0, 1}, (result.output, result.exception)
    refusal = result.stderr.removeprefix("Error: ").strip()  # then the option that confirms it
    return None if result.exit_code == 0 else re.sub(r" \(--[\w-]+\)$", "", refusal)


CALLERS = {"page": ask_by_page, "queue": ask_by_queue, "api": ask_by_api, "shell": ask_by_shell}


def compare(world: World, case: Case, situation: str, owner: str, actor: str) -> None:
    answers: dict[str, Answer] = {}
    for name, ask in CALLERS.items():
        if getattr(case, name) is None:
            continue
        it = prepare(world, situation, owner, case, actor)
        answers[name] = read_answer(world, it, actor, ask(world, case, it, actor))
    (first, expected), *others = answers.items()
    where = f"{case.command.__name__}, {situation}, {actor} on a ticket of {owner}"
    for name, answer in others:
        label = f"{where}: {first} and {name}"
        assert answer.allowed == expected.allowed, f"{label}: {expected.refusal or answer.refusal}"
        if expected.refusal and answer.refusal:  # then how to go on, in the caller's own words
            shorter, longer = sorted((expected.refusal, answer.refusal), key=len)
            assert longer.startswith(shorter.removesuffix(".")), label
        assert answer.ticket == expected.ticket, label
        assert answer.other == expected.other, label
        assert answer.audit == expected.audit, label
        assert answer.undo == expected.undo, label


NAMES = [f"{n}-{case.command.__name__}" for n, case in enumerate(CASES)]


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_all_callers_answer_alike_in_every_situation(world: World, case: Case) -> None:
    for situation in SITUATIONS:
        compare(world, case, situation, OWNER, OWNER)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_all_callers_give_everybody_the_same_rights(world: World, case: Case) -> None:
    for actor in PEOPLE:
        compare(world, case, "open", OTHER_OWNER, actor)


def test_the_page_shows_the_buttons_that_its_commands_allow(world: World) -> None:
    depends_on_status = {"assign", "resolve", "merge", "reopen", "end"}
    for situation in SITUATIONS:
        it = prepare(world, situation, OWNER, CASES[0], OWNER)
        page = world.desks[OWNER].get(f"/tickets/{it.number}").text
        buttons = set(re.findall(rf"/tickets/{it.number}/do/([\w-]+)", page))
        with world.context.store.read_only() as session:
            status = session.get_one(Ticket, it.number).status
        allowed = {name for name, button in BUTTONS.items() if status in button.kind.statuses}
        assert buttons <= allowed, situation
        assert buttons & depends_on_status == allowed & depends_on_status, situation
        assert "/do/" not in world.desks["Otto Auditor"].get(f"/tickets/{it.number}").text


def test_what_was_done_by_one_caller_is_undone_by_another(world: World) -> None:
    for done_by in (ask_by_page, ask_by_api, ask_by_shell, ask_by_queue):
        for undone_by in (ask_by_page, ask_by_api, ask_by_shell):
            assign = CASES[0]
            it = prepare(world, "open", OWNER, assign, OWNER)
            assert done_by(world, assign, it, OWNER) is None
            again = next(case for case in CASES if case.command is actions.Undo)
            assert undone_by(world, again, it, OWNER) is None
            with world.context.store.read_only() as session:
                assert session.get_one(Ticket, it.number).owner_id == it.owner


def test_an_auditor_writes_no_call_down_and_makes_no_ticket_of_automated_mail(
    world: World,
) -> None:
    auditor = "Otto Auditor"
    call = {"text": "please call back", "take": True}
    heads = {"Authorization": f"Bearer {world.tokens[auditor]}"}
    client = world.desks[OWNER].client.application.test_client()
    for path, body in (("/tickets", call), ("/automated/1/ticket", {})):
        assert client.post(V1 + path, json=body, headers=heads).status_code == 403
    refusal = "that needs the right “work”"
    told = world.intake("ticket", "new", "--text", "please call back", "--as", auditor, code=1)
    assert refusal in told.stderr
    assert refusal in world.intake("automated", 1, "ticket", "--as", auditor, code=1).stderr
    assert world.desks[auditor].post("/automated/1/ticket").status_code == 403


def test_an_operator_at_the_shell_acts_as_an_administrator(world: World) -> None:
    follow_up = next(case for case in CASES if case.command is actions.FollowUp)
    it = prepare(world, "open", OWNER, follow_up, OWNER)
    world.intake("ticket", it.number, "follow-up")  # whoever runs the tests
    world.intake("ticket", it.number, "untick", BOX, "--as", "nobody on the desk")
    assert "nobody on the desk" in {row[1] for row in list_audit_rows(world, it)}
    world.intake("ticket", it.number, "untick", BOX, "--as", "Otto Auditor", code=1)


def list_audit_rows(world: World, it: PreparedTicket) -> list[tuple[str, str]]:
    with world.context.store.read_only() as session:
        rows = session.execute(
            select(AuditEntry.action, AuditEntry.actor).where(AuditEntry.ticket_id == it.number)
        )
        return [tuple(row) for row in rows]


# What changes a ticket without asking for a right. Taken from the functions themselves, so that a
# name which is changed does not leave the test behind.
ONLY_FOR_COMMANDS = {
    AppContext.desk.attrname,
    *(
        function.__name__
        for function in (
            undo.record_undo,
            undo.undo_action,
            mail_answer.enqueue,
            mail_answer.undo_send,
            notes.add_note,
            notes.settle_question,
            relations.relate_tickets,
            records.set_ticket_company,
        )
    ),
}


def list_names_used(path: Path) -> set[str | None]:
    """Every attribute and every imported name of a module."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return attributes | {alias.name for node in imports for alias in node.names}


def test_callers_change_tickets_by_commands_only() -> None:
    """Nobody in console but `perform` has the desk, or calls what its commands call."""
    console = Path(__file__).parents[2] / "console"
    files = [p for p in console.rglob("*.py") if p.name != "perform.py"]
    assert len(files) > 50
    assert ONLY_FOR_COMMANDS & list_names_used(
        console / "perform.py"
    )  # the test finds what is used
    for path in files:
        assert not list_names_used(path) & ONLY_FOR_COMMANDS, path
