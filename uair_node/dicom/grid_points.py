"""Points between the canonical grid of a series and its source grid, both by voxel edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uair_node.dicom.volume import CanonicalVolume

Points = npt.NDArray[np.float64]


def points_to_source(points: Points, canonical: CanonicalVolume) -> Points:
    """Return points ``(N, 3)`` of the canonical grid on the source grid, as `CanonicalVolume.to_source`."""
    return _flipped(points, canonical)[:, np.argsort(canonical.transpose)]


def points_from_source(points: Points, canonical: CanonicalVolume) -> Points:
    """Return points ``(N, 3)`` of the source grid on the canonical grid; inverts `points_to_source`."""
    return _flipped(points[:, list(canonical.transpose)], canonical)


def _flipped(points: Points, canonical: CanonicalVolume) -> Points:
    flipped = points.copy()
    for axis in canonical.flips:
        flipped[:, axis] = canonical.shape[axis] - flipped[:, axis]
    return flipped
