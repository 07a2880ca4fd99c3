"""The network of the lesion outliner (`workers.uair.outlines`): a 3-D U-Net on the cells of a lesion's crop.

Input: `CHANNELS` channels (`workers.models.windows.to_outline_channels`), ``(B, C, n, h, w)``, n a multiple
of `STRIDE[0]` and h, w multiples of `STRIDE[1:]`. Output: logits of `ANSWERS` outlines of one lesion. In
training, outline 0 always learns. Among the other outlines, the best learns most, like SAM's mask tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 8
ANSWERS = 4
STRIDE = (4, 8, 8)
"""The input's axes must be multiples of this."""
WIDTHS = (32, 56, 80)
_FOLD = 2


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, stride, 1), nn.GroupNorm(8, outputs), nn.ReLU())


def _upsampled(coarse: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(coarse, size=like.shape[2:], mode="trilinear", align_corners=False)


class OutlineNet(nn.Module):
    """U-Net with 0.7 M parameters. Inside, 2 x 2 cells of a slice become channels.

    A cell's side in plane is smaller than the slice distance, so slices are not turned into channels.
    """

    def __init__(self) -> None:
        super().__init__()
        w1, w2, w3 = WIDTHS
        self.down1 = nn.Sequential(_block(_FOLD**2 * CHANNELS, w1), _block(w1, w1))
        self.down2 = nn.Sequential(_block(w1, w2, 2), _block(w2, w2))
        self.bottom = nn.Sequential(_block(w2, w3, 2), _block(w3, w3))
        self.narrow2 = nn.Conv3d(w3, w2, 1)
        self.narrow1 = nn.Conv3d(w2, w1, 1)
        self.up2 = _block(2 * w2, w2)
        self.up1 = _block(2 * w1, w1)
        self.head = nn.Conv3d(w1, _FOLD**2 * ANSWERS, 3, 1, 1)

    def forward(self, crop: Tensor) -> Tensor:
        """Map ``(B, CHANNELS, n, h, w)`` to logits ``(B, ANSWERS, n, h, w)``."""
        level1 = self.down1(_folded(crop))
        level2 = self.down2(level1)
        bottom = self.bottom(level2)
        level2 = self.up2(torch.cat([_upsampled(self.narrow2(bottom), level2), level2], dim=1))
        level1 = self.up1(torch.cat([_upsampled(self.narrow1(level2), level1), level1], dim=1))
        return _unfolded(self.head(level1))


def _folded(crop: Tensor) -> Tensor:
    b, c, n, h, w = crop.shape
    split = crop.reshape(b, c, n, h // _FOLD, _FOLD, w // _FOLD, _FOLD)
    return split.permute(0, 1, 4, 6, 2, 3, 5).reshape(b, _FOLD**2 * c, n, h // _FOLD, w // _FOLD)


def _unfolded(channels: Tensor) -> Tensor:
    b, c, n, h, w = channels.shape
    split = channels.reshape(b, c // _FOLD**2, _FOLD, _FOLD, n, h, w)
    return split.permute(0, 1, 4, 5, 2, 6, 3).reshape(b, c // _FOLD**2, n, _FOLD * h, _FOLD * w)
