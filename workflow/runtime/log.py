"""Log lines as functions that take ids and counts, so customer text cannot reach the log.

A function is named after the event it logs. Reasons and facts are fixed words of this program;
of an exception only its class and place are logged, because its text may quote a customer.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import structlog

_log: Any = structlog.get_logger()


def configure(process: str, *, as_json: bool = False) -> None:
    """Start the log of a process on standard error, as text or as one JSON object a line.

    Libraries that would log customers' addresses are silenced.
    """
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if as_json:
        processors.append(structlog.processors.JSONRenderer())
    else:
        processors.append(
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=22)
        )
    structlog.configure(
        processors=processors, logger_factory=structlog.PrintLoggerFactory(sys.stderr)
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(
        level=logging.ERROR,
        stream=sys.stderr,
        format="%(name)s: an error; see the process's own lines",
    )
    # aiosmtpd logs senders and message text under this name.
    logging.getLogger("mail.log").setLevel(logging.CRITICAL)


def listener_started(channel: str, address: str) -> None:
    """A channel accepts deliveries at an address or mailbox."""
    _log.info("listening", channel=channel, address=address)


def delivery_stored(transport: str, delivery: int, *, repeated: bool) -> None:
    """A delivery is committed; the channel may acknowledge it."""
    _log.info("stored", transport=transport, delivery=delivery, repeated=repeated)


def delivery_not_stored(transport: str, error: BaseException) -> None:
    """A delivery could not be stored; the sender was asked to try again."""
    _log.error("not stored", transport=transport, error=type(error).__name__)


def delivery_refused(transport: str, reason: str) -> None:
    """A channel refused a delivery."""
    _log.info("refused", transport=transport, reason=reason)


def describe_place(error: BaseException) -> str:
    """Return the file and line where an exception was raised, "" when it was never raised."""
    frame = error.__traceback__
    if frame is None:
        return ""
    while frame.tb_next is not None:
        frame = frame.tb_next
    return f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}"


def fault(where: str, error: BaseException) -> None:
    """An error that should not happen: its class and its place in the code."""
    _log.error("fault", where=where, error=type(error).__name__, place=describe_place(error))


def sign_on_failed(error: BaseException) -> None:
    """A sign-in by single sign-on failed."""
    _log.warning("single sign-on failed", error=type(error).__name__)


def mailbox_failed(mailbox: str, reason: str, retry: float) -> None:
    """A mailbox cannot be read now; it is tried again after `retry` seconds."""
    _log.warning("mailbox failed", mailbox=mailbox, reason=reason, retry=round(retry, 1))


def mailbox_notice(mailbox: str, fact: str, uid: int = 0) -> None:
    """A fact about a mailbox, or one mail in it, that its owner should know.

    `uid` is 0 where the fact concerns the whole mailbox.
    """
    _log.warning("mailbox", mailbox=mailbox, fact=fact, uid=uid)


def mailbox_older_left(mailbox: str, count: int) -> None:
    """Mails were in a mailbox before it was looked into for the first time, and stay there."""
    _log.info("older mail left", mailbox=mailbox, count=count)


def backfill_finished(form: str, *, looked: int, new: int) -> None:
    """Submissions of a form were pulled; `new` of them had not come by the webhook."""
    _log.info("backfilled", form=form, looked=looked, new=new)


def backfill_failed(form: str, reason: str) -> None:
    """Submissions of a form (of all forms: "") cannot be pulled now."""
    _log.warning("backfill failed", form=form, reason=reason)


def backfill_without_token() -> None:
    """The backfill has no token to pull submissions with; its process waits to be stopped."""
    _log.info("no INTAKE_FORMSTACK_TOKEN: nothing is pulled until it is set")


def formstack_busy(seconds: float) -> None:
    """Formstack asks us to wait so many seconds before the next call."""
    _log.info("formstack busy", wait=round(seconds, 1))


def item_filed(delivery: int, outcome: str, ticket: int | None) -> None:
    """An item of a delivery was filed, on a ticket or on none."""
    _log.info("filed", delivery=delivery, outcome=outcome, ticket=ticket)


def items_filed(delivery: int, first: int, outcomes: Mapping[str, int]) -> None:
    """Items of a delivery, from position `first` on, were filed: so many of each outcome."""
    _log.info("filed", delivery=delivery, first=first, **{str(k): n for k, n in outcomes.items()})


def reading_progress(delivery: int, rows: int, of: int) -> None:
    """A long delivery is being read: `rows` are filed, out of `of` (0 when not known)."""
    _log.info("reading", delivery=delivery, rows=f"{rows} of {of}" if of else rows)


def delivery_failed(delivery: int) -> None:
    """A delivery cannot be read; `intake deliveries` lists it."""
    _log.warning("failed", delivery=delivery)


def parser_failed(delivery: int, error: str, place: str) -> None:
    """A parser has a bug: the class of its error and the place in the code."""
    _log.error("parser broken", delivery=delivery, error=error, place=place)


def delivery_reprocessed(delivery: int, *, changed: int, received: int) -> None:
    """A delivery was read again: `changed` messages differ now, `received` items were filed."""
    _log.info("read again", delivery=delivery, changed=changed, received=received)


@contextmanager
def mark_trial() -> Iterator[None]:
    """Mark the lines logged inside the block as a trial: the changes they log are rolled back."""
    with structlog.contextvars.bound_contextvars(trial=True):
        yield


def stage_entered(ticket: int, stage: str) -> None:
    """A ticket entered a stage."""
    _log.info("moved", ticket=ticket, stage=stage)


def task_raised(ticket: int, task: int, kind: str) -> None:
    """Somebody was given a task."""
    _log.info("task", ticket=ticket, task=task, kind=kind)


def mail_sent(mail: int) -> None:
    """The relay accepted a mail."""
    _log.info("sent", mail=mail)


def mail_deferred(mail: int, *, attempt: int, code: int) -> None:
    """The relay did not accept a mail now (code 0: no answer); it is tried again."""
    _log.warning("not sent", mail=mail, attempt=attempt, code=code)


def mail_refused(mail: int, code: int) -> None:
    """The relay refused a mail permanently; somebody was given a task."""
    _log.warning("mail refused", mail=mail, code=code)


def linked_file_fetched(link: int, size: int) -> None:
    """A file that a message links to was fetched and attached."""
    _log.info("fetched", link=link, size=size)


def linked_file_not_fetched(link: int, reason: str, *, attempt: int, final: bool) -> None:
    """A linked file could not be fetched; it is tried again unless `final`."""
    _log.warning("not fetched", link=link, reason=reason, attempt=attempt, final=final)


def webhook_delivered(hook: int, event: int) -> None:
    """A webhook accepted an event."""
    _log.info("webhook delivered", hook=hook, event_row=event)


def webhook_not_delivered(hook: int, event: int, reason: str, *, attempt: int) -> None:
    """A webhook did not accept an event."""
    _log.warning(
        "webhook not delivered", hook=hook, event_row=event, reason=reason, attempt=attempt
    )


def redis_unavailable() -> None:
    """Redis does not answer; the clock process does the waiting work itself."""
    _log.warning("redis away: the clock does the work")


def rate_limit_is_local() -> None:
    """Redis does not answer; each process counts API calls by itself."""
    _log.warning("redis away: API calls are counted by each process")


def sweep_finished(*, tasks: int, waiting: int) -> None:
    """A sweep raised tasks for missed deadlines, or found work whose wake-up was lost."""
    _log.info("swept", tasks=tasks, waiting=waiting)


def deadlines_recomputed(changed: int) -> None:
    """The due times of tickets were recomputed; so many changed."""
    _log.info("deadlines recomputed", changed=changed)


def webhook_without_key() -> None:
    """The webhook has no key to verify signatures with and answers 503."""
    _log.error("no INTAKE_FORMSTACK_KEY: the webhook answers 503 until it is set")


def database_unavailable(error: BaseException) -> None:
    """The database does not answer while a process starts; the process starts all the same."""
    _log.error("database away: started all the same", error=type(error).__name__)


def import_batch_committed(number: int, *, done: int, of: int) -> None:
    """A batch of an import is committed."""
    _log.info("imported", number=number, done=done, of=of)


def form_spooled(name: str) -> None:
    """A form was stored in the local spool because the database is unavailable.

    `name` is a file name made by this program.
    """
    _log.warning("spooled", file=name)


def self_check_finished(name: str, *, good: bool) -> None:
    """A self-check finished; `intake status` lists what is wrong."""
    if good:
        _log.info("checked", name=name, good=good)
    else:
        _log.error("checked", name=name, good=good)


def lease_changed(name: str, *, held: bool) -> None:
    """This process got or lost a lease."""
    _log.info("lease", name=name, held=held)


def account_locked(account: int) -> None:
    """An account was locked after too many wrong passwords or codes in a row."""
    _log.warning("account locked", account=account)


def disable() -> None:
    """Log nothing, for measurements."""
    structlog.configure(processors=[_drop])


def _drop(logger: Any, name: str, event: Any) -> Any:
    del logger, name, event
    raise structlog.DropEvent
