"""The embedded model behind the `Predictor` protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.models.embedded import INPUT_SIZE, MASK_SIZE, EmbeddedSam, ImageFeatures
from workers.models.weights import EMBEDDED_FILE, file_digest, load_weights, packaged
from workers.models.windows import to_channels
from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

ENCODE_BATCH = 8
DECODE_BATCH = 192
"""Larger batches fall out of the cache of a CPU."""


class EmbeddedPredictor:
    """Answers prompts with `EmbeddedSam`.

    Parameters
    ----------
    device
        Where it runs.
    path
        Its weights; those of the package if None.
    """

    name = "embedded"
    input_size = INPUT_SIZE
    mask_size = MASK_SIZE
    whole_slice = False

    def __init__(self, device: torch.device, path: Path | None = None) -> None:
        source = path or packaged(EMBEDDED_FILE)
        self.digest = file_digest(source)
        self.device = device.type
        self._device = device
        self._model = EmbeddedSam()
        load_weights(self._model, source)
        self._model.to(device)

    def encode(self, hu: Float32, neighbours: Float32) -> ImageFeatures:
        """Encode ``(n, 256, 256)`` HU; see `Predictor.encode`."""
        channels = torch.from_numpy(to_channels(hu, neighbours))
        with torch.inference_mode():
            parts = [self._model.encode(part.to(self._device)) for part in channels.split(ENCODE_BATCH)]
            return ImageFeatures(*(torch.cat(group) for group in zip(*parts, strict=True)))

    def decode(self, embeddings: ImageFeatures, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Answer prompts; see `Predictor.decode`."""
        logits, quality = [], []
        with torch.inference_mode():
            for start in range(0, len(prompts), DECODE_BATCH):
                part = slice(start, start + DECODE_BATCH)
                points = None
                if prompts.points is not None and prompts.labels is not None:
                    points = (self._tensor(prompts.points[part]), self._tensor(prompts.labels[part]))
                masks = None if prompts.masks is None else self._tensor(prompts.masks[part])[:, None]
                answer = self._model.decode(
                    embeddings,
                    self._tensor(prompts.slices[part]),
                    self._tensor(prompts.boxes[part]),
                    points,
                    masks,
                )
                logits.append(answer[0].float().cpu().numpy())
                quality.append(answer[1].float().cpu().numpy())
        return np.concatenate(logits), np.concatenate(quality)

    def size_of(self, embeddings: ImageFeatures) -> int:
        """Return how many bytes the embeddings hold."""
        return sum(part.numel() * part.element_size() for part in embeddings)

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
