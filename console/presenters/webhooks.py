"""Webhooks for their page.

What each is told, how it answers, and what waits for it or was given up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from workflow.models.states import TellState
from workflow.models.webhooks import Hook, HookEvent, live
from workflow.webhooks import deliver

MOST = 10  # events shown of one webhook; their numbers are told in any case
MOST_OFF = 20


@dataclass(frozen=True)
class Shown:
    """A webhook that there is, with the events that were given up or wait longest."""

    hook: Hook
    address: str
    waiting: int
    given_up: int
    events: list[HookEvent]

    @property
    def more(self) -> int:
        """Return how many more there are than are shown."""
        return self.waiting + self.given_up - len(self.events)

    def next_try(self, event: HookEvent) -> datetime | None:
        """Return when a waiting event is told again.

        An address that fails is left alone for a while; None = never.
        """
        return (
            max(event.not_before, self.hook.not_before)
            if event.state is TellState.WAITING
            else None
        )


def shown(session: Session, *, whole: bool) -> list[Shown]:
    """Every webhook that is on, in two queries more than `hooks.listed` takes; `whole`.

    With the whole address.
    """
    found = deliver.listed(session)
    unsettled = _unsettled(session, [hook.id for hook, _ in found])
    return [
        Shown(
            hook,
            address(hook.url, whole=whole),
            counts.get(TellState.WAITING, 0),
            counts.get(TellState.GIVEN_UP, 0),
            [event for event in unsettled if event.hook_id == hook.id],
        )
        for hook, counts in found
    ]


def off(session: Session) -> list[Hook]:
    """The webhooks that were removed last."""
    return list(
        session.scalars(
            select(Hook).where(~live()).order_by(Hook.removed_at.desc()).limit(MOST_OFF)
        )
    )


def address(url: str, *, whole: bool) -> str:
    """Where a webhook is.

    Whoever knows all of it may be able to tell that system things: path and query are a key.
    """
    parts = urlsplit(url)
    plain = parts.path in {"", "/"} and not parts.query
    return url if whole or plain else f"{parts.scheme}://{parts.netloc}/…"


def _unsettled(session: Session, numbers: Iterable[int]) -> list[HookEvent]:
    """Of each of these webhooks a few that were given up or wait.

    The given up first, then the oldest.
    """
    given_up_first = (HookEvent.state != TellState.GIVEN_UP, HookEvent.id)
    place = (
        func.row_number()
        .over(partition_by=HookEvent.hook_id, order_by=given_up_first)
        .label("place")
    )
    mine = (HookEvent.hook_id.in_(list(numbers)), HookEvent.state != TellState.TOLD)
    ranked = select(HookEvent, place).where(*mine).subquery()
    event = aliased(HookEvent, ranked)
    return list(
        session.scalars(
            select(event).where(ranked.c.place <= MOST).order_by(ranked.c.hook_id, ranked.c.place)
        )
    )
