"""What the house has promised and not yet done.

How much waits, how much has failed for good, and since when.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, String, func, literal, select, type_coerce, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session

from workflow.filing.linked_files import LinkedFile
from workflow.models.core import Message, Outgoing
from workflow.models.states import LinkState, OutboxState, TellState
from workflow.models.webhooks import Hook, HookEvent, live


@dataclass(frozen=True)
class Queue:
    """How many wait, how many failed for good, and when the one that waits longest was promised."""

    waiting: int = 0
    failed: int = 0
    oldest: datetime | None = None


@dataclass(frozen=True)
class Backlog:
    """Everything promised that is not done."""

    mails: Queue = Queue()  # failed: refused
    events: Queue = Queue()  # for the webhooks that there are; failed: given up
    files: Queue = Queue()  # that messages link to, since when their message is here


MAILS = (OutboxState.WAITING, OutboxState.REFUSED)
EVENTS = (TellState.WAITING, TellState.GIVEN_UP)
FILES = (LinkState.WAITING, LinkState.FAILED)


def backlog(session: Session) -> Backlog:
    """Count it all, in one query."""
    files = _by_state(
        "files", LinkedFile.state, FILES, Message.at, Message.id == LinkedFile.message_id
    )
    mine = HookEvent.hook_id.in_(select(Hook.id).where(live()))
    rows = session.execute(
        union_all(
            _by_state("mails", Outgoing.state, MAILS, Outgoing.created_at),
            _by_state("events", HookEvent.state, EVENTS, HookEvent.created_at, mine),
            files,
        )
    ).all()
    found = {(name, state): (count, oldest) for name, state, count, oldest in rows}
    mails, events = _queue(found, "mails", *MAILS), _queue(found, "events", *EVENTS)
    return Backlog(mails, events, files=_queue(found, "files", *FILES))


def _by_state(
    name: str,
    state: InstrumentedAttribute[Any],
    states: tuple[str, str],
    since: InstrumentedAttribute[datetime],
    *where: ColumnElement[bool],
) -> Select[Any]:
    """By the index of the state: what is done is by far the most, and is not looked at."""
    word = type_coerce(state, String)
    columns: tuple[Any, ...] = (literal(name), word, func.count(), func.min(since))
    return select(*columns).where(state.in_(states), *where).group_by(state)


def _queue(
    found: dict[tuple[str, str], tuple[int, datetime]], name: str, waiting: str, failed: str
) -> Queue:
    count, oldest = found.get((name, waiting), (0, None))
    return Queue(count, found.get((name, failed), (0, None))[0], oldest)
