"""What hospitals do: routers that push series until every instance is taken, and a reader who picks."""

from __future__ import annotations

import random
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import generate_uid
from pynetdicom import AE, build_context
from pynetdicom.sop_class import CTImageStorage, MRImageStorage

from tests.chaos.site import Site
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

_GOOD, _LOST_SLICE, _WRONG_MODALITY, _TOO_FEW = "good", "lost slice", "wrong modality", "too few slices"
KINDS = (_GOOD, _GOOD, _GOOD, _LOST_SLICE, _GOOD, _WRONG_MODALITY, _GOOD, _GOOD, _TOO_FEW, _GOOD)
"""Kinds of series in turn."""
ROUTERS = 3


@dataclass(frozen=True)
class Series:
    """A series to push; `good` ones must end in four candidates, others in a rejection with a reason."""

    uid: str
    kind: str
    paths: tuple[Path, ...]

    @property
    def good(self) -> bool:
        """Whether it can be segmented."""
        return self.kind == _GOOD


def make_series(folder: Path, count: int, seed: int) -> list[Series]:
    """Write `count` series of every other slice of one small phantom, each a study of its own."""
    phantom = make_phantom(3, size="small")
    z, y, x = phantom.spacing_mm
    z *= 2
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    made = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        # A shift in density makes contents, hence digests and masks, differ.
        hu = phantom.hu[::2] + np.int16((seed + number) % 7)
        uid = generate_uid(entropy_srcs=[str(seed), str(number)])
        paths = write_ct_series(
            folder / str(number), hu, affine, series_instance_uid=uid, accession_number=f"C{number}"
        )
        made.append(Series(uid, kind, tuple(_spoiled(paths, kind))))
    return made


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


@dataclass
class Ledger:
    """What the node answered 0000 for: SOP Instance UID -> the file that was sent."""

    taken: dict[str, Path] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)  # series of which every instance was taken
    answers: list[tuple[str, str]] = field(default_factory=list)  # (SOP Instance UID, verb) answered 0000


class Routers:
    """Push series, one after the other on each of a few threads, and never give up."""

    def __init__(self, site: Site, series: Sequence[Series], ledger: Ledger, pause_s: float) -> None:
        self._site, self._ledger, self._pause_s = site, ledger, pause_s
        self._waiting = list(reversed(series))
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(ROUTERS)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until everything was pushed."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
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
        while left and not self._stopping.is_set():
            for uid in list(self._associate(left)):
                self._ledger.taken[uid] = left.pop(uid)
            if left:
                self._stopping.wait(0.5)
        self._ledger.finished.add(series.uid)

    def _associate(self, left: dict[str, Path]) -> Iterator[str]:
        """Open one association and yield what the node took before it broke."""
        entity = AE("ROUTER")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = 10
        contexts = [build_context(CTImageStorage), build_context(MRImageStorage)]
        association = entity.associate(
            "127.0.0.1", self._site.routers.port, contexts=contexts, ae_title="UAIR"
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


class Reader:
    """Picks for some cases and accepts for some, through the PACS, whenever it answers."""

    def __init__(self, site: Site, ledger: Ledger, seed: int, share: float = 0.35) -> None:
        self._ledger = ledger
        self._site, self._random, self._share = site, random.Random(seed), share
        self._plans: dict[int, str] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the present look."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(2.0):
            with suppress(Exception):  # a PACS or a database that is away: look again later
                for case in self._site.deployment.cases():
                    self._look_at(case)

    def _look_at(self, case: dict) -> None:
        if case["state"] != "AWAITING_SELECTION":
            return
        if case["case"] not in self._plans:
            wants = self._random.random() < self._share
            self._plans[case["case"]] = self._random.choice(("pick", "accept")) if wants else ""
        plan = self._plans[case["case"]]
        if plan == "pick" and case["round"] == 1:
            self._send(case, "UAIR_PICK")
        elif plan == "accept" or (plan == "pick" and case["round"] == 2):
            self._send(case, "UAIR_ACCEPT")

    def _send(self, case: dict, verb: str) -> None:
        send_candidate(self._site, self._ledger, case, self._random.randint(1, 4), verb)


VERBS = {"UAIR_PICK": "pick", "UAIR_ACCEPT": "accept", "UAIR_REJECT": "reject"}


def send_candidate(site: Site, ledger: Ledger, case: dict, k: int, called: str) -> None:
    """Let the PACS send a candidate of the newest round, and note it if the node answered 0000."""
    query = {
        "StudyInstanceUID": case["study_instance_uid"],
        "SeriesDescription": f"UAIR R{case['round']}C{k}*",
    }
    found = site.orthanc.find("Series", query)
    if len(found) != 1:
        return
    (instance,) = next(held.instances for held in site.orthanc.series() if held.id == found[0])
    uid = str(site.orthanc.tags(instance)["SOPInstanceUID"])
    with suppress(urllib.error.URLError):
        site.orthanc.store(instance, called)
        ledger.answers.append((uid, VERBS[called]))


def answer_at_once(site: Site, ledger: Ledger, chooser: random.Random) -> None:
    """Answer one waiting case over two associations and by the command line at the same moment."""
    waiting = [case for case in site.cases() if case["state"] == "AWAITING_SELECTION"]
    if not waiting:
        return
    case = chooser.choice(waiting)
    number = str(case["case"])
    last = chooser.choice((("pick", number, "4"), ("accept", number, "3"), ("expire", number)))
    acts = (
        lambda: send_candidate(site, ledger, case, 1, "UAIR_PICK"),
        lambda: send_candidate(site, ledger, case, 2, "UAIR_ACCEPT"),
        lambda: site.deployment.command_line("case", *last),
    )
    threads = [threading.Thread(target=_quietly, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _quietly(act: Callable[[], object]) -> None:
    with suppress(Exception):  # a peer or a database that is away: nothing was answered
        act()
