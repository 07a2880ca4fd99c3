"""Programs that tests start as forks keep the promises of separate processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support import zygote

_OPENS_THEN_FORKS = """
import shutil, sqlite3, sys
from multiprocessing import get_context

file, copy = sys.argv[2:]
connection = sqlite3.connect(file)
connection.execute("PRAGMA journal_mode=WAL")
connection.execute("CREATE TABLE t (x)")
child = get_context("forkserver").Process(target=shutil.copyfile, args=("/proc/self/maps", copy))
child.start()
child.join()
"""


def test_a_worker_of_embedded_mode_inherits_no_open_database(tmp_path: Path) -> None:
    """A fork with SQLite's shared memory would not lock, and would overwrite commits of its parent."""
    file, copy, output = tmp_path / "uair.sqlite", tmp_path / "maps", tmp_path / "output"
    command = [sys.executable, "-c", _OPENS_THEN_FORKS, "up", str(file), str(copy)]
    assert zygote.start(command, output, os.environ).wait(60) == 0, output.read_text()
    mapped = copy.read_text()
    assert "libpython" in mapped or "python3" in mapped
    assert file.name not in mapped
