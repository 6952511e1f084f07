"""A ticket never sticks in 1-Submitted (PROCESS, reading 6).

What should have followed from its notice is made up for.

The relay's answer is put down even where an error of ours is in the way of what follows: asking the
relay again would send the mail again. Once that error is mended, or was a passing one, the clock
does the rest.
"""

from sqlalchemy import select

from workflow import process
from workflow.context import AppContext
from workflow.models.core import OutgoingMail, Ticket
from workflow.models.states import OutboxState, Status
from workflow.process import Template
from workflow.runtime import log

NOTICE_TEMPLATES = (Template.NOTICE, Template.OVERSIZED)
FINAL_STATES = (OutboxState.SENT, OutboxState.REFUSED)


def advance_stuck_tickets(context: AppContext) -> int:
    """Take every ticket whose notice was answered for out of the first stage.

    How many were found there.
    """
    first = process.STEPS[0].stage
    here = (
        Ticket.status == Status.OPEN,
        Ticket.stage == first,
        OutgoingMail.period == Ticket.period,
    )
    answered = (OutgoingMail.template.in_(NOTICE_TEMPLATES), OutgoingMail.state.in_(FINAL_STATES))
    with context.store.read_only() as session:
        found = list(
            session.scalars(
                select(OutgoingMail.id)
                .join(Ticket)
                .where(*here, *answered)
                .order_by(OutgoingMail.id)
            )
        )
    for number in found:
        try:
            _follow(context, number)
        # top of one ticket: what is wrong with it must not stop the others
        except Exception as error:  # noqa: BLE001
            log.fault("stuck", error)
    return len(found)


def _follow(context: AppContext, number: int) -> None:
    now = context.clock()
    with context.store.transaction() as session:
        mail = session.get_one(OutgoingMail, number)
        if mail.state is OutboxState.SENT:
            context.desk.record_mail_sent(session, mail, now=now)
        else:
            context.desk.record_mail_failed(session, mail, mail.reason, now=now)
