"""Backoff: growing delays between the attempts of a task that fails."""

import random
from dataclasses import dataclass
from datetime import timedelta

_MAX_EXPONENT = 64  # keeps the power within a float; every maximum is reached long before


@dataclass(frozen=True)
class Backoff:
    """A schedule of retry delays: `first`, then `factor` times the previous one, up to `maximum`.

    With `jitter`, up to this share of each delay is taken off at random, so that many tasks that
    failed together do not return together. `Backoff(first=timedelta(seconds=30),
    maximum=timedelta(minutes=30))` gives 30 s, 1 min, 2 min, 4 min, 8 min, 16 min, 30 min, 30 min …
    """

    first: timedelta
    maximum: timedelta
    factor: int = 2
    jitter: float = 0.0  # 0 = none, 0.5 = between half of the delay and all of it

    def delay(self, attempt: int) -> timedelta:
        """Return how long to wait after the failed attempt `attempt`, counted from 1.

        An attempt below 1 counts as the first.
        """
        return timedelta(seconds=self.seconds(attempt))

    def seconds(self, attempt: int) -> float:
        """Return the same delay in seconds."""
        exponent = min(max(attempt - 1, 0), _MAX_EXPONENT)
        grown = self.first.total_seconds() * float(self.factor) ** exponent
        delay = min(grown, self.maximum.total_seconds())
        if not self.jitter:
            return delay
        return delay * random.SystemRandom().uniform(1.0 - self.jitter, 1.0)
