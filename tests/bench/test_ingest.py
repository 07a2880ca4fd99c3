"""How fast instances are taken: our node with durable success beside DCMTK's storescp and Orthanc.

Prints a table of ratios; asserts no timing. ``make bench`` runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.support.node import HOST, embedded, quick
from tests.support.peers import Dcmtk, Orthanc
from tests.support.series import affine_of
from workers.training.ct_series import write_ct_series

pytestmark = pytest.mark.bench

SLICES = 100
SENDERS = (1, 4)


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
    tmp_path.mkdir()
    made = embedded(tmp_path, quick([], intake={"quiet_s": 600}))
    made.start()
    try:
        yield "UAIR", made.port
    finally:
        made.stop()


def test_ingest_beside_dcmtk_and_orthanc(
    dcmtk: Dcmtk, orthanc: Orthanc, series: list[list[Path]], tmp_path: Path
) -> None:
    rates: dict[tuple[str, int], float] = {}
    for senders in SENDERS:
        orthanc.delete_all()
        rates["Orthanc", senders] = _rate(_sender(dcmtk, orthanc.aet, orthanc.dicom_port), series[:senders])
        with dcmtk.storescp() as plain:
            rates["DCMTK storescp", senders] = _rate(_sender(dcmtk, plain.aet, plain.port), series[:senders])
        with _node(tmp_path / str(senders)) as (title, port):
            rates["UAIR node (synced)", senders] = _rate(_sender(dcmtk, title, port), series[:senders])
    print(f"\n{'receiver':<20} {'senders':>7} {'instances/s':>12} {'of storescp':>12}")  # noqa: T201
    for (name, senders), rate in sorted(rates.items(), key=lambda one: one[0][1]):
        ratio = rate / rates["DCMTK storescp", senders]
        print(f"{name:<20} {senders:>7} {rate:>12.1f} {ratio:>12.2f}")  # noqa: T201


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
