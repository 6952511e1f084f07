"""Milestones of a ticket as its rows have them."""

from workflow.models.core import Ticket
from workflow.process import Milestone


def list_reached(ticket: Ticket) -> set[Milestone]:
    """Return the milestones recorded in the current period of a ticket."""
    return {r.milestone for r in ticket.milestones if r.period == ticket.period}
