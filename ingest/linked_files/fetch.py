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

from ingest.linked_files.download import Bounds, Fetched, NotFetchedError, fetch
from parsers.item import Attachment
from parsers.text import filenames
from workflow.audit import record as audit
from workflow.audit.record import RULE
from workflow.context import House
from workflow.database.engine import AWAY
from workflow.database.locks import hold
from workflow.filing.file_item import stored
from workflow.filing.linked_files import (
    FETCH,
    NOT_FETCHED,
    TRIES,
    LinkedFile,
    hosts_for,
    is_whole,
    pause,
    waits,
)
from workflow.models.core import Message, Ticket
from workflow.models.states import LinkState
from workflow.operations.item_faults import our_error
from workflow.runtime import log
from workflow.runtime.http_client import public_tls

AT_ONCE = 4  # so many are in memory
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
SPARE = timedelta(seconds=60)  # a lease outlasts the slowest file and the slowest record


class _Claim(NamedTuple):
    number: int
    attempt: int  # this one included
    url: str
    hosts: tuple[str, ...]


def fetch_waiting(house: House, tls: ssl.SSLContext | None = None) -> int:
    """Fetch the files that are due, a few at a time.

    For about five seconds and the time that the slowest may take.

    How many were tried. Those left wake a worker again.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(house):
        done += len(batch)
        for claim, outcome in zip(
            batch, asyncio.run(_all(house, batch, tls or public_tls())), strict=True
        ):
            _settle(house, claim, outcome)
        if time.monotonic() >= until:
            house.store.waker(FETCH)
            break
    return done


def _claim(house: House) -> list[_Claim]:
    """Take up the files that are due, counting the attempt first.

    Those tried least before the others.
    """
    lease = timedelta(seconds=house.settings.file_seconds) + SPARE
    due = (
        select(LinkedFile, Message)
        .join(Message, Message.id == LinkedFile.message_id)
        .where(waits(house.clock()))
    )
    oldest = due.order_by(LinkedFile.attempts, LinkedFile.id).limit(AT_ONCE)
    with house.store.transaction() as session:
        found = session.execute(oldest.with_for_update(skip_locked=True, of=LinkedFile)).all()
        for link, _ in found:
            link.attempts, link.not_before = link.attempts + 1, house.clock() + lease
        return [
            _Claim(link.id, link.attempts, link.url, hosts_for(house.settings, m))
            for link, m in found
        ]


async def _all(
    house: House, batch: list[_Claim], tls: ssl.SSLContext
) -> list[Fetched | NotFetchedError]:
    bounds = Bounds(house.settings.file_limit, house.settings.file_seconds, tls)
    return await asyncio.gather(*(_one(claim, bounds) for claim in batch))


async def _one(claim: _Claim, bounds: Bounds) -> Fetched | NotFetchedError:
    if claim.attempt > TRIES:  # each time, whoever fetched it ended
        return NotFetchedError("fetching it came to no end", final=True)
    try:
        return await fetch(claim.url, claim.hosts, bounds)
    except NotFetchedError as error:
        return error
    # one odd answer must not cost the files fetched beside it
    except Exception as error:  # noqa: BLE001
        log.fault("fetch", error)
        return NotFetchedError(our_error(error), final=False)


def _settle(house: House, claim: _Claim, outcome: Fetched | NotFetchedError) -> None:
    """Keep a file, or have it wait; one that cannot be kept is no reason to forget the others.

    Raises SQLAlchemyError or OSError when the database or the disk is away.
    """
    if isinstance(outcome, Fetched):
        try:
            _keep(house, claim, outcome)
        except (*AWAY, OSError):
            raise
        except Exception as error:  # noqa: BLE001  # whatever this file does stays with it
            log.fault("fetch", error)
            outcome = NotFetchedError(our_error(error), final=False)
    if isinstance(outcome, NotFetchedError):
        _put_off(house, claim, outcome)


def _keep(house: House, claim: _Claim, file: Fetched) -> None:
    """Make it an attachment of its message, unless somebody else has settled that meanwhile."""
    name = file.name or filenames.made_up(file.mime, claim.number)
    row = stored(house.desk, Attachment(name=name, mime=file.mime, content=file.content))
    with house.store.transaction() as session:
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
            house.clock(),
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
        hold(session, ticket)
        if NOT_FETCHED in ticket.caveats and is_whole(
            session, ticket.id
        ):  # somebody had it asked for again
            ticket.caveats = [c for c in ticket.caveats if c != NOT_FETCHED]
    log.fetched(claim.number, len(file.content))


def _put_off(house: House, claim: _Claim, why: NotFetchedError) -> None:
    """Have it wait for its next turn, or give it up.

    Then its ticket says that there is the link only.
    """
    final = why.final or claim.attempt >= TRIES
    with house.store.transaction() as session:
        link = _mine(session, claim)
        if link is None:
            return
        link.reason, link.not_before = why.reason, house.clock() + pause(claim.attempt)
        if final:
            link.state = LinkState.FAILED
            _tell(house, session, session.get_one(Message, link.message_id).ticket, link)
    log.not_fetched(claim.number, why.reason, attempt=claim.attempt, final=final)


def _tell(house: House, session: Session, ticket: Ticket, link: LinkedFile) -> None:
    hold(session, ticket)  # a caveat that somebody else adds at this moment must not get lost
    if NOT_FETCHED not in ticket.caveats:
        ticket.caveats = [*ticket.caveats, NOT_FETCHED]
    now, cause = house.clock(), f"link {link.id}"
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
