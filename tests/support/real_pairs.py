"""Small CTs with a liver and a tumour as pairs of NIfTI files, in any orientation."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHAPE = (30, 48, 60)
SPACING_MM = (4.0, 3.0, 2.5)
LIVER_HU, TUMOUR_HU, FAT_HU = 110, 50, -90


def labels() -> NDArray[np.uint8]:
    """``(Z, Y, X)`` to superior, posterior, left: a liver that tapers to the left, and a tumour of 24 mm."""
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    half = 1 - x / 62
    liver = (((z - 15) / 10) ** 2 + ((y - 24) / 18) ** 2 < half**2) & (x > 8) & (x < 52)
    away = ((z - 15) * 4) ** 2 + ((y - 24) * 3) ** 2 + ((x - 22) * 2.5) ** 2
    return np.where(liver & (away < 12**2), 2, liver).astype(np.uint8)


def write_two_pairs(folder: Path) -> None:
    """Write pairs ``a`` and ``b``. The files of ``b`` count two axes backwards."""
    write_pair(folder, "a")
    write_pair(folder, "b", flips=(0, 1))


def write_pair(folder: Path, name: str, mirrored: bool = False, flips: tuple[int, ...] = ()) -> None:
    """Write ``NAME_ct`` and ``NAME_seg``. `flips` are canonical axes that the files count backwards.

    `mirrored` files have a wrong header: right and left are exchanged.
    """
    import nibabel

    mask = labels()
    noise = np.random.default_rng(0).normal(0, 6, SHAPE)
    hu = np.choose(mask, [FAT_HU, LIVER_HU, TUMOUR_HU]) + noise
    hu[:, :, :3] = -900
    affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    for axis in flips:
        column = 2 - axis
        affine[:3, 3] += affine[:3, column] * (SHAPE[axis] - 1)
        affine[:3, column] *= -1
    if mirrored:
        affine[0] *= -1
    for suffix, values in (("ct", hu.astype(np.int16)), ("seg", mask)):
        stored = np.flip(values, flips).transpose(2, 1, 0)
        nibabel.save(nibabel.Nifti1Image(stored, affine), folder / f"{name}_{suffix}.nii.gz")
