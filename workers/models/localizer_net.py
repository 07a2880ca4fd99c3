"""The learned localizer's network: a small 3-D U-Net on CT at 6 mm.

Input: two channels (`workers.models.windows.to_localizer_channels`), each axis a multiple of 8 voxels.
Output: logits of "inside the liver (with its vessels and lesions)". The coarsest level has a global context
term, because a scan may show a whole abdomen or a part of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SPACING_MM = 6.0
"""Isotropic voxel size in mm at which the network was trained."""
STRIDE = 8
"""Each axis of the input must be a multiple of this."""
WIDTHS = (12, 24, 40, 56)


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1), nn.GroupNorm(4, outputs), nn.GELU())


def _upsampled(coarse: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(coarse, size=like.shape[2:], mode="trilinear", align_corners=False)


class LocalizerNet(nn.Module):
    """Three-level U-Net with 0.5 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        w0, w1, w2, w3 = WIDTHS
        self.down0 = nn.Sequential(_block(2, w0), _block(w0, w0))
        self.down1 = nn.Sequential(_block(w0, w1, 2), _block(w1, w1))
        self.down2 = nn.Sequential(_block(w1, w2, 2), _block(w2, w2))
        self.bottom = nn.Sequential(_block(w2, w3, 2), _block(w3, w3), _block(w3, w3))
        self.context = nn.Linear(w3, w3)
        self.up2 = _block(w3 + w2, w2)
        self.up1 = _block(w2 + w1, w1)
        self.up0 = _block(w1 + w0, w0)
        self.head = nn.Conv3d(w0, 1, 1)

    def forward(self, volume: Tensor) -> Tensor:
        """Map ``(B, 2, Z, Y, X)`` to logits ``(B, Z, Y, X)``."""
        level0 = self.down0(volume)
        level1 = self.down1(level0)
        level2 = self.down2(level1)
        bottom = self.bottom(level2)
        bottom = bottom + self.context(bottom.mean((2, 3, 4)))[:, :, None, None, None]
        level2 = self.up2(torch.cat([_upsampled(bottom, level2), level2], dim=1))
        level1 = self.up1(torch.cat([_upsampled(level2, level1), level1], dim=1))
        level0 = self.up0(torch.cat([_upsampled(level1, level0), level0], dim=1))
        logits: Tensor = self.head(level0)[:, 0]
        return logits
