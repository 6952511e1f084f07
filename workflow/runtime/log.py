"""Every line of the log, as functions taking ids and counts: customer text cannot reach it."""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

_log: Any = structlog.get_logger()


def configure(process: str, *, as_json: bool = False) -> None:
    """Start the log of a process on standard error.

    Libraries that would write customers' addresses are silenced.
    """
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        chain.append(structlog.processors.JSONRenderer())
    else:
        chain.append(structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22))
    structlog.configure(processors=chain, logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        level=logging.ERROR,
        stream=sys.stderr,
        format="%(name)s: an error; see the process's own lines",
    )
    logging.getLogger("mail.log").setLevel(
        logging.CRITICAL
    )  # aiosmtpd writes senders and message text


def listener_started(door: str, address: str) -> None:
    """A door is open."""
    _log.info("listening", door=door, address=address)


def delivery_stored(transport: str, delivery: int, *, repeated: bool) -> None:
    """A delivery is committed; the sender may hear yes."""
    _log.info("stored", transport=transport, delivery=delivery, repeated=repeated)


def delivery_not_stored(transport: str, error: BaseException) -> None:
    """Storing failed; the sender heard try again.

    The class of the error only: its text may hold parameters.
    """
    _log.error("not stored", transport=transport, error=type(error).__name__)


def delivery_refused(transport: str, reason: str) -> None:
    """A door said no, for a reason out of our own fixed words."""
    _log.info("refused", transport=transport, reason=reason)


def describe_place(error: BaseException) -> str:
    """Return the file and line where an exception was raised; "" where it was raised nowhere."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{at.tb_lineno}" if at else ""


def fault(where: str, error: BaseException) -> None:
    """Something failed that should not have.

    Its class and the place in our code, never its text.
    """
    _log.error("fault", where=where, error=type(error).__name__, place=describe_place(error))


def sign_on_failed(error: BaseException) -> None:
    """Somebody did not come in by the issuer: the class of what was wrong, never its text."""
    _log.warning("single sign-on failed", error=type(error).__name__)


def mailbox_failed(mailbox: str, reason: str, retry: float) -> None:
    """A mailbox cannot be read just now, for a reason out of our own fixed words.

    `retry` in seconds.
    """
    _log.warning("mailbox failed", mailbox=mailbox, reason=reason, retry=round(retry, 1))


def mailbox_notice(mailbox: str, fact: str, uid: int = 0) -> None:
    """Something about a mailbox that its owner should know, in our own fixed words.

    Uid 0 = the whole mailbox.
    """
    _log.warning("mailbox", mailbox=mailbox, fact=fact, uid=uid)


def backfill_finished(form: str, *, looked: int, new: int) -> None:
    """Submissions of a form were looked at; `new` of them no webhook had brought."""
    _log.info("backfilled", form=form, looked=looked, new=new)


def backfill_failed(form: str, reason: str) -> None:
    """Submissions of a form cannot be pulled just now, for a reason out of our own fixed words.

    "" = all forms.
    """
    _log.warning("backfill failed", form=form, reason=reason)


def backfill_without_token() -> None:
    """There is nothing to pull with; the process waits to be stopped."""
    _log.info("no INTAKE_FORMSTACK_TOKEN: nothing is pulled until it is set")


def formstack_busy(seconds: float) -> None:
    """Formstack asks us to wait before the next call."""
    _log.info("formstack busy", wait=round(seconds, 1))


def item_filed(delivery: int, outcome: str, ticket: int | None) -> None:
    """An item of a delivery has found its place."""
    _log.info("filed", delivery=delivery, outcome=outcome, ticket=ticket)


def items_filed(delivery: int, first: int, outcomes: Mapping[str, int]) -> None:
    """Items of a delivery, from this position on, have found their places.

    So many of each outcome.
    """
    _log.info("filed", delivery=delivery, first=first, **{str(k): n for k, n in outcomes.items()})


def reading_progress(delivery: int, rows: int, of: int) -> None:
    """A delivery that takes long is being read: so many rows are filed, of so many.

    0 if that is not known.
    """
    _log.info("reading", delivery=delivery, rows=f"{rows} of {of}" if of else rows)


def delivery_failed(delivery: int) -> None:
    """A delivery cannot be read; staff see it in `intake deliveries`."""
    _log.warning("failed", delivery=delivery)


def parser_failed(delivery: int, error: str, place: str) -> None:
    """A parser's bug: the class of its fault and the place in our code."""
    _log.error("parser broken", delivery=delivery, error=error, place=place)


def delivery_reprocessed(delivery: int, *, changed: int, received: int) -> None:
    """A delivery was read again.

    So many of its messages read otherwise now, so many items were filed.
    """
    _log.info("read again", delivery=delivery, changed=changed, received=received)


@contextmanager
def mark_trial() -> Iterator[None]:
    """Mark the lines written while the block lasts: what they tell is taken back."""
    with structlog.contextvars.bound_contextvars(trial=True):
        yield


def stage_entered(ticket: int, stage: str) -> None:
    """A ticket has entered a stage."""
    _log.info("moved", ticket=ticket, stage=stage)


def task_raised(ticket: int, task: int, kind: str) -> None:
    """Someone has been given a task."""
    _log.info("task", ticket=ticket, task=task, kind=kind)


def mail_sent(mail: int) -> None:
    """The relay has taken a mail."""
    _log.info("sent", mail=mail)


def mail_deferred(mail: int, *, attempt: int, code: int) -> None:
    """The relay did not take a mail; code 0 is no answer at all. It is tried again."""
    _log.warning("not sent", mail=mail, attempt=attempt, code=code)


def mail_refused(mail: int, code: int) -> None:
    """The relay refused a mail for good; a person has been given a task."""
    _log.warning("mail refused", mail=mail, code=code)


def linked_file_fetched(link: int, size: int) -> None:
    """A file that a message links to is an attachment now."""
    _log.info("fetched", link=link, size=size)


def linked_file_not_fetched(link: int, reason: str, *, attempt: int, final: bool) -> None:
    """A file could not be fetched, for a reason out of our own fixed words.

    It is tried again unless that is final.
    """
    _log.warning("not fetched", link=link, reason=reason, attempt=attempt, final=final)


def webhook_delivered(hook: int, event: int) -> None:
    """A webhook has taken an event."""
    _log.info("told", hook=hook, event_row=event)


def webhook_not_delivered(hook: int, event: int, reason: str, *, attempt: int) -> None:
    """A webhook has not taken an event, for a reason out of our own fixed words."""
    _log.warning("not told", hook=hook, event_row=event, reason=reason, attempt=attempt)


def redis_unavailable() -> None:
    """Redis does not answer; the clock does the waiting work itself."""
    _log.warning("redis away: the clock does the work")


def rate_limit_is_local() -> None:
    """Redis does not answer; this process counts API calls for itself alone."""
    _log.warning("redis away: API calls are counted by each process")


def sweep_finished(*, tasks: int, waiting: int) -> None:
    """A sweep found missed deadlines or work whose wake-up was lost."""
    _log.info("swept", tasks=tasks, waiting=waiting)


def deadlines_recomputed(changed: int) -> None:
    """When tickets are due was reckoned anew; so many were due at another time."""
    _log.info("reckoned", changed=changed)


def webhook_without_key() -> None:
    """The webhook cannot verify anything and answers 503."""
    _log.error("no INTAKE_FORMSTACK_KEY: the webhook answers 503 until it is set")


def database_unavailable(error: BaseException) -> None:
    """The database does not answer while a process starts; it starts all the same."""
    _log.error("database away: started all the same", error=type(error).__name__)


def import_batch_committed(number: int, *, done: int, of: int) -> None:
    """A batch of an import is committed."""
    _log.info("imported", number=number, done=done, of=of)


def form_spooled(name: str) -> None:
    """A form is in the local spool because the database is away; name is of our own making."""
    _log.warning("spooled", file=name)


def self_check_finished(name: str, *, good: bool) -> None:
    """The house has looked at itself; what is wrong stands in `intake status`."""
    (_log.info if good else _log.error)("checked", name=name, good=good)


def lease_changed(name: str, *, held: bool) -> None:
    """This process is now the one that does a thing, or no longer.

    The name is of our own making.
    """
    _log.info("lease", name=name, held=held)


def account_locked(account: int) -> None:
    """Too many wrong passwords or codes in a row."""
    _log.warning("account locked", account=account)


def disable() -> None:
    """Write nothing: for measuring."""
    structlog.configure(processors=[_drop])


def _drop(logger: Any, name: str, event: Any) -> Any:
    del logger, name, event
    raise structlog.DropEvent
