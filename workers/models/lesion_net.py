"""The lesion finder's network: a 3-D U-Net on the liver's surroundings at 3 mm.

Input: five channels (`workers.models.windows.to_lesion_channels`), each axis a multiple of `STRIDE` voxels.
Output: logits of "inside the liver (with its vessels and lesions)" and of "inside a lesion".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SPACING_MM = 3.0
"""Isotropic voxel size in mm at which the network was trained."""
STRIDE = 8
"""Each axis of the input must be a multiple of this."""
WIDTHS = (40, 64, 96)
LIVER, LESION = 0, 1
"""Indices of the two outputs."""
LESION_WEIGHT = 4.0
"""Weight of lesion voxels in training. For true probabilities, divide the network's odds by this weight."""
_INPUTS, _OUTPUTS = 5, 2
# Initial logit of lesions in training. It is low, because few voxels belong to a lesion.
_RARE = -2.5


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU())


def _upsampled(coarse: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(coarse, size=like.shape[2:], mode="trilinear", align_corners=False)


def folded(volume: Tensor) -> Tensor:
    """Turn blocks of 2 x 2 x 2 voxels of ``(B, C, Z, Y, X)`` into channels: ``(B, 8 C, Z/2, Y/2, X/2)``."""
    b, c, z, y, x = volume.shape
    split = volume.reshape(b, c, z // 2, 2, y // 2, 2, x // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, 8 * c, z // 2, y // 2, x // 2)


def unfolded(channels: Tensor) -> Tensor:
    """Undo `folded`: return its input."""
    b, c, z, y, x = channels.shape
    split = channels.reshape(b, c // 8, 2, 2, 2, z, y, x)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // 8, 2 * z, 2 * y, 2 * x)


class LesionNet(nn.Module):
    """U-Net with 1.2 M parameters.

    Voxels are folded into channels before the first convolution, and unfolded after the last. So all values
    are kept, but no convolution runs at 3 mm, where a U-Net would spend most of its time.
    """

    def __init__(self) -> None:
        super().__init__()
        w1, w2, w3 = WIDTHS
        self.down1 = nn.Sequential(_block(8 * _INPUTS, w1), _block(w1, w1))
        self.down2 = nn.Sequential(_block(w1, w2, 2), _block(w2, w2))
        self.bottom = nn.Sequential(_block(w2, w3, 2), _block(w3, w3), _block(w3, w3))
        self.narrow2 = nn.Conv3d(w3, w2, 1)
        self.narrow1 = nn.Conv3d(w2, w1, 1)
        self.up2 = _block(2 * w2, w2)
        self.up1 = _block(2 * w1, w1)
        self.head = nn.Conv3d(w1, 8 * _OUTPUTS, 3, 1, 1)
        nn.init.constant_(self.head.bias[8 * LESION : 8 * (LESION + 1)], _RARE)  # type: ignore[index]

    def forward(self, volume: Tensor) -> Tensor:
        """Map ``(B, 5, Z, Y, X)`` to logits ``(B, 2, Z, Y, X)``: liver, lesion."""
        level1 = self.down1(folded(volume))
        level2 = self.down2(level1)
        bottom = self.bottom(level2)
        level2 = self.up2(torch.cat([_upsampled(self.narrow2(bottom), level2), level2], dim=1))
        level1 = self.up1(torch.cat([_upsampled(self.narrow1(level2), level1), level1], dim=1))
        return unfolded(self.head(level1))
