"""Benchmark of items that crash, hoard memory or never end: their cost for all others.

It measures the delay from 250 to notice, with and without them.

    python benchmarks/poison.py [SECONDS]

Real processes: SMTP listener, worker and Valkey; only the worker's mail parser does what a
poisonous mail asks for. Rounds with and without poison take turns in one run. Fails when the
others' median delay differs by more than a tenth.
"""

import os
import smtplib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from console.demo.channels import find_free_ports
from console.runtime.valkey import Valkey
from workflow.database.engine import Store, migrate
from workflow.models.core import Message, Ticket, TicketMilestone
from workflow.process import Milestone

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 12.0
ROUNDS = 4  # of each kind
GAP = 0.08  # seconds between two mails
MOST = 0.10
ROOT = Path(__file__).resolve().parent.parent
POISON = ROOT / "tests" / "support" / "poison_parser.py"
DEEDS = ("crash", "sleep", "hoard", "spin")
WORKER = (
    f"from ingest.processing import parser_pool; parser_pool.CHILD_COMMAND = ({str(POISON)!r},);"
    " from console.cli.main import main; main()"
)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def send(smtp: smtplib.SMTP, words: str) -> str:
    name = f"{time.time_ns()}@clinic.example"
    text = f"From: a{name}\r\nSubject: x\r\nMessage-ID: <{name}>\r\n\r\n{words}\r\n"
    smtp.sendmail("a@clinic.example", ["support@localhost"], text.encode())
    return name


def one_round(smtp: smtplib.SMTP, *, poison: bool) -> dict[str, float]:
    """Send for so many seconds, four poisonous mails among them; when each good one got its 250."""
    sent: dict[str, float] = {}
    until, deeds = time.monotonic() + SECONDS, list(DEEDS if poison else ())
    while time.monotonic() < until:
        if deeds and len(sent) % 10 == 5:
            send(smtp, f"poison: {deeds.pop()}")
        sent[send(smtp, "please help")] = time.time()
        time.sleep(GAP)
    return sent


def delays(store: Store, sent: dict[str, float]) -> list[float]:
    """Seconds from its 250 to the customer's notice, of each mail; raises if one has none."""
    query = (
        select(Message.message_id, TicketMilestone.at)
        .join(Ticket, Ticket.id == Message.ticket_id)
        .join(TicketMilestone, TicketMilestone.ticket_id == Ticket.id)
        .where(TicketMilestone.milestone == Milestone.CUSTOMER_NOTIFIED, Message.direction == "in")
    )
    with store.read_only() as session:
        at = {name: when.timestamp() for name, when in session.execute(query)}
    return [at[name] - when for name, when in sent.items()]


def measure(home: Path) -> tuple[list[float], list[float]]:
    """All delays without and with poison."""
    listen = f"127.0.0.1:{find_free_ports(1)[0]}"
    valkey = Valkey(home)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("INTAKE_")},
        "INTAKE_HOME": str(home),
        "INTAKE_SMTP_LISTEN": listen,
        "INTAKE_REDIS_URL": valkey.url,
        "INTAKE_PARSE_SECONDS": "5",
        "INTAKE_PARSE_MEMORY": str(400 * 2**20),
        "PYTHONPATH": str(ROOT),
        "INTAKE_CONFIG": str(home / "none.toml"),
    }
    url = f"sqlite:///{home / 'intake.db'}"
    migrate(url)
    store, found = Store(url), ([], [])
    with ExitStack() as stack:
        stack.enter_context(running(valkey.command, environment))
        stack.enter_context(
            running([sys.executable, "-m", "console.cli.main", "smtp"], environment)
        )
        stack.enter_context(running([sys.executable, "-c", WORKER, "worker"], environment))
        time.sleep(5)
        host, _, port = listen.rpartition(":")
        with smtplib.SMTP(host, int(port)) as smtp:
            one_round(smtp, poison=False)  # warm
            for n in range(2 * ROUNDS):
                sent = one_round(smtp, poison=bool(n % 2))
                time.sleep(6)
                found[n % 2].extend(delays(store, sent))
    store.close()
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        clean, poisoned = measure(Path(folder))
    table = Table("", "mails", "median", "p90", "longest")
    for name, some in (("without poison", clean), ("with poison", poisoned)):
        cut = sorted(some)
        figures = (statistics.median(some), cut[int(len(cut) * 0.9)], cut[-1])
        table.add_row(name, str(len(some)), *(f"{1000 * f:.0f} ms" for f in figures))
    Console().print(table)
    ratio = statistics.median(poisoned) / statistics.median(clean)
    Console().print(
        f"the others' median delay with poison is {ratio:.2f} of that without (bound"
        f" {1 + MOST:.2f})"
    )
    return int(ratio > 1 + MOST)


if __name__ == "__main__":
    sys.exit(main())
