"""Read NIfTI files: a CT as a volume in LPS, and labels in NIfTI's own axes.

This module converts NIfTI's axes to the axis order of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_config.errors import InputError
from uair_node.dicom.volume import Volume

SUFFIXES = (".nii", ".nii.gz")
_AIR_BELOW_HU = -200
_HU_RANGE = (-1024, 3071)


def is_nifti(path: Path) -> bool:
    """Return whether a file is NIfTI. The end of the file's name decides."""
    return path.name.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class NiftiGrid:
    """Values of a NIfTI file with the axis order of this package.

    Attributes
    ----------
    values
        ``(k, j, i)``: the file's axes in reverse order.
    affine
        4x4, maps (k, j, i, 1) to LPS mm.
    """

    values: NDArray[Any]
    affine: NDArray[np.float64]

    @property
    def is_ct(self) -> bool:
        """Whether some values are below the HU of fat and water. Label volumes have no such low values."""
        return bool(self.values.min() < _AIR_BELOW_HU)

    def same_grid(self, other: NiftiGrid) -> bool:
        """Return whether the voxels of both grids coincide, with the same order in their files (no flips)."""
        return self.values.shape == other.values.shape and bool(
            np.abs(self.affine - other.affine).max() < 0.05
        )


def read_nifti(path: Path) -> NiftiGrid:
    """Read a NIfTI file of three dimensions.

    NIfTI counts (i, j, k) and maps to right, anterior, superior; this package counts (k, j, i) and maps to
    left, posterior, superior.

    Raises
    ------
    InputError
        ``nifti-unreadable``.
    """
    try:
        import nibabel
    except ImportError:
        raise InputError(
            "nifti-unreadable",
            "Reading NIfTI needs nibabel.",
            "Install nibabel (pip install 'uair-node[evaluate]').",
        ) from None
    try:
        image = nibabel.load(path)
        values = np.asarray(image.dataobj)
    except Exception as error:  # nibabel's errors have many base classes
        raise _unreadable(path, type(error).__name__) from None
    if values.ndim != 3:
        raise _unreadable(path, f"it has {values.ndim} dimensions, not 3")
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    return NiftiGrid(values.transpose(2, 1, 0), to_lps[:, [2, 1, 0, 3]])


def read_nifti_ct(path: Path) -> Volume:
    """Read a CT in Hounsfield units. `Volume.slices` is empty, because there are no instances.

    Raises
    ------
    InputError
        ``nifti-unreadable``; ``nifti-not-ct``: no value is below the HU of fat.
    """
    grid = read_nifti(path)
    if not grid.is_ct:
        raise InputError(
            "nifti-not-ct",
            f"{path.name} has no Hounsfield units: no value is below {_AIR_BELOW_HU}.",
            "Give the CT itself, not a segmentation or a normalised image.",
        )
    hu = np.clip(np.rint(grid.values), *_HU_RANGE).astype(np.int16)
    return Volume(array=hu, affine=grid.affine, frame_of_reference_uid="", slices=())


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        "nifti-unreadable", f"{path.name} cannot be read: {why}.", "Give a NIfTI file of one volume."
    )
