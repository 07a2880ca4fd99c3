"""HU windows: convert CT numbers to the input channels of our networks.

Training and inference must use exactly the same values, so both use this module.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from workers.uair.grids import Float32, Mask, tight_box

SOFT_TISSUE = (-200.0, 300.0)
"""HU range of the wide channel."""
LIVER = (-10.0, 190.0)
"""HU range of the two narrow channels."""
NEIGHBOUR_MM = 3.0
"""Distance in mm of the slices above and below that make the third channel."""
SURROUNDINGS = (0.0, 250.0)
"""HU range of possible organ tissue around a lesion."""
MEDSAM = (-500.0, 1000.0)
"""HU range to which the paper clips for SAM checkpoints (section 4.5)."""
AIR_HU = -1000.0


def _window(hu: Float32, low_high: tuple[float, float]) -> Float32:
    low, high = low_high
    return np.clip((hu - low) * (2.0 / (high - low)) - 1.0, -1.0, 1.0).astype(np.float32)


def to_channels(hu: Float32, neighbours: Float32) -> Float32:
    """Return the three channels of the embedded model.

    Parameters
    ----------
    hu
        ``(…, H, W)`` HU of the slices.
    neighbours
        ``(…, H, W)`` HU: for each slice, the mean of the two slices `NEIGHBOUR_MM` above and below it.

    Returns
    -------
    NDArray
        ``(…, 3, H, W)`` float32 in [-1, 1]: soft tissue, liver, liver of the neighbours.
    """
    channels = (_window(hu, SOFT_TISSUE), _window(hu, LIVER), _window(neighbours, LIVER))
    return np.stack(channels, axis=-3)


def to_localizer_channels(hu: Float32) -> Float32:
    """Return the two channels ``(2, Z, Y, X)`` of the localizer from HU ``(Z, Y, X)``."""
    wide = np.clip((hu + 400.0) / 500.0, -1.0, 1.6)
    narrow = np.clip((hu - 60.0) / 110.0, -1.5, 1.5)
    return np.stack([wide, narrow]).astype(np.float32)


def to_lesion_channels(hu: Float32, liver_hu: float) -> Float32:
    """Return the five channels ``(5, Z, Y, X)`` of the lesion finder from HU ``(Z, Y, X)``.

    Four windows are centred on the liver's own density, so that contrast phase and steatosis matter less. Two
    windows are smoothed, over one and two voxels, because the network learns smoothing slowly.
    """
    wide = np.clip((hu + 400.0) / 500.0, -1.0, 1.6)
    excess = hu - np.float32(liver_hu)
    near = np.clip(excess / 40.0, -2.5, 2.5)
    far = np.clip(excess / 150.0, -1.5, 1.5)
    tissue = np.clip(excess / 30.0, -4.0, 4.0)
    smooth = [ndimage.gaussian_filter(tissue, sigma, truncate=3.0) for sigma in (1.0, 2.0)]
    return np.stack([wide, near, far, *smooth]).astype(np.float32)


def to_outline_channels(
    hu: Float32,
    box: Mask,
    known: Float32 | None,
    cell_mm: float,
    step_mm: float,
) -> Float32:
    """Return the eight channels ``(8, n, h, w)`` of the lesion outliner.

    Parameters
    ----------
    hu
        ``(n, h, w)`` mean HU of a crop's cells.
    box
        ``(n, h, w)``: the cells inside the given box; not empty.
    known
        ``(n, h, w)`` probability of an earlier outline, or None.
    cell_mm, step_mm
        Size of a cell in plane, and distance of slices, both in mm.
    """
    excess = np.clip((hu - np.float32(_around(hu, box))) / 40.0, -2.5, 2.5)
    sizes = (np.log(cell_mm / 1.2), np.log(step_mm / 2.5))
    return np.stack(
        [
            _window(hu, SOFT_TISSUE),
            _window(hu, LIVER),
            excess,
            ndimage.gaussian_filter(excess, (0.5, 1.5, 1.5), truncate=3.0),
            np.where(box, 1.0, -1.0),
            np.zeros_like(hu) if known is None else 2.0 * known - 1.0,
            *(np.full_like(hu, size) for size in sizes),
        ]
    ).astype(np.float32)


def _around(hu: Float32, box: Mask) -> float:
    """Return the median HU of soft tissue around the box.

    The tissue is at most a quarter of the box's size and a cell away from the box.
    """
    tight = tight_box(box)
    reach = [1 + int(size) // 4 for size in tight.size]
    edges = zip(tight.start, tight.stop, reach, strict=True)
    grown = np.zeros_like(box)
    grown[tuple(slice(max(0, int(low) - r), int(high) + r) for low, high, r in edges)] = True
    low, high = SURROUNDINGS
    values = hu[grown & ~box & (hu > low) & (hu < high)]
    return float(np.median(values)) if len(values) else float(np.median(hu[box]))


def to_medsam_bytes(hu: Float32) -> Float32:
    """Scale HU ``(…, H, W)`` to 0 … 255 as MedSAM does: clip to [-500, 1000], then stretch linearly."""
    low, high = MEDSAM
    return ((np.clip(hu, low, high) - low) * (255.0 / (high - low))).astype(np.float32)
