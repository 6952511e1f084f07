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
from workflow.audit.webhook_events import WEBHOOK_QUEUE, EventType
from workflow.context import AppContext
from workflow.database.engine import notify_workers
from workflow.database.visibility import is_visible
from workflow.models.states import WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active
from workflow.runtime import http_client, log
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Settings
from workflow.tickets.desk import ActionNotAllowed

BATCH_SIZE = 8
TIMEOUT_SECONDS = 10.0  # for one try, name and connection included
LEASE = timedelta(seconds=60)  # outlasts the slowest try and the slowest record
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it is to stop
BACKOFF = Backoff(first=timedelta(seconds=30), maximum=timedelta(hours=1))
GIVE_UP_AFTER = timedelta(hours=48)
MIN_ATTEMPTS = 10  # at least so many before one is given up: time in which nothing ran is no try
KEEP_DELIVERED = timedelta(days=7)  # what was told, for whoever asks
MAX_URL = 2000


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


def create_webhook(
    context: AppContext,
    session: Session,
    url: str,
    events: Sequence[str],
    *,
    by: str,
    now: datetime,
) -> tuple[Webhook, str]:
    """Have an address told of events from now on.

    The hook, and the secret that signs, which is shown this once.

    Raises ActionNotAllowed when the address cannot be used or no event is named.
    """
    wanted = [e for e in EventType if e in events]
    if unknown := set(events) - set(EventType):
        raise ActionNotAllowed(
            f"there is no event {min(unknown)}: there are {', '.join(EventType)}"
        )
    if not wanted:
        raise ActionNotAllowed(f"name at least one event: there are {', '.join(EventType)}")
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    hook = Webhook(
        url=_address(url, context.settings),
        secret=context.sealer.seal(secret.encode()),
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


def delete_webhook(session: Session, number: int, *, by: str, now: datetime) -> None:
    """Tell an address nothing more, not even what waits.

    Raises ActionNotAllowed when there is no such hook.
    """
    hook = get_webhook(session, number)
    hook.removed_at = now
    session.execute(delete(WebhookEvent).where(WebhookEvent.hook_id == number))
    audit.record(session, "webhook removed", by=by, cause="webhook", now=now, hook=number)


def retry_webhook(session: Session, number: int, *, by: str, now: datetime) -> int:
    """Try everything now that was given up, or that pauses between two tries.

    Its address was mended. How many.

    Raises ActionNotAllowed when there is no such hook.
    """
    hook = get_webhook(session, number)
    hook.failures, hook.failing_since, hook.not_before = 0, None, now
    mine = WebhookEvent.hook_id == number
    anew = {"state": WebhookEventState.WAITING, "attempts": 0, "not_before": now, "created_at": now}
    given_up = (
        update(WebhookEvent)
        .where(mine, WebhookEvent.state == WebhookEventState.GIVEN_UP)
        .values(anew)
    )
    # Nobody who has taken one up keeps it longer than the lease: those beyond it pause for sure.
    pausing = (
        WebhookEvent.state == WebhookEventState.WAITING,
        WebhookEvent.not_before > now + LEASE,
    )
    hurried = update(WebhookEvent).where(mine, *pausing).values(not_before=now)
    count = sum(
        len(session.execute(change.returning(WebhookEvent.id)).all())
        for change in (hurried, given_up)
    )
    audit.record(
        session, "webhook tried again", by=by, cause="webhook", now=now, hook=number, events=count
    )
    notify_workers(session, WEBHOOK_QUEUE)
    return count


def get_webhook(session: Session, number: int) -> Webhook:
    """The hook with this number. Raises ActionNotAllowed when there is none, or no longer."""
    hook = session.get(Webhook, number)
    if hook is None or hook.removed_at is not None:
        raise ActionNotAllowed(f"there is no webhook {number}: see `intake hook list`")
    return hook


def list_webhooks(session: Session) -> list[tuple[Webhook, dict[WebhookEventState, int]]]:
    """Every hook there is, and how many of its events stand where."""
    count = select(WebhookEvent.hook_id, WebhookEvent.state, func.count()).group_by(
        WebhookEvent.hook_id, WebhookEvent.state
    )
    counts: dict[int, dict[WebhookEventState, int]] = {}
    for hook, state, number in session.execute(count):
        counts.setdefault(hook, {})[state] = number
    return [
        (hook, counts.get(hook.id, {}))
        for hook in session.scalars(select(Webhook).where(is_active()).order_by(Webhook.id))
    ]


def _address(url: str, settings: Settings) -> str:
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ActionNotAllowed("that is no address: expected https://host/path") from None
    plain = (
        parts.hostname and parts.username is None and parts.password is None and not parts.fragment
    )
    if (
        not plain
        or parts.scheme not in http_client.DEFAULT_PORTS
        or len(url) > MAX_URL
        or not url.strip().isprintable()
    ):
        raise ActionNotAllowed(
            "that is no address: expected https://host/path, without a password in it"
        )
    if parts.scheme == "http" and not _is_inner(
        str(parts.hostname), port or http_client.DEFAULT_PORTS["http"], settings
    ):
        raise ActionNotAllowed(
            "webhooks go by https only: http is for a host of INTAKE_HOOK_HOSTS on this machine"
        )
    return url.strip()


def _is_inner(host: str, port: int, settings: Settings) -> bool:
    """Return whether the settings allow a host though it is one of the inner network."""
    named = f"[{host}]" if ":" in host else host
    return bool({named, f"{named}:{port}"} & {place.casefold() for place in settings.hook_hosts})


# -- telling ----


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return whether an event is to be told now, and has been for so long."""
    return and_(
        WebhookEvent.state == WebhookEventState.WAITING,
        is_visible(WebhookEvent.not_before, now - since, BACKOFF.maximum + since),
        WebhookEvent.hook_id.in_(
            select(Webhook.id).where(
                is_active(), is_visible(Webhook.not_before, now - since, BACKOFF.maximum + since)
            )
        ),
    )


def deliver_due(context: AppContext, tls: ssl.SSLContext | None = None) -> int:
    """Tell what is due, a few at a time.

    For about five seconds and the time that the slowest may take.

    How many were tried. Those left wake a worker again. The hook's yes and our commit cannot be
    one: after a crash in between it is told once more, under the same id.
    """
    until, done = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(context):
        done += len(batch)
        tried = asyncio.run(_all(context, batch, tls or http_client.get_public_tls()))
        for claim, fault in zip(batch, tried, strict=True):
            _settle(context, claim, fault)
        for number in {c.hook for c in batch}:
            _mark(
                context, number, [f for c, f in zip(batch, tried, strict=True) if c.hook == number]
            )
        if time.monotonic() >= until:
            context.store.notify(WEBHOOK_QUEUE)
            break
    return done


def sign_body(secret: bytes, body: bytes, at: int) -> str:
    """Return what stands in X-Intake-Signature.

    `t=<seconds>,v1=<hex of HMAC-SHA256 over "t.body">`.
    """
    signed = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={signed}"


def _claim(context: AppContext) -> list[_Claim]:
    """Take up the events that are due, counting the attempt first.

    Those tried least before the others.
    """
    now = context.clock()
    oldest = (
        select(WebhookEvent)
        .where(is_due(now))
        .order_by(WebhookEvent.attempts, WebhookEvent.id)
        .limit(BATCH_SIZE)
    )
    locked = oldest.with_for_update(skip_locked=True, of=WebhookEvent).options(
        joinedload(WebhookEvent.hook, innerjoin=True)
    )
    with context.store.transaction() as session:
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


def _written(one: WebhookEvent) -> bytes:
    body: dict[str, Any] = {"id": one.event_id, "event": one.event, **one.body}
    return json.dumps(body, ensure_ascii=True).encode()


async def _all(context: AppContext, batch: list[_Claim], tls: ssl.SSLContext) -> list[str]:
    return await asyncio.gather(*(_one(context, claim, tls) for claim in batch))


async def _one(context: AppContext, claim: _Claim, tls: ssl.SSLContext) -> str:
    """Why it was not taken, in our own words; "" when it was."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await _post(context, claim, tls)
    except TimeoutError:
        return "no answer within ten seconds"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return "no connection, or it broke off"


async def _post(context: AppContext, claim: _Claim, tls: ssl.SSLContext) -> str:
    parts = urlsplit(claim.url)
    host, port = parts.hostname or "", parts.port or http_client.DEFAULT_PORTS[parts.scheme]
    try:
        addresses = await http_client.resolve(host, port)
    except OSError:
        return "its host is not known"
    if not all(map(http_client.is_public, addresses)) and not _is_inner(
        host, port, context.settings
    ):
        return "its host is one of an inner network, and INTAKE_HOOK_HOSTS does not name it"
    if parts.scheme != "https" and not all(map(http_client.is_loopback, addresses)):
        return "http is for this machine only"
    try:
        secret = context.sealer.unseal(claim.sealed)
    except ValueError:
        return "its secret does not open: is its key in INTAKE_SECRET_KEYS?"
    headers = {
        "Content-Type": "application/json",
        "X-Intake-Event": claim.event,
        "X-Intake-Id": claim.name,
        "X-Intake-Signature": sign_body(secret, claim.body, int(context.clock().timestamp())),
    }
    told = {"headers": headers, "tls": tls, "seconds": TIMEOUT_SECONDS, "content": claim.body}
    # as its keywords
    async with http_client.send_request("POST", claim.url, addresses, **told) as answer:  # type: ignore[arg-type]
        if answer.is_success:
            return ""
        return (
            "it answered with a redirect"
            if answer.is_redirect
            else f"it answered {answer.status_code}"
        )


# -- what came of it ----


def _settle(context: AppContext, claim: _Claim, fault: str) -> None:
    """Put down what an address said of an event.

    Unless somebody else has settled that meanwhile.
    """
    now = context.clock()
    mine = (
        WebhookEvent.id == claim.number,
        WebhookEvent.state == WebhookEventState.WAITING,
        WebhookEvent.attempts == claim.attempt,
    )
    with context.store.transaction() as session:
        one = session.scalar(select(WebhookEvent).where(*mine).with_for_update())
        if one is None:
            return
        one.reason = fault
        if not fault:
            one.state, one.not_before = WebhookEventState.DELIVERED, now
        elif claim.attempt >= MIN_ATTEMPTS and now - one.created_at >= GIVE_UP_AFTER:
            one.state = WebhookEventState.GIVEN_UP
        else:
            one.not_before = now + BACKOFF.delay(claim.attempt)
    if fault:
        log.webhook_not_delivered(claim.hook, claim.number, fault, attempt=claim.attempt)
    else:
        log.webhook_delivered(claim.hook, claim.number)


def _mark(context: AppContext, number: int, faults: list[str]) -> None:
    """One yes, and a hook is well; else it is left alone for a while.

    After two days of it old events are given up.
    """
    now, well = context.clock(), "" in faults
    with context.store.transaction() as session:
        hook = session.get_one(Webhook, number)
        if well:
            hook.failures, hook.failing_since, hook.reason, hook.told_at, hook.not_before = (
                0,
                None,
                "",
                now,
                now,
            )
            session.execute(
                delete(WebhookEvent).where(
                    WebhookEvent.state == WebhookEventState.DELIVERED,
                    WebhookEvent.not_before < now - KEEP_DELIVERED,
                )
            )
            return
        hook.failures, hook.reason = hook.failures + 1, faults[-1]
        hook.failing_since, hook.not_before = (
            hook.failing_since or now,
            now + BACKOFF.delay(hook.failures),
        )
        if now - hook.failing_since < GIVE_UP_AFTER:
            return
        old = (
            WebhookEvent.hook_id == number,
            WebhookEvent.state == WebhookEventState.WAITING,
            WebhookEvent.created_at < now - GIVE_UP_AFTER,
        )
        session.execute(
            update(WebhookEvent)
            .where(*old)
            .values(state=WebhookEventState.GIVEN_UP, reason=faults[-1])
        )
