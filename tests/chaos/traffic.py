"""Traffic of hospitals: routers push series until the node has taken every instance."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage, MRImageStorage

from tests.chaos.ledger import Ledger
from tests.chaos.site import Site
from uair_node.network.responses import KEEP_RESPONSES
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

_GOOD, _LOST_SLICE, _WRONG_MODALITY, _TOO_FEW = "good", "lost slice", "wrong modality", "too few slices"
KINDS = (_GOOD, _GOOD, _GOOD, _LOST_SLICE, _GOOD, _WRONG_MODALITY, _GOOD, _GOOD, _TOO_FEW, _GOOD)
"""Kinds of series in turn."""
ROUTERS = 3


@dataclass(frozen=True)
class Series:
    """A series to push. A `good` series must end in four candidates, any other in a reasoned rejection."""

    uid: str
    kind: str
    paths: tuple[Path, ...]

    @property
    def good(self) -> bool:
        """Whether it can be segmented."""
        return self.kind == _GOOD


def make_series(folder: Path, count: int, seed: int) -> list[Series]:
    """Write `count` series of every second slice of one small phantom, each in a study of its own."""
    phantom = make_phantom(3, size="small")
    z, y, x = phantom.spacing_mm
    z *= 2
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    made = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        # A shift in density makes contents differ, and so digests and masks.
        hu = phantom.hu[::2] + np.int16((seed + number) % 7)
        uid = generate_uid(entropy_srcs=[str(seed), str(number)])
        paths = write_ct_series(
            folder / str(number), hu, affine, series_instance_uid=uid, accession_number=f"C{number}"
        )
        made.append(Series(uid, kind, tuple(_spoiled(paths, kind))))
    return made


def corrected(series: Series, folder: Path, number: int) -> Series:
    """Write another version of a series: the same UIDs, a corrected patient name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for path in series.paths:
        dataset = pydicom.dcmread(path)
        dataset.PatientName = f"Corrected^{number}"
        paths.append(folder / path.name)
        dataset.save_as(paths[-1], enforce_file_format=True)
    return Series(series.uid, series.kind, tuple(paths))


def _spoiled(paths: Sequence[Path], kind: str) -> Sequence[Path]:
    if kind == _LOST_SLICE:
        return [*paths[:17], *paths[18:]]
    if kind == _TOO_FEW:
        return paths[:6]
    if kind == _WRONG_MODALITY:
        for path in paths:
            dataset = pydicom.dcmread(path)
            dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"
            dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
            dataset.save_as(path, enforce_file_format=True)
    return paths


class Routers:
    """Routers that push series on a few threads, one series at a time on each, and never give up."""

    def __init__(self, site: Site, series: Sequence[Series], ledger: Ledger, pause_s: float) -> None:
        self._site, self._ledger, self._pause_s = site, ledger, pause_s
        self._waiting = list(reversed(series))
        self._lock = threading.Lock()
        self._one_at_a_time: dict[str, threading.Lock] = {series.uid: threading.Lock() for series in series}
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(ROUTERS)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def send_now(self, series: Series) -> None:
        """Send a series, or another version of a series, beside the series that are sent in turn."""
        thread = threading.Thread(target=self._push, args=(series,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until all series are pushed; stop after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if not self._waiting:
                    return
                series = self._waiting.pop()
            self._push(series)
            self._stopping.wait(self._pause_s)

    def _push(self, series: Series) -> None:
        left = {
            str(pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in series.paths
        }
        with self._one_at_a_time[series.uid]:  # so that the ledger has the order of versions
            while left and not self._stopping.is_set():
                for uid in list(self._associate(left)):
                    self._ledger.take(left.pop(uid), uid)
                if left:
                    self._stopping.wait(0.5)
        if not left:
            self._ledger.finished.add(series.uid)

    def _associate(self, left: dict[str, Path]) -> Iterator[str]:
        """Open one association and yield the files that the node took before the association broke."""
        entity = AE("ROUTER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
        contexts = [build_context(CTImageStorage), build_context(MRImageStorage)]
        association = entity.associate(
            "127.0.0.1",
            self._site.routers.port,
            contexts=contexts,
            ae_title="UAIR",
            evt_handlers=[KEEP_RESPONSES],
        )
        if not association.is_established:
            return
        for uid, path in list(left.items()):
            try:
                answer = association.send_c_store(pydicom.dcmread(path))
            except (RuntimeError, ValueError):
                break
            if getattr(answer, "Status", None) == 0x0000:
                yield uid
        association.release() if association.is_established else association.abort()
