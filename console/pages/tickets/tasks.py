"""Tasks: one's own, the team's, and what is done; and who is away."""

from flask import Blueprint, abort, flash, redirect, render_template, request
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from werkzeug.wrappers import Response

from console.web.request import db, house, needs, now, number_of, staff
from workflow.audit import record as audit
from workflow.models.core import Staff, Task
from workflow.permissions import Right

pages = Blueprint("tasks", __name__)
VIEWS = {"mine": "Mine", "team": "Everybody's", "done": "Done"}
PAGE = 100


@pages.get("/tasks")
@needs(Right.READ)
def tasks() -> str:
    """Open tasks, oldest first; done ones, latest first."""
    view = request.args.get("view", "mine")
    view = view if view in VIEWS else "mine"
    return render_template(
        "tasks/tasks.html", tasks=_listed(view), view=view, views=VIEWS, page=PAGE
    )


@pages.post("/tasks/<int:number>/<any(done, again):what>")
@needs(Right.WORK)
def tick(number: int, what: str) -> Response:
    """Close a task, or open one again that was closed too soon."""
    with house().store.transaction() as session:
        task = session.get(Task, number, with_for_update=True) or abort(404)
        if what == "done":
            house().desk.finish_task(session, task, by=staff().name, now=now())
        elif task.done_at is not None:
            task.done_at = task.done_by = None
            audit.record(
                session,
                "task open again",
                by=staff().name,
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
    beyond = number_of(request.args.get("after"))
    query = select(Task).options(joinedload(Task.ticket)).limit(PAGE)
    if view == "done":
        query = query.where(Task.done_at.is_not(None)).order_by(Task.id.desc())
        return list(db().scalars(query.where(Task.id < beyond) if beyond is not None else query))
    query = query.where(Task.done_at.is_(None)).order_by(Task.id)
    if view == "mine":
        covered = db().scalars(select(Staff.name).where(Staff.cover_id == staff().id))
        query = query.where(Task.assignee.in_([staff().name, *covered]))
    return list(db().scalars(query.where(Task.id > beyond) if beyond is not None else query))
