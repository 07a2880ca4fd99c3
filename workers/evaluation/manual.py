"""The manual baseline: a tight box around the truth on every slice, the single-mask token's answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.models.predictor import Predictor
from workers.models.windows import NEIGHBOUR_MM
from workers.uair.grids import Mask, Spacing, bounding_box, plan_crop
from workers.uair.prompts import Prompts

# A logit that no box asked for: surely outside.
_OUTSIDE = -10.0
_LIVER_MARGIN = 1.25
_LESION_MARGIN, _LESION_SIDE_MM = 2.0, 50.0


def segment_by_tight_boxes(
    predictor: Predictor[Any],
    hu: NDArray[np.generic],
    spacing: Spacing,
    truth: Mask,
    *,
    lesion: bool,
    step_mm: float = 0.0,
) -> Mask:
    """Segment one target as a patient person with perfect boxes would.

    Parameters
    ----------
    predictor
        The promptable model.
    hu
        ``(Z, Y, X)``, canonical grid.
    spacing
        (z, y, x) mm.
    truth
        ``(Z, Y, X)``; an empty one gives an empty mask.
    lesion
        Whether the crop is a lesion's (closer) or the liver's.
    step_mm
        Slices closer than this are skipped and interpolated; 0 takes all.
    """
    result = np.zeros(truth.shape, bool)
    box = bounding_box(truth)
    if box is None:
        return result
    z, y, x = truth.shape
    crop = plan_crop(
        box,
        spacing,
        (z, y, x),
        pixels=predictor.input_size,
        cells=predictor.mask_size,
        margin=_LESION_MARGIN if lesion else _LIVER_MARGIN,
        min_side_mm=_LESION_SIDE_MM if lesion else 0.0,
        step_mm=max(step_mm, spacing[0]),
        whole_slice=predictor.whole_slice,
    )
    neighbours = (crop.image(hu, NEIGHBOUR_MM) + crop.image(hu, -NEIGHBOUR_MM)) / np.float32(2)
    embeddings = predictor.encode(crop.image(hu), neighbours)
    shown = [index for index, slice_ in enumerate(crop.slices) if truth[slice_].any()]
    boxes = []
    for index in shown:
        plane = truth[crop.slices[index]]
        rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
        y0, x0 = crop.to_pixels(rows[0], columns[0])
        y1, x1 = crop.to_pixels(rows[-1] + 1, columns[-1] + 1)
        boxes.append((x0, y0, x1, y1))
    answer, _ = predictor.decode(
        embeddings, Prompts(np.asarray(shown, np.int64), np.asarray(boxes, np.float32))
    )
    logits = np.full(crop.stack_shape, _OUTSIDE, np.float32)
    logits[shown] = answer[:, 0]
    region, voxels = crop.to_volume(logits)
    result[region] = voxels > 0
    return result
