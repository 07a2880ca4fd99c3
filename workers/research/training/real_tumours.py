"""Cut tumours and their surroundings out of real CTs, without resampling, to train the lesion outliner.

The crops are kept in a cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from dicom_config.errors import InputError
from workers.phantoms.fields import Mask
from workers.research.training.real_cases import LIVER, TUMOUR, RealCases, read_scan, save_arrays
from workers.uair.grids import Spacing

_FORMAT = 1
_LEAST_ML = 0.05
_IN_PLANE_MM, _ALONG_MM = 40.0, 15.0
# On each side, the crop extends beyond the tumour by at least this part of the tumour's extent.
_PART = 0.75
_KEPT_IN_MEMORY = 64


@dataclass(frozen=True, eq=False)
class RealTumour:
    """A tumour and its surroundings; axes grow to superior, posterior, left.

    Attributes
    ----------
    hu
        ``(Z, Y, X)`` int16.
    inside
        ``(Z, Y, X)``: the mask of this tumour, without other tumours.
    spacing_mm
        (z, y, x).
    liver_hu
        Median density of the patient's liver without tumours.
    """

    hu: NDArray[np.int16]
    inside: Mask
    spacing_mm: Spacing
    liver_hu: float


@dataclass(frozen=True)
class RealTumours:
    """All tumours of at least `_LEAST_ML` in a folder of real CTs and masks; see `RealCases`."""

    cases: RealCases

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the pairs that have at least one tumour of this size."""
        return tuple(name for name in self.cases.names if len(_load(self._path(name))))

    def fill(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Cut out the tumours of each pair that is not in the cache. `progress` is as for `RealCases.fill`.

        Raises
        ------
        InputError
            As `RealCases.fill`. ``training-tumours-missing``: no pair has a tumour.
        """
        self.cases.fill_files(self._path, _write_tumours, progress)
        if not self.names:
            raise InputError(
                "training-tumours-missing",
                f"No mask in the folder {self.cases.folder.name} holds a tumour of {_LEAST_ML} ml or more.",
                "Add pairs whose masks mark tumours with the value 2.",
            )

    def draw(self, rng: np.random.Generator) -> RealTumour:
        """Draw a patient at random, then a tumour of this patient."""
        tumours = _load(self._path(self.names[rng.integers(len(self.names))]))
        return tumours[rng.integers(len(tumours))]

    def _path(self, name: str) -> Path:
        return self.cases.cache / f"tumours-{_FORMAT}-{self.cases.file_digest(name)}.npz"


def cut_out(folder: Path, name: str) -> list[RealTumour]:
    """Return the tumours of one pair of files that have a volume of at least `_LEAST_ML`.

    Raises
    ------
    InputError
        The errors of `read_scan`.
    """
    scan = read_scan(folder, name)
    liver_hu = float(np.median(scan.hu[scan.labels == LIVER]))
    numbered, _ = ndi.label(scan.labels == TUMOUR)
    least = _LEAST_ML * 1000.0 / float(np.prod(scan.spacing_mm))
    found = []
    for number, window in enumerate(ndi.find_objects(numbered), start=1):
        if (numbered[window] == number).sum() < least:
            continue
        wide = _widened(window, scan.spacing_mm, scan.hu.shape)
        found.append(RealTumour(scan.hu[wide], numbered[wide] == number, scan.spacing_mm, liver_hu))
    return found


def _widened(window: tuple[slice, ...], spacing: Spacing, shape: tuple[int, ...]) -> tuple[slice, ...]:
    wide = []
    for part, step, n, least in zip(
        window, spacing, shape, (_ALONG_MM, _IN_PLANE_MM, _IN_PLANE_MM), strict=True
    ):
        reach = round(max(least / step, _PART * (part.stop - part.start)))
        wide.append(slice(max(0, part.start - reach), min(n, part.stop + reach)))
    return tuple(wide)


def _write_tumours(folder: Path, name: str, path: Path) -> None:
    arrays: dict[str, NDArray[np.generic]] = {}
    for number, tumour in enumerate(cut_out(folder, name)):
        arrays[f"hu-{number}"], arrays[f"inside-{number}"] = tumour.hu, tumour.inside
        arrays[f"sizes-{number}"] = np.asarray([*tumour.spacing_mm, tumour.liver_hu])
    save_arrays(path, arrays)


@lru_cache(maxsize=_KEPT_IN_MEMORY)
def _load(path: Path) -> tuple[RealTumour, ...]:
    with np.load(path) as stored:
        count = sum(name.startswith("hu-") for name in stored.files)
        return tuple(_tumour(stored, number) for number in range(count))


def _tumour(stored: np.lib.npyio.NpzFile, number: int) -> RealTumour:
    z, y, x, liver_hu = (float(value) for value in stored[f"sizes-{number}"])
    return RealTumour(stored[f"hu-{number}"], stored[f"inside-{number}"], (z, y, x), liver_hu)
