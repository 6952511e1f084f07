"""A steady load without kills: the memory of every process must stay flat."""

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO

import psutil
from rich.console import Console
from rich.table import Table

from tests.acceptance.chaos.keeper import VALKEY
from tests.acceptance.chaos.run import Plan, install
from workflow.context import open_context
from workflow.settings.settings import load_settings as settings_of

SAMPLE = 10.0
WARM = 300.0  # seconds until a process has all it needs
MOST = 0.05  # growth
Sample = tuple[float, float]  # seconds since the begin, MiB
Samples = dict[str, list[Sample]]


@dataclass(frozen=True)
class Growth:
    """Memory of a process in MiB: the medians when it was warm and at the end."""

    warm: float
    late: float

    @property
    def ratio(self) -> float:
        """Return the growth as a part of the memory when warm: 0.05 is five per cent."""
        return self.late / self.warm - 1


def run_soak(plan: Plan) -> tuple[str, bool]:
    """Run a load without kills; return the report, and whether nothing grew."""
    samples: Samples = {}
    with install(plan) as run:
        open_context(settings_of(home=run.home, database_url=run.url)).close()  # makes the key file
        run.keeper.start(without=() if run.load.mailbox else ("imap",))
        time.sleep(5)
        run.load.start()
        began = time.monotonic()
        while (at := time.monotonic() - began) < plan.seconds:
            for name, pid in run.keeper.list_pids().items():
                for process, resident in _measure_resident(name, pid):
                    samples.setdefault(process, []).append((at, resident))
            time.sleep(SAMPLE)
        run.load.join()
        run.keeper.stop()
        unexpected_ends = list(run.keeper.unexpected_ends)
        sent = sum(run.load.sent.values())
    return _report(samples, plan.seconds, sent, unexpected_ends)


def _measure_resident(name: str, pid: int) -> Iterator[tuple[str, float]]:
    """Yield name and MiB of a process and of its largest parser.

    Not of all parsers: how many there are depends on the load.
    """
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        yield name, process.memory_info().rss / 2**20
        parsers = [p.memory_info().rss / 2**20 for p in process.children(recursive=True)]
        if parsers:
            yield f"{name}, its largest parser", max(parsers)


def _report(
    samples: Samples, seconds: float, item_count: int, unexpected_ends: list[str]
) -> tuple[str, bool]:
    """Return the report, and whether no process grew or ended by itself."""
    growths = {name: _measure_growth(series, seconds) for name, series in samples.items()}
    grew = [name for name, growth in growths.items() if _is_too_much(name, growth)]
    console = Console(width=100, file=StringIO())
    console.print(_build_table(samples, growths))
    ended = unexpected_ends or "nothing ended by itself"
    minutes, warm = seconds / 60, _get_warm_seconds(seconds) / 60
    console.print(f"{item_count} items in {minutes:.0f} minutes; warm after {warm:.0f}; {ended}")
    assert isinstance(console.file, StringIO)
    return console.file.getvalue(), not grew and not unexpected_ends


def _get_warm_seconds(seconds: float) -> float:
    return min(WARM, seconds / 3)


def _measure_growth(series: list[Sample], seconds: float) -> Growth | None:
    """Return the growth; None for a parser that was not there when warm, or not at the end."""
    warm, window = _get_warm_seconds(seconds), max(60.0, seconds / 15)
    early = [mib for at, mib in series if warm <= at < warm + window]
    late = [mib for at, mib in series if at >= seconds - window]
    if not early or not late:
        return None
    return Growth(statistics.median(early), statistics.median(late))


def _is_too_much(name: str, growth: Growth | None) -> bool:
    # Valkey's memory is its data
    return growth is not None and growth.ratio >= MOST and name != VALKEY


def _build_table(samples: Samples, growths: dict[str, Growth | None]) -> Table:
    table = Table("process", "MiB when warm", "MiB at the end", "growth")
    for name, growth in growths.items():
        if growth is None:
            table.add_row(name, "–", f"{max(mib for _, mib in samples[name]):.1f}", "–")
        else:
            table.add_row(name, f"{growth.warm:.1f}", f"{growth.late:.1f}", f"{growth.ratio:+.1%}")
    return table
