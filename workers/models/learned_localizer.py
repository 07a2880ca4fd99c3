"""The learned localizer: `LocalizerNet` behind the method's `Localizer` protocol."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from workers.models.localizer_net import SPACING_MM, STRIDE, LocalizerNet
from workers.models.packaged_network import PackagedNetwork
from workers.models.weights import LOCALIZER_FILE
from workers.models.windows import AIR_HU, to_localizer_channels
from workers.uair.grids import Float32, Spacing
from workers.uair.localize import Location, body_region, location_of, to_isotropic


class LearnedLocalizer(PackagedNetwork):
    """Finds the liver with a 3-D U-Net at 6 mm. The parameters are those of `PackagedNetwork`."""

    network, file = LocalizerNet, LOCALIZER_FILE

    def probability(self, coarse: Float32) -> Float32:
        """Return the liver's probability ``(Z, Y, X)`` for HU at 6 mm."""
        padding = [(0, -n % STRIDE) for n in coarse.shape]
        channels = to_localizer_channels(np.pad(coarse, padding, constant_values=AIR_HU))
        with torch.inference_mode():
            logits = self._net(torch.from_numpy(channels)[None].to(self._device))[0]
            padded: Float32 = torch.sigmoid(logits).cpu().numpy()
        z, y, x = coarse.shape
        return padded[:z, :y, :x]

    def locate(self, hu: NDArray[np.generic], spacing: Spacing) -> Location | None:
        """Return the location of the liver in ``(Z, Y, X)`` canonical HU; None if none is found."""
        coarse = to_isotropic(hu, spacing, SPACING_MM)
        body = body_region(coarse)
        probability = np.zeros(coarse.shape, np.float32)
        probability[body] = self.probability(coarse[body])
        return location_of(probability, SPACING_MM, spacing, hu.shape)
