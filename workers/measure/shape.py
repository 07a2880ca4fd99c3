"""The shape of one lesion, as the Image Biomarker Standardisation Initiative defines its numbers.

Definitions: IBSI reference manual (Zwanenburg et al., Radiology 295, 2020; arXiv:1612.07003), section 3.1;
each number's code is in `dicom_config.quantities`. The surface of `surface_of` has no voxel steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from scipy.special import elliprg

from workers.measure.surface import Mask, Spacing, hull_of, surface_of

_LEAST_VOXELS = 8
_MIDWAY = np.concatenate([np.eye(3), -np.eye(3)]) / 4.0


@dataclass(frozen=True)
class Shape:
    """The numbers of a shape.

    Parameters
    ----------
    surface_mm2
        Area of the surface (C0JK).
    sphericity
        Area of the ball of the same volume, divided by `surface_mm2` (QCFX); 1 for a ball.
    elongation, flatness
        Square root of a ratio of variances along the principal axes (Q3CK, N17B). Elongation divides the
        second variance by the largest, and flatness divides the least by the largest. Both are 1 for a ball.
        Elongation is near 0 for a thread, flatness near 0 for a leaf.
    solidity
        Volume divided by the volume of the convex hull (R3ER); 1 without dents.
    irregularity
        `surface_mm2` divided by the surface of an ellipsoid with the same volume and the same ratios of
        principal axes. It is 1 for every ellipsoid, and grows with lobules, dents and spikes of the boundary.
        IBSI's area density of the ellipsoid of inertia (RDD2) is not used: its ellipsoid has another volume,
        so an ellipsoid does not get 1. IBSI's area density of the convex hull (7T7F) is not used either:
        spikes enlarge the hull more than the surface.
    largest_mm
        Largest distance between two points of the surface in any direction (L0JK).
    """

    surface_mm2: float
    sphericity: float
    elongation: float
    flatness: float
    solidity: float
    irregularity: float
    largest_mm: float


def shape_of(mask: Mask, spacing_mm: Spacing) -> Shape | None:
    """Measure the shape of a mask ``(Z, Y, X)``; None for fewer than 8 voxels.

    Parameters
    ----------
    spacing_mm
        (z, y, x).
    """
    count = int(np.count_nonzero(mask))
    if count < _LEAST_VOXELS:
        return None
    surface = surface_of(mask, spacing_mm)
    hull = hull_of(surface.mesh)
    if hull is None:
        return None
    volume = count * float(np.prod(spacing_mm))
    major, minor, least = _variances(mask, spacing_mm)
    return Shape(
        surface_mm2=surface.area_mm2,
        sphericity=float((36.0 * np.pi * volume**2) ** (1.0 / 3.0) / surface.area_mm2),
        elongation=float(np.sqrt(minor / major)),
        flatness=float(np.sqrt(least / major)),
        solidity=float(surface.mesh.volume_mm3 / hull.volume),
        irregularity=surface.area_mm2 / _ellipsoid_mm2(volume, major, minor, least),
        largest_mm=_largest_mm(mask, spacing_mm),
    )


def _ellipsoid_mm2(volume_mm3: float, *variances: float) -> float:
    """Return the surface in mm2 of an ellipsoid of this volume with these variances (DLMF 19.33)."""
    squares = np.array(variances) * (volume_mm3 * 0.75 / np.pi / np.sqrt(np.prod(variances))) ** (2.0 / 3.0)
    a, b, c = squares.tolist()
    return float(4.0 * np.pi * elliprg(a * b, a * c, b * c))


def _largest_mm(mask: Mask, spacing_mm: Spacing) -> float:
    """Return the largest distance between points midway from outermost voxels' centres to their faces.

    `uair_node.findings.measurements.axial_diameters` gives the reason for these points.
    """
    border = np.argwhere(mask & ~ndimage.binary_erosion(mask))
    points = (border[:, None] + _MIDWAY).reshape(-1, 3) * spacing_mm
    return float(pdist(points[ConvexHull(points).vertices]).max())


def _variances(mask: Mask, spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the variances in mm2 along the principal axes, the largest first.

    Voxels are boxes: a box of thickness h adds h^2 / 12 along its axis to the variance of the centres. The
    IBSI manual leaves this out. With the manual's formula, a small ball on slices of 5 mm seems to be flat.
    """
    points = np.argwhere(mask) * np.asarray(spacing_mm)
    covariance = np.cov(points, rowvar=False, bias=True) + np.diag(np.square(spacing_mm)) / 12.0
    return np.asarray(np.linalg.eigvalsh(covariance)[::-1])
