"""Make surfaces of a segmentation in patient coordinates, for the 3-D view and for export as STL and glTF.

This module determines the surfaces, their names and their colours. It writes no files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dicom_config import codes
from uair_node.cases.reader_choice import LIVER, target_name
from uair_node.rendering.mesh import signed_volume, view_mesh
from uair_node.storage.artifacts import Labels, label_values

_LIVER_STEP_MM, _LESION_STEP_MM = 2.0, 1.0


@dataclass(frozen=True, eq=False)
class Solid:
    """The surface of the liver with its lesions, or of a lesion.

    Parameters
    ----------
    value
        The label value of the structure.
    colour
        The colour of the structure in the SEG.
    volume_ml
        The volume of the structure's voxels in ml. The surface encloses the same volume.
    vertices
        ``(n, 3)`` float32, LPS in mm (DICOM's patient coordinates).
    faces
        ``(m, 3)`` uint32 indices of vertices, counter-clockwise as seen from outside.
    """

    value: int
    colour: codes.Colour
    volume_ml: float
    vertices: NDArray[np.float32]
    faces: NDArray[np.uint32]

    @property
    def name(self) -> str:
        """The name in the console and in files: "liver", "lesion 2"."""
        return target_name(self.value)


def solids_of(labels: Labels, affine: NDArray[np.float64]) -> tuple[Solid, ...]:
    """Return the surfaces of a segmentation: the liver, then the lesions by number.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8: 0 background, 1 liver, 1 + n lesion n.
    affine
        4x4 matrix that maps the voxel index (k, j, i, 1) to LPS millimetres.
    """
    lesions = [value for value in label_values(labels) if value > LIVER]
    found = [_solid(labels > 0, LIVER, affine)] if labels.any() else []
    return (*found, *(_solid(labels == value, value, affine) for value in lesions))


def _solid(mask: NDArray[np.bool_], value: int, affine: NDArray[np.float64]) -> Solid:
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    volume_mm3 = float(np.count_nonzero(mask) * z * y * x)
    mesh = view_mesh(mask, (z, y, x), _LIVER_STEP_MM if value == LIVER else _LESION_STEP_MM)
    mesh = mesh.scaled_to(volume_mm3)
    vertices = mesh.vertices / (z, y, x) @ affine[:3, :3].T + affine[:3, 3]
    faces = mesh.faces if signed_volume(vertices - vertices[0], mesh.faces) > 0 else mesh.faces[:, ::-1]
    return Solid(
        value=value,
        colour=codes.LIVER_COLOUR if value == LIVER else codes.lesion_colour(value - LIVER),
        volume_ml=volume_mm3 / 1000.0,
        vertices=vertices.astype(np.float32),
        faces=np.ascontiguousarray(faces, np.uint32),
    )
