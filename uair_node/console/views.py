"""Keep the label volumes of a round in memory while a user looks at its pages.

This module turns a round's files into arrays on the canonical grid (superior, posterior, left). A slice of
the series is read when it is drawn. torch is not needed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_config.errors import InputError
from dicom_config.modalities.profile import FixedWindow
from uair_node.cases.states import CaseState
from uair_node.cases.tables import ResultKind, Round
from uair_node.context import Context
from uair_node.dicom.grid_points import points_from_source
from uair_node.dicom.intensity import display_window
from uair_node.dicom.volume import CanonicalVolume, Volume, read_geometry, read_slice
from uair_node.operations import reports
from uair_node.rendering.plane_names import plane_names
from uair_node.rendering.telling_slices import telling_slices
from uair_node.results.round_inputs import ACCEPTED_FILE, CANDIDATES_FILE
from uair_node.storage.artifacts import Box, Cropped, Labels, TargetParts, load_cropped

ACCEPTED = 0
"""The number of the accepted segmentation in addresses. A candidate's number is its k."""

_Key = tuple[int, int, str]
"""Case, round, and the folder of the round's final segmentation (empty before it exists)."""
_KEPT_ROUNDS = 6
_NOT_KEPT = "The files of round {} are not kept any more. Look for the results of this round in the archive."
_WINDOW_SLICES = 16


@dataclass(frozen=True, eq=False)
class RoundView:
    """The segmentations of one round.

    Parameters
    ----------
    number
        The round's number, 1-based.
    grid
        The series without its pixels.
    canonical
        The series on the canonical grid, without its pixels.
    planes
        Name of each plane along axis 0 of the canonical grid.
    box
        The box of the canonical grid around all segmented voxels.
    labels
        Number k of a candidate, or `ACCEPTED` -> its labels in `box`, ``(Z, Y, X)`` uint8.
    parts
        Label value -> the parts of the target that a reader can choose separately, in `box`.
    drawn
        Cache of drawn pictures and surfaces, by kind and name.
    """

    number: int
    grid: Volume
    canonical: CanonicalVolume
    planes: tuple[str, ...]
    box: Box
    labels: Mapping[int, Labels]
    parts: Mapping[int, TargetParts] = field(default_factory=dict)
    drawn: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, k: int) -> Labels:
        """Return a segmentation.

        The method raises an InputError ``no-such-page`` if this segmentation does not exist.
        """
        if k not in self.labels:
            raise _missing(f"Round {self.number} has no such segmentation.")
        return self.labels[k]

    @property
    def plane_corners(self) -> NDArray[np.float64]:
        """The four corners of `box` in its lowest slice, in order around the slice, ``(4, 3)`` LPS mm."""
        _, rows, columns = self.box
        around = [(rows.start, columns.start), (rows.start, columns.stop - 1)]
        around += [(rows.stop - 1, columns.stop - 1), (rows.stop - 1, columns.start)]
        indices = np.array([(0, row, column, 1) for row, column in around])
        return np.asarray((indices @ self.canonical.affine.T)[:, :3])

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 affine from the index (k, j, i, 1) of a voxel of `labels` to LPS mm."""
        affine = self.canonical.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ [span.start for span in self.box]
        return affine

    @cached_property
    def key_slice(self) -> int:
        """Index of the canonical slice with the most lesion voxels, among slices where candidates differ."""
        candidates = list(self.labels.values())
        chosen = [shown.k for shown in telling_slices(candidates, self.canonical.spacing_mm[0])]
        lesion = {n: sum(int(np.count_nonzero(candidate[n] > 1)) for candidate in candidates) for n in chosen}
        return self.box[0].start + max(chosen, key=lesion.__getitem__)

    def plane(self, k: int, n: int) -> Labels:
        """Return slice `n` of the canonical grid of a segmentation, whole, `(Y, X)`."""
        part = self.of(k)
        whole = np.zeros(self.canonical.shape[1:], np.uint8)
        if self.box[0].start <= n < self.box[0].stop:
            whole[self.box[1:]] = part[n - self.box[0].start]
        return whole

    @cached_property
    def window(self) -> FixedWindow:
        """Return the values for black and white: the profile's, or an estimate from a few slices."""
        if isinstance(self.grid.profile.window, FixedWindow):
            return self.grid.profile.window
        few = np.linspace(0, self.canonical.shape[0] - 1, _WINDOW_SLICES).round().astype(int)
        return display_window(np.stack([self.values(n) for n in few.tolist()]), self.grid.profile)

    def values(self, n: int) -> NDArray[Any]:
        """Read slice `n` of the canonical grid of the series, `(Y, X)` in its unit."""
        transpose, flips = self.canonical.transpose, self.canonical.flips
        assert transpose[0] == 0, "the gate passes axial series only"
        source = self.canonical.shape[0] - 1 - n if 0 in flips else n
        plane = read_slice(self.grid, source).transpose([axis - 1 for axis in transpose[1:]])
        return np.flip(plane, tuple(axis - 1 for axis in flips if axis))

    def on_source_grid(self, k: int) -> Labels:
        """Return the segmentation of candidate `k` on the whole source grid, `(Z, Y, X)`."""
        whole = np.zeros(self.canonical.shape, np.uint8)
        whole[self.box] = self.of(k)
        return self.canonical.to_source(whole)

    def once(self, name: str, k: int, draw: Callable[[], bytes]) -> bytes:
        """Return the result of `draw`, computed once and kept. One drawing of a round runs at a time."""
        with self._lock:
            if (name, k) not in self.drawn:
                self.drawn[name, k] = draw()
            return self.drawn[name, k]


class Views:
    """The rounds that were viewed last."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._kept: OrderedDict[_Key, RoundView] = OrderedDict()
        self._loading: dict[_Key, threading.Lock] = {}
        self._lock = threading.Lock()  # protects both dictionaries; it is not held during a load

    def view(self, case_id: int, number: int) -> RoundView:
        """Return a round's segmentations.

        Raises
        ------
        InputError
            ``no-such-case``; ``no-such-page``: the round is not computed, or its files were deleted.
        TransientError
            ``store-unavailable``.
        """
        with self._context.database.reading() as session:
            case = reports.get_case(session, case_id)
            round_ = next((round_ for round_ in case.rounds if round_.number == number), None)
            if round_ is None or round_.computed_at is None:
                raise _missing(f"Round {number} has no segmentations yet.")
            folder, final_folder = round_.artifacts, round_.final_folder if is_finished(round_) else ""
            series = [instance.path for instance in case.instances]
        if not folder or not series:
            raise _missing(_NOT_KEPT.format(number))
        key = (case_id, number, final_folder)
        with self._lock:
            loading = self._loading.setdefault(key, threading.Lock())
        with loading:  # requests for this round wait; requests for another round do not
            try:
                found = self._found(key)
                if found is None:
                    found = self._load(number, folder, final_folder, series)
                    self._keep(key, found)
                return found
            finally:
                with self._lock:
                    self._loading.pop(key, None)

    def _found(self, key: _Key) -> RoundView | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: _Key, view: RoundView) -> None:
        with self._lock:
            self._kept[key] = view
            while len(self._kept) > _KEPT_ROUNDS:
                self._kept.popitem(last=False)

    def _load(self, number: int, folder: str, final_folder: str, series: list[str]) -> RoundView:
        store = self._context.store
        offered = store.fetch_if_kept(f"{folder}/{CANDIDATES_FILE}")
        # Cases that an older version accepted may lack this file.
        accepted = store.fetch_if_kept(f"{final_folder}/{ACCEPTED_FILE}") if final_folder else None
        paths = store.fetch_all(series)
        if offered is None or not all(path.exists() for path in paths):
            raise _missing(_NOT_KEPT.format(number))
        grid = read_geometry(paths, self._context.settings.intake.known)
        return read_round(number, grid, load_cropped(offered), load_cropped(accepted) if accepted else None)


def is_finished(round_: Round) -> bool:
    """Return whether a round was accepted and its final objects are written."""
    return round_.case.state == CaseState.ACCEPTED and any(
        result.kind == ResultKind.FINAL for result in round_.results
    )


def read_round(number: int, grid: Volume, offered: Cropped, accepted: Cropped | None = None) -> RoundView:
    """Read a round from its series and from its label volumes.

    Parameters
    ----------
    grid
        The series, from `read_geometry`.
    offered, accepted
        The four candidates, and the accepted segmentation if the round ended the case.
    """
    canonical = grid.canonical()
    stored = {candidate.k: (candidate.labels, offered.box) for candidate in offered.candidates}
    if accepted is not None:
        stored[ACCEPTED] = (accepted.candidates[0].labels, accepted.box)
    placed = {
        k: (_turned(labels, canonical), _turned_box(box, canonical)) for k, (labels, box) in stored.items()
    }
    box = _union([labels for _, labels in placed.values()])
    labels = {k: _put(part, at, box) for k, (part, at) in placed.items()}
    parts = {
        value: replace(
            own,
            centres=points_from_source(own.centres, canonical),
            spacing_mm=own.spacing_mm[list(canonical.transpose)],
        )
        for value, own in offered.candidates[0].parts.items()
    }
    return RoundView(number, grid, canonical, plane_names(grid), box, labels, parts)


def _turned(labels: Labels, canonical: CanonicalVolume) -> Labels:
    return np.flip(labels.transpose(canonical.transpose), canonical.flips)


def _turned_box(box: Box, canonical: CanonicalVolume) -> Box:
    """Convert a box of the source grid to the canonical grid."""
    turned = [box[axis] for axis in canonical.transpose]
    for axis in canonical.flips:
        size = canonical.shape[axis]
        turned[axis] = slice(size - turned[axis].stop, size - turned[axis].start)
    first, second, third = turned
    return first, second, third


def _union(boxes: list[Box]) -> Box:
    first, second, third = (
        slice(min(span.start for span in a), max(span.stop for span in a)) for a in zip(*boxes, strict=True)
    )
    return first, second, third


def _put(part: Labels, at: Box, box: Box) -> Labels:
    whole = np.zeros([span.stop - span.start for span in box], np.uint8)
    whole[tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(at, box, strict=True))] = part
    return whole


def _missing(sentence: str) -> InputError:
    return InputError("no-such-page", sentence, "Start from the case's page.")
