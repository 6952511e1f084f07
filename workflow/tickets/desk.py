"""Changes to tickets, decided by the process table, each with its audit row.

Rules act here, and so do people, through the commands of `actions`.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from parsers.mail import evidence
from workflow import process
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.customers import directory, mixed_companies, records
from workflow.database.locks import lock_ticket
from workflow.errors import AcrossCompanies, ActionNotAllowed, NoSuchTicket
from workflow.models.core import (
    Contact,
    Message,
    OutgoingMail,
    Staff,
    Task,
    Ticket,
    TicketContact,
    TicketMilestone,
    TicketRelation,
)
from workflow.models.milestones import list_reached
from workflow.models.states import OutboxState, Status
from workflow.process import Deadline, Milestone, Person, Stage, Template
from workflow.runtime import log
from workflow.runtime.blobs import BlobStore
from workflow.runtime.crypto import Signer
from workflow.settings.settings import Settings
from workflow.tickets import merged_messages, outbox, transitions
from workflow.tickets.deadlines import compute_due_at, list_deadlines, set_due_at
from workflow.tickets.outbox import build_task_row
from workflow.tickets.transitions import (
    NOTIFY_TASK,
    NOTIFY_TASK_KIND,
    Change,
    MailDue,
    MilestoneReached,
    Opened,
    Situation,
    StageEntered,
    SurveyDue,
    TaskDue,
    describe_unnotified,
)

YES, NO = "Yes", "No"


class Desk:
    """Changes tickets under the settings. No method commits: the session is the caller's."""

    def __init__(self, settings: Settings, signer: Signer, blob_store: BlobStore) -> None:
        self.settings = settings
        self.signer = signer
        self.blob_store = blob_store

    # -- opening ----

    def open(
        self,
        session: Session,
        ticket: Ticket,
        *,
        cause: str,
        now: datetime,
        oversized: bool = False,
        no_notice_reason: str = "",
        obstacle: str = "",
    ) -> None:
        """Take a new ticket, with its contacts, into 1-Submitted, and queue its notice.

        `no_notice_reason` says why nobody needs one, `obstacle` why nobody may get one.
        """
        set_due_at(ticket, self.settings)
        session.flush()
        situation = self._describe(session, ticket, now, obstacle)
        changes = transitions.open_ticket(
            situation, cause, oversized=oversized, no_notice_reason=no_notice_reason
        )
        self._apply(session, ticket, changes, now)
        set_due_at(ticket, self.settings)

    def add_contact(
        self,
        session: Session,
        ticket: Ticket,
        contact: Contact,
        *,
        share_activity: bool = True,
        brought_by: Ticket | None = None,
    ) -> None:
        """Put a contact on the ticket, once; `brought_by` is the ticket whose merge brings them."""
        existing_link = next((link for link in ticket.contacts if link.contact is contact), None)
        if existing_link is None:
            came_from = brought_by.id if brought_by is not None else None
            link = TicketContact(
                contact=contact, share_activity=share_activity, from_ticket_id=came_from
            )
            ticket.contacts.append(link)
            session.flush()
        elif brought_by is None:
            existing_link.from_ticket_id = (
                None  # somebody put them on this ticket itself: undoing a merge leaves them
            )

    # -- changes by staff ----

    def assign(
        self, session: Session, ticket: Ticket, owner: Staff, *, by: str, now: datetime
    ) -> None:
        """Give the ticket to its owner, and the owner's tasks with it.

        It leaves the unassigned queue.
        """
        before = ticket.owner_id
        ticket.owner = owner
        for task in ticket.tasks:
            if task.follows_owner and task.done_at is None:
                task.assignee = owner.name
        owners = {"owner": owner.id, "before": before}
        audit.record(
            session, "assigned", by=by, cause="assign", now=now, ticket=ticket.id, **owners
        )

    def record_milestone(
        self,
        session: Session,
        ticket: Ticket,
        milestone: Milestone,
        *,
        by: str,
        now: datetime,
        note: str = "",
        cause: str = "",
    ) -> bool:
        """Record a milestone, once a period, and move the ticket on as the table says.

        Return False if it was recorded before.
        """
        lock_ticket(session, ticket)
        situation = self._describe(session, ticket, now)
        if milestone in situation.reached:
            return False
        changes = transitions.reach(
            situation, milestone, by=by, cause=cause or str(milestone), note=note
        )
        self._apply(session, ticket, changes, now)
        set_due_at(ticket, self.settings)
        return True

    def resolve(
        self, session: Session, ticket: Ticket, *, yes: bool, by: str, now: datetime
    ) -> None:
        """Set the property Resolution.

        No takes an earlier Yes back, and never moves the ticket back.
        """
        if yes:
            self.record_milestone(session, ticket, Milestone.RESOLVED, by=by, now=now)
            return
        ticket.resolution = NO
        self._retract(session, ticket, {Milestone.RESOLVED})
        audit.record(session, "resolution no", by=by, cause="resolve no", now=now, ticket=ticket.id)

    def retract_milestone(
        self, session: Session, ticket: Ticket, milestone: Milestone, *, by: str, now: datetime
    ) -> bool:
        """Untick a box; return False where it was not ticked.

        The ticket stays where it is: only a person moves it back, with a reason.
        """
        lock_ticket(session, ticket)
        if milestone not in list_reached(ticket):
            return False
        self._retract(session, ticket, {milestone})
        cause = f"untick {milestone}"
        audit.record(
            session,
            "unticked",
            by=by,
            cause=cause,
            now=now,
            ticket=ticket.id,
            milestone=milestone.name,
        )
        return True

    def recap(
        self,
        session: Session,
        ticket: Ticket,
        text: str,
        *,
        by: str,
        now: datetime,
        across_companies: bool = False,
    ) -> list[OutgoingMail]:
        """Queue the recap mail to every contact that has an address; its box is ticked once sent.

        Contacts of another company that a merge has brought get it only with `across_companies`.
        Raises ActionNotAllowed when there is nobody to write to, AcrossCompanies when the others
        are of two companies too.
        """
        contacts = (
            [one.contact for one in ticket.contacts]
            if across_companies
            else mixed_companies.list_own_contacts(session, ticket)
        )
        able = [
            contact
            for contact in contacts
            if not contact.unreachable and not evidence.is_unread_address(contact.email)
        ]
        if not able:
            raise ActionNotAllowed(
                "no contact with a working address: tell the customer otherwise, and tick the box"
                " with a note how"
            )
        if not across_companies:
            require_one_company(session, ticket, [contact.email for contact in able])
        mails = [
            outbox.enqueue(session, ticket, Template.RECAP, c, by=by, now=now, text=text)
            for c in able
        ]
        audit.record(session, "recap promised", by=by, cause="recap", now=now, ticket=ticket.id)
        return [m for m in mails if m is not None]

    def reopen(
        self, session: Session, ticket: Ticket, *, by: str, cause: str, now: datetime
    ) -> None:
        """Take up an ended ticket again.

        A completed one goes back to 4-In Progress with new deadlines, a side end back to where it
        was. Raises ActionNotAllowed when it is open already.
        """
        lock_ticket(session, ticket)
        if ticket.status is Status.OPEN:
            raise ActionNotAllowed("the ticket is open already")
        if ticket.status is Status.COMPLETED:
            self._begin_period(session, ticket, now)
        ticket.status = Status.COMPLETED if ticket.completed_at else Status.OPEN
        came = self._leave_merge(session, ticket, by=by, now=now)
        if ticket.status is Status.COMPLETED and any(not evidence.has_proof(m.signs) for m in came):
            self._begin_period(session, ticket, now)  # what came for it meanwhile is to be answered
            ticket.status = Status.OPEN
        audit.record(
            session, "reopened", by=by, cause=cause, now=now, ticket=ticket.id, period=ticket.period
        )
        changes = transitions.move_on(self._describe(session, ticket, now), by, cause)
        self._apply(session, ticket, changes, now)
        set_due_at(ticket, self.settings)

    def merge(
        self,
        session: Session,
        ticket: Ticket,
        into: Ticket,
        *,
        by: str,
        now: datetime,
        across_companies: bool = False,
    ) -> None:
        """End this ticket as a duplicate of another; answers to it go there.

        Reopening undoes it.

        A completed ticket that an open one is merged into is reopened, so that somebody goes on
        with the request. Raises ActionNotAllowed when it cannot be, with what to do;
        AcrossCompanies when the two are of different companies and nobody has confirmed that
        (`across_companies`).
        """
        lock_ticket(session, into)  # its status decides what happens
        self._require_mergeable(ticket, into)
        names = mixed_companies.find_merge_conflict(session, ticket, into)
        if names is not None and not across_companies:
            raise AcrossCompanies(
                f"#{ticket.id} is about {names[0]}, #{into.id} about {names[1]}: two customers, of"
                " whom no common company is known. Check the number, and confirm if they belong"
                " together all the same"
            )
        if into.status is Status.COMPLETED and ticket.status is Status.OPEN:
            self.reopen(
                session, into, by=by, cause=f"#{ticket.id}, which was open, merged into it", now=now
            )
        ticket.status, ticket.merged_into_id = Status.MERGED, into.id
        set_due_at(ticket, self.settings)
        self.relate(session, ticket, into, f"merged into #{into.id}")
        for link in ticket.contacts:
            self.add_contact(
                session, into, link.contact, share_activity=link.share_activity, brought_by=ticket
            )
        cause = "merge across companies, confirmed" if names is not None else "merge"
        audit.record(session, "merged", by=by, cause=cause, now=now, ticket=ticket.id, into=into.id)

    @staticmethod
    def _require_mergeable(ticket: Ticket, into: Ticket) -> None:
        """Raise ActionNotAllowed when a merge hides a request from all lists or forms a loop."""
        if ticket is into or into.status is Status.MERGED:
            raise ActionNotAllowed("merge into another ticket that is not merged itself")
        if ticket.status not in {Status.OPEN, Status.COMPLETED}:
            raise ActionNotAllowed(f"#{ticket.id} is {ticket.status}: reopen it first")
        if into.status not in {Status.OPEN, Status.COMPLETED}:
            raise ActionNotAllowed(
                f"#{into.id} is closed as {into.status}: reopen it first, or merge it into"
                f" #{ticket.id}"
            )

    def _leave_merge(
        self, session: Session, ticket: Ticket, *, by: str, now: datetime
    ) -> list[Message]:
        """Take a ticket and its contacts out of the one it is merged into.

        Return the messages that came for it meanwhile, which are on it again.
        """
        merge = merged_messages.get_merge(session, ticket)
        into, ticket.merged_into_id = ticket.merged_into_id, None
        source, contacts = ticket.id, {link.contact_id for link in ticket.contacts}
        while into is not None and contacts:  # that one may be merged again, and has handed them on
            brought_links = select(TicketContact).where(
                TicketContact.ticket_id == into,
                TicketContact.from_ticket_id == source,
                TicketContact.contact_id.in_(contacts),
            )
            links = list(session.scalars(brought_links))
            contacts = {link.contact_id for link in links}
            for link in links:
                session.delete(link)
            session.flush()
            target = session.get_one(Ticket, into)
            session.expire(target, ["contacts"])
            source, into = target.id, target.merged_into_id
        return merged_messages.restore_messages(session, ticket, merge, by=by, now=now)

    def close(
        self,
        session: Session,
        ticket: Ticket,
        status: Status,
        *,
        by: str,
        reason: str,
        now: datetime,
        audit_action: str = "",
    ) -> None:
        """Close as spam or withdrawn: no deadlines, no survey, reversible by reopening.

        `audit_action` is the action of the audit row, "" the status.
        """
        ticket.status = status
        set_due_at(ticket, self.settings)
        action = audit_action or str(status)
        audit.record(session, action, by=by, cause=reason, now=now, ticket=ticket.id)

    def move_back(
        self, session: Session, ticket: Ticket, stage: Stage, *, by: str, reason: str, now: datetime
    ) -> None:
        """Move a ticket back to an earlier stage; only a person does, with a reason.

        Milestones that this stage and later ones wait for are open again. Raises ActionNotAllowed
        when the stage is not an earlier one, or the first: its notice is sent once.
        """
        if stage is process.STEPS[0].stage:
            raise ActionNotAllowed(
                f"the customer has been notified: move it to {process.STEPS[1].stage} at most"
            )
        order = [s.stage for s in process.STEPS]
        if order.index(stage) >= order.index(ticket.stage):
            raise ActionNotAllowed(f"{stage} is not before {ticket.stage}")
        again = {m for s in process.STEPS[order.index(stage) :] for m in s.waits_for}
        self._retract(session, ticket, again)
        if Milestone.RESOLVED in again:
            ticket.resolution = None
        ticket.stage, ticket.status, ticket.completed_at = stage, Status.OPEN, None
        self._leave_merge(session, ticket, by=by, now=now)
        set_due_at(ticket, self.settings)
        audit.record(
            session, "moved back", by=by, cause=reason, now=now, ticket=ticket.id, stage=stage.name
        )

    def create_telemedicine_task(
        self, session: Session, ticket: Ticket, *, by: str, now: datetime
    ) -> Task | None:
        """Task the telemedicine specialist or group; the consultant stays owner.

        Return None if it was done before.
        """
        who, cause = self.settings.telemedicine, f"telemedicine, by {by}"
        text = "telemedicine: help with this ticket"
        task = self.raise_task(
            session, ticket, "telemedicine", text, now=now, cause=cause, assignee=who
        )
        if task is not None:
            outbox.notify_staff(session, task, directory.find_staff(session, who), now=now)
        return task

    def finish_task(self, session: Session, task: Task, *, by: str, now: datetime) -> bool:
        """Close a task; only a person does. Return False where it was closed already."""
        if task.done_at is not None:
            return False
        task.done_at, task.done_by = now, by
        ids = {"ticket": task.ticket_id, "task": task.id}
        audit.record(session, "task done", by=by, cause=task.kind, now=now, **ids)
        return True

    def reopen_task(self, session: Session, task: Task, *, by: str, now: datetime) -> bool:
        """Open a task again that was closed too soon. Return False where it was open."""
        if task.done_at is None:
            return False
        task.done_at = task.done_by = None
        ids = {"ticket": task.ticket_id, "task": task.id}
        audit.record(session, "task open again", by=by, cause=task.kind, now=now, **ids)
        return True

    def relate(self, session: Session, ticket: Ticket, other: Ticket, reason: str) -> None:
        """Link two tickets, once."""
        if session.get(TicketRelation, (ticket.id, other.id)) is None:
            session.add(TicketRelation(ticket_id=ticket.id, other_id=other.id, reason=reason))

    # -- changes by rules ----

    def raise_overdue_tasks(self, session: Session, ticket: Ticket, now: datetime) -> list[Task]:
        """Raise a task for every deadline this open ticket has missed, one each; return them."""
        if ticket.status is not Status.OPEN:
            return []
        tasks = [self._raise(session, ticket, d, now) for d in self._list_missed(ticket, now)]
        return [task for task in tasks if task is not None]

    def _list_missed(self, ticket: Ticket, now: datetime) -> list[Deadline]:
        """Return the deadlines that have passed and have no task yet, as far as the ticket shows.

        The unique index decides whether a task is raised; looking here spares a write.
        """
        reached_milestones = list_reached(ticket)
        raised_kinds = {t.kind for t in ticket.tasks if t.period == ticket.period}
        return [
            deadline
            for deadline in list_deadlines(ticket)
            if deadline.milestone not in reached_milestones
            and self.build_deadline_kind(deadline) not in raised_kinds
            and compute_due_at(deadline, ticket.period_started_at, self.settings) <= now
        ]

    def raise_task(
        self,
        session: Session,
        ticket: Ticket,
        kind: str,
        text: str,
        *,
        now: datetime,
        cause: str,
        milestone: Milestone | None = None,
        assignee: str | None = None,
    ) -> Task | None:
        """Give a task to `assignee`, or to the owner (the desk lead until there is one).

        Return None if it was given before.
        """
        lock_ticket(session, ticket)
        is_owned = ticket.owner is not None and not directory.has_left(session, ticket.owner)
        owner = ticket.owner.name if ticket.owner and is_owned else self.settings.desk_lead
        to = owner if assignee is None else assignee
        values = build_task_row(
            ticket.id, ticket.period, kind, text, cause=cause, now=now, assignee=to
        )
        task = Task(milestone=milestone, follows_owner=assignee is None, **values)
        try:
            with session.begin_nested():
                session.add(task)
        except IntegrityError:
            return None
        session.expire(ticket, ["tasks"])
        audit.record(session, "task", by=RULE, cause=cause, now=now, ticket=ticket.id, task=task.id)
        log.task_raised(ticket.id, task.id, kind)
        return task

    def record_mail_sent(self, session: Session, mail: OutgoingMail, *, now: datetime) -> None:
        """Record what follows from a mail that the relay has taken."""
        if mail.period != mail.ticket.period:
            return
        if mail.template in {Template.NOTICE, Template.OVERSIZED}:
            self.record_milestone(
                session,
                mail.ticket,
                Milestone.CUSTOMER_NOTIFIED,
                by=RULE,
                now=now,
                cause=f"mail {mail.id} sent",
            )
        elif mail.template is Template.SURVEY:
            outbox.record_survey_sent(session, mail.ticket, now)
        for milestone in outbox.list_milestones(mail, self.settings):
            self.record_milestone(
                session, mail.ticket, milestone, by=mail.by, now=now, cause=f"mail {mail.id} sent"
            )

    def record_mail_failed(
        self,
        session: Session,
        mail: OutgoingMail,
        reason: str,
        *,
        now: datetime,
        unreachable: bool = True,
    ) -> None:
        """Record what follows from a mail that was refused for good or came back.

        The contact is flagged as unreachable, and somebody gets a task to tell the customer
        otherwise. `unreachable` is false where the relay is at fault: that says nothing of the
        address.
        """
        if mail.contact is not None and unreachable:
            mail.contact.unreachable = True
        ticket = mail.ticket
        if mail.template is Template.TASK:  # the task itself stands in the console
            return
        if mail.template is Template.SURVEY:
            outbox.release_survey(session, ticket)
            return
        self.raise_task(
            session,
            ticket,
            f"{NOTIFY_TASK_KIND}:{mail.id}",
            NOTIFY_TASK,
            now=now,
            cause=f"mail {mail.id}: {reason}",
        )
        still_waiting = any(m.state is OutboxState.WAITING and m is not mail for m in ticket.outbox)
        if mail.template in {Template.NOTICE, Template.OVERSIZED} and not still_waiting:
            self._record_not_notified(session, ticket, reason, now)

    def record_mail_arrived(
        self, session: Session, mail: OutgoingMail, *, by: str, now: datetime
    ) -> None:
        """Correct that a mail came back: it counts as sent, and its contact can be written to.

        The contact stays unreachable where another mail to it came back or was refused.
        """
        mail.state, mail.reason = OutboxState.SENT, ""
        session.flush()
        if mail.contact is not None:
            failed_mails = select(OutgoingMail.id).where(
                OutgoingMail.contact_id == mail.contact_id,
                OutgoingMail.state.in_([OutboxState.BOUNCED, OutboxState.REFUSED]),
            )
            mail.contact.unreachable = session.scalar(failed_mails.limit(1)) is not None
        kind = f"{NOTIFY_TASK_KIND}:{mail.id}"
        self._close_tasks(session, mail.ticket, kind, by=by, now=now)
        for task in mail.ticket.tasks:
            if task.kind == kind:  # should the mail come back after all, there is a task again
                task.kind = f"{kind}:taken back:{task.id}"

    def notify_late(self, session: Session, ticket: Ticket, *, by: str, now: datetime) -> None:
        """Queue the notice that was held back when the ticket opened, where nobody was notified.

        The task to tell the customer otherwise is closed where the notice goes out.
        """
        notices = {Template.NOTICE, Template.OVERSIZED}
        if ticket.status is not Status.OPEN or any(m.template in notices for m in ticket.outbox):
            return
        for contact in mixed_companies.list_own_contacts(session, ticket):
            if outbox.find_obstacle(session, ticket, contact, self.settings, now):
                continue
            outbox.enqueue(session, ticket, Template.NOTICE, contact, by=RULE, now=now)
            self._close_tasks(session, ticket, NOTIFY_TASK_KIND, by=by, now=now)

    def _close_tasks(
        self, session: Session, ticket: Ticket, kind: str, *, by: str, now: datetime
    ) -> None:
        for task in ticket.tasks:
            if task.kind == kind and task.period == ticket.period:
                self.finish_task(session, task, by=by, now=now)

    @staticmethod
    def build_deadline_kind(deadline: Deadline) -> str:
        """Return the kind of a deadline's task, by which it is raised once a period."""
        return f"deadline:{deadline.milestone.name}"

    # -- the engine ----

    def _describe(
        self, session: Session, ticket: Ticket, now: datetime, obstacle: str = ""
    ) -> Situation:
        """Return where a ticket stands; `obstacle` keeps automatic mail from all contacts."""

        def find_obstacles() -> dict[Contact, str]:
            return {
                contact: obstacle
                or outbox.find_obstacle(session, ticket, contact, self.settings, now)
                for contact in mixed_companies.list_own_contacts(session, ticket)
            }

        return Situation(
            find_obstacles,
            stage=ticket.stage,
            reached=frozenset(list_reached(ticket)),
            is_open=ticket.status is Status.OPEN,
        )

    def _apply(
        self, session: Session, ticket: Ticket, changes: Iterable[Change], now: datetime
    ) -> None:
        """Make planned changes on a ticket, each with its audit row."""
        for change in changes:
            match change:
                case Opened():
                    self._audit(session, ticket, change, now)
                case StageEntered():
                    self._enter(session, ticket, change, now)
                case MilestoneReached():
                    self._reach(session, ticket, change, now)
                case MailDue(template, contact):
                    outbox.enqueue(session, ticket, template, contact, by=RULE, now=now)
                case SurveyDue():
                    self._enqueue_survey(session, ticket, now)
                case TaskDue(kind, text, cause):
                    self.raise_task(session, ticket, kind, text, now=now, cause=cause)

    def _enter(self, session: Session, ticket: Ticket, change: StageEntered, now: datetime) -> None:
        ticket.stage = change.step.stage
        if not change.step.waits_for:
            ticket.status, ticket.completed_at = Status.COMPLETED, now
        self._audit(session, ticket, change, now)
        log.stage_entered(ticket.id, change.step.stage.name)

    def _reach(
        self, session: Session, ticket: Ticket, change: MilestoneReached, now: datetime
    ) -> None:
        milestone = TicketMilestone(
            period=ticket.period,
            milestone=change.milestone,
            at=now,
            by=change.by,
            note=change.note,
        )
        ticket.milestones.append(milestone)
        if change.milestone is Milestone.RESOLVED:
            ticket.resolution = YES
        self._audit(session, ticket, change, now)

    @staticmethod
    def _audit(
        session: Session,
        ticket: Ticket,
        change: Opened | StageEntered | MilestoneReached,
        now: datetime,
    ) -> None:
        audit.record(
            session,
            change.action,
            by=change.by,
            cause=change.cause,
            now=now,
            ticket=ticket.id,
            **change.detail,
        )

    def _record_not_notified(
        self, session: Session, ticket: Ticket, reason: str, now: datetime
    ) -> None:
        note = describe_unnotified(reason)
        self.record_milestone(
            session, ticket, Milestone.CUSTOMER_NOTIFIED, by=RULE, now=now, note=note, cause=note
        )

    def _enqueue_survey(self, session: Session, ticket: Ticket, now: datetime) -> None:
        for contact in mixed_companies.list_own_contacts(session, ticket):
            if contact.unsubscribed or outbox.find_obstacle(
                session, ticket, contact, self.settings, now
            ):
                continue
            if outbox.claim_survey(session, ticket, contact, self.settings, now):
                outbox.enqueue(session, ticket, Template.SURVEY, contact, by=RULE, now=now)
            return

    def _raise(
        self, session: Session, ticket: Ticket, deadline: Deadline, now: datetime
    ) -> Task | None:
        cause = f"{deadline.milestone} not recorded within {deadline.within.days} days"
        lock_ticket(session, ticket)  # whoever owns it at this moment gets the task
        manager = ticket.company.manager if ticket.company else None
        escalates = deadline.person is Person.MANAGER
        if escalates and manager is None:
            self._add_caveat(
                ticket, "no manager on the company record: escalated to the fallback supervisor"
            )
        if escalates and directory.has_left(session, manager):
            self._add_caveat(
                ticket, "the company's manager has left: escalated to the fallback supervisor"
            )
        fallback_name = self.settings.fallback_supervisor if escalates else self.settings.desk_lead
        person = manager if escalates else ticket.owner
        if directory.has_left(session, person):
            person = None
        doer = directory.find_acting_staff(
            person or directory.find_staff(session, fallback_name), now
        )
        if doer is not person and directory.has_left(session, doer):
            doer = person  # a cover who has left covers nobody
        task = self.raise_task(
            session,
            ticket,
            self.build_deadline_kind(deadline),
            deadline.task,
            now=now,
            cause=cause,
            milestone=deadline.milestone,
            assignee=doer.name if doer else fallback_name,
        )
        if task is not None:
            task.follows_owner = not escalates
            outbox.notify_staff(session, task, doer, now=now)
        return task

    def _begin_period(self, session: Session, ticket: Ticket, now: datetime) -> None:
        carried_milestones = [
            r
            for r in ticket.milestones
            if r.period == ticket.period and r.milestone in process.list_carried_on_reopening()
        ]
        ticket.period += 1
        ticket.period_started_at = now
        ticket.stage, ticket.resolution, ticket.completed_at = process.REOPENING_STAGE, None, None
        for r in carried_milestones:
            again = TicketMilestone(
                period=ticket.period, milestone=r.milestone, at=r.at, by=r.by, note=r.note
            )
            ticket.milestones.append(again)
        session.flush()

    def _retract(self, session: Session, ticket: Ticket, milestones: set[Milestone]) -> None:
        for r in [
            r for r in ticket.milestones if r.period == ticket.period and r.milestone in milestones
        ]:
            session.delete(r)
        session.flush()
        session.expire(ticket, ["milestones"])
        set_due_at(ticket, self.settings)

    @staticmethod
    def _add_caveat(ticket: Ticket, text: str) -> None:
        if text not in ticket.caveats:
            ticket.caveats = [*ticket.caveats, text]


def require_one_company(session: Session, ticket: Ticket, emails: Iterable[str]) -> None:
    """Raise AcrossCompanies where a mail would go to people of more than one company."""
    names = mixed_companies.list_recipient_companies(session, ticket, emails)
    if len(names) > 1:
        raise AcrossCompanies(
            f"it goes to two customers or more ({' and '.join(names)}), of whom no common company"
            " is known: leave the others out, or confirm that all of them may read it"
        )


def get_ticket(session: Session, number: int) -> Ticket:
    """Return the ticket with this number, locked as by `lock_ticket`. Raises NoSuchTicket."""
    ticket = session.scalar(
        select(Ticket).where(Ticket.id == number).with_for_update(key_share=True)
    )
    if ticket is None:
        raise NoSuchTicket(number)
    return ticket


def get_staff(session: Session, name: str) -> Staff:
    """Return the person on the desk, to be chosen for work.

    Raises ActionNotAllowed with the command that adds one, and for somebody who has left.
    """
    person = directory.find_staff(session, name)
    if person is None:
        raise ActionNotAllowed(
            f"nobody on the desk is called {name}: add them with `intake user add {name} --role"
            " agent`"
        )
    records.require_present(session, person)
    return person
