"""A predictor that answers the same question only once.

An evaluation asks much twice: both rules of choice and every reader start from the same first ensemble. The
answers are remembered for as long as a case lasts, and with each the time that it took when it was computed:
`saved_s` is what an evaluation without memory would have needed in addition, so that reported times are those
of a method run alone.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workers.models.predictor import Predictor
from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

LIMIT_BYTES = 1 << 29
"""Of remembered masks; the least recently asked go first."""


@dataclass(frozen=True)
class Remembered:
    """Embeddings of the inner predictor, and what they are known by."""

    key: bytes
    embeddings: Any


class RememberingPredictor:
    """Wraps a predictor; see the module's text.

    Parameters
    ----------
    inner
        What answers.
    """

    def __init__(self, inner: Predictor[Any]) -> None:
        self._inner = inner
        self.name = inner.name
        self.digest = inner.digest
        self.device = inner.device
        self.input_size = inner.input_size
        self.mask_size = inner.mask_size
        self.whole_slice = inner.whole_slice
        self.saved_s = 0.0
        self._encoded: dict[bytes, tuple[Remembered, float]] = {}
        self._decoded: OrderedDict[bytes, tuple[tuple[Float32, NDArray[np.float32]], float]] = OrderedDict()
        self._held_bytes = 0

    def forget(self) -> None:
        """Drop all answers, as between two cases."""
        self._encoded.clear()
        self._decoded.clear()
        self._held_bytes = 0

    def encode(self, hu: Float32, neighbours: Float32) -> Remembered:
        """Encode a crop's slices; see `Predictor.encode`."""
        key = _digest(hu, neighbours)
        if key in self._encoded:
            found, seconds = self._encoded[key]
            self.saved_s += seconds
            return found
        started = time.perf_counter()
        found = Remembered(key, self._inner.encode(hu, neighbours))
        self._encoded[key] = found, time.perf_counter() - started
        return found

    def decode(self, embeddings: Remembered, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Answer prompts; see `Predictor.decode`."""
        asked = (prompts.slices, prompts.boxes, prompts.points, prompts.labels, prompts.masks)
        key = embeddings.key + _digest(*asked)
        if key in self._decoded:
            self._decoded.move_to_end(key)
            answer, seconds = self._decoded[key]
            self.saved_s += seconds
            return answer
        started = time.perf_counter()
        answer = self._inner.decode(embeddings.embeddings, prompts)
        self._decoded[key] = answer, time.perf_counter() - started
        self._held_bytes += answer[0].nbytes
        while self._held_bytes > LIMIT_BYTES:
            _, (oldest, _) = self._decoded.popitem(last=False)
            self._held_bytes -= oldest[0].nbytes
        return answer

    def parts_of(self, embeddings: Remembered) -> tuple[Tensor, ...]:
        """Return the tensors that embeddings consist of; see `Predictor.parts_of`."""
        return self._inner.parts_of(embeddings.embeddings)

    def from_parts(self, parts: tuple[Tensor, ...]) -> Remembered:
        """Return embeddings from their tensors; see `Predictor.from_parts`."""
        return Remembered(_digest(*(part.cpu().numpy() for part in parts)), self._inner.from_parts(parts))


class Stopwatch:
    """Measures computing time from its making on, what memory saved included."""

    def __init__(self, predictor: RememberingPredictor) -> None:
        self._predictor = predictor
        self._started = time.perf_counter()
        self._saved = predictor.saved_s

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.perf_counter() - self._started + self._predictor.saved_s - self._saved


def _digest(*arrays: NDArray[Any] | None) -> bytes:
    """Return a digest of arrays' content and shapes."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(b"none" if array is None else repr((array.shape, array.dtype.str)).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
