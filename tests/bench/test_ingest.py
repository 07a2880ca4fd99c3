"""Rates of storing instances: our node with durable success beside DCMTK's storescp and Orthanc.

The same sender (DCMTK's storescu) for all, in turns. Prints a table of ratios; asserts no timing.
``make bench`` runs it.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.deployment import on_this_machine
from tests.support.peers import Dcmtk, Orthanc
from tests.support.running_node import HOST, Deployment, quick
from tests.support.series import affine_of
from workers.phantoms.ct_series import write_ct_series

pytestmark = pytest.mark.bench

SLICES = 100
SENDERS = (1, 4)
TURNS = 5
ORTHANC, STORESCP, NODE = "Orthanc", "DCMTK storescp", "UAIR node (durable)"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Four series of 100 slices of 512 x 512 voxels, 0.5 MB each."""
    hu = np.random.default_rng(0).integers(-1000, 1000, (SLICES, 512, 512)).astype(np.int16)
    return [
        write_ct_series(tmp_path_factory.mktemp("series"), hu, affine_of(spacing_mm=(2.0, 0.8, 0.8)))
        for _ in range(max(SENDERS))
    ]


@contextmanager
def _node(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The node alone, on SQLite: workers would only start beside it."""
    tmp_path.mkdir()
    made = Deployment(
        tmp_path,
        lambda config: {"node": on_this_machine(("uair", "node", "--config", str(config)), config)},
        quick([], intake={"quiet_s": 600}),
    )
    made.start()
    try:
        yield "UAIR", made.port
    finally:
        made.stop()


def test_ingest_beside_dcmtk_and_orthanc(
    dcmtk: Dcmtk, orthanc: Orthanc, series: list[list[Path]], tmp_path: Path
) -> None:
    rates: dict[tuple[str, int], list[float]] = defaultdict(list)
    for turn in range(TURNS):
        for senders in SENDERS:
            sent = series[:senders]
            orthanc.delete_all()
            rates[ORTHANC, senders].append(_rate(_sender(dcmtk, orthanc.aet, orthanc.dicom_port), sent))
            with dcmtk.storescp() as plain:
                rates[STORESCP, senders].append(_rate(_sender(dcmtk, plain.aet, plain.port), sent))
            with _node(tmp_path / f"{turn}-{senders}") as (title, port):
                rates[NODE, senders].append(_rate(_sender(dcmtk, title, port), sent))
    _print(rates, sum(path.stat().st_size for path in series[0]) / SLICES / 1e6)


def _print(rates: Mapping[tuple[str, int], list[float]], megabytes: float) -> None:
    """Print the median of each receiver's turns, and the ratios to the peers."""
    middle = {key: statistics.median(values) for key, values in rates.items()}
    heads = f"{'instances/s':>12} {'MB/s':>7} {'of storescp':>12} {'of Orthanc':>11} {'each turn':>28}"
    print(f"\n{'receiver':<20} {'senders':>7} {heads}")  # noqa: T201
    for (name, senders), rate in sorted(middle.items(), key=lambda entry: entry[0][1]):
        ratios = f"{rate / middle[STORESCP, senders]:>12.2f} {rate / middle[ORTHANC, senders]:>11.2f}"
        turns = " ".join(f"{rate:.0f}" for rate in rates[name, senders])
        figures = f"{rate:>12.1f} {rate * megabytes:>7.1f} {ratios} {turns:>28}"
        print(f"{name:<20} {senders:>7} {figures}")  # noqa: T201


def _sender(dcmtk: Dcmtk, called: str, port: int) -> Callable[[list[Path]], None]:
    def send(paths: list[Path]) -> None:
        sent = dcmtk.storescu(HOST, port, called, "BENCH", paths)
        assert sent.returncode == 0, sent.stderr

    return send


def _rate(send: Callable[[list[Path]], None], series: list[list[Path]]) -> float:
    """Send series in parallel, return instances a second."""
    started = time.monotonic()
    with ThreadPoolExecutor(len(series)) as pool:
        list(pool.map(send, series))
    return sum(map(len, series)) / (time.monotonic() - started)
