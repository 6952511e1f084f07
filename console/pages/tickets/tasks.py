"""Tasks: one's own, the team's, and what is done; and who is away."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from werkzeug.wrappers import Response

from console.web.request import get_context, get_session, get_staff, now, requires
from workflow.audit import record as audit
from workflow.database.ids import parse_id
from workflow.models.core import Staff, Task
from workflow.permissions import Right

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
@requires(Right.WORK)
def tick(number: int, what: str) -> Response:
    """Close a task, or open one again that was closed too soon."""
    with get_context().store.transaction() as session:
        task = session.get(Task, number, with_for_update=True) or abort(404)
        if what == "done":
            get_context().desk.finish_task(session, task, by=get_staff().name, now=now())
        elif task.done_at is not None:
            task.done_at = task.done_by = None
            audit.record(
                session,
                "task open again",
                by=get_staff().name,
                cause=task.kind,
                now=now(),
                ticket=task.ticket_id,
            )
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
