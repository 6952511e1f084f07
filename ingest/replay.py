"""What people do with deliveries: read the failed ones again, or say that nothing is to come of them."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from ingest.reading import read
from workflow import audit
from workflow.desk import RULE, Missing
from workflow.house import House
from workflow.models import Delivery
from workflow.states import DeliveryState


def replay(house: House, number: int, *, by: str) -> Delivery | None:
    """Read a failed or dismissed delivery again, now; the delivery as it is afterwards, None if there is none.

    One that has been read before is left as it is: rereading.py says what would become of it.
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


def dismiss(house: House, numbers: Sequence[int], reason: str, *, by: str) -> None:
    """Say that nothing is to come of failed deliveries; they stay stored and can be replayed.

    Raises Missing when one of them is not there or not failed; then none is dismissed.
    """
    now, wanted = house.clock(), sorted(set(numbers))
    chosen = select(Delivery).where(Delivery.id.in_(wanted)).order_by(Delivery.id).options(defer(Delivery.content))
    with house.store.transaction() as session:
        found = {d.id: d for d in session.scalars(chosen.with_for_update())}
        if wrong := [_not_failed(found.get(n), n) for n in wanted if not _is_failed(found.get(n))]:
            raise Missing("\n".join([*wrong, "none was dismissed"]))
        for delivery in found.values():
            delivery.state, delivery.reason, delivery.processed_at = DeliveryState.DISMISSED, reason, now
            audit.record(session, "dismissed", by=by or RULE, cause=reason, now=now, delivery=delivery.id)


def _is_failed(delivery: Delivery | None) -> bool:
    return delivery is not None and delivery.state is DeliveryState.FAILED


def _not_failed(delivery: Delivery | None, number: int) -> str:
    if delivery is None:
        return f"there is no delivery {number}: see `intake deliveries`"
    return f"delivery {number} is {delivery.state}: only failed ones are dismissed"
