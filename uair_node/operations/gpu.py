"""Read GPU memory with the driver's tool `nvidia-smi`. The node has no torch, and must not use CUDA here."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_QUERY = ("--query-gpu=index,name,memory.used,memory.total,utilization.gpu", "--format=csv,noheader,nounits")
_PATIENCE_S = 3.0


@dataclass(frozen=True)
class Gpu:
    """A GPU: memory in MiB, utilisation in percent (None if the driver does not report it)."""

    index: int
    name: str
    used_mib: int
    total_mib: int
    busy_percent: int | None


def read_gpus() -> list[Gpu]:
    """Return this machine's NVIDIA devices. The list is empty if the driver does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, *_QUERY], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> list[Gpu]:
    """Parse the output of ``nvidia-smi`` for our query. Lines in another format are left out."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 5 and all(parts[n].isdecimal() for n in (0, 2, 3)):
            index, name, used, total, busy = parts
            percent = int(busy) if busy.isdecimal() else None
            found.append(Gpu(int(index), name, int(used), int(total), percent))
    return found
