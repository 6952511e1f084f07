"""Tickets as plain data: the views of the desk, and the JSON shapes of CLI and API."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload

from console.presenters.times import format_iso
from parsers.item import Address, InboundItem
from parsers.mail import evidence
from workflow import process
from workflow.customers.records import list_near_companies
from workflow.errors import ActionNotAllowed
from workflow.filing.linked_files import LinkedFile
from workflow.mail.answer import list_copied
from workflow.models.core import (
    Filing,
    Message,
    OutgoingMail,
    Task,
    Ticket,
    TicketContact,
    TicketRelation,
)
from workflow.models.milestones import list_reached
from workflow.models.states import Verdict
from workflow.settings.settings import Settings
from workflow.tickets import views
from workflow.tickets.deadlines import compute_due_at, list_deadlines
from workflow.tickets.desk import Desk

Data = dict[str, Any]
VIEW_CONDITIONS = {name: view.where for name, view in views.VIEWS.items()}


def list_view(session: Session, name: str, *, actor: str, now: datetime) -> list[Ticket]:
    """Return the tickets of a view, oldest first."""
    oldest = views.TicketQuery(name, sort=views.Sort.OLDEST)
    query = views.build_select(session, oldest, actor=actor, now=now)
    return list(session.scalars(query.options(selectinload(Ticket.milestones))))


def _join_people(query: Select[Ticket]) -> Select[Ticket]:
    return query.options(joinedload(Ticket.owner), joinedload(Ticket.company))


def present_ticket_row(ticket: Ticket) -> Data:
    """Return a ticket as a row of a list."""
    return {
        "id": ticket.id,
        "name": ticket.name,
        "subject": ticket.subject,
        "stage": ticket.stage,
        "status": ticket.status,
        "owner": ticket.owner.name if ticket.owner else None,
        "company": ticket.company.name if ticket.company else None,
        "source": ticket.transport,
        "format": ticket.format,
        "created_at": format_iso(ticket.created_at),
        "due_at": format_iso(ticket.due_at),
        "caveats": list(ticket.caveats),
    }


def get_ticket(session: Session, number: int) -> Ticket:
    """Load a ticket with everything `present_ticket` shows, in a handful of queries.

    Raises ActionNotAllowed when there is none.
    """
    query = _join_people(select(Ticket).where(Ticket.id == number)).options(
        selectinload(Ticket.contacts).joinedload(TicketContact.contact),
        selectinload(Ticket.milestones),
        selectinload(Ticket.tasks),
        selectinload(Ticket.messages).selectinload(Message.attachments),
        selectinload(Ticket.outbox),
    )
    ticket = session.scalar(query)
    if ticket is None:
        raise ActionNotAllowed(f"there is no ticket {number}: see `intake tickets --view open`")
    return ticket


def present_ticket(session: Session, number: int, settings: Settings) -> Data:
    """Return a ticket as `intake ticket ID --json` prints it.

    Raises ActionNotAllowed when there is none.
    """
    ticket = get_ticket(session, number)
    company = ticket.company
    return {
        "id": ticket.id,
        "name": ticket.name,
        "subject": ticket.subject,
        "pipeline": ticket.pipeline,
        "type": ticket.type,
        "stage": ticket.stage,
        "status": ticket.status,
        "resolution": ticket.resolution,
        "owner": ticket.owner.name if ticket.owner else None,
        "company": company
        and {
            "id": company.id,
            "name": company.name,
            "manager": company.manager.name if company.manager else None,
        },
        "named_company": ticket.named_company,
        "near_companies": [
            {"id": one.id, "name": one.name, "number": one.number}
            for one in list_near_companies(session, ticket)
        ],
        "contacts": [_present_contact(link) for link in ticket.contacts],
        "copied": [
            {"name": person.name, "email": person.email}
            for person in list_copied(session, ticket, settings)
        ],
        "source": ticket.transport,
        "format": ticket.format,
        "link": ticket.link,
        "telemedicine": ticket.telemedicine,
        "created_at": format_iso(ticket.created_at),
        "completed_at": format_iso(ticket.completed_at),
        "period": ticket.period,
        "milestones": _present_milestones(ticket),
        "missing": process.list_missing(ticket.stage, list_reached(ticket)),
        "deadlines": _present_deadlines(ticket, settings),
        "tasks": [present_task(t) for t in ticket.tasks],
        "messages": _present_messages(session, ticket),
        "outbox": [_present_mail(m) for m in ticket.outbox],
        "deliveries": _list_delivery_ids(session, ticket),
        "caveats": list(ticket.caveats),
        "related": _present_related(session, ticket),
        "merged_into": ticket.merged_into_id,
    }


def _present_contact(link: TicketContact) -> Data:
    contact = link.contact
    return {"name": contact.name, "email": contact.email, "share_activity": link.share_activity}


def _present_milestones(ticket: Ticket) -> Data:
    now = [r for r in ticket.milestones if r.period == ticket.period]
    return {str(r.milestone): {"at": format_iso(r.at), "by": r.by, "note": r.note} for r in now}


def _present_deadlines(ticket: Ticket, settings: Settings) -> list[Data]:
    task_kinds = {t.kind for t in ticket.tasks if t.period == ticket.period}
    return [
        {
            "milestone": d.milestone,
            "due_at": format_iso(compute_due_at(d, ticket.period_started_at, settings)),
            "raised": Desk.build_deadline_kind(d) in task_kinds,
        }
        for d in list_deadlines(ticket)
    ]


def present_task(row: Task) -> Data:
    """Return a task as its ticket shows it."""
    return {
        "id": row.id,
        "text": row.text,
        "assignee": row.assignee,
        "milestone": row.milestone,
        "done": row.done_at is not None,
        "cause": row.cause,
        "created_at": format_iso(row.created_at),
    }


def _present_messages(session: Session, ticket: Ticket) -> list[Data]:
    mine = (
        select(LinkedFile)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(Message.ticket_id == ticket.id)
    )
    links: dict[int, list[Data]] = {}
    for link in session.scalars(mine.order_by(LinkedFile.id)):
        data = {
            "url": link.url,
            "state": link.state,
            "reason": link.reason,
            "attachment": link.attachment_id,
        }
        links.setdefault(link.message_id, []).append(data)
    return [{**_present_message(m), "linked_files": links.get(m.id, [])} for m in ticket.messages]


def present_person(name: str, email: str) -> str:
    """Return a person as text: `Ann Example <ann@practice.example>`, or what there is of it."""
    return f"{name} <{email}>" if name and email and name != email else name or email


def _present_message(message: Message) -> Data:
    return {
        "id": message.id,
        "at": format_iso(message.at),
        "direction": message.direction,
        "from": present_person(message.from_name, message.from_email),
        "to": [present_person(name, email) for name, email in message.to],
        "cc": [present_person(name, email) for name, email in message.cc],
        "route": message.route,
        "sent_by": present_person(message.sent_by_name, message.sent_by_email),
        "customer": message.customer_email,
        "phone": message.phone,
        "subject": message.subject,
        "text": message.text,
        "reply_text": message.reply_text,
        "details": message.details,
        "caveats": message.caveats,
        "judgement": message.judgement,
        "signs": [evidence.describe([sign]) for sign in message.signs],
        "attachments": [
            {
                "id": a.id,
                "name": a.name,
                "mime": a.mime,
                "size": a.size,
                "sha256": a.sha256,
                "inline": a.inline,
            }
            for a in message.attachments
        ],
    }


def present_attached_message(item: InboundItem) -> Data:
    """Return a message that is attached to another as JSON values."""
    return {
        "from": _write_person(item.sender),
        "to": [_write_person(person) for person in item.to],
        "cc": [_write_person(person) for person in item.cc],
        "subject": item.subject,
        "sent_at": item.sent_at.isoformat() if item.sent_at else None,
        "text": item.text,
        "attachments": [
            {"name": a.name, "mime": a.mime, "size": a.size, "sha256": a.sha256}
            for a in item.attachments
        ],
        "caveats": list(item.caveats),
    }


def _write_person(person: Address) -> str:
    return f"{person.name} <{person.email}>" if person.name else person.email


def _present_mail(mail: OutgoingMail) -> Data:
    return {
        "id": mail.id,
        "template": mail.template,
        "to": mail.to,
        "state": mail.state,
        "reason": mail.reason,
        "sent_at": format_iso(mail.sent_at),
        "message_id": mail.message_id,
    }


def _list_delivery_ids(session: Session, ticket: Ticket) -> list[int]:
    filed = session.scalars(
        select(Filing.delivery_id).where(Filing.ticket_id == ticket.id).distinct()
    )
    return sorted(filed)


def _present_related(session: Session, ticket: Ticket) -> list[Data]:
    either = or_(TicketRelation.ticket_id == ticket.id, TicketRelation.other_id == ticket.id)
    either &= TicketRelation.verdict != Verdict.UNRELATED
    rows = session.scalars(select(TicketRelation).where(either).order_by(TicketRelation.ticket_id))
    return [
        {"id": r.other_id if r.ticket_id == ticket.id else r.ticket_id, "reason": r.reason}
        for r in rows
    ]
