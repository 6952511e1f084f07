"""The jobs that RQ workers run, and the wake-ups that put them into Redis.

A job carries the name of a queue and no data: losing all of Redis costs a minute, never an item.
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

# The function that does the work of each queue; by name, because workflow must not import ingest.
JOB_FUNCTIONS = {
    "read": "ingest.processing.process:process_waiting",
    "send": "workflow.mail.sender:send_waiting",
    "fetch": "ingest.linked_files.fetch:fetch_due_files",
    "hook": "workflow.webhooks.deliver:deliver_due",
    "spool": "ingest.formstack.spool:drain",
}
QUEUES = ("read", "send", "fetch", "hook")
JOB_TIMEOUT_SECONDS = 600
# A Redis that did not answer is not asked for this long, so that it delays no delivery.
_QUIET_SECONDS = 5.0


def run(name: str) -> int:
    """Do everything that waits in a queue; return how many items were due.

    RQ calls this job with nothing but the queue's name. It never raises: RQ would store the text of
    the exception in Redis, and the sweep finds the work that is left.
    """
    try:
        return do_work(name, _get_context(os.getpid()))
    except Exception as error:  # noqa: BLE001  # top of a job: see above
        log.fault(name, error)
        return 0


def do_work(name: str, context: AppContext) -> int:
    """Do everything that waits in a queue with this context; return how many items were due."""
    work: Callable[[AppContext], int] = resolve_name(JOB_FUNCTIONS[name])
    try:
        return work(context)
    # Claimed items are taken up again after their visibility timeout.
    except JobTimeoutException as error:
        log.fault(name, error)
        return 0


class JobNotifier:
    """Puts a wake-up for the workers into Redis, unless one waits there already; never raises."""

    def __init__(self, url: str) -> None:
        self._redis = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=1)
        self._queues = {
            name: Queue(name, connection=self._redis, serializer=JSONSerializer) for name in QUEUES
        }
        self._quiet_until = 0.0
        self.is_redis_away = False

    def __call__(self, name: str) -> None:
        """Wake the workers of a queue.

        A job that still waits in Redis will find the work; a running one may have missed it, so
        only waiting jobs count.
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
        """Close the connection."""
        self._redis.close()


@lru_cache(maxsize=1)
def _get_context(pid: int) -> AppContext:
    # Keyed by process: a worker forks for each job, and a database connection must not cross a
    # fork.
    del pid
    settings = load_settings()
    return open_context(
        settings, notifier=JobNotifier(settings.redis_url) if settings.redis_url else None
    )


def close_context() -> None:
    """Close what this process has open for its jobs; the next job reads the settings anew."""
    if _get_context.cache_info().currsize:
        _get_context(os.getpid()).close()
    _get_context.cache_clear()
