"""Deliveries that could not be read and that nobody has looked after yet."""

from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from workflow.models import Delivery
from workflow.states import DeliveryState


def overdue(session: Session, now: datetime, limit: timedelta) -> tuple[int, datetime | None]:
    """How many failed deliveries came at least `limit` ago, and when the oldest of them did; (0, None) for none.

    Their age counts from when they came, however often they were read since: so long a customer has waited.
    """
    late = (Delivery.state == DeliveryState.FAILED, Delivery.received_at <= now - limit)
    count, oldest = session.execute(select(func.count(), func.min(Delivery.received_at)).where(*late)).one()
    return count, oldest
