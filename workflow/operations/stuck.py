"""A ticket never sticks in 1-Submitted (PROCESS, reading 6).

What should have followed from its notice is made up for.

The relay's answer is put down even where an error of ours is in the way of what follows: asking the
relay again would send the mail again. Once that error is mended, or was a passing one, the clock
does the rest.
"""

from sqlalchemy import select

from workflow import process
from workflow.context import House
from workflow.models.core import Outgoing, Ticket
from workflow.models.states import OutboxState, Status
from workflow.process import Template
from workflow.runtime import log

NOTICES = (Template.NOTICE, Template.OVERSIZED)
ANSWERED = (OutboxState.SENT, OutboxState.REFUSED)


def move_on(house: House) -> int:
    """Take every ticket whose notice was answered for out of the first stage.

    How many were found there.
    """
    first = process.STEPS[0].stage
    here = (Ticket.status == Status.OPEN, Ticket.stage == first, Outgoing.period == Ticket.period)
    answered = (Outgoing.template.in_(NOTICES), Outgoing.state.in_(ANSWERED))
    with house.store.reading() as session:
        found = list(
            session.scalars(
                select(Outgoing.id).join(Ticket).where(*here, *answered).order_by(Outgoing.id)
            )
        )
    for number in found:
        try:
            _follow(house, number)
        # top of one ticket: what is wrong with it must not stop the others
        except Exception as error:  # noqa: BLE001
            log.fault("stuck", error)
    return len(found)


def _follow(house: House, number: int) -> None:
    now = house.clock()
    with house.store.transaction() as session:
        mail = session.get_one(Outgoing, number)
        if mail.state is OutboxState.SENT:
            house.desk.mail_sent(session, mail, now=now)
        else:
            house.desk.mail_failed(session, mail, mail.reason, now=now)
