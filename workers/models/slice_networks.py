"""U-Net and TransUNet, with which the paper compares its method. They segment whole slices without a reader.

Both networks use parts of MONAI and are small enough for a CPU. Only the evaluation needs them. MONAI is
imported when a network is built.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage as ndi
from torch import Tensor, nn

from dicom_config.errors import ConfigError
from workers.models.weights import load_weights, packaged
from workers.models.windows import NEIGHBOUR_MM, to_channels
from workers.uair.grids import Box, Crop, Float32, Spacing, plan_crop
from workers.uair.localize import body_region, largest_component, to_isotropic

NAMES = ("unet", "transunet")
CHANNELS, CLASSES = 3, 3
"""Channels of `to_channels`; background, liver, lesion."""
INPUT_SIZE = 256
_STEP_MM = 3.0
_BODY_MM = 6.0
_MARGIN = 1.05
_BATCH = 8
_MOST_LESIONS = 254
_WIDTHS = (16, 32, 64, 96)
_TOKENS = (INPUT_SIZE // 16) ** 2


def weight_file(name: str) -> str:
    """Return the name of the packaged weights of a network."""
    return f"baseline_{name}.safetensors"


def build_slice_network(name: str) -> nn.Module:
    """Return a network with random weights: ``(B, 3, 256, 256)`` to logits ``(B, 3, 256, 256)``.

    Raises
    ------
    ConfigError
        ``evaluate-extra-missing``: MONAI is not installed.
    """
    try:
        from monai.networks.nets import UNet
    except ImportError:
        raise ConfigError(
            "evaluate-extra-missing",
            "U-Net and TransUNet need MONAI.",
            "Install MONAI (pip install 'uair-node[evaluate]').",
        ) from None
    if name == "unet":
        return UNet(
            spatial_dims=2,
            in_channels=CHANNELS,
            out_channels=CLASSES,
            channels=(16, 32, 64, 128, 128),
            strides=(2, 2, 2, 2),
            num_res_units=1,
        )
    return TransUNet()


class TransUNet(nn.Module):
    """A transformer between a convolutional encoder and a cascaded up-sampler (Chen et al. 2021).

    The encoder halves the resolution four times. The 16 x 16 cells of its last map are the transformer's
    tokens, with learned positions. The up-sampler doubles the resolution four times, and gets the encoder's
    maps by skip connections.
    """

    def __init__(self, depth: int = 3, heads: int = 4) -> None:
        super().__init__()
        from monai.networks.blocks import ResidualUnit, TransformerBlock, UpSample
        from monai.networks.nets.basic_unet import UpCat

        first, second, third, last = _WIDTHS
        sides = zip((CHANNELS, first, second, third), _WIDTHS, strict=True)
        self.encoder = nn.ModuleList(ResidualUnit(2, into, out, strides=2) for into, out in sides)
        self.position = nn.Parameter(torch.zeros(1, _TOKENS, last))
        self.blocks = nn.Sequential(*(TransformerBlock(last, 2 * last, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(last)
        act, norm = ("leakyrelu", {"negative_slope": 0.1}), ("instance", {"affine": True})
        self.decoder = nn.ModuleList(
            UpCat(2, into, skip, skip, act, norm, bias=True)
            for into, skip in ((last, third), (third, second), (second, first))
        )
        self.up = UpSample(2, first, first, 2, mode="deconv")
        self.head = nn.Conv2d(first, CLASSES, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits with the size of the images."""
        maps = []
        seen = images
        for stage in self.encoder:
            seen = stage(seen)
            maps.append(seen)
        tokens = self.norm(self.blocks(seen.flatten(2).transpose(1, 2) + self.position))
        seen = tokens.transpose(1, 2).unflatten(2, seen.shape[2:])
        for stage, skip in zip(self.decoder, reversed(maps[:-1]), strict=True):
            seen = stage(seen, skip)
        answer: Tensor = self.head(self.up(seen))
        return answer


class SliceNetwork:
    """Segments a volume slice by slice.

    Parameters
    ----------
    network
        The result of `build_slice_network`.
    device
        The device on which the network runs.
    digest
        SHA-256 of the network's weights.
    """

    def __init__(self, network: nn.Module, device: torch.device, digest: str = "") -> None:
        self._network = network.to(device).eval()
        self._device = device
        self.digest = digest

    @classmethod
    def load(cls, name: str, device: torch.device, path: Path | None = None) -> SliceNetwork:
        """Return the network `name` with its packaged weights, or with the weights of the file `path`.

        Raises
        ------
        ConfigError
            ``evaluate-extra-missing``, ``weights-missing``, ``weights-mismatch``.
        """
        network = build_slice_network(name)
        digest = load_weights(network, path or packaged(weight_file(name)))
        return cls(network, device, digest)

    def segment(self, hu: NDArray[np.generic], spacing: Spacing) -> NDArray[np.uint8]:
        """Return labels ``(Z, Y, X)``: 1 the largest component of liver, 1 + n the nth lesion in it."""
        crop = _whole_body(hu, spacing)
        logits = self._logits(to_channels(*crop.images(hu, NEIGHBOUR_MM)))
        background, liver, lesion = (logits[:, index] for index in range(CLASSES))
        region, organ = crop.to_volume(np.logaddexp(liver, lesion) - background)
        _, focal = crop.to_volume(lesion - np.logaddexp(background, liver))
        labels = np.zeros(hu.shape, np.uint8)
        inside = ndi.binary_fill_holes(largest_component(organ > 0))
        numbers, _ = ndi.label(inside & (focal > 0))
        labels[region] = inside + np.minimum(numbers, _MOST_LESIONS).astype(np.uint8)
        return labels

    @torch.inference_mode()
    def _logits(self, channels: Float32) -> Float32:
        parts = torch.from_numpy(channels).split(_BATCH)
        return torch.cat([self._network(part.to(self._device)).cpu() for part in parts]).numpy()


def _whole_body(hu: NDArray[np.generic], spacing: Spacing) -> Crop:
    """Return the crop of all slices around the body's largest extent."""
    _, rows, columns = body_region(to_isotropic(hu, spacing, _BODY_MM))
    y, x = ((part.start, part.stop) for part in (rows, columns))
    scale = [_BODY_MM / step for step in spacing[1:]]
    box = Box((0.0, y[0] * scale[0], x[0] * scale[1]), (float(len(hu)), y[1] * scale[0], x[1] * scale[1]))
    return plan_crop(
        box,
        spacing,
        (hu.shape[0], hu.shape[1], hu.shape[2]),
        pixels=INPUT_SIZE,
        cells=INPUT_SIZE,
        margin=_MARGIN,
        min_side_mm=0.0,
        step_mm=_STEP_MM,
    )
