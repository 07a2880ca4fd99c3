"""Read a series as a volume: array of Hounsfield units or MR signal, affine to LPS, frame of reference.

The source grid has slices ascending along their normal, with rows and columns as stored. The axes of the
canonical grid grow to superior, posterior and left. Conversion between the two grids is exact. This module is
independent of cases, rules and thresholds.
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
from pydicom.uid import RLELossless

from dicom_config.errors import TransientError
from dicom_config.modalities import CT, PROFILES, ModalityProfile
from uair_node.dicom.codestreams import require_matching_codestreams
from uair_node.dicom.decoding import WHOLE_CELLS_IN_FRAMES, decode_frames, read_image
from uair_node.dicom.frames import describe_frames, is_of_the_disk
from uair_node.dicom.gate import assumptions, check_structure, profile_of
from uair_node.dicom.gate_codes import undecodable
from uair_node.dicom.headers import SliceHeader, assumed_frame_of_reference_uid, read_slices

FloatArray = npt.NDArray[np.float64]
Voxels = npt.NDArray[Any]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_CANONICAL_LPS_ROW = (2, 1, 0)
"""The LPS component along which each canonical axis 0, 1, 2 grows: superior, posterior, left."""


_ALL = tuple(PROFILES.values())


@dataclass(frozen=True)
class SourceSlice:
    """The source of a volume's slice: an instance, or a frame of a multi-frame instance, counted from 1.

    `number` is its Instance Number, which viewers show; None if it has none.
    """

    sop_instance_uid: str
    sop_class_uid: str
    path: Path
    frame: int | None = None
    number: int | None = None


@dataclass(frozen=True, eq=False)
class Volume:
    """A series on its source grid.

    Attributes
    ----------
    array
        `(Z, Y, X)`, int16 in HU or float32 in the scanner's own units, see `ModalityProfile.hounsfield`.
    affine
        4x4, maps the voxel index (k, j, i, 1) to LPS millimetres.
    frame_of_reference_uid
        The series' own Frame of Reference UID, or the assumed UID.
    slices
        The source of each slice, in the order of axis 0.
    assumed
        Names of missing attributes for which a value was assumed, see `uair_node.dicom.gate.assumptions`.
    profile
        The modality profile of the series.
    """

    array: Voxels
    affine: FloatArray
    frame_of_reference_uid: str
    slices: tuple[SourceSlice, ...]
    assumed: tuple[str, ...] = ()
    profile: ModalityProfile = CT

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of slices, rows, columns."""
        return _shape(self.array)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along z, y, x in mm."""
        return _spacing(self.affine)

    def slices_of(self, sop_instance_uid: str) -> dict[int, int | None]:
        """Return the indices along axis 0 of an instance's slices, with their frame numbers."""
        sources = enumerate(self.slices)
        return {k: source.frame for k, source in sources if source.sop_instance_uid == sop_instance_uid}

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
        return CanonicalVolume(array, affine, transpose, flips, self.profile)


@dataclass(frozen=True, eq=False)
class CanonicalVolume:
    """The voxels of a `Volume` on the canonical grid: axes 0, 1, 2 grow to superior, posterior, left.

    Each axis takes the nearest patient direction. An oblique stack stays oblique; voxels are not resampled.

    Attributes
    ----------
    array
        `(Z, Y, X)`, values as in `Volume`.
    affine
        4x4, maps the canonical voxel index (k, j, i, 1) to LPS millimetres.
    transpose, flips
        The steps from the source grid to the canonical grid: `transpose` all axes, then flip axes `flips`.
    profile
        The modality profile of the series.
    """

    array: Voxels
    affine: FloatArray
    transpose: tuple[int, int, int]
    flips: tuple[int, ...]
    profile: ModalityProfile = CT

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
            If `labels` does not have this volume's shape.
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
            If `labels` does not have the source grid's shape.
        """
        turned = labels.transpose(self.transpose)
        if turned.shape != self.shape:
            raise ValueError(f"shape {labels.shape} is not that of the source grid")
        return np.ascontiguousarray(np.flip(turned, self.flips))


def read_series(paths: Sequence[Path], known: Sequence[ModalityProfile] = _ALL) -> Volume:
    """Read the files of one series, in any order.

    If the profile has Hounsfield units, then values are rounded and clipped to int16. Otherwise they are the
    scanner's values, rescaled if the header has slope and intercept. Padding gets the value `outside` of the
    profile.

    Parameters
    ----------
    known
        Modality profiles (`IntakeSection.known`). The volume gets the first profile that fits.

    Raises
    ------
    InputError
        ``not-dicom``, a gate code of `uair_node.dicom.gate.profile_of` or `check_structure`, or
        ``undecodable-pixels``. The gate's thresholds are not applied.
    TransientError
        ``instance-missing``: a file is not there.
    ValueError
        If `paths` is empty.
    """
    grid = read_geometry(paths, known)
    array = np.empty(grid.shape, _voxel_type(grid.profile))
    places: dict[Path, dict[int, int]] = defaultdict(dict)
    for k, source in enumerate(grid.slices):
        places[source.path][source.frame or 1] = k
    for path, place in places.items():
        _decode_into(array, path, place, grid.profile)
    return replace(grid, array=array)


def read_geometry(paths: Sequence[Path], known: Sequence[ModalityProfile] = _ALL) -> Volume:
    """Read one series without its pixels: as `read_series`, but with all voxels 0.

    Writers of results need only the source grid. The array is read-only and takes no memory.

    Raises
    ------
    InputError
        The errors of `read_series`, without ``undecodable-pixels``.
    TransientError
        ``instance-missing``.
    ValueError
        If `paths` is empty.
    """
    if not paths:
        raise ValueError("a series has at least one file")
    try:
        found = [(header, path) for path in paths for header in read_slices(path)]
    except FileNotFoundError as error:
        raise _gone() from error
    headers = [header for header, _ in found]
    profile = profile_of(headers, known)
    stack = check_structure(headers, profile)
    first, named = headers[0], {header.frame_of_reference_uid for header in headers} - {""}
    return Volume(
        array=np.broadcast_to(_voxel_type(profile)(0), (len(headers), first.rows, first.columns)),
        affine=stack.affine,
        frame_of_reference_uid=min(named, default=assumed_frame_of_reference_uid(first.series_instance_uid)),
        slices=tuple(_source(*found[n]) for n in stack.order),
        assumed=assumptions(headers, profile),
        profile=profile,
    )


def read_slice(grid: Volume, k: int) -> Voxels:
    """Read the values of one slice of a series, `(Y, X)`, in the same way as `read_series`.

    Parameters
    ----------
    grid
        The volume that `read_geometry` returned.
    k
        Index along axis 0.

    Raises
    ------
    InputError
        ``undecodable-pixels``.
    TransientError
        ``instance-missing``: the slice's file is not there.
    """
    source = grid.slices[k]
    number = source.frame or 1
    try:
        dataset = read_image(source.path)
        require_matching_codestreams(dataset)
        header = describe_frames(dataset)[number - 1].header
        stored = next(decode_frames(dataset, number - 1))
        return _values(header, stored, grid.shape[1:], grid.profile)
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise _gone() from error
        if is_of_the_disk(error):
            raise
        raise undecodable(k + 1, _syntax_of(source.path)) from error


def _gone() -> TransientError:
    return TransientError(
        "instance-missing",
        "A received file of the series is missing.",
        "Restore the spool from a backup, or send the series again.",
    )


def _source(header: SliceHeader, path: Path) -> SourceSlice:
    return SourceSlice(
        header.sop_instance_uid, header.sop_class_uid, path, header.frame, header.instance_number
    )


def _voxel_type(profile: ModalityProfile) -> type[np.int16] | type[np.float32]:
    return np.int16 if profile.hounsfield else np.float32


def _decode_into(array: Voxels, path: Path, place: Mapping[int, int], profile: ModalityProfile) -> None:
    """Decode the frames of one file into `array`. `place` gives the slice index of each frame number."""
    number = min(place)
    try:
        dataset = read_image(path)
        require_matching_codestreams(dataset)
        decoded = decode_frames(dataset)
        for number, frame in enumerate(describe_frames(dataset), 1):
            array[place[number]] = _values(frame.header, next(decoded), array.shape[1:], profile)
    except Exception as error:
        if isinstance(error, FileNotFoundError):
            raise _gone() from error
        if is_of_the_disk(error):
            raise
        # For damaged or unsupported streams, each decoder raises exceptions of its own.
        raise undecodable(place[number] + 1, _syntax_of(path)) from error


def _syntax_of(path: Path) -> str:
    """Return the Transfer Syntax UID of a file; empty if the file cannot be read any more."""
    try:
        return str(pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") or "")
    except Exception:  # the result is only for a message about a damaged file
        return ""


def _values(
    header: Dataset, cells: npt.NDArray[Any], shape: tuple[int, ...], profile: ModalityProfile
) -> Voxels:
    """Return the values of one slice: slope x stored value + intercept (PS3.3 C.11.1, C.8.15.3.10)."""
    if cells.shape != shape:
        raise ValueError("the number of pixels differs from the header")
    stored = _sample_values(header, cells)
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    if not profile.hounsfield and not (slope and intercept is not None):
        slope, intercept = 1, 0  # without both, the stored values are the scanner's values
    with np.errstate(over="ignore", invalid="ignore"):  # too large values are clipped or refused below
        values = stored * np.float32(slope) + np.float32(intercept)
    # Some writers pad with a value that has more than Bits Stored bits. Only the whole cell shows this value.
    values[_padding(header, stored) | _padding(header, cells)] = profile.outside
    if not profile.hounsfield:
        if not np.isfinite(values).all():
            raise ValueError("rescaled values are not finite")
        return values
    limits = np.iinfo(np.int16)
    return np.rint(values).clip(limits.min, limits.max).astype(np.int16)


def _sample_values(header: Dataset, cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Extract the samples from decoded pixel cells: Bits Stored bits up to High Bit (PS3.5 8.1.1).

    The other bits of a cell may hold an overlay or undefined values; decoders do not remove them. pydicom's
    own correction of unused bits must be off: it ignores High Bit.

    Raises
    ------
    ValueError
        If the bits are impossible, or if a codec coded samples that end at another bit than Bits Stored - 1.
        For such samples, PS3.5 8.2 does not say which bits the codec kept.
    """
    width = 8 * cells.dtype.itemsize
    bits = int(header.BitsStored)
    above = width - 1 - int(header.get("HighBit", bits - 1))
    if not 0 < bits <= width - above <= width:
        raise ValueError("Bits Stored and High Bit do not fit the pixel cell")
    if above != width - bits and not _holds_cells(header):
        raise ValueError("High Bit is not Bits Stored - 1 in a compressed image")
    if bits == width:
        return cells
    signed = bool(header.get("PixelRepresentation", 0))
    raised = np.left_shift(cells, above).astype(np.dtype(f"{'i' if signed else 'u'}{cells.dtype.itemsize}"))
    return np.right_shift(raised, width - bits)


def _holds_cells(header: Dataset) -> bool:
    """Return whether the transfer syntax keeps whole pixel cells: uncompressed, deflated by frame, or RLE."""
    syntax = header.file_meta.TransferSyntaxUID
    return syntax in (RLELossless, *WHOLE_CELLS_IN_FRAMES) or not syntax.is_encapsulated


def _padding(dataset: Dataset, stored: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Return the mask of padding pixels (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return np.zeros(stored.shape, dtype=bool)
    limit = dataset.get("PixelPaddingRangeLimit", value)
    # Some writers store the value with the VR of the wrong sign: convert it to the pixels' own type.
    low, high = sorted(np.asarray([int(value), int(limit)]).astype(stored.dtype).tolist())
    return np.asarray((stored >= low) & (stored <= high))


def _canonical_axes(affine: FloatArray) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return the source axis of each canonical axis, and the canonical axes that run backwards."""
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
