"""Automated mail as plain data: the JSON shape of command and API."""

from typing import Any

from console.presenters.times import format_iso
from parsers.mail import evidence
from workflow.models.core import AutomatedMail

Data = dict[str, Any]


def present_automated_mail(mail: AutomatedMail) -> Data:
    """Return a mail that is on no ticket, with all of its text."""
    sender = f"{mail.from_name} <{mail.from_email}>" if mail.from_name else mail.from_email
    return {
        "id": mail.id,
        "delivery": mail.delivery_id,
        "at": format_iso(mail.at),
        "from": sender,
        "subject": mail.subject,
        "text": mail.text,
        "reason": mail.reason,
        "signs": [evidence.describe([sign]) for sign in mail.signs],
        "ticket": mail.ticket_id,
    }
