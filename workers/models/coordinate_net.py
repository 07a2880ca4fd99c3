"""The network of the localizer `templates`: it predicts a patch's place in the body, and features of points.

It is self-supervised after MedLSAM (Lei et al. 2025): its training uses no labels of organs. The network maps
a patch of 64 x 64 x 64 voxels of 3 mm to a latent coordinate. The difference of two patches' coordinates is
their offset in the scan, in mm. For a point, the network computes a feature vector of the 36 mm around it.
Both outputs use *cells* of two voxels a side as input. The network is small enough for training on one
processor core in minutes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workers.models.windows import AIR_HU, to_localizer_channels
from workers.uair.grids import Float32

PATCH = 64
"""Side of a patch in voxels of 3 mm (the paper, section 4.5)."""
CELL = 2
"""Side of a cell in voxels."""
SURROUNDINGS = 6
"""Side of the cube of cells from which a feature vector is computed."""
FEATURES = 24
"""Length of a feature vector."""
_SCALE_MM = 100.0


class CoordinateNet(nn.Module):
    """Encoder with 0.25 M parameters: coordinates of patches, features of points."""

    def __init__(self) -> None:
        super().__init__()
        self.coordinate = nn.Sequential(
            nn.AvgPool3d(2),
            nn.Conv3d(2, 24, 3, 2, 1),
            nn.GELU(),
            nn.Conv3d(24, 48, 3, 2, 1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(48 * (PATCH // CELL // 8) ** 3, 64),
            nn.GELU(),
            nn.Linear(64, 3),
        )
        self.feature = nn.Sequential(nn.Conv3d(2, 48, SURROUNDINGS), nn.GELU(), nn.Conv3d(48, FEATURES, 1))

    def forward(self, patches: Tensor, blocks: Tensor) -> tuple[Tensor, Tensor]:
        """Map patches to coordinates, and blocks to the features of the points inside.

        Parameters
        ----------
        patches
            ``(B, 2, 32, 32, 32)`` cells, see `cells_of`.
        blocks
            ``(N, 2, n, n, n)`` cells of any region of a scan, n at least `SURROUNDINGS`.

        Returns
        -------
        tuple of Tensor
            Coordinates ``(B, 3)`` (z, y, x) in mm from an origin that the network chose, and unit features
            ``(N, FEATURES, m, m, m)``, m = n - `SURROUNDINGS` + 1.
        """
        return _SCALE_MM * self.coordinate(patches), functional.normalize(self.feature(blocks), dim=1)


def patch_at(hu: NDArray[np.generic], centre: NDArray[np.int64]) -> Float32:
    """Return the patch ``(64, 64, 64)`` of HU at 3 mm around the voxel edge `centre` (z, y, x).

    Outside of the scan, the value is air.
    """
    patch = np.full((PATCH,) * 3, AIR_HU, np.float32)
    starts = np.asarray(centre, int) - PATCH // 2
    source, target = [], []
    for start, count in zip(starts.tolist(), hu.shape, strict=True):
        low, high = max(0, start), min(count, start + PATCH)
        if low >= high:
            return patch
        source.append(slice(low, high))
        target.append(slice(low - start, high - start))
    patch[tuple(target)] = hu[tuple(source)]
    return patch


def cells_of(hu: Float32) -> Float32:
    """Return two channels in cells ``(2, Z / 2, Y / 2, X / 2)`` of HU ``(Z, Y, X)`` at 3 mm; Z, Y, X even."""
    channels = to_localizer_channels(hu)
    z, y, x = (n // CELL for n in hu.shape)
    split = channels.reshape(2, z, CELL, y, CELL, x, CELL)
    return np.asarray(split.mean(axis=(2, 4, 6)), np.float32)
