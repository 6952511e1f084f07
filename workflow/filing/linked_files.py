"""Files that a message links to: which ones are fetched, their queue, and its backoff."""

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
from workflow.errors import ActionNotAllowed
from workflow.models.base import Base
from workflow.models.core import Message
from workflow.models.states import LinkState
from workflow.runtime.backoff import Backoff
from workflow.settings.forms import list_file_hosts
from workflow.settings.settings import Settings

FETCH_QUEUE = "fetch"  # of the workers
NOT_FETCHED_CAVEAT = "a file of the form could not be fetched: open it by its link"
MAX_FILES = 20  # of one message, so that nobody can make us download without end
HTTPS_PORT = 443
MAX_ATTEMPTS = 6  # over about six hours
BACKOFF = Backoff(first=timedelta(minutes=1), factor=4, maximum=timedelta(minutes=1024))

# host, port and folder of an allowed place
_PLACE = re.compile(r"(\[[^\]]*\]|[^:/]*)(?::([0-9]+))?(/.*)?")


class LinkedFile(Base):
    """A file that a message links to, and the state of its download; one for each link."""

    __tablename__ = "linked_files"
    __table_args__ = (
        UniqueConstraint("message_id", "digest"),
        Index("ix_linked_files_waiting", "state", "not_before"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id"))
    # Of the link, which may be too long for an index.
    digest: Mapped[str] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(Text)
    state: Mapped[LinkState]
    reason: Mapped[str] = mapped_column(Text, default="")
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime]
    attachment_id: Mapped[int | None] = mapped_column(ForeignKey("attachments.id"), unique=True)


def enqueue(
    session: Session, message: Message, item: InboundItem, settings: Settings, now: datetime
) -> None:
    """Queue the downloads of an item's linked files, those on hosts that the settings allow."""
    hosts = list_allowed_hosts(settings, message)
    urls = [url for url in item.file_urls if is_allowed(url, hosts)][:MAX_FILES]
    for url in urls:
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
    if urls:
        notify_workers(session, FETCH_QUEUE)


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return the condition that a file has been due for at least `since`."""
    return and_(
        LinkedFile.state == LinkState.WAITING,
        is_visible(LinkedFile.not_before, now - since, BACKOFF.maximum + since),
    )


def list_fetched_attachments(session: Session, message: Message) -> set[int]:
    """Return the ids of a message's attachments that were downloaded, not sent with it."""
    rows = select(LinkedFile.attachment_id).where(LinkedFile.message_id == message.id)
    return {number for number in session.scalars(rows) if number is not None}


def list_unfetched(session: Session, limit: int) -> list[tuple[LinkedFile, Message]]:
    """List files that wait or could not be downloaded, with their messages, newest first."""
    rows = (
        select(LinkedFile, Message)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(LinkedFile.state != LinkState.FETCHED)
        .order_by(LinkedFile.id.desc())
        .limit(limit)
    )
    return [(link, message) for link, message in session.execute(rows)]


def retry(session: Session, number: int, *, by: str, now: datetime) -> int:
    """Make a file due now that could not be downloaded, or waits for its next attempt.

    Returns the number of its ticket. A worker that downloads it at this moment discards its result,
    because the attempts have changed. Raises ActionNotAllowed when there is no such file, or it has
    been downloaded.
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
    """Return whether no linked file of a ticket has failed for good."""
    failed = (
        select(LinkedFile.id)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(Message.ticket_id == ticket, LinkedFile.state == LinkState.FAILED)
    )
    return session.scalar(failed.limit(1)) is None


def list_allowed_hosts(settings: Settings, message: Message) -> tuple[str, ...]:
    """Return the places that the files of a message may be fetched from (`is_allowed`)."""
    return list_file_hosts(settings.form, settings.file_hosts, message.message_id.partition("/")[0])


def is_allowed(url: str, hosts: Sequence[str]) -> bool:
    """Return whether a link leads to one of these places, by https.

    A place is `host`, `host:port` or `host/beginning/of/path`.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS_PORT
    except ValueError:  # a broken IPv6 address, or a port that is no number
        return False
    if parts.scheme != "https" or not parts.hostname:
        return False
    # A user name may look like an allowed host: https://files.example@evil.example/
    if parts.username is not None or parts.password is not None:
        return False
    return not _may_climb(parts.path) and any(_covers(place, parts, port) for place in hosts)


def _may_climb(path: str) -> bool:
    """Return whether a server may take a path for one outside its folder (`..`).

    Unquoted twice, because some servers do.
    """
    plain = unquote(unquote(path))
    return "\\" in plain or any(step in {".", ".."} for step in plain.split("/"))


def _covers(place: str, parts: SplitResult, port: int) -> bool:
    """Return whether a place of the settings covers a link."""
    match = _PLACE.fullmatch(place)
    if match is None:
        return False
    host = match[1].strip("[]").casefold()
    if (parts.hostname, port) != (host, int(match[2] or HTTPS_PORT)):
        return False
    folder = (match[3] or "/").rstrip("/")
    return f"{parts.path or '/'}/".startswith(f"{folder}/")
