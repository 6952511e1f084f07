"""Sends the mails of the outbox: claims them, retries until the relay accepts or refuses them.

The relay's acceptance and our commit cannot be one act. A worker that dies in between leaves a
journal behind, by which the next one on this host records what was sent (`sent_journal`). Without
the journal a mail is sent once more, with the same Message-ID: at most two copies, never none.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from workflow.context import AppContext
from workflow.customers import directory
from workflow.database.bulk_insert import is_one_of
from workflow.mail import answer, compose, transport
from workflow.mail.claims import (
    NO_ANSWER_REASON,
    Claim,
    claim_batch,
    release,
    schedule_retry,
)
from workflow.mail.compose import ComposedMail
from workflow.mail.outcomes import (
    LAST_COMMIT_SECONDS,
    MIN_ATTEMPTS,
    RECORD_SECONDS,
    SentMail,
    record_deferred,
    record_refused,
    record_sent,
    withhold,
)
from workflow.mail.sent_journal import JournalEntry, SentJournal, take_abandoned
from workflow.mail.transport import MailDeferred, Mailer, MailRefused
from workflow.models.core import OutgoingMail, WrittenMail
from workflow.models.states import OutboxState
from workflow.process import Template
from workflow.runtime import log
from workflow.settings.settings import SettingsError
from workflow.tickets.outbox import SEND

# Mails that one transaction records: so many, or those of this time. A machine that loses its power
# meanwhile sends them once more.
GROUP_SIZE = 10
GROUP_SECONDS = 0.05
# A mail is begun only while its lease outlasts the slowest relay and the slowest recording, so that
# nobody else takes it up meanwhile.
MIN_LEASE_LEFT = timedelta(
    seconds=transport.SECONDS_PER_MAIL + GROUP_SECONDS + RECORD_SECONDS + LAST_COMMIT_SECONDS
)
SLICE_SECONDS = 5.0  # then a worker turns to its other queues, or stops when it is asked to
RELAY_CLOSED_REASON = "the relay took no mail"


class RelayState(Enum):
    """State of the relay during a batch; it decides about the mails that are left."""

    OPEN = "it may accept the next mail"
    CLOSED = "it opens no session now, and would refuse the next mail as well"
    SILENT = "it does not answer, and each mail would wait for the whole time limit"


class _Failure(NamedTuple):
    """A mail that was not sent: its claim, why, and the relay's reply code or 0."""

    claim: Claim
    reason: str
    code: int
    is_permanent: bool = False


@dataclass
class _Group:
    """Claimed mails as the database has them, and what became of those that were tried.

    `mails` and `threads` are by number; their rows belong to no session any more.
    """

    mails: dict[int, OutgoingMail]
    threads: dict[int, list[str]]
    tried: int = 0
    sent: list[SentMail] = field(default_factory=list)
    failures: list[_Failure] = field(default_factory=list)
    unwanted: list[Claim] = field(default_factory=list)
    relay_state: RelayState = RelayState.OPEN


def send_waiting(context: AppContext, seconds: float = transport.SECONDS_PER_MAIL) -> int:
    """Send due mails over one connection for about SLICE_SECONDS; return how many were claimed.

    A worker is woken again for those that are left. The relay has `seconds` for a mail; when it
    does not answer, it is not asked again now, and all due mails wait for their next attempt.
    """
    settings = context.settings
    slice_end = time.monotonic() + SLICE_SECONDS
    try:
        relay = transport.open_mailer(
            settings.relay_url.get_secret_value(), settings.home / "outbox", seconds
        )
    # Nothing is claimed and nothing lost, and the process has other work to do.
    except SettingsError as error:
        log.fault(SEND, error)
        return 0
    _record_journals(context)
    batch = claim_batch(context)
    if not batch:
        return 0
    count = 0
    relay_state = RelayState.OPEN
    with _open_journal(context) as journal, relay:
        while batch:
            count += len(batch)
            if relay_state is RelayState.SILENT:
                _postpone(context, batch)
            else:
                relay_state = _send_batch(context, relay, batch, slice_end, journal)
            if relay_state is RelayState.CLOSED:  # another worker may have a session and go on
                break
            if relay_state is RelayState.OPEN and time.monotonic() >= slice_end:
                context.store.notify(SEND)
                break
            batch = claim_batch(context)
    return count


def send(
    context: AppContext,
    relay: Mailer,
    claims: Sequence[Claim],
    journal: SentJournal | None = None,
    slice_end: float = float("inf"),
) -> tuple[RelayState, int]:
    """Send claimed mails for GROUP_SECONDS, at least the first, and record the results.

    Returns the state of the relay and how many of the claims were tried; the others are left as
    they are. None is tried after `slice_end`, by the monotonic clock, but for the first.
    """
    group = _load_group(context, [claim.number for claim in claims])
    group_end = min(slice_end, time.monotonic() + GROUP_SECONDS)
    for claim in claims:
        if group.tried and time.monotonic() >= group_end:
            break
        group.tried += 1
        _try_mail(context, relay, group, claim, journal)
        if group.relay_state is not RelayState.OPEN:
            break
    if group.sent:
        record_sent(context, group.sent)
        if journal is not None:
            journal.clear()
    for claim in group.unwanted:
        withhold(context, claim)
    for claim, reason, code, is_permanent in group.failures:
        if is_permanent:
            record_refused(context, claim, reason, code)
        else:
            record_deferred(context, claim, reason, code)
    return group.relay_state, group.tried


def _send_batch(
    context: AppContext,
    relay: Mailer,
    batch: Sequence[Claim],
    slice_end: float,
    journal: SentJournal | None,
) -> RelayState:
    """Send the mails of a batch, at least the first; return the state of the relay.

    Mails for which there is no time are released; mails for which the relay is not asked any more
    are postponed.
    """
    # Without a journal a crash sends again what was not recorded: then each mail is, by itself.
    size = GROUP_SIZE if journal is not None else 1
    remaining = batch
    while remaining:
        if remaining is not batch and time.monotonic() >= slice_end:
            release(context, remaining)
            break
        relay_state, tried = send(context, relay, remaining[:size], journal, slice_end)
        remaining = remaining[tried:]
        if relay_state is not RelayState.OPEN:
            _postpone(context, remaining)
            return relay_state
    return RelayState.OPEN


def _postpone(context: AppContext, claims: Sequence[Claim]) -> None:
    """Count an attempt for mails that were not sent because the relay accepts none now."""
    # A suspect mail keeps its reason: it is what makes it suspect, and sent alone.
    for alone in (False, True):
        waiting = [c for c in claims if c.alone == alone and c.attempt < MIN_ATTEMPTS]
        schedule_retry(context, waiting, "" if alone else RELAY_CLOSED_REASON, 0)
    for claim in claims:
        if claim.attempt >= MIN_ATTEMPTS:
            record_deferred(context, claim, RELAY_CLOSED_REASON, 0)


def _load_group(context: AppContext, numbers: Sequence[int]) -> _Group:
    """Load the mails with these numbers, with all that is needed to compose them."""
    with context.store.read_only() as session:
        query = (
            select(OutgoingMail)
            .where(is_one_of(session, OutgoingMail.id, numbers))
            .options(
                joinedload(OutgoingMail.ticket),
                joinedload(OutgoingMail.contact),
                selectinload(OutgoingMail.written).options(
                    selectinload(WrittenMail.files), selectinload(WrittenMail.mails)
                ),
            )
        )
        mails = session.scalars(query).all()
        return _Group({mail.id: mail for mail in mails}, compose.list_threads(session, mails))


def _try_mail(
    context: AppContext, relay: Mailer, group: _Group, claim: Claim, journal: SentJournal | None
) -> None:
    """Submit one mail, and note in the group what became of it."""
    try:
        composed = _compose(context, group, claim)
        if composed is None:
            return
        relay.post(composed.message, composed.sender, composed.to)
        mail = group.mails[claim.number]
        group.sent.append(_build_sent(mail, composed))
        if journal is not None:
            journal.add(mail.id, mail.created_at)
    except MailDeferred as error:
        reason = f"not taken by the relay ({error.code})" if error.code else NO_ANSWER_REASON
        group.failures.append(_Failure(claim, reason, error.code))
        if error.is_relay_fault:
            group.relay_state = RelayState.CLOSED if error.code else RelayState.SILENT
    except MailRefused as error:
        reason = f"refused by the relay with {error.code}"
        group.failures.append(_Failure(claim, reason, error.code, is_permanent=True))
    # The top of one mail: an error of its own must not stop the mails behind it.
    except Exception as error:  # noqa: BLE001
        log.fault(SEND, error)
        reason = f"not written: an error of ours ({type(error).__name__})"
        group.failures.append(_Failure(claim, reason, 0))


def _compose(context: AppContext, group: _Group, claim: Claim) -> ComposedMail | None:
    """Return the mail of a claim, or None when it must not be sent now.

    That is when the claim is lost, the mail is unwanted or refused by us, or the rest of its lease
    is too short for the slowest relay.
    """
    mail = group.mails.get(claim.number)
    if mail is None or (mail.state, mail.attempts) != (OutboxState.WAITING, claim.attempt):
        return None
    if _is_unwanted_survey(mail):
        group.unwanted.append(claim)
        return None
    if not directory.is_valid_address(mail.to):
        group.failures.append(_Failure(claim, "the address cannot be used", 553, is_permanent=True))
        return None
    composed = _compose_row(context, mail, group.threads)
    # After a long wait, or when the clock was set, another worker may claim the mail before this
    # one has an answer: leave it to that one.
    if mail.not_before - context.clock() < MIN_LEASE_LEFT:
        return None
    return composed


def _compose_row(
    context: AppContext, mail: OutgoingMail, threads: dict[int, list[str]]
) -> ComposedMail:
    files = answer.open_files(context.blob_store, mail)
    thread = threads.get(mail.id, ())
    return compose.compose_mail(mail, context.settings, context.signer, thread, files)


def _build_sent(mail: OutgoingMail, composed: ComposedMail) -> SentMail:
    return SentMail(mail.id, composed.message_id, composed.text)


def _is_unwanted_survey(mail: OutgoingMail) -> bool:
    contact = mail.contact
    if mail.template is not Template.SURVEY or contact is None:
        return False
    return contact.unreachable or contact.unsubscribed


# -- the journal ----


def _get_journal_folder(context: AppContext) -> Path:
    return context.settings.home / "outbox-journal"


def _open_journal(context: AppContext) -> AbstractContextManager[SentJournal | None]:
    """Return a journal for this worker; None where its folder cannot be written."""
    try:
        return closing(SentJournal(_get_journal_folder(context)))
    except OSError as error:
        log.fault(SEND, error)
        return nullcontext()


def _record_journals(context: AppContext) -> None:
    """Record the mails that a worker which has ended noted as sent."""
    for entries in take_abandoned(_get_journal_folder(context)):
        sent = _list_unrecorded(context, entries)
        if sent:
            record_sent(context, sent)


def _list_unrecorded(context: AppContext, entries: Sequence[JournalEntry]) -> list[SentMail]:
    """Return the mails of a journal that the database shows as waiting, composed again."""
    created: dict[int, datetime] = dict(entries)
    group = _load_group(context, list(created))
    sent = []
    for mail in group.mails.values():
        if mail.state is OutboxState.WAITING and mail.created_at == created[mail.id]:
            try:
                sent.append(_build_sent(mail, _compose_row(context, mail, group.threads)))
            # One mail that cannot be composed any more must not stop the others.
            except Exception as error:  # noqa: BLE001
                log.fault(SEND, error)
    return sent
