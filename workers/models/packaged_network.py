"""Load a network with its weights on a device, for localizers, lesion finder and lesion outliner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from workers.models.weights import load_weights, packaged


class PackagedNetwork:
    """Loads a network's weights. A subclass names the network and its file in the package.

    Parameters
    ----------
    device
        The device on which the network runs.
    path
        Path of other weights; None for the packaged weights.

    Raises
    ------
    ConfigError
        ``weights-missing``; ``weights-mismatch``: the file is of another architecture.
    """

    network: ClassVar[Callable[[], nn.Module]]
    file: ClassVar[str]

    def __init__(self, device: torch.device, path: Path | None = None) -> None:
        self._device = device
        self._net = type(self).network()
        self._digest = load_weights(self._net, path or packaged(self.file))
        self._net.to(device)

    @property
    def digest(self) -> str:
        """SHA-256 of the weight file."""
        return self._digest
