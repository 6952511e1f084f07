"""What a person says of two tickets that may belong together.

They do, they do not, or it is open again.
"""

from datetime import datetime

from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.errors import Missing
from workflow.models.core import Ticket, TicketRelation
from workflow.models.states import Verdict


def judge(
    session: Session, ticket: Ticket, other: int, verdict: Verdict, *, by: str, now: datetime
) -> None:
    """Say whether two tickets belong together. Raises Missing when nothing says that they might."""
    relation = session.get(TicketRelation, (ticket.id, other)) or session.get(
        TicketRelation, (other, ticket.id)
    )
    if relation is None:
        raise Missing(f"#{ticket.id} and #{other} have nothing to do with each other")
    if relation.verdict is verdict:
        return
    relation.verdict = verdict
    cause = verdict.value or "open again"
    for number in (ticket.id, other):  # it shows on both
        its = other if number == ticket.id else ticket.id
        audit.record(session, "relation", by=by, cause=cause, now=now, ticket=number, other=its)


def link(session: Session, ticket: Ticket, other: int, *, by: str, now: datetime) -> None:
    """Link two tickets by hand. Raises Missing when there is no such other ticket."""
    if other == ticket.id or session.get(Ticket, other) is None:
        raise Missing(f"there is no other ticket #{other}")
    known = session.get(TicketRelation, (ticket.id, other)) or session.get(
        TicketRelation, (other, ticket.id)
    )
    if known is None:
        session.add(TicketRelation(ticket_id=ticket.id, other_id=other, reason="linked by hand"))
        session.flush()
    judge(session, ticket, other, Verdict.LINKED, by=by, now=now)
