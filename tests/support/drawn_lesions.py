"""The length of a lesion as a reader measures it, and the voxels of a lesion in a candidate."""

from __future__ import annotations

import numpy as np
from pydicom import Dataset


def longest_line(mask: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the slice on which a lesion is largest, and its two most distant pixels (row, column)."""
    k = int(mask.sum(axis=(1, 2)).argmax())
    pixels = np.argwhere(mask[k])
    apart = np.linalg.norm(pixels[:, None] - pixels[None], axis=2)
    return k, pixels[list(np.unravel_index(apart.argmax(), apart.shape))]


def lesion_of(candidate: Dataset, order: list[str], shape: tuple[int, ...]) -> np.ndarray:
    """Return the voxels of the candidate's only lesion on the series' grid."""
    (number,) = [int(segment.SegmentNumber) for segment in candidate.SegmentSequence[1:]]
    voxels = np.zeros(shape, bool)
    for frame, group in zip(candidate.pixel_array, candidate.PerFrameFunctionalGroupsSequence, strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number:
            source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            voxels[order.index(str(source))] = frame
    return voxels
