"""Read truth masks of a real series onto its source grid: DICOM mask series, DICOM SEG, or NIfTI.

The files come from other sources, so this module checks every assumption. If the position of a mask image
fits the series' grid, then the position decides the slice. Otherwise the instance number decides the slice. A
mask image without a matching slice is an error.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from scipy import ndimage as ndi

from dicom_config.errors import InputError
from uair_node.dicom.volume import Volume
from workers.truth.metrics import LIVER, Labels, Mask
from workers.truth.nifti import is_nifti, read_nifti
from workers.truth.placing import Placement, place_by_geometry

_LIVER_NAME = re.compile(r"^(whole[ _-]?)?liver$", re.IGNORECASE)
_LESION_NAME = re.compile(r"(tumou?r|lesion|metasta|mass|neoplasm|hcc|cyst)", re.IGNORECASE)
_NATURAL = re.compile(r"(\d+)")
_MOST_LESIONS = 254
_LARGEST_BURDEN = 4.0
"""The largest ratio of lesions to the rest of the liver. A label volume of many organs exceeds it."""


def load_truth(source: Path, volume: Volume) -> Labels:
    """Return the true labels on a series' source grid.

    Parameters
    ----------
    source
        The path has one of three forms. It is a DICOM SEG. It is a NIfTI label volume (1 liver, 2 and more
        lesions), which needs `nibabel`. Or it is a folder or zip whose sub-folders have names such as
        ``liver`` and ``livertumor1``, as in 3D-IRCADb. Each sub-folder holds a DICOM series of mask images (0
        outside).
    volume
        The series.

    Returns
    -------
    NDArray
        ``(Z, Y, X)`` uint8, source grid: 0 background, 1 liver without lesions, 1 + n lesion n.

    Raises
    ------
    InputError
        ``truth-unreadable``, ``nifti-unreadable``, ``truth-without-liver``, ``truth-grid`` (the truth does
        not lie on the series' grid).
    """
    if source.is_dir():
        return _merge(_mask_series(_folder_files(source), volume))
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            return _merge(_mask_series(_zip_files(archive), volume))
    if is_nifti(source):
        return _nifti(source, volume)
    if source.is_file():
        with source.open("rb") as file:
            return _merge(_segments(_read(file), volume))
    raise _unreadable(f"{source.name} is neither a folder nor a file")


@dataclass(frozen=True)
class _Structure:
    """A named mask on the source grid."""

    name: str
    mask: Mask


def _merge(structures: Iterator[_Structure]) -> Labels:
    """Combine liver and lesions into one label volume. Where both overlap, the voxel is lesion."""
    found = list(structures)
    livers = [named.mask for named in found if is_liver(named.name)]
    if not livers:
        raise InputError(
            "truth-without-liver",
            "The truth has no structure named liver.",
            "Give the sub-folder or the segment the name `liver`.",
        )
    labels = np.logical_or.reduce(livers).astype(np.uint8)
    lesions = sorted(
        (named for named in found if _is_lesion(named.name)), key=lambda named: _natural(named.name)
    )
    for number, lesion in enumerate(lesions[:_MOST_LESIONS], start=1):
        labels[lesion.mask] = LIVER + number
    return labels


def is_liver(name: str) -> bool:
    """Return whether the name of a folder or segment means the liver."""
    return _LIVER_NAME.match(name.strip()) is not None


def _is_lesion(name: str) -> bool:
    return _LESION_NAME.search(name) is not None


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """Return a sort key with which 2 comes before 10."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in _NATURAL.split(name))


def _folder_files(folder: Path) -> Mapping[str, list[Any]]:
    files: dict[str, list[Any]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            files.setdefault(path.parent.name, []).append(path)
    return files


def _zip_files(archive: zipfile.ZipFile) -> Mapping[str, list[Any]]:
    files: dict[str, list[Any]] = {}
    for name in sorted(archive.namelist()):
        if not name.endswith("/"):
            files.setdefault(PurePosixPath(name).parent.name, []).append(io.BytesIO(archive.read(name)))
    return files


def _mask_series(files: Mapping[str, list[Any]], volume: Volume) -> Iterator[_Structure]:
    """Yield the liver and each lesion. Mask images of other structures are not decoded."""
    for name, members in files.items():
        if is_liver(name) or _is_lesion(name):
            yield _Structure(name, _placed([_read(member) for member in members], volume))


def _read(file: Path | BinaryIO) -> pydicom.Dataset:
    try:
        return pydicom.dcmread(file)
    except (InvalidDicomError, OSError) as error:
        raise _unreadable(f"a file is not DICOM ({type(error).__name__})") from None


def _placed(images: list[pydicom.Dataset], volume: Volume) -> Mask:
    """Return the mask ``(Z, Y, X)`` of one series of mask images."""
    placements = [_placement(image, volume) for image in images]
    if any(placed is None for placed in placements) or len(
        {placed.slice for placed in placements if placed}
    ) < len(images):
        placements = _by_instance_number(images, volume)
    mask = np.zeros(volume.shape, bool)
    for image, placement in zip(images, placements, strict=True):
        if placement is None:
            raise _off_grid()
        mask[placement.slice] = placement.turned(_plane(image, volume))
    return mask


def _placement(image: pydicom.Dataset, volume: Volume) -> Placement | None:
    position, orientation = image.get("ImagePositionPatient"), image.get("ImageOrientationPatient")
    spacing = image.get("PixelSpacing")
    if not position or not orientation or not spacing:
        return None
    return place_by_geometry(position, orientation, spacing, (image.Rows, image.Columns), volume)


def _by_instance_number(images: list[pydicom.Dataset], volume: Volume) -> list[Placement | None]:
    """Match mask images and slices by Instance Number (0020,0013)."""
    slices: dict[int, int] = {}
    for index, source in enumerate(volume.slices):
        header = pydicom.dcmread(source.path, stop_before_pixels=True, specific_tags=["InstanceNumber"])
        if header.get("InstanceNumber") is not None:
            slices[int(header.InstanceNumber)] = index
    numbers = [image.get("InstanceNumber") for image in images]
    known = [number is not None and int(number) in slices for number in numbers]
    if not all(known) or len(slices) < len(volume.slices):
        return [None] * len(images)
    return [Placement(slices[int(number)], False, False) for number in numbers if number is not None]


def _plane(image: pydicom.Dataset, volume: Volume) -> Mask:
    try:
        plane: Mask = image.pixel_array > 0
    except Exception as error:  # decoders raise many kinds of errors
        raise _unreadable(f"a mask cannot be decoded ({type(error).__name__})") from None
    if plane.shape != volume.shape[1:]:
        raise _off_grid()
    return plane


def _segments(seg: pydicom.Dataset, volume: Volume) -> Iterator[_Structure]:
    """Yield the segments of a DICOM SEG (PS3.3 A.51), binary, fractional or label map."""
    if "SegmentSequence" not in seg:
        raise _unreadable("the file is no DICOM SEG")
    try:
        frames = np.atleast_3d(seg.pixel_array).reshape(-1, seg.Rows, seg.Columns)
    except Exception as error:  # decoders raise many kinds of errors
        raise _unreadable(f"the SEG cannot be decoded ({type(error).__name__})") from None
    names = {int(item.SegmentNumber): str(item.SegmentLabel) for item in seg.SegmentSequence}
    masks = {number: np.zeros(volume.shape, bool) for number in names}
    label_map = seg.SegmentationType == "LABELMAP"
    threshold = seg.MaximumFractionalValue / 2 if seg.SegmentationType == "FRACTIONAL" else 0
    for frame, groups in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
        placement = _frame_placement(seg, groups, volume)
        if label_map:
            for number in set(np.unique(frame).tolist()) & set(masks):
                masks[number][placement.slice] |= placement.turned(frame == number)
        else:
            number = int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            masks[number][placement.slice] |= placement.turned(frame > threshold)
    yield from (_Structure(name, masks[number]) for number, name in names.items())


def _frame_placement(seg: pydicom.Dataset, groups: pydicom.Dataset, volume: Volume) -> Placement:
    shared = seg.SharedFunctionalGroupsSequence[0]

    def item(keyword: str) -> pydicom.Dataset:
        found: pydicom.Dataset = (groups if keyword in groups else shared)[keyword].value[0]
        return found

    try:
        position = item("PlanePositionSequence").ImagePositionPatient
        orientation = item("PlaneOrientationSequence").ImageOrientationPatient
        spacing = item("PixelMeasuresSequence").PixelSpacing
    except (KeyError, AttributeError, IndexError):
        raise _unreadable("a frame of the SEG has no position") from None
    placement = place_by_geometry(position, orientation, spacing, (seg.Rows, seg.Columns), volume)
    if placement is None:
        raise _off_grid()
    return placement


def _nifti(path: Path, volume: Volume) -> Labels:
    """Read a NIfTI label volume: 1 liver, 2 and more lesions.

    If all lesions have the same value, then each connected region becomes a lesion.
    """
    grid = read_nifti(path)
    turned = _onto_grid(np.rint(grid.values).astype(np.int64), grid.affine, volume)
    if not (turned > 0).any():
        raise InputError("truth-without-liver", "The truth is empty.", "Give a label volume with liver = 1.")
    if (turned > LIVER).sum() > _LARGEST_BURDEN * (turned == LIVER).sum():
        raise InputError(
            "truth-without-liver",
            "This is not a liver with lesions: values from 2 on have far more voxels than 1.",
            "Give a label volume that has only 1 for the liver and 2 and more for its lesions.",
        )
    labels = (turned > 0).astype(np.uint8)
    if turned.max() == LIVER + 1:
        turned = np.where(turned > LIVER, LIVER + ndi.label(turned > LIVER)[0], turned)
    numbers = np.unique(turned[turned > LIVER])[:_MOST_LESIONS]
    for number, value in enumerate(numbers, start=1):
        labels[turned == value] = LIVER + number
    return labels


def _onto_grid(values: NDArray[np.int64], affine: NDArray[np.float64], volume: Volume) -> NDArray[np.int64]:
    """Return `values` on the volume's grid. Only the order and the directions of the axes may differ.

    `affine` maps (axis 0, axis 1, axis 2, 1) of `values` to LPS mm.
    """
    between = np.linalg.inv(volume.affine) @ affine
    turns = np.rint(between[:3, :3]).astype(int)
    axes = np.abs(turns).argmax(axis=1)
    aligned = np.abs(between[:3, :3] - turns).max() < 0.05 and sorted(axes) == [0, 1, 2]
    if not aligned or np.abs(np.abs(turns).sum(axis=1) - 1).any():
        raise _off_grid()
    turned = values.transpose(axes)
    flips = tuple(row for row in range(3) if turns[row, axes[row]] < 0)
    if turned.shape != volume.shape:
        raise _off_grid()
    expected = np.array([volume.shape[row] - 1 if row in flips else 0 for row in range(3)])
    if np.abs(between[:3, 3] - expected).max() > 0.5:
        raise _off_grid()
    return np.flip(turned, flips)


def _unreadable(why: str) -> InputError:
    return InputError(
        "truth-unreadable",
        f"The truth cannot be read: {why}.",
        "Give a folder or zip of DICOM mask series, a DICOM SEG, or a NIfTI label volume.",
    )


def _off_grid() -> InputError:
    return InputError(
        "truth-grid",
        "The truth does not lie on the grid of the series.",
        "Give masks that were drawn on exactly this series, one image for each slice.",
    )
