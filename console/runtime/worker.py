"""The worker: RQ's, on our queues, in one long-lived process; without Redis it polls.

It does not fork: a hostile item is confined to a parser's own process
(ingest/processing/parser_pool.py), and a fork for each job would cost more than most of the work.
"""

import os
import threading
import time
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import DequeueStrategy
from sqlalchemy.exc import SQLAlchemyError

from console.bootstrap import find_redis_url
from console.runtime.lifecycle import catch_stop_signals, open_process
from ingest.processing.parser_pool import use_parser_pool
from workflow import background_jobs
from workflow.context import AppContext
from workflow.runtime import log
from workflow.settings.settings import Settings

POLL_SECONDS = 1.0
RETRY_SECONDS = 5.0  # until Redis is tried again; the database is polled meanwhile
WORKER_TTL_SECONDS = 30  # RQ counts a worker as alive for so long; it wakes 15 s sooner to renew
NO_REDIS = "INTAKE_REDIS_URL is not set: this worker polls the database every second"


def run_worker(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; the job in hand is finished."""
    url = find_redis_url(settings)
    if url:
        os.environ["INTAKE_REDIS_URL"] = url  # jobs read it from there
    else:
        click.echo(NO_REDIS, err=True)
    is_stopped = False
    with open_process(settings, "worker") as (context, _), use_parser_pool(settings):
        while not is_stopped:
            is_stopped = bool(url) and _work_with_redis(url)
            if not is_stopped:
                is_stopped = _work_without_redis(context, RETRY_SECONDS if url else float("inf"))
        background_jobs.close_context()


class QuietWorker(SimpleWorker):
    """RQ's worker without exception texts in its log: they could hold customer data."""

    max_connection_wait_time = RETRY_SECONDS

    def __init__(self, connection: Redis) -> None:
        """Open on our queues, with the JSON serializer on both ends.

        Raises RedisError when Redis does not answer.
        """
        queues = [
            Queue(name, connection=connection, serializer=JSONSerializer)
            for name in background_jobs.QUEUES
        ]
        super().__init__(
            queues,
            connection=connection,
            serializer=JSONSerializer,
            worker_ttl=WORKER_TTL_SECONDS,
            log_job_description=False,
        )

    def procline(self, message: str) -> None:
        """Keep the title of the process, by which `ps` shows that it is our worker."""
        del message

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log the class and place of a job's error."""
        del job
        log.fault("job", exc_info[1])

    @property
    def is_stop_requested(self) -> bool:
        """Return whether a signal asked it to stop."""
        return self._shutdown_requested_date is not None


def _work_with_redis(url: str) -> bool:
    """Work on jobs from Redis; return False when Redis went away, True when a signal ended it."""
    worker = None
    try:
        worker = QuietWorker(Redis.from_url(url, socket_connect_timeout=2))
        log.listener_started("worker", "redis")
        # Round robin: a backlog of mail to read must not delay the notices of mail that was read.
        worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)
    except RedisError:
        log.redis_unavailable()
    return worker is not None and worker.is_stop_requested


def _work_without_redis(context: AppContext, seconds: float) -> bool:
    """Poll the database every second for `seconds`; return whether a signal ended it."""
    until = time.monotonic() + seconds
    with catch_stop_signals() as stop:
        while not stop.is_set() and time.monotonic() < until:
            _poll_once(context, stop)
            stop.wait(POLL_SECONDS)
        return stop.is_set()


def _poll_once(context: AppContext, stop: threading.Event) -> None:
    for name in background_jobs.QUEUES:
        try:
            if not stop.is_set():
                background_jobs.do_work(name, context)
        except (SQLAlchemyError, OSError) as error:
            log.fault(name, error)
