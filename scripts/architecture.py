"""Write docs/architecture.md from the code: imports, states, queues. `make architecture` runs this script."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import grimp

from uair_node.cases.states import TRANSITIONS
from uair_node.work.topology import RULES, QueueName

_TARGET = Path(__file__).parents[1] / "docs" / "architecture.md"
_PACKAGES = ("dicom_config", "uair_node", "workers")
_ENTRY_POINTS = frozenset({"uair_node.cli", "workers.cli"})
"""The diagram omits these modules. They import all packages, so their arrows would hide the other arrows."""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join(
        [
            "# Architecture",
            "",
            "`make architecture` draws this page from the code. Do not edit it. "
            "Explanations: [developers](developers.md).",
            "",
            "## Who imports whom",
            "",
            "An arrow goes from a package to a package that it imports. The figure leaves out the command "
            "lines, and arrows to `dicom_config` and to small modules that all packages import.",
            "",
            *_mermaid("flowchart LR", _imports()),
            "## States of a case",
            "",
            *_mermaid("stateDiagram-v2", _states()),
            "## Kinds of work and their queues",
            "",
            "Each work item is a row in the database and a task. A message contains only the row's number.",
            "",
            *_mermaid("flowchart LR", _queues()),
        ]
    )


def _mermaid(kind: str, lines: Iterable[str]) -> list[str]:
    return ["```mermaid", kind, *(f"    {line}" for line in lines), "```", ""]


def _imports() -> Iterator[str]:
    graph = grimp.build_graph(*_PACKAGES)
    edges = {
        (_part(importer), _part(other))
        for importer in graph.modules - _ENTRY_POINTS
        for other in graph.find_modules_directly_imported_by(importer) - _ENTRY_POINTS
    }
    parts = defaultdict(set)
    for part in {part for edge in edges for part in edge}:
        parts[part.partition(".")[0]].add(part)
    for package in _PACKAGES:
        yield f"subgraph {package}"
        yield from (f"    {_name(part)}[{part.partition('.')[2] or part}]" for part in sorted(parts[package]))
        yield "end"
    drawn = sorted(
        (importer, other) for importer, other in edges if importer != other and other not in _PACKAGES
    )
    yield from (f"{_name(importer)} --> {_name(other)}" for importer, other in drawn)


def _part(module: str) -> str:
    """Return a module's folder, at most two levels deep. For a package's own modules, it is the package."""
    words = module.split(".")
    folder = Path(_TARGET.parents[1], *words[:2])
    return ".".join(words[:2]) if folder.is_dir() and len(words) > 1 else words[0]


def _name(part: str) -> str:
    return part.replace(".", "_")


def _states() -> Iterator[str]:
    for origin, states in TRANSITIONS.items():
        yield from (f"{origin or '[*]'} --> {state}" for state in sorted(states))


def _queues() -> Iterator[str]:
    for queue in QueueName:
        yield f'{queue.name}[("{queue}")]'
    yield from (f"{kind.value} --> {rule.queue.name}" for kind, rule in RULES.items())


if __name__ == "__main__":
    _TARGET.write_text(page(), "utf-8")
