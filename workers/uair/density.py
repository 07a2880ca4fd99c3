"""How far a cell's density speaks for the lesion: a direction in which shapes of a belief may differ.

Networks draw a lesion's surface too smooth, or at another level of density than the reader. A shape that
follows the density more, or less, is a likely correction.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from workers.uair.grids import Float32, Mask, Spacing

SMOOTHING_MM = 1.0
CORE, AROUND = 0.7, 0.1
"""Part of the members that hold a cell of the core, and at most hold a cell around the lesion."""
NEAREST_MM, FARTHEST_MM = 1.0, 10.0
"""Where cells around a lesion begin and end, from the surface of most members."""
LEAST_CELLS = 20
LEAST_CONTRAST = 1.0
"""HU between core and surroundings; a lesion with less has no edge to follow."""
MOST_EVIDENCE = 1.5


def density_evidence(hu: Float32, masks: Mask, allowed: Mask, cell_mm: Spacing) -> Float32 | None:
    """Return the evidence ``(n, h, w)`` of density: 1 as in the lesion's core, -1 as around the lesion.

    ``e = clip(2 (g - (a + b) / 2) / (a - b), -1.5, 1.5)`` with densities g smoothed by `SMOOTHING_MM`, and
    their medians a in the core and b around the lesion.

    Parameters
    ----------
    hu
        ``(n, h, w)`` densities of the crop's cells.
    masks
        ``(N, n, h, w)`` members.
    allowed
        ``(n, h, w)`` where the target may be; other cells say nothing about its surroundings.
    cell_mm
        Size of a cell (z, y, x).

    Returns
    -------
    Float32 | None
        None where core and surroundings are too small or too much alike.
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
