"""Closed triangle meshes, and the mesh of a mask for a 3-D view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]
Floats = NDArray[np.float64]

SMOOTHING = 0.8
"""Standard deviation of the smoothing, in voxels along each axis. It removes the steps between voxels."""
_VIEW_STEP_MM = 2.0


@dataclass(frozen=True, eq=False)
class Mesh:
    """A closed triangle mesh.

    Parameters
    ----------
    vertices
        ``(n, 3)``, each (z, y, x) in mm from the centre of the array's first voxel.
    faces
        ``(m, 3)``, indices of vertices.
    """

    vertices: Floats
    faces: NDArray[np.int64]

    @property
    def area_mm2(self) -> float:
        """Sum of the triangles' areas in mm²."""
        return float(mesh_surface_area(self.vertices, self.faces))

    @property
    def volume_mm3(self) -> float:
        """Enclosed volume in mm³, from signed tetrahedra with the origin (IBSI 3.1.1)."""
        return abs(signed_volume(self.vertices, self.faces))

    def scaled_to(self, volume_mm3: float) -> Mesh:
        """Return the mesh, scaled about its centre so that it encloses `volume_mm3`."""
        middle = self.vertices.mean(axis=0)
        factor = (volume_mm3 / self.volume_mm3) ** (1.0 / 3.0)
        return Mesh((self.vertices - middle) * factor + middle, self.faces)


def signed_volume(vertices: Floats, faces: NDArray[np.int64]) -> float:
    """Return the enclosed volume. It is negative if the faces are clockwise as seen from outside."""
    a, b, c = (vertices[faces[:, n]] for n in range(3))
    return float(np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6.0)


def view_mesh(mask: Mask, spacing_mm: Spacing, step_mm: float = _VIEW_STEP_MM) -> Mesh:
    """Return a mask's surface for a 3-D view. It is coarser than a surface for measuring, but fast.

    Parameters
    ----------
    mask
        ``(Z, Y, X)``.
    spacing_mm
        ``(z, y, x)`` in mm.
    step_mm
        Approximate distance of the mesh's vertices in mm. Along axes with smaller voxels, voxels are
        averaged.

    Returns
    -------
    Mesh
        The mesh; empty for an empty mask.
    """
    box = ndimage.find_objects(mask.astype(np.uint8))
    if not box:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    parts = [max(1, round(step_mm / s)) for s in spacing_mm]
    margin = [(3 * n, 3 * n + (-(s.stop - s.start)) % n) for s, n in zip(box[0], parts, strict=True)]
    padded = np.pad(mask[box[0]], margin)
    means = _means(padded, parts)
    smooth = ndimage.gaussian_filter(means, [SMOOTHING if n == 1 else SMOOTHING / 2 for n in parts])
    coarse_mm = np.array(parts) * spacing_mm
    # In a very small mask, all smoothed values can be less than 0.5.
    level = min(0.5, float(smooth.max()) / 2)
    vertices, faces, _, _ = marching_cubes(smooth, level, spacing=tuple(coarse_mm.tolist()))
    starts = [s.start - before for s, (before, _) in zip(box[0], margin, strict=True)]
    first = (np.array(starts) + (np.array(parts) - 1) / 2.0) * spacing_mm
    return Mesh(vertices.astype(np.float64) + first, faces.astype(np.int64))


def _means(mask: Mask, parts: list[int]) -> NDArray[np.float32]:
    """Return the fraction of true voxels in each block of `parts` voxels."""
    share = mask.astype(np.float32)
    for axis, n in enumerate(parts):
        shape = (*share.shape[:axis], share.shape[axis] // n, n, *share.shape[axis + 1 :])
        share = share.reshape(shape).mean(axis=axis + 1)
    return share
