"""Download the files that messages link to and attach them; retry, then give up.

A file that cannot be had stays a link on its ticket.
"""

import asyncio
import ssl
import time
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from ingest.linked_files.download import DownloadedFile, DownloadError, DownloadLimits, fetch
from parsers.item import Attachment
from parsers.text import filenames
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.database.locks import lock_ticket
from workflow.filing.attachments import store_attachment
from workflow.filing.linked_files import (
    BACKOFF,
    FETCH_QUEUE,
    MAX_ATTEMPTS,
    NOT_FETCHED_CAVEAT,
    LinkedFile,
    has_all_files,
    is_due,
    list_allowed_hosts,
)
from workflow.models.core import Message, Ticket
from workflow.models.states import LinkState
from workflow.operations.item_faults import describe_unexpected_error
from workflow.runtime import log
from workflow.runtime.http_client import get_public_tls

BATCH = 4  # files in memory at once
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
LEASE_MARGIN = timedelta(seconds=60)  # a lease outlasts the slowest download and commit


class _Claim(NamedTuple):
    """A link taken up for download; `attempt` includes this one."""

    number: int
    attempt: int  # this one included
    url: str
    hosts: tuple[str, ...]


def fetch_due_files(context: AppContext, tls: ssl.SSLContext | None = None) -> int:
    """Fetch the files that are due, a few at a time, for about five seconds; return how many.

    The slowest download may take it longer. Workers are notified when some are left.
    """
    latest, count = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(context):
        count += len(batch)
        for claim, outcome in zip(
            batch, asyncio.run(_download_all(context, batch, tls or get_public_tls())), strict=True
        ):
            _settle(context, claim, outcome)
        if time.monotonic() >= latest:
            context.store.notify(FETCH_QUEUE)
            break
    return count


def _claim(context: AppContext) -> list[_Claim]:
    """Take up files that are due, those tried least first.

    The attempt is counted and the lease set before any download begins.
    """
    lease = timedelta(seconds=context.settings.file_seconds) + LEASE_MARGIN
    due_files = (
        select(LinkedFile, Message)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(is_due(context.clock()))
    )
    oldest = due_files.order_by(LinkedFile.attempts, LinkedFile.id).limit(BATCH)
    with context.store.transaction() as session:
        rows = session.execute(oldest.with_for_update(skip_locked=True, of=LinkedFile)).all()
        for link, _ in rows:
            link.attempts, link.not_before = link.attempts + 1, context.clock() + lease
        return [
            _Claim(link.id, link.attempts, link.url, list_allowed_hosts(context.settings, m))
            for link, m in rows
        ]


async def _download_all(
    context: AppContext, batch: list[_Claim], tls: ssl.SSLContext
) -> list[DownloadedFile | DownloadError]:
    """Download a batch side by side."""
    bounds = DownloadLimits(context.settings.file_limit, context.settings.file_seconds, tls)
    return await asyncio.gather(*(_download(claim, bounds) for claim in batch))


async def _download(claim: _Claim, bounds: DownloadLimits) -> DownloadedFile | DownloadError:
    """Download one file; return the error when that fails."""
    if claim.attempt > MAX_ATTEMPTS:  # every worker that tried it was killed
        return DownloadError("downloading it did not end", is_permanent=True)
    try:
        return await fetch(claim.url, claim.hosts, bounds)
    except DownloadError as error:
        return error
    # a fault of one file must not affect the others of the batch
    except Exception as error:  # noqa: BLE001
        log.fault("fetch", error)
        return DownloadError(describe_unexpected_error(error), is_permanent=False)


def _settle(context: AppContext, claim: _Claim, outcome: DownloadedFile | DownloadError) -> None:
    """Attach a downloaded file, or schedule the next attempt.

    A file that cannot be stored does not affect the others. Raises SQLAlchemyError or OSError when
    the database or the disk is away.
    """
    if isinstance(outcome, DownloadedFile):
        try:
            _keep(context, claim, outcome)
        except (*DATABASE_UNAVAILABLE, OSError):
            raise
        except Exception as error:  # noqa: BLE001  # a fault of one file
            log.fault("fetch", error)
            outcome = DownloadError(describe_unexpected_error(error), is_permanent=False)
    if isinstance(outcome, DownloadError):
        _schedule_or_give_up(context, claim, outcome)


def _keep(context: AppContext, claim: _Claim, file: DownloadedFile) -> None:
    """Attach the file to its message, unless another worker has settled the link meanwhile."""
    name = file.name or filenames.make_name(file.mime, claim.number)
    row = store_attachment(
        context.blob_store,
        Attachment(name=name, mime=file.mime, content=file.content),
        delivery=None,
    )
    with context.store.transaction() as session:
        link = _lock_claimed(session, claim)
        if link is None:
            return
        row.message_id = link.message_id
        session.add(row)
        session.flush()
        link.state, link.reason, link.attachment_id = LinkState.FETCHED, "", row.id
        ticket = session.get_one(Message, link.message_id).ticket
        audit.record(
            session,
            "file fetched",
            by=RULE,
            cause=f"link {link.id}",
            now=context.clock(),
            ticket=ticket.id,
            attachment=row.id,
        )
        lock_ticket(session, ticket)
        if NOT_FETCHED_CAVEAT in ticket.caveats and has_all_files(session, ticket.id):
            # a person had it tried again
            ticket.caveats = [c for c in ticket.caveats if c != NOT_FETCHED_CAVEAT]
    log.linked_file_fetched(claim.number, len(file.content))


def _schedule_or_give_up(context: AppContext, claim: _Claim, error: DownloadError) -> None:
    """Schedule the next attempt, or give up: the ticket then says that it has only the link."""
    final = error.is_permanent or claim.attempt >= MAX_ATTEMPTS
    with context.store.transaction() as session:
        link = _lock_claimed(session, claim)
        if link is None:
            return
        link.reason, link.not_before = error.reason, context.clock() + BACKOFF.delay(claim.attempt)
        if final:
            link.state = LinkState.FAILED
            _mark_ticket(context, session, session.get_one(Message, link.message_id).ticket, link)
    log.linked_file_not_fetched(claim.number, error.reason, attempt=claim.attempt, final=final)


def _mark_ticket(context: AppContext, session: Session, ticket: Ticket, link: LinkedFile) -> None:
    """Add the caveat "not fetched" to the ticket, and record it in the audit log."""
    # a caveat added meanwhile must not get lost
    lock_ticket(session, ticket)
    if NOT_FETCHED_CAVEAT not in ticket.caveats:
        ticket.caveats = [*ticket.caveats, NOT_FETCHED_CAVEAT]
    audit.record(
        session,
        "file not fetched",
        by=RULE,
        cause=f"link {link.id}",
        now=context.clock(),
        ticket=ticket.id,
        reason=link.reason,
    )


def _lock_claimed(session: Session, claim: _Claim) -> LinkedFile | None:
    """Return the link if it still waits at this attempt; locked, so that nobody else settles it."""
    still_claimed = (
        LinkedFile.id == claim.number,
        LinkedFile.state == LinkState.WAITING,
        LinkedFile.attempts == claim.attempt,
    )
    return session.scalar(select(LinkedFile).where(*still_claimed).with_for_update())
