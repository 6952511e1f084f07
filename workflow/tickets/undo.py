"""Undo: restore a snapshot of a ticket, as long as nobody has changed it since."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Enum, Table, delete, exists, inspect, or_, select, update
from sqlalchemy.orm import Session

from workflow.audit import record as audit
from workflow.database.locks import lock_ticket
from workflow.errors import ActionNotAllowed
from workflow.models.base import Base, UtcDateTime
from workflow.models.core import (
    AuditEntry,
    Company,
    CompanyDomain,
    Contact,
    Filing,
    Message,
    OutgoingMail,
    Ticket,
    TicketContact,
    TicketMilestone,
    TicketRelation,
)
from workflow.models.presence import UndoRecord
from workflow.models.states import OutboxState, Outcome, Status
from workflow.process import Template
from workflow.tickets import merged_messages, outbox
from workflow.tickets.presence import READING, get_version

VALID = timedelta(minutes=10)
# Mails that a person's action has queued wait so long, so that an undo can withhold them.
DELAY = timedelta(seconds=10)
KEEP_FOR = timedelta(days=1)
# An undo touches neither notes nor what came in meanwhile, so these do not stand in its way.
HARMLESS = (*READING, "note", "appended", audit.DESK_MESSAGE, audit.AUTOMATIC_ANSWER)

Values = dict[str, Any]
_TICKET = (
    "stage",
    "status",
    "resolution",
    "owner_id",
    "company_id",
    "name",
    "period",
    "period_started_at",
    "completed_at",
    "merged_into_id",
    "caveats",
    "due_at",
    "named_company",
    "named_number",
    "near_companies",
)
_TASK = ("assignee", "done_at", "done_by")
_REACHED = ("period", "milestone", "at", "by", "note")
_RELATION = ("ticket_id", "other_id", "reason", "verdict")
_MESSAGE = ("id", "ticket_id", "addressed_ticket_id")
_NOTHING_BEFORE: Values = {"mails": [], "tasks": {}, "milestones": []}  # of an opened ticket
_LINK = ("id", "ticket_id", "contact_id", "share_activity", "from_ticket_id")


@dataclass
class RunningAction:
    """The running action. `words` are shown on the page and on its undo button.

    `undo_id` is set at the end: the number of the undo, None where nothing was changed.
    `opened_ticket` is a ticket that the action has opened for a message of this one.
    """

    words: str
    undo_id: int | None = None
    opened_ticket: int | None = None


@contextmanager
def record_undo(
    session: Session,
    ticket: Ticket,
    words: str,
    *,
    by: str,
    now: datetime,
    other: Ticket | None = None,
) -> Iterator[RunningAction]:
    """Let `by` undo for ten minutes what the block does.

    `other` is a second ticket that it touches, as a merge does: it is restored too, where the block
    changed it. Mails that the block queues wait for ten seconds. Nothing is stored where the block
    changed nothing.
    """
    action = RunningAction(words)
    lock_ticket(session, ticket)
    if other is ticket:
        other = None
    if other is not None:
        lock_ticket(session, other)
    before, seen_version = _take_snapshot(session, ticket, other), get_version(session, ticket.id)
    other_before, other_seen_version = (
        (_copy_rows(other), get_version(session, other.id)) if other is not None else ({}, 0)
    )
    yield action
    session.flush()
    fresh = _list_new_mails(session, ticket, before)
    if other is not None and (other_version := get_version(session, other.id)) > other_seen_version:
        before["other"] = {"id": other.id, "audit_id": other_version, **other_before}
        fresh += _list_new_mails(session, other, other_before)
    if action.opened_ticket is not None:
        before["opened"] = {
            "id": action.opened_ticket,
            "audit_id": get_version(session, action.opened_ticket),
        }
        fresh += _list_new_mails(
            session, session.get_one(Ticket, action.opened_ticket), _NOTHING_BEFORE
        )
    if fresh:
        session.execute(
            update(OutgoingMail).where(OutgoingMail.id.in_(fresh)).values(not_before=now + DELAY)
        )
    last = get_version(session, ticket.id)
    if last > seen_version:
        session.execute(
            delete(UndoRecord).where(
                UndoRecord.ticket_id == ticket.id, UndoRecord.at < now - KEEP_FOR
            )
        )
        row = UndoRecord(
            ticket_id=ticket.id, by=by, words=action.words, at=now, audit_id=last, before=before
        )
        session.add(row)
        session.flush()
        action.undo_id = row.id


def find_undo(session: Session, ticket: int, by: str, now: datetime) -> UndoRecord | None:
    """Return the undo of a ticket that this person can use now, if there is one."""
    found = _find_last_undo(session, ticket)
    return found if found is not None and not _find_obstacle(session, found, by, now) else None


def _find_last_undo(session: Session, ticket: int) -> UndoRecord | None:
    rows = (
        select(UndoRecord)
        .where(UndoRecord.ticket_id == ticket, UndoRecord.undone_at.is_(None))
        .order_by(UndoRecord.id.desc())
    )
    return session.scalar(rows.limit(1))


def undo_action(
    session: Session, ticket: Ticket, number: int | None, *, by: str, now: datetime
) -> str:
    """Put the ticket back to where it was before the undo with this number, or its last (None).

    Return the words of the action that was undone. Raises ActionNotAllowed with the reason when
    it cannot be undone any more.
    """
    lock_ticket(session, ticket)
    undo = (
        session.get(UndoRecord, number)
        if number is not None
        else _find_last_undo(session, ticket.id)
    )
    if undo is None or undo.ticket_id != ticket.id:
        raise ActionNotAllowed("there is nothing to undo")
    if fault := _find_obstacle(session, undo, by, now):
        raise ActionNotAllowed(fault)
    snapshots = [(ticket, undo.before)]
    if (its := undo.before.get("other")) is not None:
        other = session.get_one(Ticket, its["id"])
        lock_ticket(session, other)
        snapshots.append((other, its))
    opened = _get_opened(session, undo)
    for one, before in (*snapshots, *((one, _NOTHING_BEFORE) for one in opened)):
        _withhold(session, one, before, undo)
    merge = merged_messages.get_merge(session, ticket)
    company_id = ticket.company_id
    _restore_links(session, undo.before)
    _restore_relations(session, ticket, undo.before)
    for one, before in snapshots:
        _restore_rows(session, one, before, undo, by, now)
        owner_id = one.owner_id
        _set_columns(one, before["ticket"])
        audit.record(
            session, "undone", by=by, cause=undo.words, now=now, ticket=one.id, undo=undo.id
        )
        _record_owner(session, one, owner_id, by, now)
    if ticket.status is Status.MERGED:
        _restore_messages(session, ticket, undo.before, by=by, now=now)
    else:
        merged_messages.restore_messages(session, ticket, merge, by=by, now=now)
    for one in opened:
        _undo_split(session, ticket, one, undo, by=by, now=now)
    undo.undone_at = now
    session.flush()
    if company_id is not None and company_id != ticket.company_id:
        _remove_new_company(session, company_id, undo)
    session.expire_all()
    return undo.words


def _remove_new_company(session: Session, number: int, undo: UndoRecord) -> None:
    """Remove a company that the undone action has put on record, unless something is there of it.

    Else its name, perhaps a typing error, would be known from now on.
    """
    company = session.get_one(Company, number)
    is_edited = company.manager_id is not None or company.consultant_id is not None
    if company.created_at != undo.at or company.merged_into_id is not None or is_edited:
        return
    parts = (Ticket.company_id, Contact.company_id, CompanyDomain.company_id)
    if any(session.scalar(select(exists().where(part == number))) for part in parts):
        return
    if session.scalar(select(exists().where(Company.merged_into_id == number))):
        return
    session.delete(company)
    session.flush()


def _get_opened(session: Session, undo: UndoRecord) -> list[Ticket]:
    """Return the ticket that an action has opened, locked, or none."""
    if (its := undo.before.get("opened")) is None:
        return []
    opened = session.get_one(Ticket, its["id"])
    lock_ticket(session, opened)
    return [opened]


def _undo_split(
    session: Session, ticket: Ticket, opened: Ticket, undo: UndoRecord, *, by: str, now: datetime
) -> None:
    """Move the message that was split off back to its ticket.

    A number that was given stays: the opened ticket is merged into the other one, where whoever
    looks for it finds the message.
    """
    addressed = {m["id"]: m["addressed_ticket_id"] for m in undo.before.get("messages", ())}
    for message in session.scalars(select(Message).where(Message.ticket_id == opened.id)):
        merged_messages.move_message(session, message, ticket.id, addressed.get(message.id))
        message.split_from_ticket_id = None
        session.execute(
            update(Filing)
            .where(Filing.message_id == message.id, Filing.outcome == Outcome.OPENED)
            .values(outcome=Outcome.APPENDED, reason="")
        )
    reached = [_copy_columns(r, _REACHED) for r in opened.milestones]
    before = {**_NOTHING_BEFORE, "milestones": reached}
    _restore_rows(session, opened, before, undo, by, now)  # closes its tasks
    opened.status, opened.merged_into_id, opened.due_at = Status.MERGED, ticket.id, None
    audit.record(
        session, "undone", by=by, cause=undo.words, now=now, ticket=opened.id, undo=undo.id
    )


def _find_obstacle(session: Session, undo: UndoRecord, by: str, now: datetime) -> str:
    if undo.by != by:
        return f"only {undo.by} can undo this"
    if undo.undone_at is not None:
        return "it is undone already"
    if now - undo.at > VALID:
        return "it can be undone for ten minutes; now move the ticket back, or reopen it"
    since = describe_later_change(session, undo.ticket_id, undo.audit_id)
    its = undo.before.get("other")
    if not since and its is not None:
        since = describe_later_change(session, its["id"], its["audit_id"])
        since = f"{since} on #{its['id']}" if since else ""
    if opened := undo.before.get("opened"):
        # A message or a note there would be on a ticket that has ended.
        later = describe_later_change(session, opened["id"], opened["audit_id"], READING)
        if later:
            number = opened["id"]
            return f"since then on #{number}: {later}. Merge #{number} into this ticket instead"
    if not since and _would_hide_message(session, undo):
        since = "a message came, which has to be answered"
    return f"since then: {since}. Move the ticket back, or reopen it" if since else ""


def _would_hide_message(session: Session, undo: UndoRecord) -> bool:
    """Return whether a message has come since that an undo would leave on an ended ticket.

    A merged ticket that was completed before its merge would be completed again, one whose
    reopening is undone would be merged again.
    """
    before = undo.before["ticket"]
    if before["status"] == Status.MERGED:
        appended_entries = select(AuditEntry.id).where(
            AuditEntry.ticket_id == undo.ticket_id,
            AuditEntry.id > undo.audit_id,
            AuditEntry.action == "appended",
        )
        return session.scalar(appended_entries.limit(1)) is not None
    if before["status"] == Status.COMPLETED:
        messages = select(Message.id).where(Message.addressed_ticket_id == undo.ticket_id)
        return session.scalar(messages.limit(1)) is not None
    return False


def describe_later_change(
    session: Session, ticket: int, audit_id: int, harmless: tuple[str, ...] = HARMLESS
) -> str:
    """Return in words what was done to a ticket after an audit row; "" for nothing that matters."""
    rows = select(AuditEntry.action, AuditEntry.actor).where(
        AuditEntry.ticket_id == ticket, AuditEntry.id > audit_id, AuditEntry.action.not_in(harmless)
    )
    since = session.execute(rows.order_by(AuditEntry.id).limit(1)).first()
    return f"{since.action}, by {since.actor}" if since else ""


# -- the snapshot ----


def _take_snapshot(session: Session, ticket: Ticket, other: Ticket | None) -> Values:
    """Return the rows of a ticket, and contacts and relations of all that an action may touch."""
    ticket_ids = {ticket.id} | ({other.id} if other is not None else set())
    # reopening a merged ticket takes its contacts out of these
    ticket_ids |= _list_merge_targets(session, ticket)
    links = session.scalars(select(TicketContact).where(TicketContact.ticket_id.in_(ticket_ids)))
    return {
        **_copy_rows(ticket),
        "relations": [_copy_columns(r, _RELATION) for r in _list_relations(session, ticket)],
        "tickets": sorted(ticket_ids),
        "links": [_copy_columns(link, _LINK) for link in links],
        "messages": [
            _copy_columns(message, _MESSAGE)
            for message in session.scalars(
                select(Message).where(
                    Message.ticket_id.in_(ticket_ids), Message.addressed_ticket_id.is_not(None)
                )
            )
        ],
    }


def _copy_rows(ticket: Ticket) -> Values:
    """Return the rows of one ticket."""
    return {
        "ticket": _copy_columns(ticket, _TICKET),
        "milestones": [_copy_columns(r, _REACHED) for r in ticket.milestones],
        "tasks": {str(t.id): _copy_columns(t, _TASK) for t in ticket.tasks},
        "mails": [m.id for m in ticket.outbox],
    }


def _list_merge_targets(session: Session, ticket: Ticket) -> set[int]:
    """Return the tickets that a ticket is merged into, one after the other."""
    ticket_ids: set[int] = set()
    following = ticket.merged_into_id
    while following is not None and following not in ticket_ids:
        ticket_ids.add(following)
        following = session.scalar(select(Ticket.merged_into_id).where(Ticket.id == following))
    return ticket_ids


def _list_relations(session: Session, ticket: Ticket) -> list[TicketRelation]:
    either = or_(TicketRelation.ticket_id == ticket.id, TicketRelation.other_id == ticket.id)
    return list(session.scalars(select(TicketRelation).where(either)))


def _list_new_mails(session: Session, ticket: Ticket, before: Values) -> list[int]:
    rows = select(OutgoingMail.id).where(
        OutgoingMail.ticket_id == ticket.id, OutgoingMail.id.not_in(before["mails"])
    )
    return list(session.scalars(rows))


def _withhold(session: Session, ticket: Ticket, before: Values, undo: UndoRecord) -> None:
    """Withhold the mails that were queued.

    Raises ActionNotAllowed, and withholds none, when one of them is sent already. Their rule keys
    become free: doing it again queues them again. The ticket is locked before its mails, as in
    `mail.sender`, which records the relay's answer, so that no two wait for each other.
    """
    rows = (
        select(OutgoingMail)
        .where(OutgoingMail.id.in_(_list_new_mails(session, ticket, before)))
        .order_by(OutgoingMail.id)
    )
    mails = list(session.scalars(rows.with_for_update().execution_options(populate_existing=True)))
    for mail in mails:
        # a mail that a sender has claimed may be with the relay right now
        if mail.state is not OutboxState.WAITING or mail.attempts:
            raise ActionNotAllowed("its mail is on the way to the customer")
        mail.state, mail.reason = (
            OutboxState.WITHHELD,
            f"undone by {undo.by} before it was sent",
        )
        mail.rule_key = f"{mail.rule_key[:360]}:undone:{undo.id}"
    if any(m.template is Template.SURVEY for m in mails):
        outbox.release_survey(session, ticket)


def _record_owner(
    session: Session, ticket: Ticket, before: int | None, by: str, now: datetime
) -> None:
    """Record that an undo has changed the owner, so that webhooks get an event."""
    if ticket.owner_id == before:
        return
    action, detail = "unassigned", {"before": before}
    if ticket.owner_id is not None:
        action, detail = "assigned", {"owner": ticket.owner_id, "before": before}
    audit.record(session, action, by=by, cause="undo", now=now, ticket=ticket.id, **detail)


def _restore_rows(
    session: Session, ticket: Ticket, before: Values, undo: UndoRecord, by: str, now: datetime
) -> None:
    _restore_milestones(session, ticket, before["milestones"])
    for task in ticket.tasks:
        if (was := before["tasks"].get(str(task.id))) is not None:
            _set_columns(task, was)
        else:  # closed, not removed: somebody may have read of it
            task.kind, task.done_at, task.done_by = f"{task.kind[:80]}:undone:{undo.id}", now, by


def _restore_links(session: Session, before: Values) -> None:
    """Remove the contacts that came, and restore those that went."""
    if "links" not in before:  # an undo of before 0016 knows their numbers only
        came = (
            TicketContact.ticket_id.in_(before["tickets"]),
            TicketContact.id.not_in(before["contacts"]),
        )
        session.execute(delete(TicketContact).where(*came))
        return
    were = {values["id"]: values for values in before["links"]}
    there = {
        link.id: link
        for link in session.scalars(
            select(TicketContact).where(TicketContact.ticket_id.in_(before["tickets"]))
        )
    }
    for number in there.keys() - were.keys():
        session.delete(there[number])
    session.flush()
    for number, values in were.items():
        link = there.get(number) or TicketContact()
        _set_columns(link, values)
        session.add(link)
    session.flush()


def _restore_messages(
    session: Session, ticket: Ticket, before: Values, *, by: str, now: datetime
) -> None:
    """Move the messages that a reopening has moved back to where they were."""
    moved_ids: list[int] = []
    for values in before.get("messages", ()):
        message = session.get_one(Message, values["id"])
        if message.ticket_id != values["ticket_id"]:
            merged_messages.move_message(
                session, message, values["ticket_id"], values["addressed_ticket_id"]
            )
            moved_ids.append(message.id)
    if moved_ids:
        detail = {"messages": moved_ids, "to": ticket.merged_into_id}
        for number in (ticket.id, ticket.merged_into_id):
            action = merged_messages.MOVED
            audit.record(
                session, action, by=by, cause="merged again", now=now, ticket=number, **detail
            )


def _restore_relations(session: Session, ticket: Ticket, before: Values) -> None:
    were = {(r["ticket_id"], r["other_id"]): r for r in before["relations"]}
    for relation in _list_relations(session, ticket):
        was = were.get((relation.ticket_id, relation.other_id))
        if was is None:
            session.delete(relation)
        else:
            _set_columns(relation, was)


def _restore_milestones(session: Session, ticket: Ticket, before: list[Values]) -> None:
    were = {(r["period"], r["milestone"]): r for r in before}
    there = {(r.period, r.milestone.value): r for r in ticket.milestones}
    for key in there.keys() - were.keys():
        session.delete(there[key])
    session.flush()
    for key in were.keys() - there.keys():
        again = TicketMilestone(ticket_id=ticket.id)
        _set_columns(again, were[key])
        session.add(again)


def _copy_columns(row: Base, names: tuple[str, ...]) -> Values:
    """Return columns of a row as JSON can hold them."""
    values = {name: getattr(row, name) for name in names}
    return {n: v.isoformat() if isinstance(v, datetime) else v for n, v in values.items()}


def _set_columns(row: Base, values: Values) -> None:
    """Set columns to values that `_copy_columns` has returned, each as its type has it."""
    table = inspect(type(row)).local_table
    assert isinstance(table, Table)
    for name, value in values.items():
        kind = table.c[name].type
        if isinstance(kind, UtcDateTime) and value is not None:
            # the same value, as Python has it
            value = datetime.fromisoformat(value)  # noqa: PLW2901
        elif isinstance(kind, Enum) and kind.enum_class is not None:
            value = kind.enum_class(value)  # noqa: PLW2901  # as above
        setattr(row, name, value)
