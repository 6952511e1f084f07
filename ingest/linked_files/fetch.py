"""Fetch the files that messages link to: each kept once.

What cannot be had is tried again, then left to its link.
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
from workflow.context import AppContext
from workflow.database.engine import DATABASE_UNAVAILABLE
from workflow.filing.file_item import store_attachment
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
from workflow.tickets.desk import RULE, lock_ticket

BATCH = 4  # so many are in memory
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
LEASE_MARGIN = timedelta(seconds=60)  # a lease outlasts the slowest file and the slowest record


class _Claim(NamedTuple):
    number: int
    attempt: int  # this one included
    url: str
    hosts: tuple[str, ...]


def fetch_due_files(context: AppContext, tls: ssl.SSLContext | None = None) -> int:
    """Fetch the files that are due, a few at a time.

    For about five seconds and the time that the slowest may take.

    How many were tried. Those left wake a worker again.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(context):
        done += len(batch)
        for claim, outcome in zip(
            batch, asyncio.run(_all(context, batch, tls or get_public_tls())), strict=True
        ):
            _settle(context, claim, outcome)
        if time.monotonic() >= until:
            context.store.notify(FETCH_QUEUE)
            break
    return done


def _claim(context: AppContext) -> list[_Claim]:
    """Take up the files that are due, counting the attempt first.

    Those tried least before the others.
    """
    lease = timedelta(seconds=context.settings.file_seconds) + LEASE_MARGIN
    due = (
        select(LinkedFile, Message)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(is_due(context.clock()))
    )
    oldest = due.order_by(LinkedFile.attempts, LinkedFile.id).limit(BATCH)
    with context.store.transaction() as session:
        found = session.execute(oldest.with_for_update(skip_locked=True, of=LinkedFile)).all()
        for link, _ in found:
            link.attempts, link.not_before = link.attempts + 1, context.clock() + lease
        return [
            _Claim(link.id, link.attempts, link.url, list_allowed_hosts(context.settings, m))
            for link, m in found
        ]


async def _all(
    context: AppContext, batch: list[_Claim], tls: ssl.SSLContext
) -> list[DownloadedFile | DownloadError]:
    bounds = DownloadLimits(context.settings.file_limit, context.settings.file_seconds, tls)
    return await asyncio.gather(*(_one(claim, bounds) for claim in batch))


async def _one(claim: _Claim, bounds: DownloadLimits) -> DownloadedFile | DownloadError:
    if claim.attempt > MAX_ATTEMPTS:  # each time, whoever fetched it ended
        return DownloadError("fetching it came to no end", final=True)
    try:
        return await fetch(claim.url, claim.hosts, bounds)
    except DownloadError as error:
        return error
    # one odd answer must not cost the files fetched beside it
    except Exception as error:  # noqa: BLE001
        log.fault("fetch", error)
        return DownloadError(describe_unexpected_error(error), final=False)


def _settle(context: AppContext, claim: _Claim, outcome: DownloadedFile | DownloadError) -> None:
    """Keep a file, or have it wait; one that cannot be kept is no reason to forget the others.

    Raises SQLAlchemyError or OSError when the database or the disk is away.
    """
    if isinstance(outcome, DownloadedFile):
        try:
            _keep(context, claim, outcome)
        except (*DATABASE_UNAVAILABLE, OSError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever this file does stays with it
            log.fault("fetch", error)
            outcome = DownloadError(describe_unexpected_error(error), final=False)
    if isinstance(outcome, DownloadError):
        _put_off(context, claim, outcome)


def _keep(context: AppContext, claim: _Claim, file: DownloadedFile) -> None:
    """Make it an attachment of its message, unless somebody else has settled that meanwhile."""
    name = file.name or filenames.make_name(file.mime, claim.number)
    row = store_attachment(
        context.desk, Attachment(name=name, mime=file.mime, content=file.content)
    )
    with context.store.transaction() as session:
        link = _mine(session, claim)
        if link is None:
            return
        row.message_id = link.message_id
        session.add(row)
        session.flush()
        link.state, link.reason, link.attachment_id = LinkState.FETCHED, "", row.id
        ticket, cause, now = (
            session.get_one(Message, link.message_id).ticket,
            f"link {link.id}",
            context.clock(),
        )
        audit.record(
            session,
            "file fetched",
            by=RULE,
            cause=cause,
            now=now,
            ticket=ticket.id,
            attachment=row.id,
        )
        lock_ticket(session, ticket)
        if NOT_FETCHED_CAVEAT in ticket.caveats and has_all_files(
            session, ticket.id
        ):  # somebody had it asked for again
            ticket.caveats = [c for c in ticket.caveats if c != NOT_FETCHED_CAVEAT]
    log.linked_file_fetched(claim.number, len(file.content))


def _put_off(context: AppContext, claim: _Claim, why: DownloadError) -> None:
    """Have it wait for its next turn, or give it up.

    Then its ticket says that there is the link only.
    """
    final = why.final or claim.attempt >= MAX_ATTEMPTS
    with context.store.transaction() as session:
        link = _mine(session, claim)
        if link is None:
            return
        link.reason, link.not_before = why.reason, context.clock() + BACKOFF.delay(claim.attempt)
        if final:
            link.state = LinkState.FAILED
            _tell(context, session, session.get_one(Message, link.message_id).ticket, link)
    log.linked_file_not_fetched(claim.number, why.reason, attempt=claim.attempt, final=final)


def _tell(context: AppContext, session: Session, ticket: Ticket, link: LinkedFile) -> None:
    lock_ticket(
        session, ticket
    )  # a caveat that somebody else adds at this moment must not get lost
    if NOT_FETCHED_CAVEAT not in ticket.caveats:
        ticket.caveats = [*ticket.caveats, NOT_FETCHED_CAVEAT]
    now, cause = context.clock(), f"link {link.id}"
    audit.record(
        session,
        "file not fetched",
        by=RULE,
        cause=cause,
        now=now,
        ticket=ticket.id,
        reason=link.reason,
    )


def _mine(session: Session, claim: _Claim) -> LinkedFile | None:
    """The link, if it is still ours to settle; nobody else settles it before we have."""
    mine = (
        LinkedFile.id == claim.number,
        LinkedFile.state == LinkState.WAITING,
        LinkedFile.attempts == claim.attempt,
    )
    return session.scalar(select(LinkedFile).where(*mine).with_for_update())
