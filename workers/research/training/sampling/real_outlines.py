"""Draw one training sample of the lesion outliner from real tumours and a random generator.

A tumour is turned within its slices, mirrored and scaled. No slices are interpolated. Contrast, sharpness and
noise vary. Prompts are drawn as for phantoms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from workers.phantoms.fields import Floats, Mask
from workers.research.training.real_tumours import RealTumour, RealTumours
from workers.research.training.sampling.lesion_samples import CLIPPED, clipped_now_and_then
from workers.research.training.sampling.outline_prompts import LEAST_CELLS, SHAPE, Cells, OutlineSample, asked
from workers.uair.grids import tight_box

_SCALES = (0.75, 1.33)
_LEAST_SIDE_MM = 50.0
_BOX_PART = (1.8, 2.5)  # side of the crop divided by the tumour's extent
_LEAST_STEP_MM = 1.25
_MOST_SLICES = 18
_SHIFT = 0.06
_TRIALS = 12
# Standard deviation of a uniform distribution over a cell, in cells. This blur imitates the cell's average.
_BOX_DEVIATION = 0.29


def draw_real_outline_sample(tumours: RealTumours, rng: np.random.Generator) -> OutlineSample:
    """Draw a tumour, the crop around the tumour, changes of contrast, sharpness and noise, and a prompt."""
    for _ in range(_TRIALS):
        tumour = tumours.draw(rng)
        crop, hu, lesion = _view(tumour, rng)
        if lesion.sum() >= LEAST_CELLS:
            break
    else:
        raise RuntimeError("no tumour large enough for a sample")
    seen = clipped_now_and_then(_scanned_again(hu, tumour.liver_hu, crop, rng), rng, CLIPPED)
    inside, outside = (ndi.distance_transform_edt(part, crop.spacing) for part in (lesion, ~lesion))
    depth = (inside - outside).astype(np.float32)
    radius = float(3 * lesion.sum() * np.prod(crop.spacing) / (4 * np.pi)) ** (1 / 3)
    return asked(crop, seen, depth, lesion, radius, rng)


def _view(tumour: RealTumour, rng: np.random.Generator) -> tuple[Cells, Floats, Mask]:
    """Return the sizes of the cells, the density of each cell, and the tumour's mask on the cells."""
    scale = float(np.exp(rng.uniform(*np.log(_SCALES))))
    step_mm, pixel = tumour.spacing_mm[0] * scale, tumour.spacing_mm[1:]
    box = tight_box(tumour.inside)
    extent = np.asarray(box.size)
    stride = int(max(1, np.ceil(_LEAST_STEP_MM / step_mm), np.ceil(extent[0] / _MOST_SLICES)))
    if step_mm * stride < 3.0 and extent[0] / stride > 6 and rng.random() < 0.25:
        stride += 1
    widest = float(max(extent[1] * pixel[0], extent[2] * pixel[1])) * scale
    side = max(_LEAST_SIDE_MM, widest * rng.uniform(*_BOX_PART))
    crop = Cells(side / SHAPE[2], step_mm * stride)
    middle = (np.asarray(box.start) + np.asarray(box.stop)) / 2 - 0.5
    first = middle[0] - stride * (SHAPE[0] - 1) / 2 + rng.uniform(-0.5, 0.5) * stride
    slices = np.clip(np.rint(first + stride * np.arange(SHAPE[0])), 0, len(tumour.hu) - 1).astype(int)
    turn = _turn(rng) * crop.cell_mm / scale / np.asarray(pixel)[:, None]
    centre = middle[1:] + rng.uniform(-_SHIFT, _SHIFT, 2) * side / scale / np.asarray(pixel)
    blur = [_BOX_DEVIATION * crop.cell_mm / scale / size for size in pixel]
    hu, share = (
        np.stack([_plane(values[k].astype(np.float32), turn, centre, blur) for k in slices])
        for values in (tumour.hu, tumour.inside)
    )
    # Beyond each end of the tumour's stored crop, the end slice is repeated. The repeated slices contain no
    # tumour.
    share[(slices[1:] == slices[:-1]).nonzero()[0] + 1] = 0.0
    return crop, hu, share > 0.5


def _plane(
    values: Floats, turn: NDArray[np.float64], centre: NDArray[np.float64], blur: list[float]
) -> Floats:
    """Return the mean of the values over each cell of one slice."""
    offset = centre - turn @ (np.asarray(SHAPE[1:]) / 2 - 0.5)
    smooth = ndi.gaussian_filter(values, blur, truncate=3.0)
    seen: Floats = ndi.affine_transform(smooth, turn, offset, SHAPE[1:], order=1, mode="nearest")
    return seen


def _turn(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation ``(2, 2)`` within the slice, mirrored in half of the samples."""
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return turn @ np.diag([1.0, rng.choice([-1.0, 1.0])])


def _scanned_again(hu: Floats, liver_hu: float, crop: Cells, rng: np.random.Generator) -> Floats:
    """Return the densities with changed contrast, sharpness and noise."""
    excess = (hu - np.float32(liver_hu)) * np.float32(rng.uniform(0.8, 1.25))
    if rng.random() < 0.3:
        blur = rng.uniform(0.3, 1.0) / crop.cell_mm
        excess = ndi.gaussian_filter(excess, (0.0, blur, blur), truncate=3.0)
    if rng.random() < 0.4:
        noise = rng.standard_normal(SHAPE, dtype=np.float32)
        length = rng.uniform(0.5, 1.5) / crop.cell_mm
        noise = ndi.gaussian_filter(noise, (0.0, length, length), truncate=3.0)
        excess += noise * np.float32(rng.uniform(0, 12) / max(noise.std(), 1e-6))
    shifted: Floats = (excess + np.float32(liver_hu + rng.normal(0, 8))).astype(np.float32)
    return shifted
