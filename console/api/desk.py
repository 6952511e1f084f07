"""API of the desk: tasks, people, the process, figures."""

from flask import Response, jsonify
from sqlalchemy import select

from console.api import schemas
from console.api.endpoint import endpoint
from console.api.fields import PageQuery, StrictSchema, choice_input, number_input, text_input
from console.api.paging import JsonObject, respond_with_rows
from console.api.tickets import find_person
from console.perform import get_actions
from console.presenters import customers
from console.presenters.tickets.ticket import present_task
from console.presenters.times import format_iso
from console.web.api_errors import ApiError
from console.web.request import get_actor, get_context, get_session, get_staff, get_time_zone, now
from workflow import process
from workflow.models.core import Staff, Task
from workflow.permissions import Right
from workflow.tickets import statistics
from workflow.tickets.actions import Command, FinishTask, ReopenTask

ABOUT = "the desk"


class TaskQuery(PageQuery):
    """Query of the list of tasks."""

    state = choice_input(("open", "done", "all"), load_default="open")
    assignee = text_input(
        200, load_default="", metadata={"description": "A person's or group's name, or `me`."}
    )
    ticket = number_input(load_default=None)


class PeriodQuery(StrictSchema):
    """Query of a figure: the number of days it covers, up to today."""

    days = number_input(1, 366, load_default=30)


@endpoint(
    "GET",
    "/tasks",
    Right.READ,
    schemas.make_page_schema(schemas.Task),
    about=ABOUT,
    query=TaskQuery,
)
def task_list(filters: JsonObject) -> Response:
    """List the tasks, oldest first."""
    query = select(Task)
    if filters["state"] == "open":
        query = query.where(Task.done_at.is_(None))
    elif filters["state"] == "done":
        query = query.where(Task.done_at.is_not(None))
    if filters["assignee"]:
        name = get_staff().name if filters["assignee"] == "me" else filters["assignee"]
        query = query.where(Task.assignee == name)
    if filters["ticket"] is not None:
        query = query.where(Task.ticket_id == filters["ticket"])
    return respond_with_rows(get_session(), query, Task.id, filters, _present_task)


@endpoint("POST", "/tasks/<int:number>/finish", FinishTask.right, schemas.Task, about=ABOUT)
def task_finish(number: int) -> Response:
    """Mark a task as done."""
    return _perform_on_task(number, FinishTask(number))


@endpoint("POST", "/tasks/<int:number>/reopen", ReopenTask.right, schemas.Task, about=ABOUT)
def task_reopen(number: int) -> Response:
    """Open a task again that was closed too soon."""
    return _perform_on_task(number, ReopenTask(number))


def _perform_on_task(number: int, command: Command) -> Response:
    task = get_session().get(Task, number)
    if task is None:
        raise ApiError(404, f"There is no task {number}.")
    get_actions(get_context()).perform(task.ticket_id, command, actor=get_actor(), now=now())
    with get_context().store.read_only() as session:
        return jsonify(_present_task(session.get_one(Task, number)))


@endpoint(
    "GET",
    "/staff",
    Right.READ,
    schemas.make_page_schema(schemas.StaffMember),
    about=ABOUT,
    query=PageQuery,
)
def staff_list(page: JsonObject) -> Response:
    """List the people on the desk."""
    return respond_with_rows(get_session(), select(Staff), Staff.id, page, customers.present_staff)


@endpoint("GET", "/me", Right.READ, schemas.StaffMember, about=ABOUT)
def me() -> Response:
    """Get the person whose token this is."""
    return jsonify(customers.present_staff(find_person(get_session(), "me", "")))


@endpoint("GET", "/process", Right.READ, schemas.Report, about=ABOUT)
def process_table() -> Response:
    """Get the process: stages with what each sends and waits for, milestones, deadlines."""
    stages = [
        {"stage": s.stage, "sends": s.on_entry, "waits_for": [str(m) for m in s.waits_for]}
        for s in process.STEPS
    ]
    deadlines = [
        {
            "milestone": d.milestone,
            "within_hours": d.within.total_seconds() / 3600,
            "person": d.person,
            "task": d.task,
        }
        for d in process.DEADLINES
    ]
    milestones = [str(m) for m in process.Milestone]
    return jsonify(
        queue=process.QUEUE_NAME, stages=stages, milestones=milestones, deadlines=deadlines
    )


@endpoint("GET", "/figures", Right.READ, schemas.make_page_schema(schemas.FigureName), about=ABOUT)
def figure_list() -> Response:
    """List the names of the figures: tickets received, stages, durations, survey scores."""
    return jsonify({"items": [{"name": name} for name in statistics.FIGURES], "next": None})


_NAMES = ", ".join(f'"{name}"' for name in statistics.FIGURES)


@endpoint(
    "GET",
    f"/figures/<any({_NAMES}):name>",
    Right.READ,
    schemas.Figure,
    about=ABOUT,
    query=PeriodQuery,
)
def figure(period: JsonObject, name: str) -> Response:
    """Get a figure of the dashboard as a table."""
    window = statistics.make_window(now(), get_time_zone(), period["days"])
    table = statistics.FIGURES[name](get_session(), window)
    return jsonify(
        name=table.name,
        title=table.title,
        heads=list(table.heads),
        rows=table.rows,
        unit=table.unit,
    )


def _present_task(row: Task) -> JsonObject:
    return {
        **present_task(row),
        "ticket": row.ticket_id,
        "done_at": format_iso(row.done_at),
        "done_by": row.done_by,
    }
