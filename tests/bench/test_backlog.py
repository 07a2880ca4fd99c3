"""The speed-up of a backlog by a second GPU worker; the death of a worker costs no case.

`make bench ARGS="tests/bench/test_backlog.py"`. Each worker computes with one thread, so two of them need two
free cores; the ratio is printed, not asserted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from tests.support.deployment import GPU_COMMAND, on_this_machine
from tests.support.peers import Dcmtk, Postgres, RabbitMQ
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment, hospital, quick
from uair_node.cases.database import Database
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

pytestmark = [pytest.mark.bench, pytest.mark.integration]

_SERIES = 20
_LIMIT_S = 1800.0


@pytest.fixture(scope="module")
def backlog(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Twenty series of one phantom, each with UIDs of its own."""
    phantom = make_phantom(3, size="small")
    z, y, x = phantom.spacing_mm
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    folder = tmp_path_factory.mktemp("backlog")
    for number in range(_SERIES):
        write_ct_series(folder / f"{number:02d}", phantom.hu, affine)
    return sorted(folder.iterdir())


@contextmanager
def _waiting(
    folder: Path, series: Sequence[Path], dcmtk: Dcmtk, rabbitmq: RabbitMQ, url: str
) -> Iterator[Deployment]:
    """A department without a GPU worker in which all series wait for one."""
    folder.mkdir()
    engine = {"threads": 1, "embeddings_bytes": 0}
    settings = {**quick([]), "engine": engine, "results": {"pages": False}}
    made = hospital(folder, settings, url, rabbitmq.url)
    made.add("gpu-2", on_this_machine(GPU_COMMAND, made.config))
    try:
        made.start("node", "io")
        for found_series in series:
            assert dcmtk.storescu(HOST, made.port, "UAIR", "ROUTER", [found_series]).returncode == 0
        wait_until(lambda: _count(made, "READY") == len(series), "all series to wait", 120.0)
        yield made
    finally:
        made.stop()


def _count(made: Deployment, state: str) -> int:
    return sum(case["state"] == state for case in made.cases())


def _drain(database: Database) -> float:
    """Return the seconds from the first case that is done to the last: starting a worker is not counted."""
    # Asked of the database: a process for each question would take the workers' processors.
    wait_until(lambda: _done(database) >= 1, "the first case", _LIMIT_S)
    began, done = time.monotonic(), _done(database)
    wait_until(lambda: _done(database) == _SERIES, "all cases", _LIMIT_S)
    return (time.monotonic() - began) / (_SERIES - done)


def _done(database: Database) -> int:
    with database.transaction() as session:
        waiting = select(func.count(Case.id)).where(Case.state == CaseState.AWAITING_SELECTION)
        return session.scalar(waiting) or 0


def test_two_workers_drain_a_backlog(
    tmp_path: Path, backlog: list[Path], dcmtk: Dcmtk, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    seconds = {}
    for workers in (["gpu"], ["gpu", "gpu-2"]):
        with (
            postgres.database() as url,
            _waiting(tmp_path / f"{len(workers)}", backlog, dcmtk, rabbitmq, url) as made,
        ):
            made.start(*workers)
            database = Database(url)
            seconds[len(workers)] = _drain(database)
            database.close()
    sys.stdout.write(
        f"\n{_SERIES} series: {seconds[1]:.2f} s a case with one worker, {seconds[2]:.2f} s with two, "
        f"ratio {seconds[1] / seconds[2]:.2f}\n"
    )


def test_a_killed_workers_case_is_finished_by_the_other(
    tmp_path: Path, backlog: list[Path], dcmtk: Dcmtk, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    with (
        postgres.database() as url,
        _waiting(tmp_path / "killed", backlog[:4], dcmtk, rabbitmq, url) as made,
    ):
        made.start("gpu")
        wait_until(lambda: _count(made, "SEGMENTING") == 1, "a worker that holds a case", 120.0)
        (held,) = (case["case"] for case in made.cases() if case["state"] == "SEGMENTING")
        made.kill("gpu")
        assert _count(made, "AWAITING_SELECTION") == 0
        made.start("gpu-2")
        wait_until(lambda: _count(made, "AWAITING_SELECTION") == 4, f"all cases; {made.log}", _LIMIT_S)
        (case,) = (case for case in made.cases() if case["case"] == held)
        assert [round_["round"] for round_ in case["rounds"]] == [1]
        assert sum(result["kind"] == "candidate" for result in case["rounds"][0]["results"]) == 4
