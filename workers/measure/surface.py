"""Make surfaces of masks as triangle meshes.

A mesh of a binary mask has steps at its voxels. A ball's surface is 8 % too large with cubic voxels. With
5 mm slices, it is 20 % too large, even if the pixels are very fine. So the mask's signed distance is
smoothed. Smoothing rounds edges off; extrapolation corrects their area, see `surface_of`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.measure import marching_cubes

from uair_node.rendering.mesh import SMOOTHING, Mesh

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Floats = NDArray[np.float64]

_MARGIN = 8


@dataclass(frozen=True, eq=False)
class Surface:
    """The surface of a mask.

    Parameters
    ----------
    mesh
        The mesh. It encloses the volume of the mask's voxels.
    area_mm2
        Area, extrapolated to no smoothing. If there are sharp edges, it is larger than the mesh's area.
    """

    mesh: Mesh
    area_mm2: float


def surface_of(mask: Mask, spacing_mm: Spacing) -> Surface:
    """Return the surface of a mask, in mm.

    The signed Euclidean distance to the mask's boundary is smoothed by a Gaussian of 0.8 voxels along each
    axis. The surface is the level of this distance with as many voxels inside as the mask. So smoothing does
    not shrink the mask. A sharp edge loses area in proportion to the smoothing's width; a smooth surface
    loses hardly any. So the area is measured at two widths, s and 2 s, and extrapolated to width 0:
    A = 2 A(s) - A(2 s) (Richardson).

    Parameters
    ----------
    mask
        ``(Z, Y, X)``, at least one voxel.
    spacing_mm
        (z, y, x).

    Raises
    ------
    ValueError
        The mask is empty.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        raise ValueError("an empty mask has no surface")
    part = np.pad(mask[box[0]], _MARGIN)
    inside = ndimage.distance_transform_edt(part, spacing_mm)
    distance = (inside - ndimage.distance_transform_edt(~part, spacing_mm)).astype(np.float32)
    count = int(np.count_nonzero(part))
    volume = count * float(np.prod(spacing_mm))
    fine, coarse = (_cut(distance, width, count, spacing_mm, volume) for width in (SMOOTHING, 2 * SMOOTHING))
    first = np.array([s.start - _MARGIN for s in box[0]]) * spacing_mm
    area = 2.0 * fine.area_mm2 - coarse.area_mm2
    return Surface(Mesh(fine.vertices + first, fine.faces), area)


def hull_of(mesh: Mesh) -> ConvexHull | None:
    """Return the convex hull of a mesh (its `volume` in mm3, `area` in mm2); None if it is flat."""
    try:
        return ConvexHull(mesh.vertices)
    except QhullError:
        return None


def _cut(
    distance: NDArray[np.float32], width: float, count: int, spacing_mm: Spacing, volume_mm3: float
) -> Mesh:
    """Smooth a signed distance, and return the mesh of the level with `count` voxels inside."""
    smooth = ndimage.gaussian_filter(distance, width)
    place = smooth.size - count
    around = np.partition(smooth.ravel(), [place - 1, place])[[place - 1, place]]
    level = float(around.mean())
    vertices, faces, _, _ = marching_cubes(smooth, level, spacing=spacing_mm)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64)).scaled_to(volume_mm3)
