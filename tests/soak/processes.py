"""The resources of a process tree, read from ``/proc``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PAGE = 4096


@dataclass(frozen=True)
class Holdings:
    """Resident memory in MiB, open handles, threads; summed over a process and its children."""

    memory_mib: float
    handles: int
    threads: int


def holdings(pid: int) -> Holdings:
    """Sum over a process and all its descendants. A process that ends meanwhile is not counted."""
    memory, handles, threads = 0.0, 0, 0
    for entry in (pid, *descendants(pid)):
        folder = Path("/proc") / str(entry)
        with suppress(OSError):
            memory += int((folder / "statm").read_text().split()[1]) * _PAGE / (1 << 20)
            handles += len(list((folder / "fd").iterdir()))
            threads += len(list((folder / "task").iterdir()))
    return Holdings(memory, handles, threads)


def descendants(pid: int) -> list[int]:
    """Process ids of children, their children and so on."""
    found: list[int] = []
    with suppress(OSError):
        for task in (Path("/proc") / str(pid) / "task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found
