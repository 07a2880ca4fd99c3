"""Series are pushed and picked from for a given time; what the processes hold must not grow.

``make soak`` runs it and prints memory, handles, threads and backlog over time; a leak is a defect. Less
than half an hour says nothing: until then caches fill up to their bounds, the GPU worker's 1 GiB of
embeddings in about twenty minutes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chaos.answers import Reader
from tests.chaos.ledger import Ledger
from tests.chaos.site import open_site
from tests.chaos.traffic import Routers, make_series
from tests.soak.processes import Holdings, holdings
from tests.support.peers import Orthanc, Postgres, RabbitMQ

pytestmark = [pytest.mark.integration, pytest.mark.bench]

SECONDS_A_SERIES = 8.0
LOOKS = 20
MORE_MEMORY = 1.10
"""Growth of memory from the middle of the run to its end that is still noise of the allocator."""
MORE_HANDLES = 10


def test_nothing_grows(
    request: pytest.FixtureRequest, tmp_path: Path, orthanc: Orthanc, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    seconds = 60.0 * request.config.getoption("--minutes", 30.0)
    series = make_series(tmp_path / "series", int(seconds / SECONDS_A_SERIES) + 1, seed=1)
    seen: dict[str, list[Holdings]] = {}
    ledger = Ledger()
    with open_site(tmp_path, orthanc, rabbitmq, postgres) as site:
        routers = Routers(site, series, ledger, pause_s=3 * SECONDS_A_SERIES)
        reader = Reader(site, ledger, seed=1)
        routers.start()
        reader.start()
        print(f"\n{'minute':>6} {'process':<8} {'MiB':>7} {'handles':>8} {'threads':>8} {'backlog':>8}")  # noqa: T201
        for look in range(1, LOOKS + 1):
            time.sleep(seconds / LOOKS)
            backlog = sum(len(case["due"]) for case in site.cases())
            for name in site.deployment.processes:
                now = holdings(site.deployment.pid(name))
                seen.setdefault(name, []).append(now)
                print(  # noqa: T201
                    f"{look * seconds / LOOKS / 60:>6.1f} {name:<8} {now.memory_mib:>7.0f} "
                    f"{now.handles:>8} {now.threads:>8} {backlog:>8}"
                )
        reader.stop()
        routers.wait(0.0)
    assert {name: grown for name, looks in seen.items() if (grown := growth(looks))} == {}


def growth(looks: Sequence[Holdings]) -> str:
    """Say what grew from the middle of a run to its end, by medians of five looks; empty if nothing did."""
    middle, end = (sorted(part, key=lambda look: look.memory_mib) for part in (looks[-12:-7], looks[-5:]))
    found = []
    if end[2].memory_mib > MORE_MEMORY * middle[2].memory_mib:
        found.append(f"memory {middle[2].memory_mib:.0f} -> {end[2].memory_mib:.0f} MiB")
    for what in ("handles", "threads"):
        before, after = (sorted(getattr(look, what) for look in part)[2] for part in (middle, end))
        if after > before + MORE_HANDLES:
            found.append(f"{what} {before} -> {after}")
    return ", ".join(found)
