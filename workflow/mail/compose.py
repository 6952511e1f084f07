"""What a promised mail says, and the names it goes by.

Fixed words, a number and links, or what a person wrote.
"""

from collections.abc import Sequence
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage, MIMEPart
from email.message import Message as Part
from email.utils import format_datetime
from functools import lru_cache
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import select
from sqlalchemy.orm import Session

from workflow.models.core import Message, OutgoingMail
from workflow.process import WRITTEN_BY_PERSON, Template
from workflow.runtime import crypto
from workflow.runtime.crypto import Signer
from workflow.settings.settings import Settings

# Long tokens stay in one piece: at 78 characters the library would wrap them into encoded-words no
# reader undoes.
ASCII_POLICY = policy.SMTP.clone(max_line_length=900, cte_type="7bit")  # and every relay takes it
SHORT_LINES_POLICY = policy.default.clone(
    cte_type="7bit"
)  # what a person writes and attaches: lines of 76 (RFC 2045 §6.7, §6.8)
SURVEY_PURPOSE, STATUS_PURPOSE = "survey", "status"  # purposes of links


class OpenedFile(NamedTuple):
    """A file that goes with a mail, opened."""

    name: str
    mime: str
    content: bytes


class ComposedMail(NamedTuple):
    """A mail as it is handed over."""

    message: EmailMessage
    sender: str
    to: str

    @property
    def text(self) -> str:
        """Return what it says, as the timeline keeps it."""
        body = self.message.get_body(("plain",))
        return str(body.get_content()) if isinstance(body, MIMEPart) else ""


def compose_mail(
    session: Session,
    mail: OutgoingMail,
    settings: Settings,
    signer: Signer,
    enclosed: Sequence[OpenedFile] = (),
) -> ComposedMail:
    """The mail: fixed words, number and links, never the customer's subject or text.

    The same however often.

    Or what a person wrote, with the files that go with it.
    """
    subject, text = render(mail, settings, signer)
    message = EmailMessage(policy=ASCII_POLICY)
    local, _, domain = settings.sender.rpartition("@")
    message["From"] = Address(settings.from_name, local, domain)
    message["To"] = ", ".join(mail.written.to) if mail.written else mail.to
    if mail.written and mail.written.cc:
        message["Cc"] = ", ".join(mail.written.cc)
    message["Subject"] = subject
    message["Date"] = format_datetime(mail.created_at)
    message["Message-ID"] = make_message_id(_first(mail), settings, signer)
    message["Reply-To"] = make_reply_address(mail.ticket_id, settings, signer)
    if mail.template not in WRITTEN_BY_PERSON:
        by_itself = mail.template in {Template.SURVEY, Template.TASK}
        message["Auto-Submitted"] = "auto-generated" if by_itself else "auto-replied"
        message["X-Auto-Response-Suppress"] = "All"
    if mail.template is Template.SURVEY:  # RFC 2369, RFC 8058
        message["List-Unsubscribe"] = (
            f"<{_link(settings, 'unsubscribe', signer.make_token(SURVEY_PURPOSE, mail.id))}>"
        )
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    thread = _thread(session, mail) if mail.template is not Template.TASK else []
    if thread:
        message["In-Reply-To"] = thread[-1]
        message["References"] = " ".join(thread)
    if mail.written:
        _put(message, text, enclosed)
    else:
        message.set_content(text)
    return ComposedMail(message, make_return_path(mail.id, settings, signer), mail.to)


def render(mail: OutgoingMail, settings: Settings, signer: Signer) -> tuple[str, str]:
    """Subject and text of a mail."""
    if mail.written is not None:
        return mail.written.subject, mail.written.text.rstrip() + "\n"
    rendered = (
        _templates()
        .get_template(f"billing-support/{mail.template.name.lower()}.txt")
        .render(
            number=mail.ticket_id,
            text=mail.text,
            stage=mail.ticket.stage,
            desk_link=_link(settings, "tickets", str(mail.ticket_id)),
            from_name=settings.from_name,
            link=make_status_link(mail.ticket_id, settings, signer),
            survey_link=_link(settings, "survey", signer.make_token(SURVEY_PURPOSE, mail.id)),
        )
    )
    return _apart(rendered)


def render_recap(words: str, ticket: int, settings: Settings) -> tuple[str, str]:
    """Subject and text of a recap with the fixed words around these.

    For a mail that is a person's otherwise.
    """
    template = _templates().get_template(f"billing-support/{Template.RECAP.name.lower()}.txt")
    return _apart(template.render(number=ticket, text=words, from_name=settings.from_name))


def _apart(rendered: str) -> tuple[str, str]:
    head, _, text = rendered.partition("\n\n")
    return head.removeprefix("Subject: "), text


def make_status_link(ticket: int, settings: Settings, signer: Signer) -> str:
    """Return where the customer sees how far the ticket is, without signing in."""
    return _link(settings, "status", signer.make_token(STATUS_PURPOSE, ticket))


def make_reply_address(ticket: int, settings: Settings, signer: Signer) -> str:
    """The address an answer to this ticket's mail goes to: our own with a signed token."""
    return _plus(settings, f"{crypto.TICKET}-{signer.make_token(crypto.TICKET, ticket)}")


def make_return_path(mail: int, settings: Settings, signer: Signer) -> str:
    """Return where a bounce of this mail goes; never opens a ticket (RFC 3834 §4)."""
    return _plus(settings, f"{crypto.BOUNCE}-{signer.make_token(crypto.BOUNCE, mail)}")


def make_message_id(mail: int, settings: Settings, signer: Signer) -> str:
    """The Message-ID of a mail.

    Made from its row, the same however often it is sent, not to be guessed.
    """
    return f"<outbox-{signer.make_token(crypto.OUTBOX, mail)}@{settings.sender.rpartition('@')[2]}>"


def make_timeline_key(mail: OutgoingMail) -> str:
    """The name of a mail's message on the timeline; a letter to several people is one message."""
    return f"written:{mail.written_id}" if mail.written_id else f"outbox:{mail.id}"


def _first(mail: OutgoingMail) -> int:
    """Whose number the Message-ID has.

    All who get the same letter get one and the same mail, each their own way.
    """
    return mail.written.mails[0].id if mail.written else mail.id


def _put(message: EmailMessage, text: str, enclosed: Sequence[OpenedFile]) -> None:
    body = MIMEPart(policy=SHORT_LINES_POLICY)
    body.set_content(text)
    parts: list[Part | str] = [body]
    for file in enclosed:
        part, (kind, _, sub) = MIMEPart(policy=SHORT_LINES_POLICY), file.mime.partition("/")
        part.set_content(file.content, kind, sub, disposition="attachment", filename=file.name)
        parts.append(part)
    message["MIME-Version"] = "1.0"
    if len(parts) == 1:
        for name, value in body.items():
            message[name] = value
        message.set_payload(body.get_payload())
    else:
        message["Content-Type"] = "multipart/mixed"
        message.set_payload(parts)


def _plus(settings: Settings, tag: str) -> str:
    local, _, domain = settings.sender.rpartition("@")
    return f"{local}+{tag}@{domain}"


def _link(settings: Settings, page: str, token: str) -> str:
    return f"{settings.public_url.rstrip('/')}/{page}/{token}"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    # Plain text mail: there is nothing to escape, and StrictUndefined leaves no gap unseen.
    return Environment(
        loader=PackageLoader("workflow.mail"),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701
    )


def _thread(session: Session, mail: OutgoingMail) -> list[str]:
    """Return Message-IDs of the customer's mails that this mail can answer.

    Oldest first, bounded.
    """
    theirs = (
        Message.ticket_id == mail.ticket_id,
        Message.format == "mail",
        Message.direction == "in",
    )
    names = session.scalars(
        select(Message.message_id)
        .where(*theirs, Message.at <= mail.created_at)
        .order_by(Message.id)
    )
    return [
        f"<{name}>"
        for name in names
        if "@" in name and name.isascii() and not set(name) & set("<> \t\r\n")
    ][-10:]
