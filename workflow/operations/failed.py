"""Failed deliveries and rejected rows nobody has looked after yet."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from workflow.models.core import FILING_IS_REJECTED, Delivery, Filing
from workflow.models.states import DeliveryState


def has_rejected_rows() -> ColumnElement[bool]:
    """Return whether rows of a delivery were rejected, and nobody has dismissed them."""
    return Delivery.id.in_(select(Filing.delivery_id).where(FILING_IS_REJECTED))


def has_failures() -> ColumnElement[bool]:
    """Return whether a delivery could not be read, or not all of it."""
    return or_(Delivery.state == DeliveryState.FAILED, has_rejected_rows())


def count_with_rejected_rows(session: Session) -> int:
    """Return how many deliveries were read but for some rows."""
    some = (Delivery.state != DeliveryState.FAILED, has_rejected_rows())
    return session.scalar(select(func.count()).select_from(Delivery).where(*some)) or 0


def count_overdue(session: Session, now: datetime, limit: timedelta) -> tuple[int, datetime | None]:
    """How many of those deliveries came at least `limit` ago, and when the oldest of them did.

    (0, None) for none.

    Their age counts from when they came, however often they were read since: so long a customer has
    waited.
    """
    late = (has_failures(), Delivery.received_at <= now - limit)
    count, oldest = session.execute(
        select(func.count(), func.min(Delivery.received_at)).where(*late)
    ).one()
    return count, oldest
