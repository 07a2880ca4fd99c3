"""Faults are injected while routers push and a reader picks; afterwards nothing is lost, twice or stuck.

The short form runs with ``make test``; ``make chaos`` runs the long one.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.chaos.answers import Operator, Reader, answer_at_once
from tests.chaos.auditor import audit
from tests.chaos.faults import FAULTS, schedule
from tests.chaos.findings import Audit
from tests.chaos.interference import Interference, send_parked_again
from tests.chaos.ledger import Ledger
from tests.chaos.site import Site, open_site
from tests.chaos.traffic import ROUTERS, Routers, make_series
from tests.support.peers import Orthanc, Postgres, RabbitMQ

pytestmark = [pytest.mark.integration, pytest.mark.chaos]

_SECONDS_A_FAULT = 2.5
_CASES_AN_ANSWER = 4
"""Waiting cases at the end of a run for each case that is answered in all ways at once."""
_SETTLED = ("AWAITING_SELECTION", "ACCEPTED", "REJECTED", "FAILED", "SUPERSEDED", "EXPIRED")


def test_faults_lose_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    faults = request.config.getoption("--faults", 8)
    cases = request.config.getoption("--cases", 5)
    seed = request.config.getoption("--seed", 1)
    try:
        with open_site(tmp_path, orthanc, rabbitmq, postgres, own_clocks=True) as site:
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
    reader, operator = Reader(site, ledger, seed), Operator(site, ledger)
    interference = Interference(site, ledger, routers, operator, series, folder)
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
        for fault in schedule(seed, faults, [*FAULTS, *interference.kinds()]):
            progress.update(task, description=fault.name)
            time.sleep(chooser.uniform(0.1, 1.5))
            fault.act(site, chooser)
            progress.advance(task)
        progress.update(task, description="coming to rest")
        site.heal()
        routers.wait(600.0)
        _settle(site, 120.0 + 30.0 * cases)
        progress.update(task, description="last answers")
        for _ in range(cases // _CASES_AN_ANSWER):
            answer_at_once(site, ledger, operator, chooser, interference.supersede)
        routers.wait(600.0)
        _settle(site, 120.0 + 30.0 * cases)
        reader.stop()
        while send_parked_again(site):
            _settle(site, 120.0)
    print(" ".join(f"{name} {number}," for name, number in sorted(ledger.counts.items())))  # noqa: T201
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
            for result in turn["results"]
            for delivery in result["deliveries"]
        )
        quiet = 0 if busy or pending else quiet + 1
