"""Memory that a task has freed goes back to the machine."""

from __future__ import annotations

import subprocess
import sys

_HOLES = """
import os
from workers.process.memory import release_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20

# Blocks below the size that gets pages of its own; every sixteenth one stays and keeps the heap's end up.
blocks = [bytearray(b"x" * (100 << 10)) for _ in range(2000)]
kept = blocks[::16] + blocks[-1:]
del blocks
before = resident()
release_memory(sender="task")
print(before - resident())
"""


def test_holes_in_the_heap_are_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100
