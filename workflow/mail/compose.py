"""Composes the mails of the outbox: text, headers, addresses and links.

An automatic mail holds fixed words, the ticket's number and links, never the customer's subject or
text; other mails are what a person wrote.
"""

from collections import defaultdict
from collections.abc import Sequence
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.message import Message as Part
from email.policy import EmailPolicy
from email.utils import format_datetime
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.database.bulk_insert import is_one_of
from workflow.models.core import Message, OutgoingMail
from workflow.process import WRITTEN_BY_PERSON, Template
from workflow.runtime import crypto
from workflow.runtime.crypto import Signer
from workflow.settings.settings import Settings


class _PlainHeaders(EmailPolicy):
    """A policy that parses a header only where there is something to encode or to refuse.

    The library parses and folds each value, which took half the time of composing a mail.
    """

    def header_store_parse(self, name: str, value: Any) -> tuple[str, Any]:
        if isinstance(value, str) and value.isascii() and value.isprintable():
            return name, value
        return super().header_store_parse(name, value)


# Lines of up to 900 characters: at 78 the library would fold long tokens into encoded-words that
# no mail program decodes. 7 bits, because every relay accepts them.
ASCII_POLICY = _PlainHeaders(linesep="\r\n", max_line_length=900, cte_type="7bit")
# For what a person writes and attaches: encoded lines of 76 characters (RFC 2045 §6.7, §6.8).
SHORT_LINES_POLICY = policy.default.clone(cte_type="7bit")
# Purposes of the signed tokens in links.
SURVEY_PURPOSE = "survey"
STATUS_PURPOSE = "status"


class OpenedFile(NamedTuple):
    """A file to be attached to a mail, with its plain content."""

    name: str
    mime: str
    content: bytes


class ComposedMail(NamedTuple):
    """A mail ready to be sent; `sender` and `to` are those of the SMTP envelope.

    `text` is its plain text, as the timeline shows it.
    """

    message: EmailMessage
    sender: str
    to: str
    message_id: str
    text: str


def compose_mail(
    mail: OutgoingMail,
    settings: Settings,
    signer: Signer,
    thread: Sequence[str] = (),
    enclosed: Sequence[OpenedFile] = (),
) -> ComposedMail:
    """Compose a mail of the outbox; composing it again gives the same mail.

    `thread` are the Message-IDs that `list_threads` returns for it, `enclosed` the files of a mail
    that a person wrote.
    """
    subject, text = render(mail, settings, signer)
    message = EmailMessage(policy=ASCII_POLICY)
    local, _, domain = settings.sender.rpartition("@")
    message["From"] = str(Address(settings.from_name, local, domain))
    message["To"] = ", ".join(mail.written.to) if mail.written else mail.to
    if mail.written and mail.written.cc:
        message["Cc"] = ", ".join(mail.written.cc)
    message["Subject"] = subject
    message["Date"] = format_datetime(mail.created_at)
    message_id = make_message_id(_get_first_id(mail), settings, signer)
    message["Message-ID"] = message_id
    message["Reply-To"] = make_reply_address(mail.ticket_id, settings, signer)
    if mail.template not in WRITTEN_BY_PERSON:  # RFC 3834 §5
        answers_nothing = mail.template in {Template.SURVEY, Template.TASK}
        message["Auto-Submitted"] = "auto-generated" if answers_nothing else "auto-replied"
        message["X-Auto-Response-Suppress"] = "All"
    if mail.template is Template.SURVEY:  # RFC 2369, RFC 8058
        message["List-Unsubscribe"] = (
            f"<{_make_link(settings, 'unsubscribe', signer.make_token(SURVEY_PURPOSE, mail.id))}>"
        )
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    if thread:
        message["In-Reply-To"] = thread[-1]
        message["References"] = " ".join(thread)
    if mail.written:
        _set_content(message, text, enclosed)
    else:
        message.set_content(text)
    sender = make_return_path(mail.id, settings, signer)
    shown_text = text if text.endswith("\n") else f"{text}\n"
    return ComposedMail(message, sender, mail.to, message_id, shown_text)


def render(mail: OutgoingMail, settings: Settings, signer: Signer) -> tuple[str, str]:
    """Return the subject and the text of a mail."""
    if mail.written is not None:
        return mail.written.subject, mail.written.text.rstrip() + "\n"
    rendered = (
        _get_templates()
        .get_template(f"billing-support/{mail.template.name.lower()}.txt")
        .render(
            number=mail.ticket_id,
            text=mail.text,
            stage=mail.ticket.stage,
            desk_link=_make_link(settings, "tickets", str(mail.ticket_id)),
            from_name=settings.from_name,
            link=make_status_link(mail.ticket_id, settings, signer),
            survey_link=_make_link(settings, "survey", signer.make_token(SURVEY_PURPOSE, mail.id)),
        )
    )
    return _split_subject(rendered)


def render_recap(words: str, ticket: int, settings: Settings) -> tuple[str, str]:
    """Return the subject and text of a recap: the template around `words` that a person wrote."""
    template = _get_templates().get_template(f"billing-support/{Template.RECAP.name.lower()}.txt")
    return _split_subject(template.render(number=ticket, text=words, from_name=settings.from_name))


def _split_subject(rendered: str) -> tuple[str, str]:
    subject, _, text = rendered.partition("\n\n")
    return subject.removeprefix("Subject: "), text


def make_status_link(ticket: int, settings: Settings, signer: Signer) -> str:
    """Return the link to the page where a customer sees the ticket's progress, without sign-in."""
    return _make_link(settings, "status", signer.make_token(STATUS_PURPOSE, ticket))


def make_reply_address(ticket: int, settings: Settings, signer: Signer) -> str:
    """Return the address for replies to a ticket's mail: our own with a signed token."""
    return _add_tag(settings, f"{crypto.TICKET}-{signer.make_token(crypto.TICKET, ticket)}")


def make_return_path(mail: int, settings: Settings, signer: Signer) -> str:
    """Return the address for bounces of a mail; mail to it never opens a ticket (RFC 3834 §4)."""
    return _add_tag(settings, f"{crypto.BOUNCE}-{signer.make_token(crypto.BOUNCE, mail)}")


def make_message_id(mail: int, settings: Settings, signer: Signer) -> str:
    """Return the Message-ID of a mail: the same for every attempt, and impossible to guess."""
    return f"<outbox-{signer.make_token(crypto.OUTBOX, mail)}@{settings.sender.rpartition('@')[2]}>"


def make_timeline_key(mail: OutgoingMail) -> str:
    """Return the key of a mail's message on the timeline.

    A mail that a person wrote to several recipients is one message.
    """
    return f"written:{mail.written_id}" if mail.written_id else f"outbox:{mail.id}"


def _get_first_id(mail: OutgoingMail) -> int:
    """Return the id that goes into the Message-ID.

    All recipients of a mail that a person wrote get the same message, so it is the first row's id.
    """
    return mail.written.mails[0].id if mail.written else mail.id


def _set_content(message: EmailMessage, text: str, enclosed: Sequence[OpenedFile]) -> None:
    body = MIMEPart(policy=SHORT_LINES_POLICY)
    body.set_content(text)
    parts: list[Part | str] = [body]
    for file in enclosed:
        part = MIMEPart(policy=SHORT_LINES_POLICY)
        main_type, _, subtype = file.mime.partition("/")
        part.set_content(
            file.content, main_type, subtype, disposition="attachment", filename=file.name
        )
        parts.append(part)
    message["MIME-Version"] = "1.0"
    if len(parts) == 1:
        for name, value in body.items():
            message[name] = value
        message.set_payload(body.get_payload())
    else:
        message["Content-Type"] = "multipart/mixed"
        message.set_payload(parts)


def _add_tag(settings: Settings, tag: str) -> str:
    local, _, domain = settings.sender.rpartition("@")
    return f"{local}+{tag}@{domain}"


def _make_link(settings: Settings, page: str, token: str) -> str:
    return f"{settings.public_url.rstrip('/')}/{page}/{token}"


@lru_cache(maxsize=1)
def _get_templates() -> Environment:
    # The mails are plain text, so there is nothing to escape; StrictUndefined raises for a variable
    # without a value.
    return Environment(
        loader=PackageLoader("workflow.mail"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )


def list_threads(session: Session, mails: Sequence[OutgoingMail]) -> dict[int, list[str]]:
    """Return for each mail, by its id, the Message-IDs it answers, oldest first.

    These are the customer's last ten mails on its ticket before it was queued. A mail to the desk's
    own people answers nothing, and is left out.
    """
    answers = [mail for mail in mails if mail.template is not Template.TASK]
    received = defaultdict(list)
    query = select(Message.ticket_id, Message.message_id, Message.at).where(
        is_one_of(session, Message.ticket_id, {mail.ticket_id for mail in answers}),
        Message.format == "mail",
        Message.direction == "in",
    )
    for ticket, name, at in session.execute(query.order_by(Message.id)):
        if _is_usable_id(name):
            received[ticket].append((f"<{name}>", at))
    return {
        mail.id: [name for name, at in received[mail.ticket_id] if at <= mail.created_at][-10:]
        for mail in answers
    }


def _is_usable_id(name: str) -> bool:
    """Return whether a Message-ID, without its brackets, can stand in a header of ours."""
    return "@" in name and name.isascii() and not set(name) & set("<> \t\r\n")
