"""The worker: RQ's, forking, on our queues; without Redis it looks into the database itself."""

import os
import threading
import time
from typing import Any

import click
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

import ingest.reading  # noqa: F401  # warm: a job forks off a process that has everything imported
import workflow.outbox  # noqa: F401  # warm, as above
from console.opening import redis_url, waker_of
from console.running import BEAT_SECONDS, stopping
from workflow import jobs, journal, status
from workflow.house import House, open_house
from workflow.settings import Settings

POLL_SECONDS = 1.0
RETRY_SECONDS = 5.0  # Redis that is away is asked again after so long; the database is looked at meanwhile
TTL = 30  # seconds RQ counts a worker as alive; it looks up from waiting 15 s sooner
NO_REDIS = "INTAKE_REDIS_URL is not set: this worker looks into the database every second instead"


def work(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; a job in hand is finished."""
    url = redis_url(settings)
    if url:
        os.environ["INTAKE_REDIS_URL"] = url  # where a job's own process finds it
    else:
        click.echo(NO_REDIS, err=True)
    house = open_house(settings, waker=waker_of(settings))
    told_to_stop = False
    while not told_to_stop:
        told_to_stop = bool(url) and _with_redis(house, url)
        if not told_to_stop:
            told_to_stop = _without_redis(house, RETRY_SECONDS if url else float("inf"))
    house.close()


class QuietWorker(Worker):
    """RQ's worker, whose heartbeat also goes into the database and whose log tells no exception's text."""

    max_connection_wait_time = RETRY_SECONDS

    def __init__(self, house: House, connection: Redis) -> None:
        """Open on our queues, the JSON serializer on both ends. Raises RedisError when Redis does not answer."""
        queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in jobs.QUEUES]
        super().__init__(
            queues, connection=connection, serializer=JSONSerializer, worker_ttl=TTL, log_job_description=False
        )
        self._house = house
        self._told = float("-inf")

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Tell Redis, and every 20 seconds the database."""
        super().heartbeat(timeout, pipeline)
        if not self.is_horse and time.monotonic() - self._told >= BEAT_SECONDS - 5:
            self._told = time.monotonic()
            _alive(self._house)
            self._house.close()  # no connection may be open when a job forks off

    def handle_exception(self, job: Job, *exc_info: Any) -> None:
        """Log the class and place of a job's fault."""
        del job
        journal.fault("job", exc_info[1])

    @property
    def told_to_stop(self) -> bool:
        """Whether it ended because a signal asked it to."""
        return self._shutdown_requested_date is not None


def _with_redis(house: House, url: str) -> bool:
    """Work on hints from Redis; whether it ended because it was told to, and not because Redis went away."""
    house.close()
    worker = None
    try:
        worker = QuietWorker(house, Redis.from_url(url, socket_connect_timeout=2))
        journal.listening("worker", "redis")
        worker.work(logging_level="WARNING")
    except RedisError:
        journal.redis_away()
    return worker is not None and worker.told_to_stop


def _without_redis(house: House, seconds: float) -> bool:
    """Look into the database every second, for so long; whether told to stop meanwhile."""
    until = time.monotonic() + seconds
    told = float("-inf")
    with stopping() as stop:
        while not stop.is_set() and time.monotonic() < until:
            if time.monotonic() - told >= BEAT_SECONDS:
                told = time.monotonic()
                _alive(house)
            _look(house, stop)
            stop.wait(POLL_SECONDS)
        return stop.is_set()


def _look(house: House, stop: threading.Event) -> None:
    for name in jobs.QUEUES:
        try:
            if not stop.is_set():
                jobs.do(name, house)
        except (SQLAlchemyError, OSError) as error:
            journal.fault(name, error)


def _alive(house: House) -> None:
    try:
        status.alive(house, "worker")
    except (SQLAlchemyError, OSError) as error:
        journal.fault("alive", error)
