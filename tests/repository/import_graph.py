"""Graph of the imports between the packages and their sub-packages.

The architecture test checks it, `docs/generate.py` draws it.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("parsers", "ingest", "workflow", "webhooks", "console")

Graph = Mapping[str, frozenset[str]]


def list_modules() -> list[Path]:
    """Return every Python file of the five packages, sorted."""
    return sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py"))


@cache
def parse_module(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(), filename=str(path))


def list_imports(path: Path) -> Iterator[str]:
    """Yield the full names that a file imports, wherever in the file the statement stands.

    `from x import y` yields `x.y`, which may be a module or something in the module x.
    """
    for node in ast.walk(parse_module(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def find_part(name: str) -> str:
    """Return the part that a module or a name in it belongs to: `workflow.tickets`, `parsers.item`.

    A part is a sub-package or a module directly in a package. The package itself ("workflow")
    is returned for a name that is neither.
    """
    package, _, rest = name.partition(".")
    first = rest.partition(".")[0]
    folder = ROOT / package
    is_part = first and ((folder / first).is_dir() or (folder / f"{first}.py").is_file())
    return f"{package}.{first}" if is_part else package


@cache
def build_part_graph() -> Graph:
    """Return which parts each part imports, over all packages; no part imports itself."""
    graph: dict[str, set[str]] = {}
    for path in list_modules():
        if "migrations" in path.parts:  # scripts that Alembic runs; env.py loads every model
            continue
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        part = find_part(name.removesuffix(".__init__"))
        parts = {find_part(n) for n in list_imports(path) if n.partition(".")[0] in PACKAGES}
        graph.setdefault(part, set()).update(parts - {part})
    return {part: frozenset(targets) for part, targets in sorted(graph.items())}


def build_package_graph() -> Graph:
    """Return which packages each package imports."""
    parts = build_part_graph()
    return {
        package: frozenset(
            target.partition(".")[0]
            for part, targets in parts.items()
            if part.partition(".")[0] == package
            for target in targets
        )
        - {package}
        for package in PACKAGES
    }


def select_package(graph: Graph, package: str) -> Graph:
    """Return the imports between the parts of one package, without those to other packages."""
    inside = {part for part in graph if part.startswith(f"{package}.")}
    return {part: graph[part] & inside for part in sorted(inside)}


def find_reachable(graph: Graph, start: str) -> set[str]:
    """Return every part that a part imports, directly or through others.

    Contains the part itself only where there is a circle through it.
    """
    reachable: set[str] = set()
    waiting = list(graph.get(start, ()))
    while waiting:
        part = waiting.pop()
        if part not in reachable:
            reachable.add(part)
            waiting.extend(graph.get(part, ()))
    return reachable


def reduce_graph(graph: Graph) -> Graph:
    """Return the graph without the arrows that follow from others (transitive reduction).

    Arrows of a circle all stay.
    """
    return {
        part: frozenset(
            target
            for target in targets
            if part in find_reachable(graph, target)
            or not any(
                target in find_reachable(graph, other) and other not in find_reachable(graph, other)
                for other in targets - {target}
            )
        )
        for part, targets in graph.items()
    }


def render_mermaid(graph: Graph) -> str:
    """Return the reduced graph as a Mermaid flowchart in a Markdown code block."""
    lines = ["```mermaid", "flowchart TD"]
    reduced_graph = reduce_graph(graph)
    for part in sorted(graph):
        label = part.partition(".")[2] or part
        lines.append(f'    {_make_mermaid_id(part)}["{label}"]')
    lines += [
        f"    {_make_mermaid_id(part)} --> {_make_mermaid_id(target)}"
        for part in sorted(graph)
        for target in sorted(reduced_graph[part])
    ]
    return "\n".join([*lines, "```"])


def _make_mermaid_id(part: str) -> str:
    return part.replace(".", "_")
