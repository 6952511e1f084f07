"""Tasks: one's own, the team's, and what is done; and who is away."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from werkzeug.wrappers import Response

from console.perform import actions_of
from console.web.request import actor, get_context, get_session, get_staff, now, requires
from workflow.database.ids import parse_id
from workflow.errors import NotPermitted
from workflow.models.core import Staff, Task
from workflow.permissions import Right
from workflow.tickets.actions import FinishTask, ReopenTask

pages = Blueprint("tasks", __name__)
VIEWS = {"mine": "Mine", "team": "Everybody's", "done": "Done"}
PAGE = 100


@pages.get("/tasks")
@requires(Right.READ)
def tasks() -> str:
    """Open tasks, oldest first; done ones, latest first."""
    view = request.args.get("view", "mine")
    view = view if view in VIEWS else "mine"
    return render_template(
        "tasks/tasks.html", tasks=_listed(view), view=view, views=VIEWS, page=PAGE
    )


@pages.post("/tasks/<int:number>/<any(done, again):what>")
@requires(Right.READ)  # the command says which right it takes
def tick(number: int, what: str) -> Response:
    """Close a task, or open one again that was closed too soon."""
    task = get_session().get(Task, number) or abort(404)
    command = FinishTask(number) if what == "done" else ReopenTask(number)
    try:
        actions_of(get_context()).perform(task.ticket_id, command, actor=actor(), now=now())
    except NotPermitted:
        abort(403)
    flash(
        "Done. Not yet? “Open again” stands under Done." if what == "done" else "It is open again.",
        "success",
    )
    return redirect(f"/tasks?view={request.form.get('view', 'mine')}")


def _listed(view: str) -> list[Task]:
    beyond = parse_id(request.args.get("after"))
    query = select(Task).options(joinedload(Task.ticket)).limit(PAGE)
    if view == "done":
        query = query.where(Task.done_at.is_not(None)).order_by(Task.id.desc())
        return list(
            get_session().scalars(query.where(Task.id < beyond) if beyond is not None else query)
        )
    query = query.where(Task.done_at.is_(None)).order_by(Task.id)
    if view == "mine":
        covered = get_session().scalars(select(Staff.name).where(Staff.cover_id == get_staff().id))
        query = query.where(Task.assignee.in_([get_staff().name, *covered]))
    return list(
        get_session().scalars(query.where(Task.id > beyond) if beyond is not None else query)
    )
