"""A network with its weights on a device: what our localizers, finder and outliner have in common."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from workers.models.weights import load_weights, packaged


class PackagedNetwork:
    """Loads a network's weights.

    Parameters
    ----------
    network
        With random weights.
    file
        Name of its weights in the package.
    device
        Where it runs.
    path
        Other weights than those of the package, or None.

    Raises
    ------
    ConfigError
        ``weights-missing``; ``weights-mismatch``: the file is of another architecture.
    """

    def __init__(self, network: nn.Module, file: str, device: torch.device, path: Path | None) -> None:
        self._device = device
        self._net = network
        self._digest = load_weights(network, path or packaged(file))
        self._net.to(device)

    @property
    def digest(self) -> str:
        """SHA-256 of the weight file."""
        return self._digest
