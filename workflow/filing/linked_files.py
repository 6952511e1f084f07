"""Files that a message links to.

Which of them we fetch, how far each has come, and that each is kept once.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from urllib.parse import SplitResult, unquote, urlsplit

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    and_,
    select,
)
from sqlalchemy.orm import Mapped, Session, mapped_column

from parsers.item import InboundItem
from workflow.audit import record as audit
from workflow.database.engine import notify_workers
from workflow.database.visibility import is_visible
from workflow.models.base import Base
from workflow.models.core import Message
from workflow.models.states import LinkState
from workflow.runtime.backoff import Backoff
from workflow.settings.forms import list_file_hosts
from workflow.settings.settings import Settings
from workflow.tickets.desk import ActionNotAllowed

FETCH_QUEUE = "fetch"  # what wakes a worker for linked files
NOT_FETCHED_CAVEAT = "a file of the form could not be fetched: open it by its link"
MAX_FILES = 20  # of one message
HTTPS_PORT = 443
MAX_ATTEMPTS = 6  # over about six hours
BACKOFF = Backoff(first=timedelta(minutes=1), factor=4, maximum=timedelta(minutes=1024))

_PLACE = re.compile(r"(\[[^\]]*\]|[^:/]*)(?::([0-9]+))?(/.*)?")


class LinkedFile(Base):
    """A file that a message links to, fetched or to be; one a message and link."""

    __tablename__ = "linked_files"
    __table_args__ = (
        UniqueConstraint("message_id", "digest"),
        Index("ix_linked_files_waiting", "state", "not_before"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id"))
    digest: Mapped[str] = mapped_column(
        String(64)
    )  # of the link, which may be longer than an index takes
    url: Mapped[str] = mapped_column(Text)
    state: Mapped[LinkState]
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    attachment_id: Mapped[int | None] = mapped_column(ForeignKey("attachments.id"), unique=True)


def enqueue(
    session: Session, message: Message, item: InboundItem, settings: Settings, now: datetime
) -> None:
    """Queue the linked files of an item to be downloaded for its message.

    Those that lie where the settings allow it.
    """
    hosts = list_allowed_hosts(settings, message)
    wanted = [url for url in item.file_urls if is_allowed(url, hosts)][:MAX_FILES]
    for url in wanted:
        digest = hashlib.sha256(url.encode()).hexdigest()
        session.add(
            LinkedFile(
                message_id=message.id,
                digest=digest,
                url=url,
                state=LinkState.WAITING,
                not_before=now,
            )
        )
    if wanted:
        notify_workers(session, FETCH_QUEUE)


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return whether a file is to be fetched now, and has been for so long."""
    return and_(
        LinkedFile.state == LinkState.WAITING,
        is_visible(LinkedFile.not_before, now - since, BACKOFF.maximum + since),
    )


def list_fetched_attachments(session: Session, message: Message) -> set[int]:
    """The attachments of a message that came by its links and not with its bytes."""
    rows = select(LinkedFile.attachment_id).where(LinkedFile.message_id == message.id)
    return {number for number in session.scalars(rows) if number is not None}


def list_unfetched(session: Session, most: int) -> list[tuple[LinkedFile, Message]]:
    """Return files that wait or could not be downloaded, with their messages.

    Those of the newest messages come first.
    """
    rows = (
        select(LinkedFile, Message)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(LinkedFile.state != LinkState.FETCHED)
        .order_by(LinkedFile.id.desc())
        .limit(most)
    )
    return [(link, message) for link, message in session.execute(rows)]


def retry(session: Session, number: int, *, by: str, now: datetime) -> int:
    """Have a file fetched anew that could not be had, or that pauses between two tries.

    The number of its ticket.

    Whoever fetches it at this moment finds that it is no longer theirs to settle. Raises ActionNotAllowed
    for none that is wanted.
    """
    link = session.get(LinkedFile, number, with_for_update=True)
    if link is None or link.state is LinkState.FETCHED:
        raise ActionNotAllowed("There is no such file to be fetched.")
    link.state, link.attempts, link.reason, link.not_before = LinkState.WAITING, 0, "", now
    ticket = session.get_one(Message, link.message_id).ticket_id
    audit.record(
        session, "file asked again", by=by, cause=f"link {link.id}", now=now, ticket=ticket
    )
    notify_workers(session, FETCH_QUEUE)
    return ticket


def has_all_files(session: Session, ticket: int) -> bool:
    """Return whether no file of a ticket's messages is given up."""
    given_up = select(LinkedFile.id).join(Message, Message.id == LinkedFile.message_id)
    failed = given_up.where(Message.ticket_id == ticket, LinkedFile.state == LinkState.FAILED)
    return session.scalar(failed.limit(1)) is None


def list_allowed_hosts(settings: Settings, message: Message) -> tuple[str, ...]:
    """Return where the files of a message may be fetched from."""
    return list_file_hosts(settings.form, settings.file_hosts, message.message_id.partition("/")[0])


def is_allowed(url: str, hosts: Sequence[str]) -> bool:
    """Whether a link leads to one of these places.

    `host`, `host:port` or `host/beginning/of/path`, by https only.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS_PORT
    except ValueError:
        return False
    plain = (
        parts.scheme == "https"
        and parts.username is None
        and parts.password is None
        and bool(parts.hostname)
    )
    return plain and not _climbs(parts.path) and any(_covers(place, parts, port) for place in hosts)


def _climbs(path: str) -> bool:
    """Return whether a path may mean another one than it says."""
    plain = unquote(unquote(path))
    return "\\" in plain or any(step in {".", ".."} for step in plain.split("/"))


def _covers(place: str, parts: SplitResult, port: int) -> bool:
    named = _PLACE.fullmatch(place)
    if named is None:
        return False
    host, its_port, folder = (
        named[1].strip("[]").casefold(),
        int(named[2] or HTTPS_PORT),
        (named[3] or "/").rstrip("/"),
    )
    return (parts.hostname, port) == (host, its_port) and f"{parts.path or '/'}/".startswith(
        f"{folder}/"
    )
