"""Messages that came for a ticket while it was merged into another one.

They are on the ticket that goes on, and each knows which ticket it was addressed to. When the merge
is undone they go with their ticket.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.models.core import AuditEntry, Filing, Message, OutgoingMail, Ticket, TicketContact
from workflow.models.states import OutboxState

MOVED = "messages moved"


@dataclass(frozen=True, slots=True)
class RecordedMerge:
    """A ticket's merge as it is before it is undone."""

    targets: tuple[int, ...]  # the ticket it is merged into, the one that one is merged into, …
    contacts: frozenset[int]  # its contacts whom the merge brought onto them


def get_merge(session: Session, ticket: Ticket) -> RecordedMerge:
    """Return where a ticket is merged into; without targets for one that is not merged."""
    targets: list[int] = []
    following = ticket.merged_into_id
    while following is not None and following not in targets:
        targets.append(following)
        following = session.scalar(select(Ticket.merged_into_id).where(Ticket.id == following))
    brought_contacts = select(TicketContact.contact_id).where(
        TicketContact.ticket_id.in_(targets),
        TicketContact.from_ticket_id.in_([ticket.id, *targets]),
        TicketContact.contact_id.in_([link.contact_id for link in ticket.contacts]),
    )
    return RecordedMerge(tuple(targets), frozenset(session.scalars(brought_contacts)))


def restore_messages(
    session: Session, ticket: Ticket, merge: RecordedMerge, *, by: str, now: datetime
) -> list[Message]:
    """Move the messages that came for a ticket back to it, after its merge was undone.

    Return them. Their files and filings go with them. Where other messages of its people stay
    behind, both tickets have a caveat: nothing says which of the two those are about.
    """
    if not merge.targets:
        return []
    group = _list_merged_tickets(session, ticket)
    rows = select(Message).where(
        Message.addressed_ticket_id.in_(group), Message.ticket_id != ticket.id
    )
    moved_messages = list(session.scalars(rows.order_by(Message.id)))
    message_ids_by_ticket: dict[int, list[int]] = {}  # the messages of each ticket that they leave
    for message in moved_messages:
        message_ids_by_ticket.setdefault(message.ticket_id, []).append(message.id)
        addressed = message.addressed_ticket_id
        move_message(session, message, ticket.id, None if addressed == ticket.id else addressed)
    for number, messages in message_ids_by_ticket.items():
        for one, other in ((ticket.id, number), (number, ticket.id)):
            detail = {"other": other, "messages": messages, "to": ticket.id}
            audit.record(
                session, MOVED, by=by, cause="merge taken back", now=now, ticket=one, **detail
            )
    session.flush()
    for number in merge.targets:
        target = session.get_one(Ticket, number)
        session.expire(target, ["messages"])
        if _stays_behind(session, ticket, target, merge):
            _add_caveat(ticket, f"it was merged into #{number}: more about it may be there")
            _add_caveat(
                target,
                f"#{ticket.id} was merged into this ticket: some of this may be about that one",
            )
    session.expire(ticket, ["messages"])
    return moved_messages


def move_message(session: Session, message: Message, ticket: int, addressed: int | None) -> None:
    """Put a message onto a ticket, and what was filed as that message."""
    message.ticket_id, message.addressed_ticket_id = ticket, addressed
    session.execute(update(Filing).where(Filing.message_id == message.id).values(ticket_id=ticket))


def _list_merged_tickets(session: Session, ticket: Ticket) -> list[int]:
    """Return a ticket and those that are merged into it, also by way of others."""
    ticket_ids = [ticket.id]
    for number in ticket_ids:  # grows while it is read
        into = select(Ticket.id).where(
            Ticket.merged_into_id == number, Ticket.id.not_in(ticket_ids)
        )
        ticket_ids += session.scalars(into)
    return ticket_ids


def _stays_behind(session: Session, ticket: Ticket, target: Ticket, merge: RecordedMerge) -> bool:
    """Return whether a merge's contacts have mail on a ticket.

    People whom another ticket's merge had brought onto it.
    """
    emails = [link.contact.email for link in ticket.contacts if link.contact_id in merge.contacts]
    merged = select(AuditEntry.at).where(
        AuditEntry.ticket_id == ticket.id, AuditEntry.action == "merged"
    )
    since = session.scalar(merged.order_by(AuditEntry.id.desc()).limit(1))
    if not emails or since is None:
        return False
    received_messages = select(Message.id).where(
        Message.ticket_id == target.id,
        Message.direction == "in",
        Message.from_email.in_(emails),
        Message.at >= since,
    )
    sent_mails = select(OutgoingMail.id).where(
        OutgoingMail.ticket_id == target.id,
        OutgoingMail.contact_id.in_(merge.contacts),
        OutgoingMail.created_at >= since,
        OutgoingMail.state != OutboxState.WITHHELD,
    )
    return any(
        session.scalar(rows.limit(1)) is not None for rows in (received_messages, sent_mails)
    )


def _add_caveat(ticket: Ticket, text: str) -> None:
    if text not in ticket.caveats:
        ticket.caveats = [*ticket.caveats, text]
