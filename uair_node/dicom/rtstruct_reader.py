"""Read an RT Structure Set as labels on the source grid (PS3.3 A.19, C.8.8.5 to C.8.8.8).

This module accepts the contours that planning systems export: closed, on the slices of the series. A hole may
be a keyhole, a CLOSEDPLANAR_XOR contour, or a contour inside a contour. A slice without contours between two
slices with contours is interpolated. This module is independent of cases and rounds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicom_config.errors import InputError
from uair_node.dicom.contours import Mask, Points, between, fill_plane
from uair_node.dicom.edited_segmentation import (
    MOST_VOXELS,
    EditedSegmentation,
    check_source,
    label_drawn,
    nothing_drawn,
    reading_alone,
    too_large,
)
from uair_node.dicom.rtstruct_regions import XOR, Region, is_closed, read_regions, shows_other
from uair_node.dicom.segment_kind import speak_of
from uair_node.dicom.segment_targets import KnownTargets, Voxels
from uair_node.dicom.volume import Volume

_FEWEST_POINTS = 3
_FLAT = 0.25
"""The largest distance of a contour's points from a plane, and of the plane from a slice.

The unit is the slice distance. Rounded decimal strings and uneven slices cause less than a tenth of this
distance.
"""
_OFF_SLICE = 0.5
"""The largest distance of a contour from the slice that it names, in slice distances.

Frames of a SEG have the same limit.
"""
_MOST_CONTOURS = 5_000
"""The most contours of liver and lesions together. A liver in 600 slices has about 2,000 contours."""
_MOST_CONTOURS_A_SLICE = 200
_MOST_POINTS = 2_000_000
_FILLED_GAP_MM = 5.0
"""The longest gap in mm between two slices with contours that is filled.

If a region's usual step is longer, then twice that step is the limit.
"""


def read_structures(dataset: Dataset, volume: Volume, known: KnownTargets) -> EditedSegmentation:
    """Read an RT Structure Set that was drawn on `volume`.

    Regions of other structures are not read. Their contours may be open or lie outside the series.

    Parameters
    ----------
    volume
        The source grid; its voxels are not read.
    known
        The targets of the case, by which regions are recognised.

    Raises
    ------
    InputError
        ``contour-open``: a contour is not closed or has fewer than three points. ``contour-not-finite``.
        ``contour-slice-unknown``: a contour lies on a slice that the series does not have.
        ``contour-not-planar``. ``edited-unreadable``, ``edited-empty``, ``edited-too-large``,
        ``edited-other-frame-of-reference``, ``edited-other-series``; ``edited-unrecognised``,
        ``edited-outside-organ`` of `label_drawn`.
    """
    with reading_alone(_unreadable):
        return _read(dataset, volume, known)


def _read(dataset: Dataset, volume: Volume, known: KnownTargets) -> EditedSegmentation:
    organ = volume.profile.organ
    regions = read_regions(dataset)
    others = {number for number, region in regions.items() if shows_other(region, organ)}
    targets = {number: region for number, region in regions.items() if number not in others}
    _require_bounded(targets)
    grid, drawn, remarks = _Grid(volume), dict.fromkeys(sorted(others), np.empty(0, np.uint32)), []
    empty = []
    for number, region in targets.items():
        name = speak_of(number, region.segment, organ, "ROI")
        if region.contours:
            check_source(region.images, region.frames_of_reference, volume)
        shape = _drawn_region(region, grid, name)
        if shape.filled:
            slices = "1 slice" if shape.filled == 1 else f"{shape.filled} slices"
            remarks.append(f"{name}: {slices} without contours interpolated.")
        if len(shape.voxels):
            drawn[number] = shape.voxels
        else:
            empty.append(name)
    if empty:
        remarks.append(f"Empty structures were left out: {', '.join(empty)}.")
    if len(drawn) == len(others) and (empty or not others):
        raise nothing_drawn(organ.name)
    if sum(map(len, drawn.values())) > MOST_VOXELS:
        raise too_large(f"{MOST_VOXELS} voxels")
    segments = {number: region.segment for number, region in regions.items()}
    derived = any(known.candidate_uids & region.made_from for region in regions.values())
    return label_drawn(drawn, segments, volume, known, derived=derived, noun="ROI", remarks=remarks)


def _require_bounded(regions: Mapping[int, Region]) -> None:
    if sum(len(region.contours) for region in regions.values()) > _MOST_CONTOURS:
        raise too_large(f"{_MOST_CONTOURS} contours")
    numbers = sum(_count_numbers(contour) for region in regions.values() for contour in region.contours)
    if numbers > 3 * _MOST_POINTS:
        raise too_large(f"{_MOST_POINTS} contour points")


def _stored_points(contour: Dataset) -> Any:
    """Return Contour Data in its stored form: bytes, unless pydicom has converted it before."""
    return contour.get_item("ContourData").value if "ContourData" in contour else b""


def _count_numbers(contour: Dataset) -> int:
    stored = _stored_points(contour)
    return stored.count(b"\\") + 1 if isinstance(stored, bytes) else len(stored or ())


@dataclass
class _Plane:
    """The contours of a region on one slice."""

    contours: list[Points] = field(default_factory=list)
    by_parity: bool = False


@dataclass(frozen=True)
class _Drawn:
    """The voxels of a region, and the number of its slices that were interpolated."""

    voxels: Voxels
    filled: int


def _drawn_region(region: Region, grid: _Grid, name: str) -> _Drawn:
    planes: dict[int, _Plane] = defaultdict(_Plane)
    for contour in region.contours:
        points = _points_of(contour, name)
        if not is_closed(contour) or len(points) < _FEWEST_POINTS:
            raise _open(name)
        k, placed = grid.place(points, contour, name)
        plane = planes[k]
        plane.contours.append(placed)
        plane.by_parity |= str(contour.ContourGeometricType).strip() == XOR
        if len(plane.contours) > _MOST_CONTOURS_A_SLICE:
            raise too_large(f"{_MOST_CONTOURS_A_SLICE} contours on a slice")
    masks = {
        k: fill_plane(plane.contours, grid.plane, by_parity=plane.by_parity)
        for k, plane in sorted(planes.items())
    }
    slices = dict(grid.filled(masks))
    voxels = [grid.voxels(k, mask) for k, mask in slices.items()]
    filled = sum(mask.any() for k, mask in slices.items() if k not in masks)
    return _Drawn(np.concatenate(voxels) if voxels else np.empty(0, np.uint32), int(filled))


def _points_of(contour: Dataset, name: str) -> Points:
    """Return the points of a contour, ``(n, 3)`` in LPS mm."""
    stored = _stored_points(contour)
    if isinstance(stored, bytes):  # converts all numbers in one step
        text = stored.decode("ascii").strip(" \0")
        stored = text.split("\\") if text else []
    numbers = np.asarray([] if stored is None else stored, np.float64).reshape(-1)
    if len(numbers) % 3:
        raise _unreadable(f"A contour of {name} does not have three coordinates for each point.")
    if not np.isfinite(numbers).all():
        raise InputError(
            "contour-not-finite",
            f"A coordinate of {name} is not a finite number.",
            "Save the structure set again. If this error happens again, report it to the maker of the "
            "software that wrote the structure set.",
        )
    return numbers.reshape(-1, 3)


class _Grid:
    """The source grid, with the functions that place contours on it."""

    def __init__(self, volume: Volume) -> None:
        self._to_index = np.linalg.inv(volume.affine)
        self._shape = volume.shape
        self._spacing_mm = volume.spacing_mm
        self._slices: dict[str, dict[int | None, int]] = defaultdict(dict)
        for k, source in enumerate(volume.slices):
            self._slices[source.sop_instance_uid][source.frame] = k

    @property
    def plane(self) -> tuple[int, int]:
        """Number of rows and columns of a slice."""
        return self._shape[1:]

    def place(self, points: Points, contour: Dataset, name: str) -> tuple[int, Points]:
        """Return the index of a contour's slice, and the contour's points on it as (row, column).

        Raises
        ------
        InputError
            ``contour-not-planar``, ``contour-slice-unknown``.
        """
        index = np.column_stack([points, np.ones(len(points))]) @ self._to_index.T
        depth = index[:, 0]
        if float(np.ptp(depth)) > _FLAT:
            raise InputError(
                "contour-not-planar",
                f"A contour of {name} does not lie in one slice of the series.",
                "Draw on the slices of the series, not on reformatted slices. Then send the structure set "
                "again.",
            )
        place = float(depth.mean())
        k = self._named_slice(contour, round(place))
        off = _FLAT if k is None else _OFF_SLICE
        k = round(place) if k is None else k
        if not 0 <= k < self._shape[0] or abs(place - k) > off + 1e-3:
            raise _slice_unknown(name)
        return k, index[:, 1:3]

    def _named_slice(self, contour: Dataset, near: int) -> int | None:
        """Return the index of the slice that a contour names.

        The result is None if the contour names no slice, and -1 if the series does not have the slice.
        """
        images = contour.get("ContourImageSequence") or ()
        slices = [k for image in images for k in self._slices_of(image)]
        if slices:
            return min(slices, key=lambda k: abs(k - near))
        return -1 if images else None

    def _slices_of(self, image: Dataset) -> list[int]:
        """Return the indices of the slices that a reference names.

        There are several indices if the reference names a multi-frame image without a frame number.
        """
        frames = self._slices.get(str(image.ReferencedSOPInstanceUID), {})
        number = image.get("ReferencedFrameNumber")
        if number is None or None in frames:
            return list(frames.values())
        return [frames[int(number)]] if int(number) in frames else []

    def filled(self, masks: Mapping[int, Mask]) -> Iterator[tuple[int, Mask]]:
        """Yield each slice of a region with its mask. Short gaps between contours are interpolated."""
        ks = [k for k, mask in masks.items() if mask.any()]
        steps = np.diff(ks)
        usual = float(np.median(steps)) if len(steps) else 1.0
        longest = max(_FILLED_GAP_MM / self._spacing_mm[0], 2.0 * usual)
        for k in ks:
            yield k, masks[k]
        for lower, upper in pairwise(ks):
            if 1 < upper - lower <= longest + 1e-3:
                for k in range(lower + 1, upper):
                    share = (k - lower) / (upper - lower)
                    yield k, between(masks[lower], masks[upper], share, self._spacing_mm[1:])

    def voxels(self, k: int, mask: Mask) -> Voxels:
        """Return the flat indices of the true pixels of slice `k`."""
        return (np.flatnonzero(mask) + k * mask.size).astype(np.uint32)


def _slice_unknown(name: str) -> InputError:
    return InputError(
        "contour-slice-unknown",
        f"A contour of {name} lies on a slice that the series does not have.",
        "Draw on the slices of the series that the candidates were made from.",
    )


def _open(name: str) -> InputError:
    return InputError(
        "contour-open",
        f"A contour of {name} is not closed, or has fewer than three points.",
        "Close the contour or delete it, and send the structure set again.",
    )


def _unreadable(reason: str) -> InputError:
    return InputError(
        "edited-unreadable",
        f"The returned structure set cannot be read. {reason}",
        "Save the contours again as RT Structure Set, on the series that the candidates were made from.",
    )
