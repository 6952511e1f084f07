"""Deliveries of earlier versions that hold only the URL of a mail.

A mail that the server did not give was stored as a failed delivery of its imap:// URL (RFC 5092).
Parsed again, it would open a ticket with that URL as the customer's text. Such a delivery is never
parsed: the mail itself is put on its mailbox's list of mails to fetch, and once it is stored, the
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
MAX_URL_OCTETS = 4000  # octets of such a URL
FETCH_REQUESTED = "asked for by replay, not fetched yet"
ONLY_THE_URL = (
    "not the mail but only its address was stored: the mail server did not give the mail. Replaying"
    " it fetches the mail from its mailbox, if it is still there; `intake status` names it until"
    " then"
)
FETCHED_LATER = "the mail was fetched later: delivery {number}"


def is_mail_url(transport: str, form: Format, raw: bytes) -> bool:
    """Return whether the bytes of a delivery are only the URL of a mail."""
    mail = (transport, form) == (Transport.IMAP, Format.MAIL)
    return mail and len(raw) <= MAX_URL_OCTETS and MAIL_URL.fullmatch(raw) is not None


def reject_mail_url(transport: str, form: Format, raw: bytes) -> None:
    """Raise ParseError for a delivery that holds only the URL of a mail."""
    if is_mail_url(transport, form, raw):
        raise ParseError(ONLY_THE_URL)


def request_fetch(context: AppContext, envelope: Mapping[str, object]) -> None:
    """Have the mailbox's reader fetch the mail that this envelope's delivery stands for."""
    mailbox, validity, uid = (envelope.get(name) for name in ("mailbox", "uid_validity", "uid"))
    if isinstance(mailbox, str) and isinstance(validity, int) and isinstance(uid, int):
        faults = ItemFaults(context.store, context.clock, Transport.IMAP, mailbox)
        faults.record(f"{validity}/{uid}", FETCH_REQUESTED, soon=True)


def dismiss_url_deliveries(context: AppContext, reference: str, number: int) -> None:
    """Dismiss the failed deliveries that hold only the URL of a mail.

    `number` is the delivery as which the mail itself was stored.
    """
    with context.store.transaction() as session:
        for delivery in _find_failed(session, reference, number):
            if is_mail_url(delivery.transport, delivery.format, _read_bytes(context, delivery)):
                _dismiss(session, delivery, number, context.clock())


def _read_bytes(context: AppContext, delivery: Delivery) -> bytes:
    """Return the stored bytes.

    B"" when they do not open: it stays failed, for a person to look at.
    """
    try:
        return context.blob_store.read(delivery.content, delivery.blob)
    except (ValueError, OSError):  # they do not open: it stays failed, for a person to look at
        return b""


def _find_failed(session: Session, reference: str, number: int) -> list[Delivery]:
    """Return the small failed deliveries of this reference, except the given one."""
    deliveries = select(Receipt.delivery_id).where(Receipt.reference == reference)
    small = (
        Delivery.state == DeliveryState.FAILED,
        Delivery.size <= MAX_URL_OCTETS,
        Delivery.id != number,
    )
    return list(session.scalars(select(Delivery).where(Delivery.id.in_(deliveries), *small)))


def _dismiss(session: Session, delivery: Delivery, number: int, now: datetime) -> None:
    """Dismiss a delivery, with the reason in the audit log."""
    reason = FETCHED_LATER.format(number=number)
    delivery.state, delivery.reason, delivery.processed_at = DeliveryState.DISMISSED, reason, now
    audit.record(session, "dismissed", by=RULE, cause=reason, now=now, delivery=delivery.id)
