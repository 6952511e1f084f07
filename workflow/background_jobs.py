"""What RQ workers run: names only.

Redis holds hints; losing all of it costs a minute, never an item.
"""

import os
import time
from collections.abc import Callable
from functools import lru_cache
from pkgutil import resolve_name

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException

from workflow.context import AppContext, open_context
from workflow.runtime import log
from workflow.settings.settings import load_settings

JOB_FUNCTIONS = {  # what waits under a name, by string: workflow imports no door
    "read": "ingest.processing.process:process_waiting",
    "send": "workflow.mail.sender:send_waiting",
    "fetch": "ingest.linked_files.fetch:fetch_due_files",
    "hook": "workflow.webhooks.deliver:deliver_due",
    "spool": "ingest.formstack.spool:drain",
}
QUEUES = ("read", "send", "fetch", "hook")
JOB_TIMEOUT_SECONDS = 600
_QUIET_SECONDS = (
    5.0  # Redis that did not answer is left alone this long, so that it holds up no door
)


def run(name: str) -> int:
    """Do everything that waits under a name; how many.

    This is the job: it carries no more than the name.

    Never raises: RQ would keep the exception's text in Redis, and what is left undone the sweep
    finds.
    """
    try:
        return do_work(name, _context_of(os.getpid()))
    except Exception as error:  # noqa: BLE001  # top of a job: see above
        log.fault(name, error)
        return 0


def do_work(name: str, context: AppContext) -> int:
    """Do everything that waits under a name with what this process has open; how many."""
    work: Callable[[AppContext], int] = resolve_name(JOB_FUNCTIONS[name])
    try:
        return work(context)
    except JobTimeoutException as error:  # what was claimed is taken up again when its lease ends
        log.fault(name, error)
        return 0


class JobNotifier:
    """Puts a hint for the workers into Redis, unless one is waiting there already; never raises."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1)
        self._queues = {
            name: Queue(name, connection=self._redis, serializer=JSONSerializer) for name in QUEUES
        }
        self._quiet_until = 0.0
        self.is_redis_away = False

    def __call__(self, name: str) -> None:
        """Hint that work waits under this name.

        A job that still waits will see it; a running one might not.
        """
        if time.monotonic() < self._quiet_until:
            return
        try:
            if not self._queues[name].count:
                self._queues[name].enqueue(
                    "workflow.background_jobs.run",
                    name,
                    job_timeout=JOB_TIMEOUT_SECONDS,
                    result_ttl=0,
                    failure_ttl=60,
                )
            self.is_redis_away = False
        except RedisError:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            if not self.is_redis_away:
                log.redis_unavailable()
            self.is_redis_away = True

    def close(self) -> None:
        """Let go of the connection."""
        self._redis.close()


@lru_cache(maxsize=1)
def _context_of(pid: int) -> AppContext:
    # Keyed by process: a worker forks for each job, and a database connection must not cross a
    # fork.
    del pid
    settings = load_settings()
    return open_context(
        settings, waker=JobNotifier(settings.redis_url) if settings.redis_url else None
    )


def close_context() -> None:
    """Close what this process has open for its jobs; the next job reads the settings anew."""
    if _context_of.cache_info().currsize:
        _context_of(os.getpid()).close()
    _context_of.cache_clear()
