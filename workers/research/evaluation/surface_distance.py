"""Measure distances between the surfaces of two masks, in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from workers.truth.metrics import Mask
from workers.uair.grids import Spacing

Points = NDArray[np.float64]


@dataclass(frozen=True)
class SurfaceDistance:
    """The distance of two surfaces.

    Attributes
    ----------
    average_mm
        Average symmetric surface distance. The distance of a surface voxel is measured to the nearest surface
        voxel of the other mask. The average is the mean over the surface voxels of both masks.
    hd95_mm
        95th percentile of the same distances. It is computed from the first mask to the second, and from the
        second to the first. The larger value counts.
    """

    average_mm: float
    hd95_mm: float


def surface_distance(first: Mask, second: Mask, spacing_mm: Spacing) -> SurfaceDistance | None:
    """Compare the surfaces of two masks ``(Z, Y, X)``; None if one of them is empty.

    A surface voxel shares a face with a voxel outside of the mask. The space outside of the volume counts as
    outside of the mask.
    """
    if not first.any() or not second.any():
        return None
    ours, theirs = _surface(first, spacing_mm), _surface(second, spacing_mm)
    there, _ = cKDTree(theirs).query(ours)
    back, _ = cKDTree(ours).query(theirs)
    return SurfaceDistance(
        average_mm=float(np.concatenate([there, back]).mean()),
        hd95_mm=float(max(np.percentile(there, 95), np.percentile(back, 95))),
    )


def _surface(mask: Mask, spacing_mm: Spacing) -> Points:
    """Return the centres ``(n, 3)`` of a mask's surface voxels, mm."""
    (region,) = ndi.find_objects(mask.astype(np.uint8))
    part = np.pad(mask[region], 1)
    shell = (part & ~ndi.binary_erosion(part))[1:-1, 1:-1, 1:-1]
    start = np.array([axis.start for axis in region])
    return np.asarray((np.argwhere(shell) + start) * np.asarray(spacing_mm), np.float64)
