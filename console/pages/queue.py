"""The queue and the other lists a desk works by."""

from flask import Blueprint, render_template

from console import ticket_data
from console.web.asking import db, needs, now, staff
from workflow.rights import Right

pages = Blueprint("queue", __name__)


@pages.get("/")
@needs(Right.READ)
def queue() -> str:
    """The tickets that wait for an owner."""
    found = ticket_data.view(db(), "unassigned", actor=staff().name, now=now())
    return render_template("queue.html", tickets=found)
