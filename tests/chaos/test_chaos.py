"""Faults are injected while routers push and a reader picks; afterwards nothing is lost, twice or stuck.

The short form runs with ``make test``; ``make chaos`` runs the long one.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos.auditor import Audit, audit
from tests.chaos.faults import schedule
from tests.chaos.site import Site, open_site
from tests.chaos.traffic import ROUTERS, Ledger, Reader, Routers, answer_at_once, make_series
from tests.support.peers import Orthanc, Postgres, RabbitMQ

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_SECONDS_A_FAULT = 2.5
_ANSWERS_AT_ONCE = 0.25
"""How often somebody else answers in the moment in which a reader does, before a fault."""
_SETTLED = ("AWAITING_SELECTION", "ACCEPTED", "REJECTED", "FAILED", "SUPERSEDED", "EXPIRED")


def test_faults_lose_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    faults = request.config.getoption("--faults", 8)
    cases = request.config.getoption("--cases", 5)
    seed = request.config.getoption("--seed", 1)
    try:
        with open_site(tmp_path, orthanc, rabbitmq, postgres) as site:
            found = _run(site, tmp_path / "series", faults, cases, seed)
    finally:
        for peer in (orthanc, rabbitmq, postgres):
            peer.start()
    for finding in found.findings():
        print(finding)  # noqa: T201
    print(found.answers.line())  # noqa: T201
    print(found.line(faults))  # noqa: T201
    assert found.clean, found.findings()
    assert found.cases == cases


def _run(site: Site, folder: Path, faults: int, cases: int, seed: int) -> Audit:
    series = make_series(folder, cases, seed)
    ledger = Ledger()
    routers = Routers(site, series, ledger, pause_s=_SECONDS_A_FAULT * faults / max(1, cases) * ROUTERS)
    reader = Reader(site, ledger, seed)
    routers.start()
    reader.start()
    chooser = random.Random(seed)
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task(f"seed {seed}", total=faults)
        for fault in schedule(seed, faults):
            progress.update(task, description=fault.name)
            time.sleep(chooser.uniform(0.1, 1.5))
            if chooser.random() < _ANSWERS_AT_ONCE:
                answer_at_once(site, ledger, chooser)
            fault.act(site, chooser)
            progress.advance(task)
        progress.update(task, description="coming to rest")
        site.heal()
        routers.wait(600.0)
        _settle(site, 120.0 + 30.0 * cases)
    reader.stop()
    return audit(site, series, ledger)


def _settle(site: Site, timeout_s: float) -> None:
    """Wait until nothing is due for some seconds."""
    deadline = time.monotonic() + timeout_s
    quiet = 0
    while time.monotonic() < deadline and quiet < 4:
        time.sleep(1.5)
        cases = site.cases()
        busy = any(case["state"] not in _SETTLED or case["due"] for case in cases)
        pending = any(
            delivery["state"] == "pending"
            for case in cases
            for turn in case["rounds"]
            for one in turn["results"]
            for delivery in one["deliveries"]
        )
        quiet = 0 if busy or pending else quiet + 1
