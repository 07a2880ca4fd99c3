"""The embedded model behind the `Predictor` protocol."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from workers.models.batches import Batches
from workers.models.embedded import INPUT_SIZE, MASK_SIZE, TOKEN_COUNT, EmbeddedSam
from workers.models.embedded_decoder import EmbeddedDecoder, NestedFeatures, nested
from workers.models.weights import EMBEDDED_FILE, load_weights, packaged
from workers.models.windows import to_channels
from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

ENCODE_BATCH = 8
DECODE_BATCH = 16
"""The batch size for prompts. Larger batches exceed the cache of a CPU core."""


class EmbeddedPredictor:
    """Computes the masks for prompts with `EmbeddedSam`.

    Parameters
    ----------
    device
        The device on which the model runs.
    path
        Path of the model's weights; None for the packaged weights.
    """

    name = "embedded"
    input_size = INPUT_SIZE
    mask_size = MASK_SIZE
    whole_slice = False

    def __init__(self, device: torch.device, path: Path | None = None) -> None:
        self.device = device.type
        self._device = device
        self._model = EmbeddedSam()
        self.digest = load_weights(self._model, path or packaged(EMBEDDED_FILE))
        self._model.to(device)
        self._decoder = EmbeddedDecoder(self._model)
        self._batches = Batches(device)

    def encode(self, hu: Float32, neighbours: Float32) -> NestedFeatures:
        """Encode ``(n, 256, 256)`` HU; see `Predictor.encode`."""

        def encode_part(part: slice) -> NestedFeatures:
            images = torch.from_numpy(to_channels(hu[part], neighbours[part])).to(self._device)
            return nested(self._model.encode(images))

        parts = self._batches.map(encode_part, len(hu), ENCODE_BATCH)
        return NestedFeatures(*(torch.cat(group) for group in zip(*parts, strict=True)))

    def decode(self, embeddings: NestedFeatures, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Return the masks for prompts; see `Predictor.decode`."""
        first, like = _different(prompts)
        masks = None if prompts.masks is None else self._tensor(prompts.masks[first])[:, None]
        with torch.inference_mode():
            about = self._decoder.situations(embeddings, self._tensor(prompts.slices[first]), masks)

        order = np.argsort(like, kind="stable")  # prompts about one slice follow each other
        logits = np.empty((len(prompts), TOKEN_COUNT, MASK_SIZE, MASK_SIZE), np.float32)
        quality = np.empty((len(prompts), TOKEN_COUNT), np.float32)

        def decode_part(part: slice) -> None:
            rows = order[part]
            points = None
            if prompts.points is not None and prompts.labels is not None:
                points = (self._tensor(prompts.points[rows]), self._tensor(prompts.labels[rows]))
            answers = self._decoder.decode(
                embeddings,
                self._tensor(prompts.slices[rows]),
                about,
                self._tensor(like[rows]),
                self._tensor(prompts.boxes[rows]),
                points,
            )
            logits[rows], quality[rows] = (answer.float().cpu().numpy() for answer in answers)

        self._batches.map(decode_part, len(prompts), DECODE_BATCH)
        return logits, quality

    def parts_of(self, embeddings: NestedFeatures) -> tuple[torch.Tensor, ...]:
        """Return the three feature maps."""
        return tuple(embeddings)

    def from_parts(self, parts: tuple[torch.Tensor, ...]) -> NestedFeatures:
        """Return the features from the three maps of `parts_of`."""
        return NestedFeatures(*(part.to(self._device) for part in parts))

    def _tensor(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _different(prompts: Prompts) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first prompt ``(U,)`` with each pair of slice and mask, and each prompt's pair ``(P,)``."""
    rows: dict[tuple[int, bytes], int] = {}
    first: list[int] = []
    like: list[int] = []
    for row, z in enumerate(prompts.slices):
        key = (int(z), b"" if prompts.masks is None else prompts.masks[row].tobytes())
        if key not in rows:
            rows[key] = len(first)
            first.append(row)
        like.append(rows[key])
    return np.array(first, np.intp), np.array(like, np.intp)
