"""Measure the volumes of labels, in millilitres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uair_node.storage.artifacts import marked_voxels

_MM3_PER_ML = 1000.0


@dataclass(frozen=True)
class Volumes:
    """The volumes of a candidate.

    Parameters
    ----------
    liver_ml
        Volume in ml of the whole organ with its lesions, as radiology reports liver volume.
    lesions_ml
        ``(lesion number, volume in ml)`` of each lesion in the candidate, by ascending number.
    """

    liver_ml: float
    lesions_ml: tuple[tuple[int, float], ...]


def describe(labels: NDArray[np.uint8], spacing_mm: tuple[float, float, float]) -> Volumes:
    """Measure a label volume.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver, 1 + n lesion n; liver and lesions disjoint. The
        orientation of the grid does not matter, since only the volume of a voxel counts.
    spacing_mm
        ``(z, y, x)`` in mm.

    Returns
    -------
    Volumes
        The volumes. The liver's volume includes its lesions.
    """
    counts = np.bincount(marked_voxels(labels), minlength=256)
    ml = float(np.prod(spacing_mm)) / _MM3_PER_ML
    lesions = tuple(
        (value - 1, int(count) * ml) for value, count in enumerate(counts) if value > 1 and count > 0
    )
    return Volumes(liver_ml=int(counts[1:].sum()) * ml, lesions_ml=lesions)
