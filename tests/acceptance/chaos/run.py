"""A run: load and chaos, then overdue deadlines under chaos, then quiet, then the count."""

import random
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from threading import Event, Thread

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from console.demo.channels import find_free_ports
from console.runtime.valkey import Valkey
from tests.acceptance.chaos import load as clients
from tests.acceptance.chaos.keeper import VALKEY, Keeper, build_environment
from tests.acceptance.chaos.load import Load
from tests.acceptance.chaos.verdict import Verdict, count_missed_without_task, judge
from tests.support import dovecot, formstack_server
from tests.support.formstack_server import make_json_answer
from tests.support.processes import OwnPostgres
from tests.support.servers import Relay
from workflow.context import AppContext, open_context
from workflow.database.engine import Store, migrate
from workflow.models.core import Delivery, MailboxCheckpoint, OutgoingMail, Role, Staff, Ticket
from workflow.models.states import DeliveryState, OutboxState
from workflow.process import Milestone, Stage
from workflow.runtime import log as runtime_log
from workflow.settings.settings import load_settings as settings_of

POINTS = {
    "before commit": 0.004,
    "after commit, before reply": 0.004,
    "after send, before mark": 0.02,
    "after storing, before IMAP mark": 0.04,
    "after reading, before file moves": 0.15,
    "after draining, before spool file goes": 0.2,
}
DAYS = 3.2 * 86400  # seconds that the clocks are put forward: every deadline is missed
SETTLED = 150.0  # seconds: by then nothing may wait any more
LISTS = 5  # pages of Formstack's list: by then the backfill has been through all of it
SWEPT = 15.0  # by when the clock has looked for missed deadlines, surely


@dataclass
class Plan:
    """Parameters of a run; `kills` a minute at random, beside those at marked points."""

    seconds: float
    database: str = "sqlite"
    kills: float = 40
    seed: int = 0
    fake_acks: bool = False
    pace: float = 1.0
    logs: Path | None = None  # where the processes' logs are kept


@dataclass
class Run:
    """An installation, the servers around it, and the counts of what was done to it."""

    plan: Plan
    home: Path
    url: str
    keeper: Keeper
    load: Load
    relay: Relay
    fired: Path
    redis: str
    postgres: OwnPostgres | None
    disturbances: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)  # marked points that fired

    def count_points(self) -> None:
        """Count the marked points that fired."""
        self.points = (
            Counter(self.fired.read_text().splitlines()) if self.fired.exists() else Counter()
        )

    @property
    def kills(self) -> int:
        """Return the number of kills, at random and at marked points."""
        return sum(self.keeper.kills.values()) + sum(self.points.values())

    def disturb(self, seconds: float, *names: str, channels: bool = True) -> None:
        """Kill processes for so long, and with `channels` take other things away as well."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(random.uniform(0.3, 1.7) * 60 / self.plan.kills)  # noqa: S311
            dice = random.random() if channels else 1  # noqa: S311
            if dice < 0.05:
                self._take_database_away()
            elif dice < 0.09:
                self._flush()
            elif dice < 0.12:
                status = random.choice([429, 500, 503])  # noqa: S311
                self.load.formstack.answers.append(
                    make_json_answer({}, status, **{"Retry-After": "1"})
                )
                self.disturbances["errors of Formstack's API"] += 1
            elif dice < 0.19:
                self.relay.answers += random.choice(  # noqa: S311
                    [["450 later"] * 3, ["hang up"] * 2, ["421 closing"]]
                )
                self.disturbances["errors of the relay"] += 1
            else:
                self.keeper.kill_random(*names)

    def _flush(self) -> None:
        with suppress(RedisError), Redis.from_url(self.redis) as client:
            client.flushall()
            self.disturbances["FLUSHALL"] += 1

    def _take_database_away(self) -> None:
        self.disturbances["database away"] += 1
        if self.postgres is not None:
            self.postgres.end()
            time.sleep(random.uniform(1, 4))  # noqa: S311
            self.postgres.begin()
            return
        with suppress(sqlite3.OperationalError):
            holder = sqlite3.connect(
                self.url.removeprefix("sqlite:///"), timeout=5, isolation_level=None
            )
            holder.execute("BEGIN EXCLUSIVE")
            time.sleep(random.uniform(1, 4))  # noqa: S311
            holder.execute("ROLLBACK")
            holder.close()

    def is_settled(self, store: Store) -> bool:
        """Return whether nothing waits anywhere."""
        files = [
            p for p in self.load.folder.iterdir() if p.is_file() and not p.name.startswith(".")
        ]
        if files or list((self.home / "spool").glob("*.sealed")):
            return False
        pending = select(func.count()).where(Delivery.state == DeliveryState.PENDING)
        waiting = select(func.count()).where(OutgoingMail.state == OutboxState.WAITING)
        with store.read_only() as session:
            read_to = session.scalar(select(MailboxCheckpoint.last_uid)) or 0
            idle = not session.scalar(pending) and not session.scalar(waiting)
        return idle and read_to >= self._count_mails()

    def _count_mails(self) -> int:
        """Return how many mails the mailbox has got: each has the next UID."""
        if self.load.mailbox is None:
            return 0
        box = self.load.mailbox.get_maildir(clients.USER)
        return sum(len(list((box / part).iterdir())) for part in ("cur", "new"))


def work_at_desk(context: AppContext, stop: Event) -> None:
    """Complete a ticket now and then, as an agent does, until `stop` is set."""
    with suppress(SQLAlchemyError), context.store.transaction() as session:
        session.add(
            Staff(
                name="Olga", email="olga@desk.example", role=Role.AGENT, created_at=context.clock()
            )
        )
    while not stop.wait(1.0):
        with suppress(SQLAlchemyError), context.store.transaction() as session:
            ready = (
                select(Ticket)
                .where(Ticket.stage == Stage.IN_PROGRESS)
                .order_by(func.random())
                .limit(1)
            )
            ticket = session.scalar(ready)
            if ticket is None or not ticket.contacts:
                continue
            context.desk.record_milestone(
                session, ticket, Milestone.FOLLOW_UP_SENT, by="Olga", now=context.clock()
            )
            context.desk.resolve(session, ticket, yes=True, by="Olga", now=context.clock())
            context.desk.recap(
                session, ticket, "It was resubmitted.", by="Olga", now=context.clock()
            )


@contextmanager
def install(plan: Plan) -> Iterator[Run]:
    """A fresh installation, nothing of it running yet."""
    random.seed(plan.seed)
    with ExitStack() as stack:
        stack.callback(structlog.configure, **structlog.get_config())
        runtime_log.disable()  # the desk's part runs in this process
        home = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True)
            )
        )
        postgres = None
        url = f"sqlite:///{home / 'intake.db'}"
        if plan.database == "postgresql":
            postgres = OwnPostgres()
            stack.callback(postgres.stop)
            postgres.run("CREATE DATABASE chaos")
            url = postgres.build_url("chaos")
        migrate(url)
        mailbox = stack.enter_context(dovecot.run_dovecot()) if dovecot.BINARY else None
        formstack = stack.enter_context(formstack_server.run_formstack())
        relay = Relay()
        stack.callback(relay.stop)
        valkey, (smtp, webhook, console) = Valkey(home), find_free_ports(3)
        (home / "dropbox").mkdir()
        imap = (
            f"imap://{clients.USER}:{dovecot.PASSWORD}@127.0.0.1:{mailbox.port}/INBOX"
            if mailbox
            else ""
        )
        settings = build_environment(
            intake_home=home,
            intake_database_url=url,
            intake_redis_url=valkey.url,
            intake_smtp_listen=f"127.0.0.1:{smtp}",
            intake_webhook_listen=f"127.0.0.1:{webhook}",
            intake_console_listen=f"127.0.0.1:{console}",
            intake_formstack_key=clients.KEY,
            intake_relay_url=relay.url,
            intake_imap_urls=imap,
            intake_imap_since="all",
            intake_imap_poll_seconds=1,
            intake_folder_settle_seconds=0.3,
            intake_formstack_token=formstack.token,
            intake_formstack_api=formstack.url,
            intake_backfill_seconds=2,
            intake_folder_poll_seconds=1,
            intake_sweep_seconds=2,
            intake_config=home / "none.toml",
            chaos_fired=home / "fired",
            pythonpath=Path(__file__).parents[3],
        )
        chaos_settings = dict(settings)
        if plan.kills:
            chaos_settings["CHAOS_POINTS"] = ";".join(f"{n}={p}" for n, p in POINTS.items())
        if plan.fake_acks:
            chaos_settings["CHAOS_FAKE_ACKS"] = "1"
        keeper = Keeper(chaos_settings, valkey.command, home)
        load = Load(smtp, webhook, home / "dropbox", settings, mailbox, formstack, plan.pace)
        yield Run(plan, home, url, keeper, load, relay, home / "fired", valkey.url, postgres)


def run_chaos(plan: Plan) -> tuple[Run, Verdict, float]:
    """Do the whole run; return it, the verdict, and the seconds it took to settle."""
    with install(plan) as run:
        without = () if run.load.mailbox else ("imap",)
        quiet = Event()
        # makes the key file
        context = open_context(settings_of(home=run.home, database_url=run.url))
        run.keeper.start(without=without)
        try:
            time.sleep(4)
            desk = Thread(target=work_at_desk, args=(context, quiet), daemon=True)
            desk.start()
            run.load.start()
            run.disturb(plan.seconds)
            run.load.join()
            quiet.set()
            desk.join(60)
            run.relay.answers.clear()
            run.load.formstack.answers.clear()
            _restart(run, DAYS, without)
            run.disturb(plan.seconds / 3, "clock", "worker", "worker 2", VALKEY, channels=False)
            run.keeper.environment.pop("CHAOS_POINTS", None)
            _restart(run, DAYS + 600, without)  # every lease is over
            due = context.clock() + timedelta(seconds=DAYS + 600)
            settled = _settle(run, context.store, due)
            run.keeper.stop()
            run.count_points()
            return run, judge(context.store, run.load, run.relay.taken, run.kills, due), settled
        finally:
            quiet.set()
            run.keeper.stop()
            context.close()
            if plan.logs is not None:
                plan.logs.mkdir(parents=True, exist_ok=True)
                for log in run.home.glob("*.log"):
                    shutil.copy(log, plan.logs)


def _restart(run: Run, offset: float, without: tuple[str, ...]) -> None:
    run.keeper.stop()
    run.keeper.environment["INTAKE_CLOCK_OFFSET"] = str(offset)
    run.keeper.start(without=without)


def _settle(run: Run, store: Store, due: datetime) -> float:
    """Wait until nothing has waited anywhere for five rounds; return the seconds that took."""
    began, quiet_rounds, pages = time.monotonic(), 0, len(run.load.formstack.pages)
    seconds = 0.0
    while seconds < SETTLED and (quiet_rounds < 5 or seconds < SWEPT):
        time.sleep(1)
        with suppress(SQLAlchemyError):
            is_backfilled = not pages or len(run.load.formstack.pages) > pages + LISTS
            is_quiet = is_backfilled and run.is_settled(store) and _are_all_raised(store, due)
            quiet_rounds = quiet_rounds + 1 if is_quiet else 0
        seconds = time.monotonic() - began
    return seconds


def _are_all_raised(store: Store, due: datetime) -> bool:
    """Return whether the clock process has raised every deadline missed by then."""
    with store.read_only() as session:
        return count_missed_without_task(session, due) == 0


def show(run: Run, verdict: Verdict, settle_seconds: float) -> str:
    """Return the report as text."""
    console = Console(width=100, file=StringIO())
    console.print(
        f"{run.plan.database}, seed {run.plan.seed}: {run.kills} kills;"
        f" settled in {settle_seconds:.0f} s"
    )
    channels = Table("channel", "sent", "acknowledged", "found", "lost", "doubled")
    for channel, figures in verdict.channels.items():
        channels.add_row(channel, *map(str, figures))
    kill_table = Table("killed or taken away", "times")
    for name, times in sorted((run.keeper.kills + run.points + run.disturbances).items()):
        kill_table.add_row(name, str(times))
    counted = Table("counted", "")
    for name, value in verdict.figures.items():
        counted.add_row(name, str(value))
    console.print(channels, kill_table, counted)
    for line in (*verdict.broken[:20], *run.keeper.unexpected_ends[:20]):
        console.print(f"BROKEN: {line}")
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()
