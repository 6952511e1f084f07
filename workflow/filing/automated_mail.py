"""The list of automated mail: what is on no ticket, newest first."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.models.core import AutomatedMail


def list_automated_mail(
    session: Session, *, before: int | None = None, limit: int = 50
) -> Sequence[AutomatedMail]:
    """Return the newest automated mails that nobody made a ticket, those before a number."""
    query = select(AutomatedMail).where(AutomatedMail.ticket_id.is_(None))
    if before is not None:
        query = query.where(AutomatedMail.id < before)
    return session.scalars(query.order_by(AutomatedMail.id.desc()).limit(limit)).all()


def count_automated_mail(session: Session, most: int = 1000) -> int:
    """Return how many there are; nobody counts beyond `most`."""
    some = select(AutomatedMail.id).where(AutomatedMail.ticket_id.is_(None)).limit(most)
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0
