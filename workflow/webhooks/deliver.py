"""Outgoing webhooks: registered by an admin, retried with backoff, given up after two days.

Delivery is at least once: a crash between the 2xx of the receiver and our commit repeats an event,
with the same id.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
from sqlalchemy import ColumnElement, and_, delete, func, select, update
from sqlalchemy.orm import Session, joinedload

from workflow.audit import record as audit
from workflow.audit.webhook_events import WEBHOOK_QUEUE, EventType
from workflow.context import AppContext
from workflow.database.engine import notify_workers
from workflow.database.visibility import is_visible
from workflow.errors import ActionNotAllowed
from workflow.models.states import WebhookEventState
from workflow.models.webhooks import Webhook, WebhookEvent, is_active
from workflow.runtime import http_client, log
from workflow.runtime.backoff import Backoff
from workflow.settings.settings import Settings

BATCH_SIZE = 8  # events sent at the same time
TIMEOUT_SECONDS = 10.0  # for one attempt, name lookup and connection included
LEASE = timedelta(seconds=60)  # outlasts the slowest attempt and the commit of its result
SLICE_SECONDS = 5.0  # then a worker looks at its other queues, and whether it has to stop
BACKOFF = Backoff(first=timedelta(seconds=30), maximum=timedelta(hours=1))
GIVE_UP_AFTER = timedelta(hours=48)
MIN_ATTEMPTS = 10  # before an event is given up: time in which no worker ran does not count
KEEP_DELIVERED = timedelta(days=7)  # for the page, and for whoever has to look into a fault
MAX_URL = 2000  # characters


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """An event that this worker delivers now.

    `attempt` includes this one; `secret` is sealed.
    """

    number: int
    attempt: int
    hook: int
    url: str
    secret: bytes = field(repr=False)
    event: str
    event_id: str
    body: bytes


# -- registration ----


def create_webhook(
    context: AppContext,
    session: Session,
    url: str,
    events: Sequence[str],
    *,
    by: str,
    now: datetime,
) -> tuple[Webhook, str]:
    """Register a webhook for events from now on.

    Returns the webhook and the secret that signs its requests, which cannot be read again later.
    Raises ActionNotAllowed when the address cannot be used, no event is named or one is unknown.
    """
    event_types = [e for e in EventType if e in events]
    if unknown := set(events) - set(EventType):
        raise ActionNotAllowed(
            f"there is no event {min(unknown)}: there are {', '.join(EventType)}"
        )
    if not event_types:
        raise ActionNotAllowed(f"name at least one event: there are {', '.join(EventType)}")
    # Sealed and not hashed, because every request is signed with it.
    secret = f"whsec_{secrets.token_urlsafe(32)}"
    hook = Webhook(
        url=_check_url(url, context.settings),
        secret=context.sealer.seal(secret.encode()),
        events=[str(e) for e in event_types],
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
    """Delete a webhook and its undelivered events.

    Raises ActionNotAllowed when there is no such webhook.
    """
    hook = get_webhook(session, number)
    hook.removed_at = now
    session.execute(delete(WebhookEvent).where(WebhookEvent.hook_id == number))
    audit.record(session, "webhook removed", by=by, cause="webhook", now=now, hook=number)


def retry_webhook(session: Session, number: int, *, by: str, now: datetime) -> int:
    """Make the events of a webhook due now that were given up, or wait for their next attempt.

    Returns how many there were. Raises ActionNotAllowed when there is no such webhook.
    """
    hook = get_webhook(session, number)
    hook.failures, hook.failing_since, hook.not_before = 0, None, now
    of_hook = WebhookEvent.hook_id == number
    given_up = (
        update(WebhookEvent)
        .where(of_hook, WebhookEvent.state == WebhookEventState.GIVEN_UP)
        .values(state=WebhookEventState.WAITING, attempts=0, not_before=now, created_at=now)
    )
    # An event that a worker delivers just now is due within the lease, and is left to that worker.
    pausing = (
        update(WebhookEvent)
        .where(
            of_hook,
            WebhookEvent.state == WebhookEventState.WAITING,
            WebhookEvent.not_before > now + LEASE,
        )
        .values(not_before=now)
    )
    count = sum(
        len(session.execute(change.returning(WebhookEvent.id)).all())
        for change in (pausing, given_up)
    )
    audit.record(
        session, "webhook tried again", by=by, cause="webhook", now=now, hook=number, events=count
    )
    notify_workers(session, WEBHOOK_QUEUE)
    return count


def get_webhook(session: Session, number: int) -> Webhook:
    """Return the webhook with this number.

    Raises ActionNotAllowed when there is none, or it was deleted.
    """
    hook = session.get(Webhook, number)
    if hook is None or hook.removed_at is not None:
        raise ActionNotAllowed(f"there is no webhook {number}: see `intake hook list`")
    return hook


def list_webhooks(session: Session) -> list[tuple[Webhook, dict[WebhookEventState, int]]]:
    """List the active webhooks, with how many of their events are in each state."""
    states = select(WebhookEvent.hook_id, WebhookEvent.state, func.count()).group_by(
        WebhookEvent.hook_id, WebhookEvent.state
    )
    counts: dict[int, dict[WebhookEventState, int]] = {}
    for number, state, count in session.execute(states):
        counts.setdefault(number, {})[state] = count
    hooks = session.scalars(select(Webhook).where(is_active()).order_by(Webhook.id))
    return [(hook, counts.get(hook.id, {})) for hook in hooks]


def _check_url(url: str, settings: Settings) -> str:
    """Return the address without spaces around it.

    Raises ActionNotAllowed when it is not one that events may be sent to.
    """
    address = url.strip()
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise ActionNotAllowed("that is no address: expected https://host/path") from None
    if len(url) > MAX_URL or not address.isprintable() or not _is_plain(parts):
        raise ActionNotAllowed(
            "that is no address: expected https://host/path, without a password in it"
        )
    if parts.scheme == "http":
        port = port or http_client.DEFAULT_PORTS["http"]
        if not _is_allowed_inner(str(parts.hostname), port, settings):
            raise ActionNotAllowed(
                "webhooks go by https only: http is for a host of INTAKE_HOOK_HOSTS on this machine"
            )
    return address


def _is_plain(parts: SplitResult) -> bool:
    """Return whether an address is http or https with a host, without user name and fragment."""
    if parts.scheme not in http_client.DEFAULT_PORTS or not parts.hostname:
        return False
    return parts.username is None and parts.password is None and not parts.fragment


def _is_allowed_inner(host: str, port: int, settings: Settings) -> bool:
    """Return whether the settings allow a host although it is in an inner network."""
    name = f"[{host}]" if ":" in host else host
    return bool({name, f"{name}:{port}"} & {place.casefold() for place in settings.hook_hosts})


# -- delivery ----


def is_due(now: datetime, since: timedelta = timedelta()) -> ColumnElement[bool]:
    """Return the condition that an event has been due for at least `since`.

    The event must be due, and so must its webhook, which pauses after a failure.
    """
    due_hooks = select(Webhook.id).where(
        is_active(), is_visible(Webhook.not_before, now - since, BACKOFF.maximum + since)
    )
    return and_(
        WebhookEvent.state == WebhookEventState.WAITING,
        is_visible(WebhookEvent.not_before, now - since, BACKOFF.maximum + since),
        WebhookEvent.hook_id.in_(due_hooks),
    )


def deliver_due(context: AppContext, tls: ssl.SSLContext | None = None) -> int:
    """Deliver the events that are due, in batches, for about five seconds; return how many.

    When events are left then, a worker is notified again.
    """
    until, attempts = time.monotonic() + SLICE_SECONDS, 0
    while batch := _claim(context):
        attempts += len(batch)
        faults = asyncio.run(_send_all(context, batch, tls or http_client.get_public_tls()))
        by_hook: dict[int, list[str]] = {}
        for claim, fault in zip(batch, faults, strict=True):
            _record_result(context, claim, fault)
            by_hook.setdefault(claim.hook, []).append(fault)
        for number, faults_of_hook in by_hook.items():
            _record_health(context, number, faults_of_hook)
        if time.monotonic() >= until:
            context.store.notify(WEBHOOK_QUEUE)
            break
    return attempts


def sign_body(secret: bytes, body: bytes, at: int) -> str:
    """Return the value of the header X-Intake-Signature.

    `t=<seconds since 1970>,v1=<hex of HMAC-SHA256 over "t.body">`. The time lets a receiver refuse
    a request that was recorded and sent again.
    """
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def _claim(context: AppContext) -> list[_Claim]:
    """Claim the events that are due, those with the fewest attempts first.

    The attempt is counted and the lease written before anything is sent, so that a crash does not
    repeat an event at once and for ever.
    """
    now = context.clock()
    query = (
        select(WebhookEvent)
        .where(is_due(now))
        .order_by(WebhookEvent.attempts, WebhookEvent.id)
        .limit(BATCH_SIZE)
        .with_for_update(skip_locked=True, of=WebhookEvent)
        .options(joinedload(WebhookEvent.hook, innerjoin=True))
    )
    with context.store.transaction() as session:
        events = list(session.scalars(query))
        for event in events:
            event.attempts, event.not_before = event.attempts + 1, now + LEASE
        return [
            _Claim(
                number=event.id,
                attempt=event.attempts,
                hook=event.hook_id,
                url=event.hook.url,
                secret=event.hook.secret,
                event=event.event,
                event_id=event.event_id,
                body=_render_body(event),
            )
            for event in events
        ]


def _render_body(event: WebhookEvent) -> bytes:
    body: dict[str, Any] = {"id": event.event_id, "event": event.event, **event.body}
    return json.dumps(body, ensure_ascii=True).encode()


async def _send_all(context: AppContext, batch: list[_Claim], tls: ssl.SSLContext) -> list[str]:
    """Send the events of a batch at the same time; return their faults, in order."""
    return await asyncio.gather(*(_send(context, claim, tls) for claim in batch))


async def _send(context: AppContext, claim: _Claim, tls: ssl.SSLContext) -> str:
    """Send an event; return why it was not accepted, in our own words, "" when it was."""
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
    # Resolved here and connected to by address, so that a second answer of the DNS cannot lead into
    # the inner network (DNS rebinding).
    try:
        addresses = await http_client.resolve(host, port)
    except OSError:
        return "its host is not known"
    if not all(map(http_client.is_public, addresses)) and not _is_allowed_inner(
        host, port, context.settings
    ):
        return "its host is one of an inner network, and INTAKE_HOOK_HOSTS does not name it"
    if parts.scheme != "https" and not all(map(http_client.is_loopback, addresses)):
        return "http is for this machine only"
    try:
        secret = context.sealer.unseal(claim.secret)
    except ValueError:
        return "its secret does not open: is its key in INTAKE_SECRET_KEYS?"
    headers = {
        "Content-Type": "application/json",
        "X-Intake-Event": claim.event,
        "X-Intake-Id": claim.event_id,
        "X-Intake-Signature": sign_body(secret, claim.body, int(context.clock().timestamp())),
    }
    async with http_client.send_request(
        "POST",
        claim.url,
        addresses,
        headers=headers,
        tls=tls,
        seconds=TIMEOUT_SECONDS,
        content=claim.body,
    ) as answer:
        if answer.is_success:
            return ""
        if answer.is_redirect:  # not followed: it could lead to a host that is not allowed
            return "it answered with a redirect"
        return f"it answered {answer.status_code}"


# -- results ----


def _record_result(context: AppContext, claim: _Claim, fault: str) -> None:
    """Record the result of an attempt, unless the event has been claimed again meanwhile."""
    now = context.clock()
    # The number of attempts identifies the claim: once the lease is over, another worker may have
    # claimed the event again.
    still_claimed = (
        WebhookEvent.id == claim.number,
        WebhookEvent.state == WebhookEventState.WAITING,
        WebhookEvent.attempts == claim.attempt,
    )
    with context.store.transaction() as session:
        event = session.scalar(select(WebhookEvent).where(*still_claimed).with_for_update())
        if event is None:
            return
        event.reason = fault
        if not fault:
            event.state, event.not_before = WebhookEventState.DELIVERED, now
        elif claim.attempt >= MIN_ATTEMPTS and now - event.created_at >= GIVE_UP_AFTER:
            event.state = WebhookEventState.GIVEN_UP
        else:
            event.not_before = now + BACKOFF.delay(claim.attempt)
    if fault:
        log.webhook_not_delivered(claim.hook, claim.number, fault, attempt=claim.attempt)
    else:
        log.webhook_delivered(claim.hook, claim.number)


def _record_health(context: AppContext, number: int, faults: list[str]) -> None:
    """Record whether a webhook works, from the results of a batch.

    One success is enough. Otherwise the whole webhook pauses, and once it has failed for two days
    its old events are given up.
    """
    now = context.clock()
    with context.store.transaction() as session:
        hook = session.get_one(Webhook, number)
        if "" in faults:
            _record_success(session, hook, now)
        else:
            _record_failure(session, hook, faults[-1], now)


def _record_success(session: Session, hook: Webhook, now: datetime) -> None:
    """Record that a webhook works, and delete delivered events that are old."""
    hook.failures, hook.failing_since, hook.reason = 0, None, ""
    hook.last_success_at, hook.not_before = now, now
    session.execute(
        delete(WebhookEvent).where(
            WebhookEvent.state == WebhookEventState.DELIVERED,
            WebhookEvent.not_before < now - KEEP_DELIVERED,
        )
    )


def _record_failure(session: Session, hook: Webhook, fault: str, now: datetime) -> None:
    """Pause a webhook, and give up its old events once it has failed for two days."""
    hook.failures, hook.reason = hook.failures + 1, fault
    hook.failing_since = hook.failing_since or now
    hook.not_before = now + BACKOFF.delay(hook.failures)
    if now - hook.failing_since < GIVE_UP_AFTER:
        return
    old = (
        WebhookEvent.hook_id == hook.id,
        WebhookEvent.state == WebhookEventState.WAITING,
        WebhookEvent.created_at < now - GIVE_UP_AFTER,
    )
    session.execute(
        update(WebhookEvent).where(*old).values(state=WebhookEventState.GIVEN_UP, reason=fault)
    )
