"""Saved views: a person's own lists, each a query string under a name."""

from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.errors import ActionNotAllowed
from workflow.models.accounts import SavedView
from workflow.models.core import Staff

MOST = 30  # a person; more is no list to choose from
LONGEST_NAME, LONGEST_QUERY = 60, 1000


def list_saved_views(session: Session, person: Staff) -> list[SavedView]:
    """Return the views a person has saved, by name."""
    mine = select(SavedView).where(SavedView.staff_id == person.id)
    return list(session.scalars(mine.order_by(func.lower(SavedView.name), SavedView.id)))


def save_view(
    session: Session, person: Staff, name: str, query: str, *, now: datetime
) -> SavedView:
    """Save a view under a name.

    Raises ActionNotAllowed where the name is empty or taken, or at 30 views.
    """
    if len(list_saved_views(session, person)) >= MOST:
        raise ActionNotAllowed(f"you have {MOST} views already: delete one first")
    view = SavedView(
        staff_id=person.id, name=_clean_name(name), query=query[:LONGEST_QUERY], created_at=now
    )
    try:
        with session.begin_nested():
            session.add(view)
    except IntegrityError:
        raise ActionNotAllowed("you have a view of this name already: choose another") from None
    audit.record(session, "view saved", by=person.name, cause="saved view", now=now, view=view.id)
    return view


def rename_view(
    session: Session, person: Staff, number: int, name: str, *, now: datetime
) -> SavedView:
    """Give a view another name.

    Raises ActionNotAllowed where it is not theirs, or the name is taken.
    """
    view = get_own_view(session, person, number)
    try:
        with session.begin_nested():
            view.name = _clean_name(name)
    except IntegrityError:
        raise ActionNotAllowed("you have a view of this name already: choose another") from None
    audit.record(session, "view renamed", by=person.name, cause="saved view", now=now, view=number)
    return view


def delete_view(session: Session, person: Staff, number: int, *, now: datetime) -> SavedView:
    """Delete a view; return it, so that it can be saved again.

    Raises ActionNotAllowed if not theirs.
    """
    found = get_own_view(session, person, number)
    session.delete(found)
    audit.record(session, "view deleted", by=person.name, cause="saved view", now=now, view=number)
    return found


def get_own_view(session: Session, person: Staff, number: int) -> SavedView:
    """Return a view of this person. Raises ActionNotAllowed for everybody else's."""
    view = session.get(SavedView, number)
    if view is None or view.staff_id != person.id:
        raise ActionNotAllowed("that view is not there any more")
    return view


def _clean_name(text: str) -> str:
    name = " ".join("".join(c for c in text if c.isprintable()).split())[:LONGEST_NAME].strip()
    if not name:
        raise ActionNotAllowed("give the view a name")
    return name
