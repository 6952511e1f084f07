"""What a restored system must not do: send what the original may have sent since."""

from datetime import datetime

from cryptography.fernet import Fernet
from sqlalchemy import delete, select, update

from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.database.engine import Store
from workflow.models.accounts import WebSession
from workflow.models.core import Heartbeat, Lease, OutgoingMail
from workflow.models.states import OutboxState, WebhookEventState
from workflow.models.webhooks import WebhookEvent
from workflow.runtime.blobs import BlobStore
from workflow.runtime.crypto import Sealer, Signer
from workflow.settings.settings import Settings
from workflow.tickets.desk import Desk

RESTORED_REASON = "restored from a backup: perhaps sent before"


def withhold_mail(settings: Settings, now: datetime) -> int:
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
            session.execute(delete(Heartbeat))
            session.execute(delete(WebSession))
            waiting = list(
                session.scalars(
                    select(OutgoingMail).where(OutgoingMail.state == OutboxState.WAITING)
                )
            )
            for mail in waiting:
                mail.state, mail.reason = OutboxState.WITHHELD, RESTORED_REASON
            for mail in waiting:
                what = {"ticket": mail.ticket_id, "mail": mail.id}
                audit.record(
                    session, "mail withheld", by=RULE, cause=RESTORED_REASON, now=now, **what
                )
                _desk(settings).record_mail_failed(
                    session, mail, RESTORED_REASON, now=now, unreachable=False
                )
            session.flush()  # what was just decided is no news either
            untold = update(WebhookEvent).where(WebhookEvent.state == WebhookEventState.WAITING)
            session.execute(untold.values(state=WebhookEventState.GIVEN_UP, reason=RESTORED_REASON))
    finally:
        store.close()
    return len(waiting)


def _desk(settings: Settings) -> Desk:
    # Nothing is sealed or signed here, and the real keys may not be back yet: one for the moment
    # will do.
    key = [Fernet.generate_key()]
    return Desk(
        settings, Signer(key), BlobStore(settings.blobs, Sealer(key), settings.inline_limit)
    )
