"""Page of the tasks: the signed-in person's, everybody's, and those that are done."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from werkzeug.wrappers import Response

from console.perform import get_actions
from console.web.request import get_actor, get_context, get_session, get_staff, now, requires
from workflow.database.ids import parse_id
from workflow.errors import NotPermitted
from workflow.models.core import Staff, Task
from workflow.permissions import Right
from workflow.tickets.actions import FinishTask, ReopenTask

pages = Blueprint("tasks", __name__)
VIEWS = {"mine": "Mine", "team": "Everybody's", "done": "Done"}
EMPTY_TEXTS = {
    "mine": "You have no open tasks.",
    "team": "There are no open tasks.",
    "done": "No task is done yet.",
}
PAGE_SIZE = 100


@pages.get("/tasks")
@requires(Right.READ)
def list_tasks() -> str:
    """List the open tasks, oldest first, or the done ones, newest first."""
    view = request.args.get("view", "mine")
    view = view if view in VIEWS else "mine"
    tasks = _load_tasks(view)
    return render_template(
        "tasks/tasks.html",
        tasks=tasks,
        view=view,
        views=VIEWS,
        empty_text=EMPTY_TEXTS[view],
        next_after=tasks[-1].id if len(tasks) == PAGE_SIZE else None,
    )


@pages.post("/tasks/<int:number>/<any(done, again):what>")
@requires(Right.READ)  # the command says which right it takes
def tick(number: int, what: str) -> Response:
    """Finish a task, or open one again that was finished too early."""
    task = get_session().get(Task, number) or abort(404)
    command = FinishTask(number) if what == "done" else ReopenTask(number)
    try:
        get_actions(get_context()).perform(task.ticket_id, command, actor=get_actor(), now=now())
    except NotPermitted:
        abort(403)
    flash(
        "The task is done. To undo this, open it again under Done."
        if what == "done"
        else "The task is open again.",
        "success",
    )
    return redirect(f"/tasks?view={request.form.get('view', 'mine')}")


def _load_tasks(view: str) -> list[Task]:
    """Return a page of the view's tasks, after the id of the address where it names one."""
    after = parse_id(request.args.get("after"))
    query = select(Task).options(joinedload(Task.ticket)).limit(PAGE_SIZE)
    if view == "done":
        query = query.where(Task.done_at.is_not(None)).order_by(Task.id.desc())
        if after is not None:
            query = query.where(Task.id < after)
        return list(get_session().scalars(query))
    query = query.where(Task.done_at.is_(None)).order_by(Task.id)
    if after is not None:
        query = query.where(Task.id > after)
    if view == "mine":
        # The tasks of colleagues whom this person covers count as theirs.
        covered = get_session().scalars(select(Staff.name).where(Staff.cover_id == get_staff().id))
        query = query.where(Task.assignee.in_([get_staff().name, *covered]))
    return list(get_session().scalars(query))
