"""The learned lesion finder: `LesionNet` behind the method's `LesionModel` protocol."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from workers.models.lesion_net import LESION, LESION_WEIGHT, LIVER, SPACING_MM, STRIDE, LesionNet
from workers.models.packaged_network import PackagedNetwork
from workers.models.weights import LESIONS_FILE, REAL_LESIONS_FILE, packaged
from workers.models.windows import AIR_HU, to_lesion_channels
from workers.uair.grids import Box, Float32, Spacing
from workers.uair.lesion_maps import LesionMaps
from workers.uair.localize import CoarseMap, to_isotropic


class LearnedLesions(PackagedNetwork):
    """Finds liver and lesions with a 3-D U-Net at 3 mm. The parameters are those of `PackagedNetwork`."""

    network, file = LesionNet, LESIONS_FILE

    @classmethod
    def trained_on(cls, data: Literal["real", "phantom"], device: torch.device) -> LearnedLesions:
        """Return the packaged finder that was trained on real CTs and phantoms, or on phantoms alone."""
        return cls(device, packaged(REAL_LESIONS_FILE if data == "real" else LESIONS_FILE))

    def search(self, hu: NDArray[np.generic], spacing: Spacing, around: Box, liver_hu: float) -> LesionMaps:
        """Return the probabilities of liver and lesions in a box of ``(Z, Y, X)`` canonical HU.

        Parameters
        ----------
        hu
            The volume.
        spacing
            (z, y, x) mm.
        around
            The box around the liver with a margin.
        liver_hu
            The liver's median density.
        """
        region = around.outer(hu.shape)
        coarse = to_isotropic(hu[region], spacing, SPACING_MM)
        liver, lesions = self._probabilities(coarse, liver_hu)
        z, y, x = (float(part.start) for part in region)
        maps = (CoarseMap(part, SPACING_MM, spacing, (z, y, x)) for part in (liver, lesions))
        return LesionMaps(*maps)

    def _probabilities(self, coarse: Float32, liver_hu: float) -> tuple[Float32, Float32]:
        padding = [(0, -n % STRIDE) for n in coarse.shape]
        channels = to_lesion_channels(np.pad(coarse, padding, constant_values=AIR_HU), liver_hu)
        with torch.inference_mode():
            logits = self._net(torch.from_numpy(channels)[None].to(self._device))[0]
            logits[LESION] -= math.log(LESION_WEIGHT)
            padded: Float32 = torch.sigmoid(logits).cpu().numpy()
        z, y, x = coarse.shape
        return padded[LIVER, :z, :y, :x], padded[LESION, :z, :y, :x]
