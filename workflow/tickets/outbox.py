"""The outbox: mail is queued in the transaction that calls for it, and sent after its commit.

Here are the rows, and the reasons why an automatic mail is not queued. `workflow/mail/sender.py`
sends what waits.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.mail import evidence
from workflow.customers import directory
from workflow.database.engine import notify_workers
from workflow.models.core import Contact, LastSurvey, OutgoingMail, Staff, Task, Ticket
from workflow.models.states import OutboxState
from workflow.process import Milestone, Template
from workflow.settings.settings import Settings
from workflow.tickets import notice_budget
from workflow.tickets.notice_budget import RecentMails

SEND = "send"  # what wakes a worker for the outbox


def find_obstacle(
    session: Session, ticket: Ticket, contact: Contact, settings: Settings, now: datetime
) -> str:
    """Return why no automatic mail may go to this contact now; "" if it may (RFC 3834 §2)."""

    def load_recent() -> RecentMails:
        return notice_budget.load_recent_mails(session, [contact.email], settings, now)

    return find_contact_obstacle(
        contact, settings, automated=ticket.automated, load_recent=load_recent
    )


def find_contact_obstacle(
    contact: Contact,
    settings: Settings,
    *,
    automated: bool,
    load_recent: Callable[[], RecentMails],
) -> str:
    """Return why no automatic mail may go to this contact now; "" if it may.

    `automated` says that the ticket was opened by automatic mail; `load_recent` returns the counts
    of automatic mails within the hour, and is called only where they decide.
    """
    reason = _find_undeliverable_reason(contact, settings, automated=automated)
    return reason or load_recent().find_obstacle(contact.email)


def _find_undeliverable_reason(contact: Contact, settings: Settings, *, automated: bool) -> str:
    """Return why no automatic mail may ever go to this contact; "" if it may.

    `automated` says that the ticket was opened by automatic mail.
    """
    if automated:
        return "automatic sender"
    if directory.is_our_address(contact.email, settings):
        return "our own address"
    if evidence.is_unread_address(contact.email):
        return "an address nobody reads"
    if contact.unreachable:
        return "mail to this address came back before"
    return ""


def enqueue(
    session: Session,
    ticket: Ticket,
    template: Template,
    contact: Contact,
    *,
    by: str,
    now: datetime,
    text: str = "",
) -> OutgoingMail | None:
    """Queue a mail; return None if this rule has already acted for ticket, period and address."""
    nth = (
        _count_mails(session, ticket, template, contact) if text else 0
    )  # a person may send more than one recap
    mail = OutgoingMail(
        text=text,
        **build_outbox_row(ticket.id, ticket.period, template, contact, by=by, now=now, nth=nth),
    )
    try:
        with session.begin_nested():
            session.add(mail)
    except IntegrityError:
        return None
    session.expire(ticket, ["outbox"])
    notify_workers(session, SEND)
    return mail


def build_outbox_row(
    ticket: int,
    period: int,
    template: Template,
    contact: Contact,
    *,
    by: str,
    now: datetime,
    nth: int = 0,
) -> dict[str, Any]:
    """Return the columns of a queued mail, but for its text.

    `nth` tells several mails of one template to one contact apart.
    """
    return {
        "rule_key": f"{template.name}:{ticket}:{period}:{contact.id}:{nth}",
        "ticket_id": ticket,
        "contact_id": contact.id,
        "template": template,
        "to": contact.email,
        "recipient": directory.fold_address(contact.email),
        "recipient_domain": notice_budget.get_counted_domain(contact.email),
        "period": period,
        "state": OutboxState.WAITING,
        "not_before": now,
        "created_at": now,
        "by": by,
    }


def notify_staff(session: Session, task: Task, person: Staff | None, *, now: datetime) -> None:
    """Queue a mail about a task to whose it is, with number, stage and link.

    Does nothing where they have no address.
    """
    if person is None or not directory.is_valid_address(person.email):
        return
    session.add(
        OutgoingMail(
            rule_key=f"{Template.TASK.name}:{task.id}",
            template=Template.TASK,
            to=person.email,
            period=task.period,
            text="",
            state=OutboxState.WAITING,
            not_before=now,
            created_at=now,
            by="rule",
            ticket_id=task.ticket_id,
        )
    )
    notify_workers(session, SEND)


def list_milestones(mail: OutgoingMail, settings: Settings) -> list[Milestone]:
    """Return the boxes that a person's mail ticks once it is sent; a copy (cc) ticks none."""
    if mail.written is not None:
        names = mail.written.ticks if mail.to in mail.written.to else []
        return [m for name in names if (m := Milestone.__members__.get(name)) is not None]
    by_itself = mail.template is Template.RECAP and settings.recap_ticks_box
    return [Milestone.RECAP_SENT] if by_itself else []


def claim_survey(
    session: Session, ticket: Ticket, contact: Contact, settings: Settings, now: datetime
) -> bool:
    """Claim this customer's survey; return False where they had one in the last 30 × 24 h.

    Of several who claim it at once one gets it.
    """
    by_company = settings.survey_by == "company" and ticket.company_id
    customer = f"company:{ticket.company_id}" if by_company else f"contact:{contact.email}"
    try:
        with session.begin_nested():
            session.add(LastSurvey(customer=customer, claimed_at=now, ticket_id=ticket.id))
    except IntegrityError:
        due = LastSurvey.claimed_at <= now - timedelta(days=settings.survey_days)
        claim = (
            update(LastSurvey)
            .where(LastSurvey.customer == customer, due)
            .values(claimed_at=now, ticket_id=ticket.id)
        )
        return session.connection().execute(claim).rowcount == 1
    return True


def record_survey_sent(session: Session, ticket: Ticket, now: datetime) -> None:
    """Record when the relay took a survey: the days until the next one count from then."""
    session.execute(
        update(LastSurvey).where(LastSurvey.ticket_id == ticket.id).values(claimed_at=now)
    )


def release_survey(session: Session, ticket: Ticket) -> None:
    """Give the claim back: the customer got none."""
    session.execute(delete(LastSurvey).where(LastSurvey.ticket_id == ticket.id))


def _count_mails(session: Session, ticket: Ticket, template: Template, contact: Contact) -> int:
    mine = (
        OutgoingMail.ticket_id == ticket.id,
        OutgoingMail.template == template,
        OutgoingMail.contact_id == contact.id,
    )
    return session.scalar(select(func.count()).where(*mine)) or 0


def build_task_row(
    ticket: int, period: int, kind: str, text: str, *, cause: str, now: datetime, assignee: str
) -> dict[str, Any]:
    """Return the columns of a task, for the ORM and for filing in bulk alike."""
    return {
        "ticket_id": ticket,
        "period": period,
        "kind": kind,
        "text": text,
        "cause": cause,
        "created_at": now,
        "assignee": assignee,
    }
