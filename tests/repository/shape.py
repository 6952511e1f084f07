"""Report size and complexity of each package beside the targets: `make shape`. Not a gate.

The targets were measured in eight well-kept code bases. A branch is an `if`, a loop, an `except`,
a conditional expression, a case, a comprehension and its conditions, an `and` or an `or`.
"""

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("parsers", "ingest", "workflow", "webhooks", "console", "tests")
DENSE_BRANCHES = 10  # a function with so many branches …
DENSE_LINES = 25  # … in at most so many lines is dense

Function = ast.FunctionDef | ast.AsyncFunctionDef
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.comprehension,
    ast.match_case,
)


@dataclass
class Figures:
    """Measurements of one package. Lists hold one number a function, module or docstring."""

    complexities: list[int] = field(default_factory=list)
    dense: list[str] = field(default_factory=list)  # "path:line name (branches in lines)"
    nested: int = 0  # functions and classes defined in a function
    lines: int = 0  # without blank ones
    comments: int = 0  # lines that hold a comment
    longest_line: int = 0
    longest_place: str = ""
    docstrings: list[int] = field(default_factory=list)  # lines of each
    undocumented: int = 0  # public functions and classes without one
    entries: int = 0  # of the fullest folder
    fullest_folder: str = ""


def count_branches(function: Function) -> int:
    """Return the decisions of a function: branches, loops, handlers, `and`s and `or`s.

    Functions defined inside count for themselves.
    """
    count = 0
    for node in walk_own(function):
        if isinstance(node, ast.BoolOp):
            count += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            count += 1 + len(node.ifs)
        elif isinstance(node, BRANCHES):
            count += 1
    return count


def walk_own(function: Function) -> Iterator[ast.AST]:
    """Yield the nodes of a function without those of definitions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, Function | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def measure_module(path: Path, figures: Figures) -> None:
    """Add a module's measurements to those of its package."""
    text = path.read_text()
    name = str(path.relative_to(ROOT))
    lines = text.splitlines()
    figures.lines += sum(1 for line in lines if line.strip())
    for number, line in enumerate(lines, 1):
        if len(line) > figures.longest_line:
            figures.longest_line, figures.longest_place = len(line), f"{name}:{number}"
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    figures.comments += len({t.start[0] for t in tokens if t.type == tokenize.COMMENT})
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Function | ast.ClassDef):
            measure_docstring(node, figures)
        if isinstance(node, Function):
            measure_function(node, name, figures)


def measure_docstring(node: Function | ast.ClassDef, figures: Figures) -> None:
    """Add the lines of a docstring, or that a public definition has none."""
    docstring = ast.get_docstring(node)
    if docstring is not None:
        figures.docstrings.append(len(docstring.splitlines()))
    elif not node.name.startswith("_"):
        figures.undocumented += 1


def measure_function(function: Function, module: str, figures: Figures) -> None:
    """Add complexity, density and nesting of a function."""
    branches = count_branches(function)
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    figures.complexities.append(branches + 1)
    if branches >= DENSE_BRANCHES and length <= DENSE_LINES:
        place = f"{module}:{function.lineno} {function.name}"
        figures.dense.append(f"{place} ({branches} branches in {length} lines)")
    figures.nested += sum(isinstance(n, Function | ast.ClassDef) for n in walk_own(function))


def measure_package(package: str) -> Figures:
    """Return the measurements of a package; migrations count as no folder entries."""
    figures = Figures()
    folders = {path.parent for path in (ROOT / package).rglob("*.py")}
    for path in sorted((ROOT / package).rglob("*.py")):
        measure_module(path, figures)
    for folder in sorted(folders):
        entries = [e for e in folder.iterdir() if e.name not in {"__init__.py", "__pycache__"}]
        if len(entries) > figures.entries and "migrations" not in folder.parts:
            figures.entries = len(entries)
            figures.fullest_folder = str(folder.relative_to(ROOT))
    return figures


def get_percentile(values: list[int], percent: float) -> int:
    """Return the value that so many percent of the values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0


def get_mean(values: list[int]) -> float:
    """Return the mean; 0 of none."""
    return sum(values) / len(values) if values else 0.0


def list_rows(all_figures: list[Figures]) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the rows of the report: figure, target, value for each package."""
    f = all_figures
    yield "functions", "", [str(len(x.complexities)) for x in f]
    yield (
        "dense functions per 1,000",
        "≤ 3",
        [f"{1000 * len(x.dense) / max(1, len(x.complexities)):.1f}" for x in f],
    )
    yield "longest line", "≤ 100", [str(x.longest_line) for x in f]
    yield "complexity, median", "", [str(get_percentile(x.complexities, 50)) for x in f]
    yield "complexity, p99", "≤ 14", [str(get_percentile(x.complexities, 99)) for x in f]
    yield "complexity, max", "", [str(max(x.complexities, default=0)) for x in f]
    yield "comment lines, %", "3-8", [f"{100 * x.comments / max(1, x.lines):.1f}" for x in f]
    yield "docstring, mean lines", "3", [f"{get_mean(x.docstrings):.1f}" for x in f]
    yield "public without docstring", "", [str(x.undocumented) for x in f]
    yield "entries of a folder, max", "≤ 15", [str(x.entries) for x in f]
    yield "nested definitions", "", [str(x.nested) for x in f]


def main() -> None:
    """Print the report, then the places behind the figures that miss a target."""
    all_figures = [measure_package(package) for package in PACKAGES]
    print(f"{'':26}{'target':>8}" + "".join(f"{package:>10}" for package in PACKAGES))
    for name, target, values in list_rows(all_figures):
        print(f"{name:26}{target:>8}" + "".join(f"{value:>10}" for value in values))
    print(
        f"\nDense: {DENSE_BRANCHES} or more branches in at most {DENSE_LINES} lines."
        " Complexity: branches + 1."
    )
    for package, figures in zip(PACKAGES, all_figures, strict=True):
        print(f"\n{package}: longest line {figures.longest_place};", end=" ")
        print(f"fullest folder {figures.fullest_folder}")
        for place in figures.dense:
            print(f"  dense: {place}")


if __name__ == "__main__":
    main()
