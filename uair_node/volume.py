"""A series as a volume: array of Hounsfield units, affine to LPS, frame of reference.

The only place that decodes pixels. Owns the source grid (slices ascending along their normal, rows and
columns as stored), the canonical grid (axes to superior, posterior, left) and the exact way between the two.
It must not know cases, rules or thresholds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from uair_node.intake.frames import describe_frames, is_of_the_disk
from uair_node.intake.gate import assumptions, check_structure, gate_error
from uair_node.intake.headers import SliceHeader, assumed_frame_of_reference_uid, read_slices

FloatArray = npt.NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_CANONICAL_LPS_ROW = (2, 1, 0)
"""LPS component along which canonical axes 0, 1, 2 grow: superior, posterior, left."""

_AIR_HU = -1024
"""What pixels outside the reconstructed field (Pixel Padding Value) are taken as."""


@dataclass(frozen=True)
class SourceSlice:
    """The instance, or the frame of a multi-frame instance (from 1), that a slice of a volume came from."""

    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    frame: int | None = None


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT series on its source grid.

    Attributes
    ----------
    array
        `(Z, Y, X)` int16, HU.
    affine
        4x4, maps the voxel index (k, j, i, 1) to LPS millimetres.
    frame_of_reference_uid
        The series' own, or the assumed one.
    slices
        The source of each slice, in the order of axis 0.
    assumed
        What the headers lack and what was assumed instead, see `uair_node.intake.gate.assumptions`.
    """

    array: npt.NDArray[np.int16]
    affine: FloatArray
    frame_of_reference_uid: str
    slices: tuple[SourceSlice, ...]
    assumed: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows, columns."""
        return _shape(self.array)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along z, y, x in mm."""
        return _spacing(self.affine)

    def canonical(self) -> CanonicalVolume:
        """Return the same voxels with axes flipped and permuted to superior, posterior, left."""
        transpose, flips = _canonical_axes(self.affine)
        array = np.flip(self.array.transpose(transpose), flips)
        affine = self.affine[:, [*transpose, 3]].copy()
        for axis in flips:
            affine[:3, 3] += affine[:3, axis] * (array.shape[axis] - 1)
            affine[:3, axis] *= -1
        if any(array.strides):  # else it is the geometry of a series without its voxels
            array = np.ascontiguousarray(array)
        return CanonicalVolume(array, affine, transpose, flips)


@dataclass(frozen=True, eq=False)
class CanonicalVolume:
    """The voxels of a `Volume` on the canonical grid: axes 0, 1, 2 grow to superior, posterior, left.

    Each axis takes the nearest patient direction: an oblique stack stays oblique, nothing is resampled.

    Attributes
    ----------
    array
        `(Z, Y, X)` int16, HU.
    affine
        4x4, maps the canonical voxel index (k, j, i, 1) to LPS millimetres.
    transpose, flips
        How the source grid became this one: first transposed, then flipped along the axes `flips`.
    """

    array: npt.NDArray[np.int16]
    affine: FloatArray
    transpose: tuple[int, int, int]
    flips: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along the three axes."""
        return _shape(self.array)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along the three axes in mm."""
        return _spacing(self.affine)

    def to_source(self, labels: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """Bring an array on the canonical grid back to the source grid, voxel by voxel.

        Raises
        ------
        ValueError
            If `labels` has not this volume's shape.
        """
        if labels.shape != self.shape:
            raise ValueError(f"expected shape {self.shape}, got {labels.shape}")
        back = np.flip(labels, self.flips).transpose(np.argsort(self.transpose))
        return np.ascontiguousarray(back)

    def from_source(self, labels: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """Bring an array on the source grid to the canonical grid, the inverse of `to_source`.

        Raises
        ------
        ValueError
            If `labels` has not the source grid's shape.
        """
        turned = labels.transpose(self.transpose)
        if turned.shape != self.shape:
            raise ValueError(f"shape {labels.shape} is not that of the source grid")
        return np.ascontiguousarray(np.flip(turned, self.flips))


def read_series(paths: Sequence[Path]) -> Volume:
    """Read one CT series in any order of files.

    Voxel values are HU, rounded and clipped to int16; padding becomes -1024 HU.

    Raises
    ------
    InputError
        ``not-dicom``, or a gate code: what `uair_node.intake.gate.check_structure` finds, and
        ``undecodable-pixels``. The gate's thresholds are not applied.
    ValueError
        If `paths` is empty.
    """
    grid = read_geometry(paths)
    array = np.empty(grid.shape, dtype=np.int16)
    places: dict[Path, dict[int, int]] = defaultdict(dict)
    for k, source in enumerate(grid.slices):
        places[source.path][source.frame or 1] = k
    for path, place in places.items():
        _decode_into(array, path, place)
    return replace(grid, array=array)


def read_geometry(paths: Sequence[Path]) -> Volume:
    """Read one CT series without its pixels: as `read_series`, but with all voxels 0.

    For writers of results, which need the source grid only. The array is read-only and takes no memory.

    Raises
    ------
    InputError
        As `read_series`, without ``undecodable-pixels``.
    ValueError
        If `paths` is empty.
    """
    if not paths:
        raise ValueError("a series has at least one file")
    found = [(header, path) for path in paths for header in read_slices(path)]
    headers = [header for header, _ in found]
    stack = check_structure(headers)
    first, named = headers[0], {header.frame_of_reference_uid for header in headers} - {""}
    return Volume(
        array=np.broadcast_to(np.int16(0), (len(headers), first.rows, first.columns)),
        affine=stack.affine,
        frame_of_reference_uid=min(named, default=assumed_frame_of_reference_uid(first.series_instance_uid)),
        slices=tuple(_source(*found[n]) for n in stack.order),
        assumed=assumptions(headers),
    )


def _source(header: SliceHeader, path: Path) -> SourceSlice:
    return SourceSlice(header.sop_instance_uid, header.sop_class_uid, path, header.frame)


def _decode_into(array: npt.NDArray[np.int16], path: Path, place: Mapping[int, int]) -> None:
    """Decode the frames of one file; `place` says to which slice of `array` each number goes."""
    number = min(place)
    try:
        dataset = pydicom.dcmread(path)
        decoded = iter_pixels(dataset)
        for number, frame in enumerate(describe_frames(dataset), 1):
            array[place[number]] = _hounsfield(frame.header, next(decoded), array.shape[1:])
    except Exception as error:
        if is_of_the_disk(error):
            raise
        # Decoders raise what they like on damaged or unsupported streams.
        raise gate_error("undecodable-pixels", slice=place[number] + 1) from error


def _hounsfield(header: Dataset, stored: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.int16]:
    """Return one slice in HU (PS3.3 C.11.1, C.8.15.3.10: HU = slope x stored value + intercept)."""
    if stored.shape != shape:
        raise ValueError("the pixels are not as many as the header says")
    hu = stored * np.float32(header.RescaleSlope) + np.float32(header.RescaleIntercept)
    hu[_padding(header, stored)] = _AIR_HU
    limits = np.iinfo(np.int16)
    return np.rint(hu).clip(limits.min, limits.max).astype(np.int16)


def _padding(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Tell which pixels are padding (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    # Some writers give the value the wrong sign's VR: wrap it into the pixels' own type.
    low, high = sorted(np.asarray([int(value), int(limit)]).astype(stored.dtype).tolist())
    return np.asarray((stored >= low) & (stored <= high))


def _canonical_axes(affine: FloatArray) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return which source axis becomes each canonical axis, and which of these run backwards."""
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    aligned = cosines[list(_CANONICAL_LPS_ROW)]
    i, j, k = max(
        permutations(range(3)), key=lambda axes: sum(abs(aligned[n, axis]) for n, axis in enumerate(axes))
    )
    transpose = (i, j, k)
    flips = tuple(n for n, axis in enumerate(transpose) if aligned[n, axis] < 0)
    return transpose, flips


def _shape(array: npt.NDArray[Any]) -> tuple[int, int, int]:
    z, y, x = array.shape
    return z, y, x


def _spacing(affine: FloatArray) -> tuple[float, float, float]:
    z, y, x = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    return z, y, x
