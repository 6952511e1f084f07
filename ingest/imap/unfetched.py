"""Deliveries of earlier versions that are not the mail but only its address.

A mail that the server did not give was stored as a failed delivery of its imap:// URL (RFC 5092).
Read again it would open a ticket with that URL as the customer's words. Such a delivery is never
read: the mail itself is put onto the list of its mailbox to be fetched, and when it came, the
delivery is dismissed with the number of the real one.
"""

import re
from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.intake import Transport
from parsers.item import Format, ParseError
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.models.core import Delivery, Receipt
from workflow.models.states import DeliveryState
from workflow.operations.item_faults import ItemFaults

MAIL_URL = re.compile(rb"imap://[!-~]+;UIDVALIDITY=[0-9]+/;UID=[0-9]+")
MAX_URL_OCTETS = 4000  # octets of such an address
FETCH_REQUESTED = "asked for by replay, not fetched yet"
ONLY_THE_URL = (
    "not the mail but only its address was stored: the mail server did not give the mail. Replaying"
    " it fetches the mail from its mailbox, if it is still there; `intake status` names it until"
    " then"
)
FETCHED_LATER = "the mail was fetched later: delivery {number}"


def is_mail_url(transport: str, form: Format, raw: bytes) -> bool:
    """Return whether the bytes of a delivery are only the address of a mail."""
    mail = (transport, form) == (Transport.IMAP, Format.MAIL)
    return mail and len(raw) <= MAX_URL_OCTETS and MAIL_URL.fullmatch(raw) is not None


def reject_mail_url(transport: str, form: Format, raw: bytes) -> None:
    """Raise ParseError for a delivery that is not the mail."""
    if is_mail_url(transport, form, raw):
        raise ParseError(ONLY_THE_URL)


def request_fetch(context: AppContext, envelope: Mapping[str, object]) -> None:
    """Have the reader of a mailbox fetch the mail that a delivery of its address stands for."""
    mailbox, validity, uid = (envelope.get(name) for name in ("mailbox", "uid_validity", "uid"))
    if isinstance(mailbox, str) and isinstance(validity, int) and isinstance(uid, int):
        faults = ItemFaults(context.store, context.clock, Transport.IMAP, mailbox)
        faults.record(f"{validity}/{uid}", FETCH_REQUESTED, soon=True)


def dismiss_url_deliveries(context: AppContext, reference: str, number: int) -> None:
    """Dismiss the failed deliveries of a mail's address.

    `number` is the delivery as which the mail itself was fetched.
    """
    with context.store.transaction() as session:
        for delivery in _failed(session, reference, number):
            if is_mail_url(delivery.transport, delivery.format, _bytes(context, delivery)):
                _dismiss(session, delivery, number, context.clock())


def _bytes(context: AppContext, delivery: Delivery) -> bytes:
    try:
        return context.blob_store.read(delivery.content, delivery.blob)
    except (ValueError, OSError):  # they do not open: it stays failed, for a person to look at
        return b""


def _failed(session: Session, reference: str, number: int) -> list[Delivery]:
    mine = select(Receipt.delivery_id).where(Receipt.reference == reference)
    small = (
        Delivery.state == DeliveryState.FAILED,
        Delivery.size <= MAX_URL_OCTETS,
        Delivery.id != number,
    )
    return list(session.scalars(select(Delivery).where(Delivery.id.in_(mine), *small)))


def _dismiss(session: Session, delivery: Delivery, number: int, now: datetime) -> None:
    reason = FETCHED_LATER.format(number=number)
    delivery.state, delivery.reason, delivery.processed_at = DeliveryState.DISMISSED, reason, now
    audit.record(session, "dismissed", by=RULE, cause=reason, now=now, delivery=delivery.id)
