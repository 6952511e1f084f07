"""A steady load without kills: the memory of every process must stay flat."""

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO

import psutil
from rich.console import Console
from rich.table import Table

from tests.acceptance.chaos.keeper import VALKEY
from tests.acceptance.chaos.run import Plan, installed
from workflow.context import open_house
from workflow.settings.settings import load as settings_of

SAMPLE = 10.0
WARM = 300.0  # seconds until a process has all it needs
MOST = 0.05
Samples = dict[str, list[tuple[float, float]]]


def soak(plan: Plan) -> tuple[str, bool]:
    """Run; the table, and whether nothing grew."""
    samples: Samples = {}
    with installed(plan) as run:
        open_house(settings_of(home=run.home, database_url=run.url)).close()  # makes the key file
        run.keeper.start(without=() if run.load.mailbox else ("imap",))
        time.sleep(5)
        run.load.start()
        began = time.monotonic()
        while (at := time.monotonic() - began) < plan.seconds:
            for name, pid in run.keeper.pids().items():
                for which, resident in _resident(name, pid):
                    samples.setdefault(which, []).append((at, resident))
            time.sleep(SAMPLE)
        run.load.join()
        run.keeper.stop()
        odd = list(run.keeper.odd)
        sent = sum(run.load.sent.values())
    return _table(samples, plan.seconds, sent, odd)


def _resident(name: str, pid: int) -> Iterator[tuple[str, float]]:
    """MiB of a process, and of the largest of its parsers: how many it has is a matter of load."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        yield name, process.memory_info().rss / 2**20
        parsers = [p.memory_info().rss / 2**20 for p in process.children(recursive=True)]
        if parsers:
            yield f"{name}, its largest parser", max(parsers)


def _table(samples: Samples, seconds: float, sent: int, odd: list[str]) -> tuple[str, bool]:
    warm = min(WARM, seconds / 3)
    window = max(60.0, seconds / 15)
    out = Console(width=100, file=StringIO())
    table = Table("process", "MiB when warm", "MiB at the end", "growth")
    good = not odd
    for name, found in samples.items():
        early = [m for at, m in found if warm <= at < warm + window]
        late = [m for at, m in found if at >= seconds - window]
        if not early or not late:  # a parser that was not there then, or is not there now
            table.add_row(name, "–", f"{max(m for _, m in found):.1f}", "–")
            continue
        growth = statistics.median(late) / statistics.median(early) - 1
        good = good and (growth < MOST or name == VALKEY)
        table.add_row(
            name,
            f"{statistics.median(early):.1f}",
            f"{statistics.median(late):.1f}",
            f"{growth:+.1%}",
        )
    out.print(table)
    ended = odd or "nothing ended by itself"
    out.print(f"{sent} items in {seconds / 60:.0f} minutes; warm after {warm / 60:.0f}; {ended}")
    assert isinstance(out.file, StringIO)
    return out.file.getvalue(), good
