"""Items as the lines `intake parse … --json` prints: the shapes scripts can rely on."""

from parsers.item import Address, Attachment, Bounce, InboundItem, RejectedRow


def build_mail_line(file: str, item: InboundItem) -> dict[str, object]:
    """Return the keys of one mail, in the order of the contract.

    `date` is ISO 8601 or None, `error` is None.
    """
    return {
        "file": file,
        "from_name": item.sender.name,
        "from_addr": item.sender.email,
        "contact_addr": item.contact.email,
        "reply_to": _emails(item.reply_to),
        "to": _emails(item.to),
        "cc": _emails(item.cc),
        "subject": item.subject,
        "message_id": item.message_id,
        "in_reply_to": item.in_reply_to,
        "references": list(item.references),
        "date": _date(item),
        "body_text": item.text,
        "body_plain": item.plain,
        "body_html": item.html,
        "reply_text": item.reply_text,
        "attachments": [_attachment(a) for a in item.attachments],
        "is_auto_reply": item.is_auto_reply,
        "is_bounce": item.is_bounce,
        "is_automated": item.is_automated,
        "bounce": _bounce(item.bounce),
        "caveats": list(item.caveats),
        "error": None,
    }


def build_item_line(file: str, item: InboundItem) -> dict[str, object]:
    """Return the keys of one item of the other formats; "" for a value the format does not have."""
    return {
        "file": file,
        "format": item.format.value,
        "external_id": item.external_id,
        "from_name": item.sender.name,
        "from_addr": item.sender.email,
        "company": item.company,
        "company_number": item.company_number,
        "phone": item.phone,
        "category": item.category,
        "subject": item.subject,
        "body_text": item.text,
        "date": _date(item),
        "link": item.link,
        "submission_id": item.submission_id,
        "thread_id": item.thread_id,
        "telemedicine": item.telemedicine,
        "details": [[label, value] for label, value in item.details],
        "attachments": [_attachment(a) for a in item.attachments],
        "caveats": list(item.caveats),
        "error": None,
    }


def build_reply_line(file: str, newest: str) -> dict[str, object]:
    """Return the keys of one bare reply body."""
    return {"file": file, "reply_text": newest, "error": None}


def build_error_line(file: str, reason: str) -> dict[str, object]:
    """Return the keys of a file that could not be read."""
    return {"file": file, "error": reason}


def build_rejected_line(file: str, row: RejectedRow) -> dict[str, object]:
    """Return the keys of a row that is no request; `row` counts from 1, `cell` may be ""."""
    return {"file": file, "sheet": row.sheet, "row": row.row, "cell": row.cell, "error": row.reason}


def _emails(people: tuple[Address, ...]) -> list[str]:
    return [person.email or person.name for person in people]


def _date(item: InboundItem) -> str | None:
    return item.sent_at.isoformat() if item.sent_at is not None else None


def _bounce(bounce: Bounce | None) -> dict[str, object] | None:
    if bounce is None:
        return None
    return {
        "action": bounce.action,
        "status": bounce.status,
        "failed": list(bounce.failed),
        "reason": bounce.reason,
    }


def _attachment(attachment: Attachment) -> dict[str, object]:
    return {
        "name": attachment.name,
        "mime": attachment.mime,
        "size": attachment.size,
        "sha256": attachment.sha256,
        "sha256_nl": attachment.sha256_nl,
        "inline": attachment.inline,
    }
