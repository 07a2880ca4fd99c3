"""The learned lesion outliner: `OutlineNet` behind the method's `Outliner` protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from workers.models.outline_net import STRIDE, OutlineNet
from workers.models.packaged_network import PackagedNetwork
from workers.models.weights import OUTLINES_FILE
from workers.models.windows import AIR_HU, to_outline_channels
from workers.uair.grids import Float32
from workers.uair.outlines import Question


class LearnedOutlines(PackagedNetwork):
    """Outlines a lesion in all slices of its crop at once. The parameters are those of `PackagedNetwork`."""

    network, file = OutlineNet, OUTLINES_FILE

    def outline(self, hu: Float32, questions: Sequence[Question], cell_mm: float, step_mm: float) -> Float32:
        """Return logits ``(Q, A, n, h, w)`` of the lesion in each box, see `Outliner`.

        On a CPU, a call with two prompts for up to 20 slices takes half as long as a call with one prompt.
        The reason is torch's slow fallback for 3-D convolutions of a single small input. For more slices, the
        call with two prompts takes twice as long.
        """
        n, h, w = hu.shape
        padding = [(0, -size % stride) for size, stride in zip((n, h, w), STRIDE, strict=True)]
        in_plane = [(0, 0), *padding[1:]]
        wide = np.pad(hu, in_plane, constant_values=AIR_HU)
        asked = [
            to_outline_channels(
                wide,
                np.pad(box, in_plane),
                None if known is None else np.pad(known, in_plane),
                cell_mm,
                step_mm,
            )
            for box, known in questions
        ]
        channels = np.pad(np.stack(asked), [(0, 0), (0, 0), padding[0], (0, 0), (0, 0)], mode="edge")
        with torch.inference_mode():
            logits = self._net(torch.from_numpy(channels).to(self._device))
            answers: Float32 = logits[..., :n, :h, :w].float().cpu().numpy()
        return answers
