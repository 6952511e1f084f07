"""Count calls within a moving window: in Redis for all processes, or in memory while it is away."""

import time
from collections.abc import Callable

from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import MovingWindowRateLimiter

from workflow.runtime import log

KEY_PREFIX = "intake-calls"  # of our keys in Redis, beside those of RQ
TIMEOUT_SECONDS = 0.5  # seconds a call waits for its count, or for a connection, at most
REDIS_RETRY_SECONDS = 10.0  # Redis is not tried again for so long, so that calls do not wait


class CallCounter:
    """Call counter; the counts are lost with Redis, which does no harm.

    `url` is the URL of Redis, "" for none. A process that counts alone allows as much as all
    together: without Redis a caller may call too often rather than be refused.
    """

    def __init__(self, url: str) -> None:
        self._local_limiter = MovingWindowRateLimiter(MemoryStorage())
        self._shared_limiter = MovingWindowRateLimiter(_open_redis(url)) if url else None
        self._quiet_until = 0.0
        self._away = False

    def count_call(self, limit: RateLimitItem, *key: str) -> bool:
        """Count a call; return False, and count nothing, when the limit is reached."""
        return self._decide(lambda limiter: limiter.hit(limit, *key))

    def is_allowed(self, limit: RateLimitItem, *key: str) -> bool:
        """Return whether a call would be allowed; counts nothing."""
        return self._decide(lambda limiter: limiter.test(limit, *key))

    def _decide(self, question: Callable[[MovingWindowRateLimiter], bool]) -> bool:
        if self._shared_limiter is None or time.monotonic() < self._quiet_until:
            return question(self._local_limiter)
        try:
            answer = question(self._shared_limiter)
        except StorageError:
            # Else each call would wait for Redis' timeout while it is away.
            self._quiet_until = time.monotonic() + REDIS_RETRY_SECONDS
            if not self._away:
                log.rate_limit_is_local()
            self._away = True
            return question(self._local_limiter)
        self._away = False
        return answer


def _open_redis(url: str) -> RedisStorage:
    return RedisStorage(
        url,
        key_prefix=KEY_PREFIX,
        wrap_exceptions=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )
