"""Make lesion proposals from pieces of a learned finder's probability map.

A proposal is a possible lesion. The caller passes the finder, which is any `LesionModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.compose import LIVER, Labels
from workers.uair.ensemble import LIMIT, Ensemble, logit
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing
from workers.uair.lesions import Proposal, box_on_grid
from workers.uair.localize import CoarseMap, largest_component

FAINT, OUTLINE = 0.1, 0.5
"""The least probability of a faint piece, and the probability at which other pieces are outlined."""
CORES = (0.8, 0.9, 0.95)
"""A piece is several touching lesions if it divides into several cores at one of these probabilities."""
LEAST_ML = 0.05
"""A piece with a smaller volume, in ml, is noise. The value is about two voxels of 3 mm."""
LEAST_SHARE = 0.12
"""A core smaller than this share of its piece is not a separate lesion."""
LEVELS = (-1.2, 0.0, 1.2)
"""Shifts of a learned map's logits, for a tight, an unchanged and an inclusive member of the ensemble."""
LIVER_SHARES = (0.5,)
LESION_SHARES = (0.0, 0.5, 0.5, 0.75)
"""The weights of the learned map in the members of an ensemble, repeated for further members.

Results for lesions are better if the members differ more.
"""
_PEAK = 90


@dataclass(frozen=True)
class LesionMaps:
    """Probabilities around a liver on an isotropic grid: for the liver with its lesions, and for lesions."""

    liver: CoarseMap
    lesions: CoarseMap

    def organ_on(self, crop: Crop) -> Float32:
        """Return logits ``(n, h, w)`` on a crop's cells of the liver with its lesions, largest piece only."""
        whole = np.maximum(self.liver.probability, self.lesions.probability)
        largest = ndimage.binary_dilation(largest_component(whole > 0.5), iterations=2)
        kept = np.where(largest, whole, 0.0).astype(np.float32)
        return bounded_logit(replace(self.liver, probability=kept).at(*crop.cell_centres()))

    def labels(self, shape: tuple[int, ...]) -> Labels:
        """Return the labels ``(Z, Y, X)`` of the maps alone: 1 liver, 2 any lesion."""
        drawn = np.zeros(shape, np.uint8)
        drawn[self._voxels(self.liver, shape) > OUTLINE] = LIVER
        drawn[self._voxels(self.lesions, shape) > OUTLINE] = LIVER + 1
        return drawn

    @staticmethod
    def _voxels(probability: CoarseMap, shape: tuple[int, ...]) -> Float32:
        z, y, x = (np.asarray(np.arange(n) + 0.5, np.float64) for n in shape)
        # Slice by slice: the coordinates of a whole volume take gigabytes.
        return np.concatenate([probability.at(z[k : k + 1], y, x) for k in range(len(z))])


def bounded_logit(probability: Float32) -> Float32:
    """Return logits within `LIMIT`, like those of an ensemble's members."""
    return np.clip(logit(probability), -LIMIT, LIMIT)


def led(pool: Ensemble, learned: Float32, shares: Sequence[float]) -> Ensemble:
    """Return an ensemble whose members are mixed with a learned map.

    Copies of the map, shifted by `LEVELS`, join as members. A learned map comes from the whole organ, at
    3 mm. A promptable model sees one slice at a time, but its edges are sharper. Means of both logits were
    better than the logits of either model alone.

    Parameters
    ----------
    pool
        The ensemble of the promptable model.
    learned
        ``(n, h, w)`` logits of the learned map on the same cells.
    shares
        The map's weights in the members, repeated for further members. A member with weight 0 is unchanged.
    """
    count = len(pool.logits)
    share = np.resize(np.asarray(shares, np.float32), count).reshape(-1, 1, 1, 1)
    met = replace(pool, logits=(1 - share) * pool.logits + share * learned)
    for level in LEVELS:
        met = met.joined_by(learned + np.float32(level))
    return met


class LesionModel(Protocol):
    """Finds lesions in a CT, and the liver that contains them."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that decides the result."""
        ...

    def search(self, hu: NDArray[np.generic], spacing: Spacing, around: Box, liver_hu: float) -> LesionMaps:
        """Return probabilities inside `around` of a volume ``(Z, Y, X)`` in canonical HU.

        `liver_hu` is the liver's median density.
        """
        ...


def pieces_of(lesions: CoarseMap) -> list[Proposal]:
    """Return a proposal for each piece of a lesion probability map, the most probable first.

    A proposal's outline is the map around its piece, shifted so that the surface is at one half. Its score is
    the 90th percentile of the probability in the piece.
    """
    found = [_proposal(lesions, piece, OUTLINE) for piece in _outlined(lesions)]
    found += [_proposal(lesions, piece, FAINT) for piece in _faint(lesions)]
    return sorted(found, key=lambda proposal: -proposal.score)


def _outlined(lesions: CoarseMap) -> Iterator[Mask]:
    """Yield pieces above `OUTLINE`. If a piece has several cores, each voxel goes to the nearest core."""
    probability = lesions.probability
    for piece in _components(probability > OUTLINE, lesions.spacing_mm, LEAST_ML):
        least = max(LEAST_ML, LEAST_SHARE * piece.sum() * lesions.spacing_mm**3 / 1000.0)
        for level in CORES:
            cores = list(_components(piece & (probability > level), lesions.spacing_mm, least))
            if len(cores) > 1:
                distances = np.stack([ndimage.distance_transform_edt(~core) for core in cores])
                nearest = distances.argmin(axis=0)
                yield from (piece & (nearest == number) for number in range(len(cores)))
                break
        else:
            yield piece


def _faint(lesions: CoarseMap) -> Iterator[Mask]:
    """Yield pieces above `FAINT` without a voxel above `OUTLINE`."""
    probability = lesions.probability
    for piece in _components(probability > FAINT, lesions.spacing_mm, LEAST_ML):
        if probability[piece].max() <= OUTLINE:
            yield piece


def _components(mask: Mask, step_mm: float, least_ml: float) -> Iterator[Mask]:
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel()) * step_mm**3 / 1000.0
    for number in range(1, len(sizes)):
        if sizes[number] >= least_ml:
            yield np.asarray(labels == number)


def _proposal(lesions: CoarseMap, piece: Mask, level: float) -> Proposal:
    probability = lesions.probability
    near = ndimage.binary_dilation(piece) & (piece | (probability <= level))
    outline = np.where(near, np.clip(probability + (0.5 - level), 0.0, 1.0), 0.0).astype(np.float32)
    box = box_on_grid(piece, lesions.spacing_mm, lesions.origin, lesions.volume_spacing)
    shown = CoarseMap(outline, lesions.spacing_mm, lesions.volume_spacing, lesions.origin)
    score = float(np.percentile(probability[piece], _PEAK))
    return Proposal(box, shown, score, float(piece.sum() * lesions.spacing_mm**3 / 1000.0), learned=True)
