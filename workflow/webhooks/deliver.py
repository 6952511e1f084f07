"""Outgoing webhooks.

Registered by an admin, told again and again until they say yes, given up after two days.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import ssl
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session, joinedload

from workflow.audit import record as audit
from workflow.audit.webhook_events import HOOK, Event
from workflow.context import House
from workflow.database.engine import wake
from workflow.database.visibility import due
from workflow.errors import Missing
from workflow.models.states import TellState
from workflow.models.webhooks import Hook, HookEvent, live
from workflow.runtime import http_client, log
from workflow.settings.settings import Settings

AT_ONCE = 8
SECONDS = 10.0  # for one try, name and connection included
LEASE = timedelta(seconds=60)  # outlasts the slowest try and the slowest record
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(hours=1)
GIVE_UP = timedelta(hours=48)
TRIES = 10  # at least so many before one is given up: time in which nothing ran is no try
KEPT = timedelta(days=7)  # what was told, for whoever asks
LONGEST_URL = 2000


class _Claim(NamedTuple):
    number: int
    attempt: int  # this one included
    hook: int
    url: str
    sealed: bytes  # the secret
    event: str
    name: str
    body: bytes


# -- registering ----


def add(
    house: House, session: Session, url: str, events: Sequence[str], *, by: str, now: datetime
) -> tuple[Hook, str]:
    """Have an address told of events from now on.

    The hook, and the secret that signs, which is shown this once.

    Raises Missing when the address cannot be used or no event is named.
    """
    wanted = [e for e in Event if e in events]
    if unknown := set(events) - set(Event):
        raise Missing(f"there is no event {min(unknown)}: there are {', '.join(Event)}")
    if not wanted:
        raise Missing(f"name at least one event: there are {', '.join(Event)}")
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    hook = Hook(
        url=_address(url, house.settings),
        secret=house.sealer.seal(secret.encode()),
        events=[str(e) for e in wanted],
        created_at=now,
        created_by=by,
        not_before=now,
        failures=0,
        reason="",
    )
    session.add(hook)
    session.flush()
    audit.record(session, "webhook added", by=by, cause="webhook", now=now, hook=hook.id)
    return hook, secret


def remove(session: Session, number: int, *, by: str, now: datetime) -> None:
    """Tell an address nothing more, not even what waits.

    Raises Missing when there is no such hook.
    """
    hook = hook_or_missing(session, number)
    hook.removed_at = now
    session.execute(delete(HookEvent).where(HookEvent.hook_id == number))
    audit.record(session, "webhook removed", by=by, cause="webhook", now=now, hook=number)


def again(session: Session, number: int, *, by: str, now: datetime) -> int:
    """Try everything now that was given up, or that pauses between two tries.

    Its address was mended. How many.

    Raises Missing when there is no such hook.
    """
    hook = hook_or_missing(session, number)
    hook.failures, hook.failing_since, hook.not_before = 0, None, now
    mine = HookEvent.hook_id == number
    anew = {"state": TellState.WAITING, "attempts": 0, "not_before": now, "created_at": now}
    given_up = update(HookEvent).where(mine, HookEvent.state == TellState.GIVEN_UP).values(anew)
    # Nobody who has taken one up keeps it longer than the lease: those beyond it pause for sure.
    pausing = (HookEvent.state == TellState.WAITING, HookEvent.not_before > now + LEASE)
    hurried = update(HookEvent).where(mine, *pausing).values(not_before=now)
    count = sum(
        len(session.execute(change.returning(HookEvent.id)).all()) for change in (hurried, given_up)
    )
    audit.record(
        session, "webhook tried again", by=by, cause="webhook", now=now, hook=number, events=count
    )
    wake(session, HOOK)
    return count


def hook_or_missing(session: Session, number: int) -> Hook:
    """The hook with this number. Raises Missing when there is none, or no longer."""
    hook = session.get(Hook, number)
    if hook is None or hook.removed_at is not None:
        raise Missing(f"there is no webhook {number}: see `intake hook list`")
    return hook


def listed(session: Session) -> list[tuple[Hook, dict[TellState, int]]]:
    """Every hook there is, and how many of its events stand where."""
    count = select(HookEvent.hook_id, HookEvent.state, func.count()).group_by(
        HookEvent.hook_id, HookEvent.state
    )
    counts: dict[int, dict[TellState, int]] = {}
    for hook, state, number in session.execute(count):
        counts.setdefault(hook, {})[state] = number
    return [
        (hook, counts.get(hook.id, {}))
        for hook in session.scalars(select(Hook).where(live()).order_by(Hook.id))
    ]


def _address(url: str, settings: Settings) -> str:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise Missing("that is no address: expected https://host/path") from None
    plain = (
        parts.hostname and parts.username is None and parts.password is None and not parts.fragment
    )
    if (
        not plain
        or parts.scheme not in http_client.PORTS
        or len(url) > LONGEST_URL
        or not url.strip().isprintable()
    ):
        raise Missing("that is no address: expected https://host/path, without a password in it")
    if parts.scheme == "http" and not _is_inner(
        str(parts.hostname), port or http_client.PORTS["http"], settings
    ):
        raise Missing(
            "webhooks go by https only: http is for a host of INTAKE_HOOK_HOSTS on this machine"
        )
    return url.strip()


def _is_inner(host: str, port: int, settings: Settings) -> bool:
    """Return whether the settings allow a host though it is one of the inner network."""
    named = f"[{host}]" if ":" in host else host
    return bool({named, f"{named}:{port}"} & {place.casefold() for place in settings.hook_hosts})


# -- telling ----


def waits(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return whether an event is to be told now, and has been for so long."""
    return and_(
        HookEvent.state == TellState.WAITING,
        due(HookEvent.not_before, now - since, LONGEST_PAUSE + since),
        HookEvent.hook_id.in_(
            select(Hook.id).where(live(), due(Hook.not_before, now - since, LONGEST_PAUSE + since))
        ),
    )


def pause(attempt: int) -> timedelta:
    """How long an event, or a hook, waits after this failure.

    30 seconds, twice as long each time, an hour at most.
    """
    return min(FIRST_PAUSE * (1 << min(attempt - 1, 10)), LONGEST_PAUSE)


def tell_waiting(house: House, tls: ssl.SSLContext | None = None) -> int:
    """Tell what is due, a few at a time.

    For about five seconds and the time that the slowest may take.

    How many were tried. Those left wake a worker again. The hook's yes and our commit cannot be
    one: after a crash in between it is told once more, under the same id.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(house):
        done += len(batch)
        tried = asyncio.run(_all(house, batch, tls or http_client.public_tls()))
        for claim, fault in zip(batch, tried, strict=True):
            _settle(house, claim, fault)
        for number in {c.hook for c in batch}:
            _mark(house, number, [f for c, f in zip(batch, tried, strict=True) if c.hook == number])
        if time.monotonic() >= until:
            house.store.waker(HOOK)
            break
    return done


def signature(secret: bytes, body: bytes, at: int) -> str:
    """Return what stands in X-Intake-Signature.

    `t=<seconds>,v1=<hex of HMAC-SHA256 over "t.body">`.
    """
    signed = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def _claim(house: House) -> list[_Claim]:
    """Take up the events that are due, counting the attempt first.

    Those tried least before the others.
    """
    now = house.clock()
    oldest = (
        select(HookEvent)
        .where(waits(now))
        .order_by(HookEvent.attempts, HookEvent.id)
        .limit(AT_ONCE)
    )
    locked = oldest.with_for_update(skip_locked=True, of=HookEvent).options(
        joinedload(HookEvent.hook, innerjoin=True)
    )
    with house.store.transaction() as session:
        found = list(session.scalars(locked))
        for one in found:
            one.attempts, one.not_before = one.attempts + 1, now + LEASE
        return [
            _Claim(
                one.id,
                one.attempts,
                one.hook_id,
                one.hook.url,
                one.hook.secret,
                one.event,
                one.event_id,
                _written(one),
            )
            for one in found
        ]


def _written(one: HookEvent) -> bytes:
    body: dict[str, Any] = {"id": one.event_id, "event": one.event, **one.body}
    return json.dumps(body, ensure_ascii=True).encode()


async def _all(house: House, batch: list[_Claim], tls: ssl.SSLContext) -> list[str]:
    return await asyncio.gather(*(_one(house, claim, tls) for claim in batch))


async def _one(house: House, claim: _Claim, tls: ssl.SSLContext) -> str:
    """Why it was not taken, in our own words; "" when it was."""
    try:
        async with asyncio.timeout(SECONDS):
            return await _post(house, claim, tls)
    except TimeoutError:
        return "no answer within ten seconds"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return "no connection, or it broke off"


async def _post(house: House, claim: _Claim, tls: ssl.SSLContext) -> str:
    parts = urlsplit(claim.url)
    host, port = parts.hostname or "", parts.port or http_client.PORTS[parts.scheme]
    try:
        addresses = await http_client.looked_up(host, port)
    except OSError:
        return "its host is not known"
    if not all(map(http_client.is_public, addresses)) and not _is_inner(host, port, house.settings):
        return "its host is one of an inner network, and INTAKE_HOOK_HOSTS does not name it"
    if parts.scheme != "https" and not all(map(http_client.is_loopback, addresses)):
        return "http is for this machine only"
    try:
        secret = house.sealer.open(claim.sealed)
    except ValueError:
        return "its secret does not open: is its key in INTAKE_SECRET_KEYS?"
    headers = {
        "Content-Type": "application/json",
        "X-Intake-Event": claim.event,
        "X-Intake-Id": claim.name,
        "X-Intake-Signature": signature(secret, claim.body, int(house.clock().timestamp())),
    }
    told = {"headers": headers, "tls": tls, "seconds": SECONDS, "content": claim.body}
    # as its keywords
    async with http_client.asked("POST", claim.url, addresses, **told) as answer:  # type: ignore[arg-type]
        if answer.is_success:
            return ""
        return (
            "it answered with a redirect"
            if answer.is_redirect
            else f"it answered {answer.status_code}"
        )


# -- what came of it ----


def _settle(house: House, claim: _Claim, fault: str) -> None:
    """Put down what an address said of an event.

    Unless somebody else has settled that meanwhile.
    """
    now = house.clock()
    mine = (
        HookEvent.id == claim.number,
        HookEvent.state == TellState.WAITING,
        HookEvent.attempts == claim.attempt,
    )
    with house.store.transaction() as session:
        one = session.scalar(select(HookEvent).where(*mine).with_for_update())
        if one is None:
            return
        one.reason = fault
        if not fault:
            one.state, one.not_before = TellState.TOLD, now
        elif claim.attempt >= TRIES and now - one.created_at >= GIVE_UP:
            one.state = TellState.GIVEN_UP
        else:
            one.not_before = now + pause(claim.attempt)
    if fault:
        log.not_told(claim.hook, claim.number, fault, attempt=claim.attempt)
    else:
        log.told(claim.hook, claim.number)


def _mark(house: House, number: int, faults: list[str]) -> None:
    """One yes, and a hook is well; else it is left alone for a while.

    After two days of it old events are given up.
    """
    now, well = house.clock(), "" in faults
    with house.store.transaction() as session:
        hook = session.get_one(Hook, number)
        if well:
            hook.failures, hook.failing_since, hook.reason, hook.told_at, hook.not_before = (
                0,
                None,
                "",
                now,
                now,
            )
            session.execute(
                delete(HookEvent).where(
                    HookEvent.state == TellState.TOLD, HookEvent.not_before < now - KEPT
                )
            )
            return
        hook.failures, hook.reason = hook.failures + 1, faults[-1]
        hook.failing_since, hook.not_before = hook.failing_since or now, now + pause(hook.failures)
        if now - hook.failing_since < GIVE_UP:
            return
        old = (
            HookEvent.hook_id == number,
            HookEvent.state == TellState.WAITING,
            HookEvent.created_at < now - GIVE_UP,
        )
        session.execute(
            update(HookEvent).where(*old).values(state=TellState.GIVEN_UP, reason=faults[-1])
        )
