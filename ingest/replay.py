"""What people do with deliveries: read them again, or say that nothing is to come of them."""

from ingest.reading import read
from workflow import audit
from workflow.desk import RULE
from workflow.house import House
from workflow.models import Delivery
from workflow.states import DeliveryState


def replay(house: House, number: int, *, by: str) -> Delivery | None:
    """Read a failed or dismissed delivery again, now; the delivery as it is afterwards, None if there is none.

    One that has been read before is left as it is: what it opened is there.
    """
    now = house.clock()
    with house.store.transaction() as session:
        delivery = session.get(Delivery, number)
        if delivery is None or delivery.state is DeliveryState.PROCESSED:
            return delivery
        delivery.state, delivery.not_before, delivery.attempts = DeliveryState.PENDING, now, 0
        audit.record(session, "replayed", by=by, cause="replay", now=now, delivery=number)
    read(house, number)
    with house.store.reading() as session:
        return session.get(Delivery, number)


def dismiss(house: House, number: int, reason: str, *, by: str) -> Delivery | None:
    """Say that nothing is to come of a failed delivery; it stays stored and can be replayed. None if there is none."""
    now = house.clock()
    with house.store.transaction() as session:
        delivery = session.get(Delivery, number)
        if delivery is not None and delivery.state is DeliveryState.FAILED:
            delivery.state, delivery.reason, delivery.processed_at = DeliveryState.DISMISSED, reason, now
            audit.record(session, "dismissed", by=by or RULE, cause=reason, now=now, delivery=number)
    return delivery
