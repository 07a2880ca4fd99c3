"""Read a SEG that a reader edited in a viewer, as labels on the source grid.

This module places the pixels of each frame on the grid. `uair_node.dicom.segment_targets` decides which
target a segment is. BINARY, FRACTIONAL and LABELMAP are read (PS3.3 C.8.20.2), in any transfer syntax that
can be decoded. Segments and frames may have any order, and frames may be missing. Planes may be flipped,
cropped or in another orientation of the same grid. This module is independent of cases and rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_config.errors import InputError
from uair_node.dicom.codestreams import require_matching_codestreams
from uair_node.dicom.decoding_apart import decode_apart
from uair_node.dicom.edited_segmentation import (
    MOST_VOXELS,
    EditedSegmentation,
    check_source,
    label_drawn,
    nothing_drawn,
    reading_alone,
    too_large,
)
from uair_node.dicom.segment_kind import property_types
from uair_node.dicom.segment_targets import KnownTargets, Voxels
from uair_node.dicom.stack import plane_axes
from uair_node.dicom.volume import Volume

_Mask = npt.NDArray[np.bool_]
_Float = npt.NDArray[np.float64]

_BACKGROUND = Code("125040", "DCM", "Background")

_OFF_GRID_VOXELS = 0.1
"""The largest distance of a frame's last pixel from a voxel's centre within the plane, in voxels.

Rounded decimal strings cause less than 0.01 voxels at 512 pixels. Resampled grids exceed the limit by far.
"""
_OFF_SLICE = 0.5
"""The largest distance of a frame from its slice, in slice distances.

The gate accepts slightly uneven slices, and the affine has their mean distance only.
"""

_MOST_SEGMENTS = 512
"""The largest number of segments of an object.

A whole-body segmentation has about 120 segments. Our labels end at 255.
"""


def read_edited(dataset: Dataset, volume: Volume, known: KnownTargets) -> EditedSegmentation:
    """Read a SEG or label map SEG that was drawn on `volume`.

    Parameters
    ----------
    dataset
        The object with its pixels.
    volume
        The source grid; its voxels are not read.
    known
        The targets of the case, by which segments are recognised.

    Raises
    ------
    InputError
        ``edited-unreadable``: pixels do not decode, or a frame cannot be placed on the grid.
        ``edited-other-frame-of-reference``, ``edited-other-series``: drawn on other images.
        ``edited-too-large``: more segments or voxels than a reader draws. ``edited-empty``: no segment has a
        voxel. ``edited-unrecognised``, ``edited-outside-organ``: no segment with voxels is liver or lesion.
    ResourceError
        ``decoder-not-started``, see `uair_node.dicom.decoding_apart.decode_apart`.
    ValueError
        If a candidate of `known` is not on the source grid.
    """
    if any(labels.shape != volume.shape for labels in known.offered):
        raise ValueError(f"a candidate is not on the source grid {volume.shape}")
    with reading_alone(_unreadable):
        return _read(dataset, volume, known)


def _read(dataset: Dataset, volume: Volume, known: KnownTargets) -> EditedSegmentation:
    named = set(_named_instances(dataset))
    check_source(named - known.candidate_uids, {dataset.get("FrameOfReferenceUID")}, volume)
    segments = {int(segment.SegmentNumber): segment for segment in dataset.SegmentSequence}
    _require_bounded(dataset, volume, len(segments))
    drawn = _drawn_voxels(dataset, volume, segments)
    if not drawn:
        raise nothing_drawn(volume.profile.organ.name)
    return label_drawn(drawn, segments, volume, known, derived=bool(named & known.candidate_uids))


def _named_instances(dataset: Dataset) -> Iterator[str]:
    for series in dataset.get("ReferencedSeriesSequence") or ():
        for instance in series.get("ReferencedInstanceSequence") or ():
            yield str(instance.ReferencedSOPInstanceUID)
    for source in dataset.get("SourceImageSequence") or ():
        yield str(source.ReferencedSOPInstanceUID)
    groups = [*(dataset.get("SharedFunctionalGroupsSequence") or ())]
    for group in (*groups, *(dataset.get("PerFrameFunctionalGroupsSequence") or ())):
        yield from (uid for uid, _ in _derived_from(group))


def _derived_from(group: Dataset) -> Iterator[tuple[str, int | None]]:
    """Yield the images that a frame was derived from: UID and frame number, None for all of its frames."""
    for derivation in group.get("DerivationImageSequence") or ():
        for source in derivation.get("SourceImageSequence") or ():
            numbers = source.get("ReferencedFrameNumber")
            several = isinstance(numbers, Sequence) and not isinstance(numbers, str)
            for number in numbers if several else [numbers]:
                yield str(source.ReferencedSOPInstanceUID), None if number is None else int(number)


def _drawn_voxels(dataset: Dataset, volume: Volume, segments: Mapping[int, Dataset]) -> dict[int, Voxels]:
    """Return the voxels of each segment that has any. The background is left out."""
    background = _background(dataset, segments)
    drawn: dict[int, list[Voxels]] = {}
    placement, total = _Placement(dataset, volume), 0
    with decode_apart(dataset) as frames:
        for frame, pixels in enumerate(frames):
            for number, mask in _segments_of_frame(dataset, placement.groups(frame), pixels):
                size = 0 if number in background else int(np.count_nonzero(mask))
                if not size:
                    continue
                if number not in segments:
                    raise _unreadable(f"It has voxels of a segment that it does not describe: {number}.")
                total += size
                if total > MOST_VOXELS:
                    raise too_large(f"{MOST_VOXELS} voxels")
                drawn.setdefault(number, []).append(placement.voxels(frame, mask))
    # Join the arrays of one segment after another, so that only one segment is in memory twice.
    return {number: np.concatenate(drawn.pop(number)) for number in list(drawn)}


def _require_bounded(dataset: Dataset, volume: Volume, segments: int) -> None:
    """Refuse an object with too many segments, or with more or larger frames than the source grid needs."""
    if segments > _MOST_SEGMENTS:
        raise too_large(f"{_MOST_SEGMENTS} segments")
    if max(int(dataset.Rows), int(dataset.Columns)) > max(volume.shape):
        raise _unreadable("Its frames are larger than the images that it was drawn on.")
    described = len(dataset.get("PerFrameFunctionalGroupsSequence") or ())
    if int(dataset.get("NumberOfFrames") or 1) > max(described, 1):
        raise _unreadable("It has more frames than items in its Per-frame Functional Groups Sequence.")
    require_matching_codestreams(dataset)


def _background(dataset: Dataset, segments: Mapping[int, Dataset]) -> set[int]:
    """Return the values of a label map that are no segments: background, and padding outside the images."""
    background = {number for number, segment in segments.items() if _BACKGROUND in property_types(segment)}
    if dataset.SegmentationType == "LABELMAP":
        padding = dataset.get("PixelPaddingValue")
        background |= {0} if padding is None else {0, int(padding)}
    return background


def _segments_of_frame(
    dataset: Dataset, groups: tuple[Dataset, Dataset], pixels: npt.NDArray[Any]
) -> Iterator[tuple[int, _Mask]]:
    """Yield the segment numbers of one frame, each with the mask of its pixels (PS3.3 C.8.20.2.3)."""
    if dataset.SegmentationType == "LABELMAP":
        for value in np.unique(pixels):
            yield int(value), pixels == value
        return
    number = int(_item(groups, "SegmentIdentificationSequence")[0].ReferencedSegmentNumber)
    if dataset.SegmentationType == "FRACTIONAL":
        yield number, pixels >= int(dataset.MaximumFractionalValue) / 2
    else:
        yield number, pixels > 0


def _item(groups: tuple[Dataset, Dataset], keyword: str) -> Any:
    """Return a frame's own or shared functional group (PS3.3 C.7.6.16); None if it has neither."""
    own, shared = groups
    return own.get(keyword) or shared.get(keyword)


class _Placement:
    """The positions of the pixels of each frame on the source grid."""

    def __init__(self, dataset: Dataset, volume: Volume) -> None:
        self._to_index: _Float = np.asarray(np.linalg.inv(volume.affine), np.float64)
        self._shape = volume.shape
        self._size = int(dataset.Rows), int(dataset.Columns)
        self._slice_of = {
            (source.sop_instance_uid, source.frame): k for k, source in enumerate(volume.slices)
        }
        self._frames = dataset.get("PerFrameFunctionalGroupsSequence") or []
        (self._shared,) = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
        # Some writers put geometry at the root, as in single-frame objects.
        self._root = dataset

    def groups(self, frame: int) -> tuple[Dataset, Dataset]:
        """Return a frame's own functional groups and the shared functional groups."""
        return self._frames[frame] if self._frames else Dataset(), self._shared

    def voxels(self, frame: int, mask: _Mask) -> Voxels:
        """Return the flat indices of the voxels under the true pixels of a frame's `mask` `(Rows, Columns)`.

        Raises
        ------
        InputError
            ``edited-unreadable``.
        """
        groups = self.groups(frame)
        named = self._named_slice(groups)
        origin = self._origin(groups)
        if origin is not None:
            steps = self._steps(groups)
        elif named is not None and self._size == self._shape[1:]:
            origin, steps = np.array([named, 0.0, 0.0]), np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        else:
            raise _unreadable("A frame has neither a position nor a single source image of the same size.")
        whole_steps = np.rint(steps)
        self._check_on_grid(origin, steps, in_slice=not whole_steps[0].any())
        first = np.rint(origin).astype(int)
        if named is not None and not whole_steps[0].any() and named != first[0]:
            if abs(named - origin[0]) > _OFF_SLICE + 1e-3:
                raise _unreadable("A frame references another slice than the slice at its position.")
            first[0] = named
        index = first[:, None] + whole_steps.astype(int) @ np.vstack(np.nonzero(mask))
        if (index < 0).any() or (index >= np.array(self._shape)[:, None]).any():
            raise _unreadable("Some of its voxels lie outside the series.")
        return np.ravel_multi_index(tuple(index), self._shape).astype(np.uint32)

    def _named_slice(self, groups: tuple[Dataset, Dataset]) -> int | None:
        """Return the index of the slice on which a frame was drawn; None if it names no slice or several."""
        named = set(_derived_from(groups[0])) or set(_derived_from(groups[1]))
        slices = {self._slice_of[uid] for uid in named if uid in self._slice_of}
        return slices.pop() if len(slices) == 1 else None

    def _origin(self, groups: tuple[Dataset, Dataset]) -> _Float | None:
        position = self._attribute(groups, "PlanePositionSequence", "ImagePositionPatient")
        if position is None:
            return None
        return np.asarray((self._to_index @ [*map(float, position), 1.0])[:3])

    def _steps(self, groups: tuple[Dataset, Dataset]) -> _Float:
        """Return the steps `(3, 2)` in voxels to the next row and to the next column."""
        orientation = self._attribute(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = self._attribute(groups, "PixelMeasuresSequence", "PixelSpacing")
        if orientation is None or spacing is None:
            raise _unreadable("A frame has a position but no orientation or no pixel spacing.")
        axes = plane_axes([float(cosine) for cosine in orientation])
        steps_mm = axes[:, 1:] * [float(spacing[0]), float(spacing[1])]
        return np.asarray(self._to_index[:3, :3] @ steps_mm)

    def _attribute(self, groups: tuple[Dataset, Dataset], sequence: str, keyword: str) -> Any:
        items = _item(groups, sequence)
        return (items[0] if items else self._root).get(keyword)

    def _check_on_grid(self, origin: _Float, steps: _Float, *, in_slice: bool) -> None:
        """Raise an error if the pixels of a plane do not lie on voxels of the source grid."""
        whole = np.rint(steps)
        single = (np.abs(whole).sum(axis=0) == 1).all() and np.linalg.matrix_rank(whole) == 2
        drift = np.abs(steps - whole) @ (np.array(self._size) - 1)
        allowed = np.array([_OFF_SLICE if in_slice else _OFF_GRID_VOXELS, *(_OFF_GRID_VOXELS,) * 2])
        if not single or (drift + np.abs(origin - np.rint(origin)) > allowed + 1e-3).any():
            raise _unreadable("It was drawn on another grid than the series has.")


def _unreadable(reason: str) -> InputError:
    return InputError(
        "edited-unreadable",
        f"The returned segmentation cannot be read. {reason}",
        "Save the segmentation as DICOM SEG, on the series that the candidates were made from.",
    )
