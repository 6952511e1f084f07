"""Many failed deliveries at once.

They wait again, and the workers read them like those that have just come.
"""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import defer

from workflow.audit import record as audit
from workflow.context import AppContext
from workflow.database.engine import notify_workers
from workflow.models.core import Delivery
from workflow.models.states import DeliveryState

BATCH = 200  # deliveries a transaction
READ = "read"  # the workers' queue


def enqueue_replays(context: AppContext, numbers: Sequence[int], *, by: str) -> int:
    """Have failed and dismissed deliveries read again as soon as a worker comes to them.

    How many that are.

    Whatever of them is processed or pending is left alone. The lists may be long: nobody waits for
    the reading.
    """
    wanted, done = sorted(set(numbers)), 0
    for start in range(0, len(wanted), BATCH):
        done += _batch(context, wanted[start : start + BATCH], by)
    return done


def _batch(context: AppContext, numbers: Sequence[int], by: str) -> int:
    now = context.clock()
    ended = Delivery.state.in_([DeliveryState.FAILED, DeliveryState.DISMISSED])
    query = select(Delivery).where(Delivery.id.in_(numbers), ended).options(defer(Delivery.content))
    with context.store.transaction() as session:
        found = list(session.scalars(query.order_by(Delivery.id).with_for_update()))
        for delivery in found:
            delivery.state, delivery.not_before, delivery.attempts = DeliveryState.PENDING, now, 0
            audit.record(session, "replayed", by=by, cause="replay", now=now, delivery=delivery.id)
        notify_workers(session, READ)
    return len(found)
