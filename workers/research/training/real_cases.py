"""Read real CTs with masks of liver and tumours for training, from pairs of NIfTI files.

File names define the pairs of a CT and its mask. File headers define the axes. Each pair is read once and
stored in a cache with voxels of `STEP_MM`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from dicom_config.errors import InputError
from uair_node.dicom.volume import CanonicalVolume, Volume
from workers.phantoms.fields import Floats, Mask
from workers.truth.nifti import NiftiGrid, read_nifti
from workers.uair.grids import Spacing, tight_box
from workers.uair.localize import to_isotropic

_LOG = logging.getLogger(__name__)

STEP_MM = 2.0
"""Voxel size of the cache in mm. Linear interpolation between such voxels blurs like a mean over 3 mm."""
LIVER, TUMOUR = 1, 2
_CT, _SEG = "_ct.nii.gz", "_seg.nii.gz"
# Pairs whose name has this suffix show a whole scan. Their masks do not mark tumours.
_WHOLE = "_whole"
_FORMAT = 1
_KEPT_IN_MEMORY = 64
_HU_RANGE = (-1024, 1500)
# The limit for the position of the liver's centre in the liver's box, as a part of the box's width. If the
# centre lies further to the left, then the CT counts as mirrored.
_MOST_LEFT = 0.55


@dataclass(frozen=True, eq=False)
class RealCase:
    """The part of a CT around the liver, with isotropic voxels of `STEP_MM`.

    Its axes grow to superior, posterior, left.

    Attributes
    ----------
    hu
        ``(Z, Y, X)`` int16.
    labels
        ``(Z, Y, X)`` uint8: 0 background, `LIVER`, `TUMOUR`.
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]

    @cached_property
    def liver_hu(self) -> float:
        """Median density of the liver without tumours."""
        return float(np.median(self.hu[self.labels == LIVER]))

    @cached_property
    def middle(self) -> NDArray[np.float64]:
        """Centre (z, y, x) of the liver's box, in voxels from the volume's corner."""
        box = tight_box(self.labels > 0)
        return (np.asarray(box.start) + np.asarray(box.stop)) / 2.0

    @cached_property
    def tumours(self) -> NDArray[np.int32]:
        """``(Z, Y, X)``: 1 … n in the voxels of tumour n, 0 elsewhere."""
        numbered, _ = ndi.label(self.labels == TUMOUR)
        return np.asarray(numbered, np.int32)

    @cached_property
    def tumour_middles(self) -> NDArray[np.float64]:
        """``(n, 3)`` centres of the tumours, in voxels from the volume's corner."""
        count = int(self.tumours.max())
        middles = ndi.center_of_mass(self.labels == TUMOUR, self.tumours, range(1, count + 1))
        return np.asarray(middles, np.float64).reshape(-1, 3) + 0.5


@dataclass(frozen=True)
class RealCases:
    """A folder with pairs of ``NAME_ct.nii.gz`` and ``NAME_seg.nii.gz``, and the folder of their cache."""

    folder: Path
    cache: Path

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Sorted names of the pairs. Whole scans (``NAME_whole``) are left out: their masks lack tumours.

        Raises
        ------
        InputError
            ``training-cases-missing``: there is no pair.
        """
        names = (path.name.removesuffix(_CT) for path in sorted(self.folder.glob("*" + _CT)))
        pairs = (name for name in names if (self.folder / (name + _SEG)).exists())
        found = tuple(name for name in pairs if not name.endswith(_WHOLE))
        if not found:
            raise InputError(
                "training-cases-missing",
                f"The folder {self.folder.name} holds no pair NAME{_CT} and NAME{_SEG}.",
                "Name the folder that holds CTs and masks, or rename the files.",
            )
        return found

    @property
    def digest(self) -> str:
        """A digest of all files. It does not depend on the folder's name."""
        return hashlib.sha256("".join(self.file_digest(name) for name in self.names).encode()).hexdigest()

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Read each pair that is not in the cache yet.

        Call `progress` with the number of pairs that are done, and the number that were missing at the start.

        Raises
        ------
        InputError
            ``nifti-unreadable``; ``training-case-grid``, ``training-case-labels`` or
            ``training-case-mirrored`` with the pair's name.
        """
        self.fill_files(self._path, _write_case, progress)

    def fill_files(
        self,
        path_of: Callable[[str], Path],
        write: Callable[[Path, str, Path], None],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        """Write the cache file of each pair that has none.

        `write` is called with the folder, the name of the pair, and the path of the file.
        """
        missing = [name for name in self.names if not path_of(name).exists()]
        for done, name in enumerate(missing, start=1):
            write(self.folder, name, path_of(name))
            if progress:
                progress(done, len(missing))

    def case(self, index: int) -> RealCase:
        """Return the case with name `names[index]`. `fill` must be called before."""
        return _load(self._path(self.names[index]))

    def _path(self, name: str) -> Path:
        return self.cache / f"real-{_FORMAT}-{self.file_digest(name)}.npz"

    def file_digest(self, name: str) -> str:
        """Return a digest of the contents of both files of a pair."""
        return _digest(*(self.folder / (name + suffix) for suffix in (_CT, _SEG)))


@dataclass(frozen=True, eq=False)
class RealScan:
    """A CT and its mask with the scan's own voxel size; axes grow to superior, posterior, left.

    Attributes
    ----------
    hu
        ``(Z, Y, X)`` int16.
    labels
        ``(Z, Y, X)`` uint8: 0 background, `LIVER`, `TUMOUR`.
    spacing_mm
        (z, y, x).
    """

    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    spacing_mm: Spacing


def read_scan(folder: Path, name: str) -> RealScan:
    """Read a CT and its mask from `folder`, in canonical orientation.

    Raises
    ------
    InputError
        ``nifti-unreadable``. ``training-case-grid``: CT and mask do not share a grid.
        ``training-case-labels``: the mask has other values than 0, 1 and 2, or no liver.
    """
    scan, mask = (read_nifti(folder / (name + suffix)) for suffix in (_CT, _SEG))
    if not scan.same_grid(mask):
        raise InputError(
            "training-case-grid",
            f"CT and mask of {name} have different grids.",
            "Resample the mask to the CT.",
        )
    labels = _canonical(NiftiGrid(_checked(name, mask.values), mask.affine))
    hu = _canonical(NiftiGrid(np.clip(np.rint(scan.values), *_HU_RANGE).astype(np.int16), scan.affine))
    return RealScan(hu.array, labels.array, labels.spacing_mm)


def read_pair(folder: Path, name: str) -> RealCase:
    """Read a CT and its mask, and resample them to the training grid.

    Raises
    ------
    InputError
        As `read_scan`. ``training-case-mirrored``: the header puts the liver on the patient's left.
    """
    scan = read_scan(folder, name)
    spacing = scan.spacing_mm
    tumour, liver = (_share(scan.labels >= value, spacing) for value in (TUMOUR, LIVER))
    # A voxel is tumour if more than half of the voxel is tumour. Otherwise the same rule decides whether it
    # is liver.
    merged = np.where(tumour > 0.5, TUMOUR, np.where(liver > 0.5, LIVER, 0)).astype(np.uint8)
    case = RealCase(np.rint(to_isotropic(scan.hu, spacing, STEP_MM)).astype(np.int16), merged)
    _check_side(name, case)
    return case


def _checked(name: str, values: NDArray[np.generic]) -> NDArray[np.uint8]:
    found = set(np.unique(values).tolist())
    if not found <= {0, LIVER, TUMOUR} or LIVER not in found:
        raise InputError(
            "training-case-labels",
            f"The mask of {name} has other values than 0 (background), 1 (liver), 2 (tumour), or no liver.",
            "Write the mask with these values.",
        )
    return values.astype(np.uint8)


def _check_side(name: str, case: RealCase) -> None:
    columns = np.flatnonzero((case.labels > 0).any(axis=(0, 1)))
    weights = (case.labels > 0).sum(axis=(0, 1))
    middle = float((np.arange(len(weights)) + 0.5) @ weights / weights.sum())
    if (middle - columns[0]) / (columns[-1] + 1 - columns[0]) > _MOST_LEFT:
        raise InputError(
            "training-case-mirrored",
            f"The header of {name} puts the greater part of the liver on the patient's left.",
            "Correct the orientation in the header, or remove the case from the folder.",
        )


def _canonical(grid: NiftiGrid) -> CanonicalVolume:
    return Volume(grid.values, grid.affine, frame_of_reference_uid="", slices=()).canonical()


def _share(mask: Mask, spacing: Spacing) -> Floats:
    return to_isotropic(mask.astype(np.float32), spacing, STEP_MM)


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_file_digest(path, path.stat().st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=1024)
def _file_digest(path: Path, changed: int) -> bytes:
    """Return a file's SHA-256. It is computed again only if `changed`, the modification time, differs."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _write_case(folder: Path, name: str, path: Path) -> None:
    case = read_pair(folder, name)
    save_arrays(path, {"hu": case.hu, "labels": case.labels})


def save_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a cache file. An interrupted call leaves no incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    partial.replace(path)


@lru_cache(maxsize=_KEPT_IN_MEMORY)
def _load(path: Path) -> RealCase:
    with np.load(path) as stored:
        return RealCase(stored["hu"], stored["labels"])
