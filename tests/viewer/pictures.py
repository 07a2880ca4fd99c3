"""The content of a viewer's picture: which label is drawn on which voxel."""

from __future__ import annotations

import io
from typing import Any

import matplotlib.image
import numpy as np
from scipy import ndimage

from tests.viewer.rounds import LESION, LIVER


def drawn_labels(
    picture: bytes, canvas: tuple[int, int, int, int], hu: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Read the drawn label of each voxel from a picture of a slice.

    The colour shows the label: bluish for liver, yellowish for a lesion, grey for CT. The outline of the soft
    tissue, in the picture and in `hu` `(Y, X)`, relates pixels to voxel centres.
    """
    left, top, width, height = canvas
    pixels = np.round(matplotlib.image.imread(io.BytesIO(picture))[..., :3] * 255).astype(int)
    pixels = pixels[top : top + height, left : left + width]
    # The window of the series (centre 60, width 400 HU) shows 0 HU as 89.
    rows, columns = largest_piece(pixels.max(axis=-1) > 89)
    grid_rows, grid_columns = largest_piece(hu > 0)
    at_rows = centres(rows, grid_rows, hu.shape[0])
    at_columns = centres(columns, grid_columns, hu.shape[1])
    inside = np.zeros(hu.shape, bool)
    inside[grid_rows, grid_columns] = True
    sampled = pixels[np.clip(at_rows, 0, height - 1)[:, None], np.clip(at_columns, 0, width - 1)[None, :]]
    blueness = sampled[..., 2] - sampled[..., 0]
    return np.select([inside & (blueness > 20), inside & (blueness < -20)], [LIVER, LESION], 0)


def largest_piece(mask: np.ndarray[Any, Any]) -> tuple[slice, slice]:
    pieces, _ = ndimage.label(mask)
    boxes = ndimage.find_objects(pieces)
    rows, columns = boxes[np.bincount(pieces.ravel())[1:].argmax()]
    return rows, columns


def centres(pixels: slice, voxels: slice, count: int) -> np.ndarray[Any, Any]:
    """Return the pixel of each voxel's centre. The range of pixels and the range of voxels coincide."""
    size = (pixels.stop - pixels.start) / (voxels.stop - voxels.start)
    return np.rint(pixels.start + (np.arange(count) + 0.5 - voxels.start) * size - 0.5).astype(int)


def dice(first: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> float:
    return float(2 * (first & other).sum() / (first.sum() + other.sum()))
