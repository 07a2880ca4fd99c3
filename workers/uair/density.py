"""Compute the density evidence of each cell: whether its density is like the lesion or like its surroundings.

The evidence is a direction in which shapes of a belief may differ. Networks draw a lesion's surface too
smooth, or at another level of density than the reader does. So a shape that follows the density more, or
less, is a likely correction.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from workers.uair.grids import Float32, Mask, Spacing

SMOOTHING_MM = 1.0
CORE, AROUND = 0.7, 0.1
"""Limits of the fraction of members that contain a cell.

Above the first limit, the cell belongs to the core of the lesion. Below the second limit, it lies around the
lesion.
"""
NEAREST_MM, FARTHEST_MM = 1.0, 10.0
"""Distance range in mm of the cells around a lesion, from the surface of the majority mask."""
LEAST_CELLS = 20
LEAST_CONTRAST = 1.0
"""The least difference in HU between core and surroundings. With less, a lesion has no edge to follow."""
MOST_EVIDENCE = 1.5


def density_evidence(hu: Float32, masks: Mask, allowed: Mask, cell_mm: Spacing) -> Float32 | None:
    """Return the density evidence ``(n, h, w)``: 1 at the core's density, -1 at the density around it.

    ``e = clip(2 (g - (a + b) / 2) / (a - b), -1.5, 1.5)`` with densities g smoothed by `SMOOTHING_MM`, and
    their medians a in the core and b around the lesion.

    Parameters
    ----------
    hu
        ``(n, h, w)`` densities of the crop's cells.
    masks
        ``(N, n, h, w)`` members.
    allowed
        ``(n, h, w)`` cells that the target may cover. Other cells are not used as its surroundings.
    cell_mm
        Size of a cell (z, y, x).

    Returns
    -------
    Float32 | None
        The evidence; None if core or surroundings are too small, or if their densities are too similar.
    """
    held = masks.mean(axis=0)
    outside_mm = ndimage.distance_transform_edt(held <= 0.5, sampling=cell_mm)
    core = held > CORE
    around = (held < AROUND) & (outside_mm > NEAREST_MM) & (outside_mm < FARTHEST_MM) & allowed
    if core.sum() < LEAST_CELLS or around.sum() < LEAST_CELLS:
        return None
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), [SMOOTHING_MM / mm for mm in cell_mm])
    inside, outside = float(np.median(smooth[core])), float(np.median(smooth[around]))
    if abs(inside - outside) < LEAST_CONTRAST:
        return None
    evidence = 2.0 * (smooth - (inside + outside) / 2.0) / (inside - outside)
    return np.asarray(np.clip(evidence, -MOST_EVIDENCE, MOST_EVIDENCE), np.float32)
