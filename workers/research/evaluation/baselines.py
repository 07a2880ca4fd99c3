"""Baselines without an ensemble: the model segments each slice from one box.

The mask comes from the model's single-mask token. *Manual* uses a tight box around the truth on every slice.
*Auto* uses the localizer's 3-D box on all slices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.models.predictor import Predictor
from workers.models.windows import NEIGHBOUR_MM
from workers.uair.grids import Box, Mask, Spacing, bounding_box, plan_crop
from workers.uair.prompts import Prompts

# Logit of slices without a box: certainly background.
_OUTSIDE = -10.0
_LIVER_MARGIN = 1.25
_LESION_MARGIN, _LESION_SIDE_MM = 2.0, 50.0

PlaneBox = tuple[float, float, float, float]
"""y0, x0, y1, x1 in edge coordinates of the volume."""


def segment_by_tight_boxes(
    predictor: Predictor[Any],
    hu: NDArray[np.generic],
    spacing: Spacing,
    truth: Mask,
    *,
    lesion: bool,
    step_mm: float = 0.0,
) -> Mask:
    """Return the mask ``(Z, Y, X)`` of a target. The prompt on every slice is the tight box of the truth.

    Parameters
    ----------
    predictor
        The promptable model.
    hu
        ``(Z, Y, X)``, canonical grid.
    spacing
        (z, y, x) mm.
    truth
        ``(Z, Y, X)``. An empty truth gives an empty mask.
    lesion
        True uses the closer crop of a lesion, False uses the crop of the liver.
    step_mm
        Distance of the segmented slices in mm. The slices between them are interpolated. 0 segments all
        slices.
    """
    box = bounding_box(truth)
    if box is None:
        return np.zeros(truth.shape, bool)
    boxes = {int(z): _plane_box(truth[z]) for z in np.flatnonzero(truth.any(axis=(1, 2)))}
    return _segment(predictor, hu, spacing, box, boxes, lesion=lesion, step_mm=step_mm)


def segment_by_one_box(
    predictor: Predictor[Any], hu: NDArray[np.generic], spacing: Spacing, box: Box, *, lesion: bool
) -> Mask:
    """Return the mask ``(Z, Y, X)`` of the target in a 3-D box (the published *auto* baseline).

    On each slice, the prompt is the in-plane rectangle of `box`. `box` is in edge coordinates. The other
    parameters are as for `segment_by_tight_boxes`.
    """
    slices, _, _ = box.outer(hu.shape)
    plane = (box.start[1], box.start[2], box.stop[1], box.stop[2])
    boxes = dict.fromkeys(range(slices.start, slices.stop), plane)
    return _segment(predictor, hu, spacing, box, boxes, lesion=lesion, step_mm=0.0)


def _plane_box(plane: Mask) -> PlaneBox:
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    return float(rows[0]), float(columns[0]), float(rows[-1] + 1), float(columns[-1] + 1)


def _segment(
    predictor: Predictor[Any],
    hu: NDArray[np.generic],
    spacing: Spacing,
    around: Box,
    boxes: dict[int, PlaneBox],
    *,
    lesion: bool,
    step_mm: float,
) -> Mask:
    z, y, x = hu.shape
    crop = plan_crop(
        around,
        spacing,
        (z, y, x),
        pixels=predictor.input_size,
        cells=predictor.mask_size,
        margin=_LESION_MARGIN if lesion else _LIVER_MARGIN,
        min_side_mm=_LESION_SIDE_MM if lesion else 0.0,
        step_mm=max(step_mm, spacing[0]),
        whole_slice=predictor.whole_slice,
    )
    asked = [index for index, slice_ in enumerate(crop.slices) if slice_ in boxes]
    prompts = np.empty((len(asked), 4), np.float32)
    for row, index in enumerate(asked):
        y0, x0, y1, x1 = boxes[crop.slices[index]]
        (top, left), (bottom, right) = crop.to_pixels(y0, x0), crop.to_pixels(y1, x1)
        prompts[row] = (left, top, right, bottom)
    embeddings = predictor.encode(*crop.images(hu, NEIGHBOUR_MM))
    answer, _ = predictor.decode(embeddings, Prompts(np.asarray(asked, np.int64), prompts))
    logits = np.full(crop.stack_shape, _OUTSIDE, np.float32)
    logits[asked] = answer[:, 0]
    region, voxels = crop.to_volume(logits)
    result = np.zeros(hu.shape, bool)
    result[region] = voxels > 0
    return result
