"""Relations between tickets: what a person says of two that may belong together."""

from datetime import datetime

from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.errors import ActionNotAllowed
from workflow.models.core import Ticket, TicketRelation
from workflow.models.states import Verdict


def relate_tickets(
    session: Session, ticket: Ticket, other: int, verdict: Verdict, *, by: str, now: datetime
) -> bool:
    """Record whether two tickets belong together, or that this is undecided again.

    Returns False when the same was recorded before. `Verdict.LINKED` also relates two tickets that
    nothing related yet. Raises ActionNotAllowed when there is no such other ticket, or when a
    verdict is given on two tickets that nothing relates.
    """
    if other == ticket.id or session.get(Ticket, other) is None:
        raise ActionNotAllowed(f"there is no other ticket #{other}")
    relation = session.get(TicketRelation, (ticket.id, other)) or session.get(
        TicketRelation, (other, ticket.id)
    )
    if relation is None:
        if verdict is not Verdict.LINKED:
            raise ActionNotAllowed(f"#{ticket.id} and #{other} have nothing to do with each other")
        relation = TicketRelation(ticket_id=ticket.id, other_id=other, reason="linked by hand")
        session.add(relation)
        session.flush()
    if relation.verdict is verdict:
        return False
    relation.verdict = verdict
    cause = verdict.value or "open again"
    for number in (ticket.id, other):  # it shows on both
        its = other if number == ticket.id else ticket.id
        audit.record(session, "relation", by=by, cause=cause, now=now, ticket=number, other=its)
    return True
