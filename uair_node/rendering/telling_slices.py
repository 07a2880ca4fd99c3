"""Choose slices on which candidates differ. Each slice shows another difference.

The functions take arrays on the canonical grid (axes grow to superior, posterior, patient left).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.uint8]

_MAX_SLICES = 4
_LIVER = 1
_MISSING, _OTHERWISE = 2.0, 1.0
"""Weights of a lesion that some candidates lack, and of a lesion that all candidates have."""
_LEAST_GAIN = 0.02
_SAID_AGAIN = 0.3
"""Factor for the weight of a difference if the words of another slice already name this difference."""


@dataclass(frozen=True)
class TellingSlice:
    """The 0-based index of a slice, and words for its largest difference; empty without a difference."""

    k: int
    words: str = ""


@dataclass(frozen=True)
class _Part:
    """A quarter of the organ in which a candidate is larger (`more`) or smaller than most candidates."""

    candidate: int
    more: bool
    back: bool
    left: bool


def telling_slices(
    labels: Sequence[Labels], slice_distance_mm: float, ks: Sequence[int] = ()
) -> list[TellingSlice]:
    """Return up to four slices on which label volumes differ, the uppermost first.

    There are two kinds of differences. First, some candidates lack a lesion or draw it differently. Second, a
    candidate draws a quarter of the organ larger or smaller than most candidates. A slice that repeats a
    difference adds little, so slices with other differences are preferred. The organ's outline and the
    lesions have the same weight. If there are no differences, then the largest slices are chosen.

    Parameters
    ----------
    ks
        Numbers of the candidates, for the words; by default 1, 2, ...
    """
    numbers = tuple(ks) or tuple(range(1, len(labels) + 1))
    areas = np.array([np.count_nonzero(_union(labels, k)) for k in range(len(labels[0]))], float)
    extent = np.flatnonzero(areas)
    if extent.size == 0:
        return [TellingSlice(len(areas) // 2)]
    distance = max((extent[-1] - extent[0]) / 20, 5.0 / slice_distance_mm)
    found = _differences(labels)
    if not found.weights:
        return [TellingSlice(k) for k in sorted(_apart([], areas, 2 * distance), reverse=True)]
    chosen = _greedy(found, distance)
    chosen = _apart(chosen, found.table.T @ np.array(found.weights), 2 * distance)
    words = _words(found, chosen, numbers)
    return [TellingSlice(k, said) for k, said in sorted(zip(chosen, words, strict=True), reverse=True)]


@dataclass(frozen=True, eq=False)
class _Found:
    """The differences between candidates. Each concerns a quarter of the organ or a lesion.

    Attributes
    ----------
    names, weights
        Quarter of the organ or label value of the lesion for each difference, and the difference's weight.
    table
        ``(differences, slices)``: the area of a difference in a slice, as a fraction of its largest area.
    lacking
        Label value -> indices of the candidates that lack this lesion.
    """

    names: Sequence[_Part | int]
    weights: Sequence[float]
    table: NDArray[np.float64]
    lacking: dict[int, tuple[int, ...]]


def _union(labels: Sequence[Labels], k: int) -> NDArray[np.bool_]:
    union: NDArray[np.bool_] = np.logical_or.reduce([volume[k] > 0 for volume in labels])
    return union


def _greedy(found: _Found, distance: float) -> list[int]:
    """Choose slices in turn: each next slice adds most to the differences that the chosen slices show."""
    weights, shown = np.array(found.weights), np.zeros(len(found.names))
    places = np.arange(found.table.shape[1])
    chosen: list[int] = []
    while len(chosen) < _MAX_SLICES:
        gains = weights @ np.maximum(found.table - shown[:, None], 0.0)
        for k in chosen:
            gains[np.abs(places - k) <= distance] = 0.0
        best = int(gains.argmax())
        if gains[best] <= _LEAST_GAIN * weights.sum():
            break
        chosen.append(best)
        shown = np.maximum(shown, found.table[:, best])
    return chosen


def _apart(chosen: Sequence[int], score: NDArray[np.float64], distance: float) -> list[int]:
    """Return the chosen slices. Fill them up to four with further slices that have high scores.

    A further slice is farther than `distance` from all other slices.
    """
    every = list(chosen)
    for k in np.argsort(-score, kind="stable").tolist():
        if score[k] <= 0 or len(every) == _MAX_SLICES:
            break
        if all(abs(k - other) > distance for other in every):
            every.append(k)
    return every


def _differences(labels: Sequence[Labels]) -> _Found:
    count = len(labels[0])
    parts: dict[_Part, NDArray[np.float64]] = defaultdict(lambda: np.zeros(count))
    lesions: dict[int, NDArray[np.float64]] = defaultdict(lambda: np.zeros(count))
    held: list[set[int]] = [set() for _ in labels]
    for k in range(count):
        # The comparison is slice by slice, so that the compared data stay in the processor's cache.
        planes = [volume[k] for volume in labels]
        values = [_values(plane) for plane in planes]
        for own, there in zip(held, values, strict=True):
            own |= there
        if all((plane == planes[0]).all() for plane in planes[1:]):
            continue
        for part, area in _organ_parts([plane > 0 for plane in planes]):
            parts[part][k] = area
        for value in sorted(set().union(*values)):
            lesions[value][k] = _differing_area([plane == value for plane in planes])
    shown = {value: areas for value, areas in lesions.items() if np.count_nonzero(areas)}
    lacking = {value: tuple(n for n, own in enumerate(held) if value not in own) for value in shown}
    kinds = {value: _MISSING if lacking[value] else _OTHERWISE for value in shown}
    total = sum(float(areas.sum()) for areas in parts.values())
    weights = [float(areas.sum()) / total for areas in parts.values()]
    weights += [kind / sum(kinds.values()) for kind in kinds.values()]
    every = [areas / areas.max() for areas in (*parts.values(), *shown.values())]
    table = np.stack(every) if every else np.zeros((0, count))
    return _Found([*parts, *shown], weights, table, lacking)


def _values(plane: Labels) -> set[int]:
    counts = np.bincount(plane.ravel(), minlength=256)
    return {int(value) for value in np.flatnonzero(counts) if value > _LIVER}


def _differing_area(masks: Sequence[NDArray[np.bool_]]) -> int:
    return int(np.count_nonzero(np.logical_or.reduce(masks) & ~np.logical_and.reduce(masks)))


def _organ_parts(masks: Sequence[NDArray[np.bool_]]) -> list[tuple[_Part, int]]:
    votes: NDArray[np.uint8] = np.sum(masks, axis=0, dtype=np.uint8)
    if not ((votes > 0) & (votes < len(masks))).any():
        return []
    rows, columns = np.flatnonzero(votes.any(axis=1)), np.flatnonzero(votes.any(axis=0))
    middle = (int(rows[0] + rows[-1] + 1) // 2, int(columns[0] + columns[-1] + 1) // 2)
    found, half = [], (len(masks) - 1) / 2
    for candidate, mask in enumerate(masks):
        others = votes - mask
        for more, apart in ((True, mask & (others < half)), (False, ~mask & (others > half))):
            for back, row in enumerate((slice(None, middle[0]), slice(middle[0], None))):
                for left, column in enumerate((slice(None, middle[1]), slice(middle[1], None))):
                    area = int(np.count_nonzero(apart[row, column]))
                    if area:
                        found.append((_Part(candidate, more, bool(back), bool(left)), area))
    return found


def _words(found: _Found, chosen: Sequence[int], ks: Sequence[int]) -> list[str]:
    """Return words for the largest difference in each slice, if possible different words for each slice."""
    kinds = [name if isinstance(name, int) else (name.candidate, name.more) for name in found.names]
    weights = np.array(found.weights)
    words = []
    for k in chosen:
        best = int((weights * found.table[:, k]).argmax())
        words.append(_name(found, best, ks))
        weights = np.where([kind == kinds[best] for kind in kinds], _SAID_AGAIN * weights, weights)
    return words


def _name(found: _Found, n: int, ks: Sequence[int]) -> str:
    name = found.names[n]
    if isinstance(name, int):
        lacking = [ks[candidate] for candidate in found.lacking[name]]
        holding = [k for k in ks if k not in lacking]
        if not lacking:
            return f"lesion {name - 1}: its outline"
        said = f"only in {_listed(holding)}" if len(holding) < len(lacking) else f"not in {_listed(lacking)}"
        return f"lesion {name - 1}: {said}"
    where = f"{'back' if name.back else 'front'} {'left' if name.left else 'right'}"
    return f"candidate {ks[name.candidate]} {'wider' if name.more else 'tighter'}: {where}"


def _listed(ks: Sequence[int]) -> str:
    *first, last = map(str, ks)
    return f"candidates {', '.join(first)} and {last}" if first else f"candidate {last}"
