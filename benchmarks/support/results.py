"""Results of the benchmarks in one file, `benchmarks/results/latest.json`, and as one table.

    python -m benchmarks.support.results      prints the table

A benchmark records its figures when it ends, in place of those of its last run.
"""

import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from rich.console import Console
from rich.table import Table

FILE = Path(__file__).resolve().parents[1] / "results" / "latest.json"


@dataclass(frozen=True)
class Figure:
    """A measured figure, beside what it is measured against; a goal of None only reports it.

    `is_ceiling` says that the goal is not to be exceeded.
    """

    work: str
    against: str
    value: float
    unit: str = "ratio"
    goal: float | None = None
    is_ceiling: bool = False

    @property
    def is_met(self) -> bool | None:
        """Return whether the goal is met; None without a goal."""
        if self.goal is None:
            return None
        return self.value <= self.goal if self.is_ceiling else self.value >= self.goal


def record(benchmark: str, figures: list[Figure]) -> None:
    """Store the figures of a benchmark with the date and the machine."""
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    results[benchmark] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} processors, Python {platform.python_version()}",
        "figures": [asdict(figure) for figure in figures],
    }
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(results, indent=2, sort_keys=True) + "\n")


def build_table() -> Table:
    """Return the table of all recorded figures."""
    table = Table("benchmark", "work", "against", "figure", "goal", "")
    results = json.loads(FILE.read_text()) if FILE.exists() else {}
    for benchmark, result in sorted(results.items()):
        for figure in (Figure(**values) for values in result["figures"]):
            sign = "≤" if figure.is_ceiling else "≥"
            goal = "" if figure.goal is None else f"{sign} {figure.goal:g}"
            verdict = {True: "met", False: "missed", None: ""}[figure.is_met]
            value = f"{figure.value:.3g} {figure.unit if figure.unit != 'ratio' else ''}".strip()
            table.add_row(benchmark, figure.work, figure.against, value, goal, verdict)
    return table


if __name__ == "__main__":
    Console(width=150).print(build_table())
