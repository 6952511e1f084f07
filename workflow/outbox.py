"""Render and send what was promised."""

from datetime import datetime, timedelta
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from workflow import audit, belonging, journal, people
from workflow.desk import RULE
from workflow.house import House
from workflow.keys import Signer
from workflow.mailer import Deferred, Mailer, Refused, mailer
from workflow.models import Message, Outgoing
from workflow.process import Template
from workflow.settings import Settings
from workflow.states import OutboxState

BATCH = 50
LEASE = timedelta(seconds=120)  # a claimed mail is left alone this long, then sent again under the same Message-ID
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=30)
GIVE_UP = timedelta(hours=48)
# Long tokens stay in one piece: at 78 characters the library would wrap them into encoded-words no reader undoes.
ASCII = policy.SMTP.clone(max_line_length=900)
SURVEY, STATUS = "survey", "status"  # purposes of links


def send_waiting(house: House) -> int:
    """Send every promised mail that is due, over one connection; how many were tried."""
    done = 0
    while batch := _claim(house, claimed_at := house.clock()):
        settings = house.settings
        with mailer(settings.relay_url.get_secret_value(), settings.home / "outbox") as relay:
            for number in batch:
                if house.clock() - claimed_at > LEASE / 2:
                    break  # a slow relay: what is left is taken up when its lease ends, by us or another, once
                send(house, relay, number)
        done += len(batch)
    return done


def send(house: House, relay: Mailer, number: int) -> None:
    """Send one claimed mail and record what came of it.

    The relay's yes and our commit cannot be one: after a crash in between the mail goes out once more, with the same
    Message-ID; it is never lost.
    """
    with house.store.reading() as session:
        mail = session.get_one(Outgoing, number)
        if mail.state is not OutboxState.WAITING:
            return
        contact = mail.contact
        if mail.template is Template.SURVEY and contact is not None and (contact.unreachable or contact.unsubscribed):
            _withhold(house, number)
            return
        built = _build(session, mail, house.settings, house.signer) if people.usable(mail.to) else None
    if built is None:
        _refused(house, number, "the address cannot be used", 553)
        return
    message, sender = built
    try:
        relay.post(message, sender, mail.to)
    except Deferred as error:
        _deferred(house, number, error.code)
    except Refused as error:
        _refused(house, number, f"refused by the relay with {error.code}", error.code)
    else:
        _sent(house, number, str(message["Message-ID"]), str(message.get_content()))


def reply_address(ticket: int, settings: Settings, signer: Signer) -> str:
    """The address an answer to this ticket's mail goes to: our own with a signed token."""
    return _plus(settings, f"{belonging.TICKET}-{signer.token(belonging.TICKET, ticket)}")


def return_path(mail: int, settings: Settings, signer: Signer) -> str:
    """Where a bounce of this mail goes; never opens a ticket (RFC 3834 §4)."""
    return _plus(settings, f"{belonging.BOUNCE}-{signer.token(belonging.BOUNCE, mail)}")


def message_id(mail: int, settings: Settings, signer: Signer) -> str:
    """The Message-ID of a mail: made from its row, the same however often it is sent, not to be guessed."""
    return f"<outbox-{signer.token(belonging.OUTBOX, mail)}@{settings.sender.rpartition('@')[2]}>"


def _plus(settings: Settings, tag: str) -> str:
    local, _, domain = settings.sender.rpartition("@")
    return f"{local}+{tag}@{domain}"


def _link(settings: Settings, page: str, token: str) -> str:
    return f"{settings.public_url.rstrip('/')}/{page}/{token}"


def _claim(house: House, now: datetime) -> list[int]:
    with house.store.transaction() as session:
        due = select(Outgoing.id).where(Outgoing.state == OutboxState.WAITING, Outgoing.not_before <= now)
        batch = list(session.scalars(due.order_by(Outgoing.id).limit(BATCH).with_for_update(skip_locked=True)))
        claim = {"not_before": now + LEASE, "attempts": Outgoing.attempts + 1}
        session.execute(update(Outgoing).where(Outgoing.id.in_(batch)).values(claim))
    return batch


def _build(session: Session, mail: Outgoing, settings: Settings, signer: Signer) -> tuple[EmailMessage, str]:
    """The mail and its envelope sender. Fixed words, number and links; never the customer's subject or text."""
    subject, text = _render(mail, settings, signer)
    message = EmailMessage(policy=ASCII)
    local, _, domain = settings.sender.rpartition("@")
    message["From"] = Address(settings.from_name, local, domain)
    message["To"] = mail.to
    message["Subject"] = subject
    message["Date"] = format_datetime(mail.created_at)
    message["Message-ID"] = message_id(mail.id, settings, signer)
    message["Reply-To"] = reply_address(mail.ticket_id, settings, signer)
    if mail.template is not Template.RECAP:  # a recap is written by a person
        message["Auto-Submitted"] = "auto-generated" if mail.template is Template.SURVEY else "auto-replied"
        message["X-Auto-Response-Suppress"] = "All"
    if mail.template is Template.SURVEY:  # RFC 2369, RFC 8058
        message["List-Unsubscribe"] = f"<{_link(settings, 'unsubscribe', signer.token(SURVEY, mail.id))}>"
        message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    thread = _thread(session, mail)
    if thread:
        message["In-Reply-To"] = thread[-1]
        message["References"] = " ".join(thread)
    message.set_content(text)
    return message, return_path(mail.id, settings, signer)


def _render(mail: Outgoing, settings: Settings, signer: Signer) -> tuple[str, str]:
    rendered = _templates().get_template(f"billing-support/{mail.template.name.lower()}.txt").render(
        number=mail.ticket_id,
        text=mail.text,
        from_name=settings.from_name,
        link=_link(settings, "status", signer.token(STATUS, mail.ticket_id)),
        survey_link=_link(settings, "survey", signer.token(SURVEY, mail.id)),
    )  # fmt: skip
    head, _, text = rendered.partition("\n\n")
    return head.removeprefix("Subject: "), text


@lru_cache(maxsize=1)
def _templates() -> Environment:
    # Plain text mail: there is nothing to escape, and StrictUndefined leaves no gap unseen.
    return Environment(loader=PackageLoader("workflow"), undefined=StrictUndefined, autoescape=False)  # noqa: S701


def _thread(session: Session, mail: Outgoing) -> list[str]:
    """Message-IDs of the customer's mails on the ticket that this mail can answer to, oldest first, bounded."""
    theirs = (Message.ticket_id == mail.ticket_id, Message.format == "mail", Message.direction == "in")
    names = session.scalars(
        select(Message.message_id).where(*theirs, Message.at <= mail.created_at).order_by(Message.id)
    )
    return [f"<{name}>" for name in names if "@" in name and name.isascii() and not set(name) & set("<> \t\r\n")][-10:]


def _sent(house: House, number: int, name: str, text: str) -> None:
    now = house.clock()
    with house.store.transaction() as session:
        mail = session.get_one(Outgoing, number, with_for_update=True)
        if mail.state is not OutboxState.WAITING:  # its bounce was faster, or another worker
            return
        mail.state, mail.sent_at, mail.message_id, mail.reason = OutboxState.SENT, now, name, ""
        session.add(_on_timeline(mail, text, house.settings, now))
        audit.record(session, "mail sent", by=RULE, cause=mail.rule_key, now=now, ticket=mail.ticket_id, mail=number)
        house.desk.mail_sent(session, mail, now=now)
    journal.sent(number)


def _on_timeline(mail: Outgoing, text: str, settings: Settings, now: datetime) -> Message:
    return Message(
        ticket_id=mail.ticket_id, direction="out", format="mail", external_id=f"outbox:{mail.id}",
        message_id=mail.message_id.strip("<>"), from_name=settings.from_name, from_email=settings.sender,
        subject=mail.template, text=text, at=now,
    )  # fmt: skip


def _deferred(house: House, number: int, code: int) -> None:
    now = house.clock()
    with house.store.transaction() as session:
        mail = session.get_one(Outgoing, number)
        if now - mail.created_at < GIVE_UP:
            pause = min(FIRST_PAUSE * 2 ** min(mail.attempts - 1, 10), LONGEST_PAUSE)
            mail.not_before, mail.reason = now + pause, f"not taken by the relay ({code or 'no answer'}): tried again"
            journal.not_sent(number, attempt=mail.attempts, code=code)
            return
    _refused(house, number, "not taken by the relay for two days", code, unreachable=False)


def _refused(house: House, number: int, reason: str, code: int, *, unreachable: bool = True) -> None:
    now = house.clock()
    with house.store.transaction() as session:
        mail = session.get_one(Outgoing, number, with_for_update=True)
        if mail.state is not OutboxState.WAITING:
            return
        mail.state, mail.reason = OutboxState.REFUSED, reason
        audit.record(session, "mail refused", by=RULE, cause=reason, now=now, ticket=mail.ticket_id, mail=number)
        house.desk.mail_failed(session, mail, reason, now=now, unreachable=unreachable)
    journal.mail_refused(number, code)


def _withhold(house: House, number: int) -> None:
    with house.store.transaction() as session:
        mail = session.get_one(Outgoing, number)
        mail.state, mail.reason = OutboxState.WITHHELD, "the contact is unreachable or unsubscribed"
