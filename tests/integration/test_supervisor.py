"""Embedded mode's process tree: a dead worker is started again, and no worker outlives its parent."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from dicom_config.model import load_settings
from tests.support.ports import wait_until
from tests.support.running_node import embedded, quick
from uair_node.context import open_context
from uair_node.supervisor import Workers

pytestmark = pytest.mark.integration


def _descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [below for child in children for below in _descendants(child)]


def _alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_dead_worker_is_started_again(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text(f"data_dir: {tmp_path}/data\n", "utf-8")
    open_context(load_settings(config), migrate=True).database.close()
    workers = Workers(config, ["io"])
    workers.start()
    try:
        (first,) = workers.pids
        called = Path(f"/proc/{first}/comm")
        wait_until(lambda: called.read_text().strip() == "uair io worker", "the worker's name", 20.0)
        os.kill(first, signal.SIGKILL)

        def started_again() -> bool:
            workers.tend()
            return workers.pids != [first] and _alive(workers.pids[0])

        wait_until(started_again, "another worker process", 20.0)
    finally:
        workers.stop()
    assert not any(_alive(pid) for pid in workers.pids)


def test_a_worker_that_cannot_start_is_tried_ever_more_rarely(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a migrated database a worker ends at once, each time."""
    config = tmp_path / "site.yaml"
    config.write_text(f"data_dir: {tmp_path}/data\n", "utf-8")
    workers = Workers(config, ["io"])
    workers.start()

    def ended_twice() -> bool:
        workers.tend()
        return sum("is started again" in line for line in caplog.messages) == 2

    try:
        wait_until(ended_twice, "two ends", 60.0)
    finally:
        workers.stop()
    assert [line.rpartition(" in ")[2] for line in caplog.messages if "is started" in line] == ["2 s", "4 s"]


def test_workers_end_with_their_parent_however_it_ended(tmp_path: Path) -> None:
    deployment = embedded(tmp_path, quick([]))
    deployment.start()
    parent = deployment.pid("up")
    wait_until(lambda: deployment.log.read_text().count("waits for tasks") == 2, "two workers", 60.0)
    descendants = _descendants(parent)
    assert len(descendants) >= 4, "two workers, each with a child"
    # Killed alone: no process is left to tell its children.
    os.kill(parent, signal.SIGKILL)
    try:
        wait_until(lambda: not any(_alive(pid) for pid in descendants), "all processes to end", 30.0)
    finally:
        deployment.stop()
