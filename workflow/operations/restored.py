"""What a restored system must not do: send what the original may have sent since."""

from datetime import datetime

from cryptography.fernet import Fernet
from sqlalchemy import delete, select, update

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.database.engine import Store
from workflow.models.accounts import WebSession
from workflow.models.core import Lease, Outgoing, Seen
from workflow.models.states import OutboxState, TellState
from workflow.models.webhooks import HookEvent
from workflow.runtime.blobs import Vault
from workflow.runtime.crypto import Sealer, Signer
from workflow.settings.settings import Settings
from workflow.tickets.desk import Desk

REASON = "restored from a backup: perhaps sent before"


def hold_back(settings: Settings, now: datetime) -> int:
    """Take every mail that waited in the backup out of the queue, and tell a person; how many.

    Safe to repeat.

    What webhooks had yet to be told counts as given up: `intake hook again` tells them, if that is
    wanted.

    Leases, signs of life and sign-ins of the backed-up system go too. A notice held back counts as
    "not possible", so that its ticket goes on; checkpoints, digests and claimed surveys stay:
    nothing is imported or asked for again.
    """
    store = Store(settings.database)
    try:
        with store.transaction() as session:
            session.execute(delete(Lease))
            session.execute(delete(Seen))
            session.execute(delete(WebSession))
            waiting = list(
                session.scalars(select(Outgoing).where(Outgoing.state == OutboxState.WAITING))
            )
            for mail in waiting:
                mail.state, mail.reason = OutboxState.WITHHELD, REASON
            for mail in waiting:
                what = {"ticket": mail.ticket_id, "mail": mail.id}
                audit.record(session, "mail withheld", by=RULE, cause=REASON, now=now, **what)
                _desk(settings).mail_failed(session, mail, REASON, now=now, unreachable=False)
            session.flush()  # what was just decided is no news either
            untold = update(HookEvent).where(HookEvent.state == TellState.WAITING)
            session.execute(untold.values(state=TellState.GIVEN_UP, reason=REASON))
    finally:
        store.close()
    return len(waiting)


def _desk(settings: Settings) -> Desk:
    # Nothing is sealed or signed here, and the real keys may not be back yet: one for the moment
    # will do.
    key = [Fernet.generate_key()]
    return Desk(settings, Signer(key), Vault(settings.blobs, Sealer(key), settings.inline_limit))
