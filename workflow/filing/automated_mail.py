"""List of automated mail that is on no ticket."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.models.core import AutomatedMail


def list_automated_mail(
    session: Session, *, before: int | None = None, limit: int = 50
) -> Sequence[AutomatedMail]:
    """List automated mail without ticket, newest first, with numbers below `before`."""
    query = select(AutomatedMail).where(AutomatedMail.ticket_id.is_(None))
    if before is not None:
        query = query.where(AutomatedMail.id < before)
    return session.scalars(query.order_by(AutomatedMail.id.desc()).limit(limit)).all()


def count_automated_mail(session: Session, limit: int = 1000) -> int:
    """Count automated mail without ticket, up to `limit`, so that a long list costs little."""
    mails = select(AutomatedMail.id).where(AutomatedMail.ticket_id.is_(None)).limit(limit)
    return session.scalar(select(func.count()).select_from(mails.subquery())) or 0
