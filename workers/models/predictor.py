"""The protocol that every promptable model implements for the engine."""

from __future__ import annotations

from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

EmbeddingsT = TypeVar("EmbeddingsT")


class Predictor(Protocol[EmbeddingsT]):
    """A promptable 2-D segmentation model.

    Attributes
    ----------
    name
        The model's name in results, for example ``embedded`` or ``vit_b``.
    digest
        SHA-256 of its weights.
    device
        The device on which the model runs, ``cpu`` or ``cuda``.
    input_size
        Side of the model's square input, in pixels.
    mask_size
        Side of the model's masks, in cells.
    whole_slice
        True if the model needs whole slices, false if it takes crops around the target.
    """

    name: str
    digest: str
    device: str
    input_size: int
    mask_size: int
    whole_slice: bool

    def encode(self, hu: Float32, neighbours: Float32) -> EmbeddingsT:
        """Encode a crop's slices, once for all prompts.

        Parameters
        ----------
        hu
            ``(n, input_size, input_size)`` HU.
        neighbours
            HU of the same shape: for each slice, the mean of the slices 3 mm above and below it.
        """
        ...

    def decode(self, embeddings: EmbeddingsT, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Return the masks for ``P`` prompts.

        Returns
        -------
        tuple
            Logits ``(P, M, mask_size, mask_size)`` and predicted IoU ``(P, M)``; token 0 is the single-mask
            token, tokens 1 … M - 1 are the alternatives.
        """
        ...

    def parts_of(self, embeddings: EmbeddingsT) -> tuple[Tensor, ...]:
        """Return the tensors of embeddings, at most ten, in an order that the model defines."""
        ...

    def from_parts(self, parts: tuple[Tensor, ...]) -> EmbeddingsT:
        """Return embeddings from their tensors, which may be on another device."""
        ...
