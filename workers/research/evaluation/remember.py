"""Models that compute the output for the same input only once.

An evaluation needs many outputs several times, because all rules of choice and all readers start from the
same first ensemble. The outputs and their computing times are stored while a case is evaluated.
`Memory.saved_s` is the time that an evaluation without memory would have needed in addition. The evaluation's
reported times include `saved_s`. So they are the times of a method that runs alone.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workers.models.predictor import Predictor
from workers.uair.grids import Float32
from workers.uair.outlines import Outliner, Question
from workers.uair.prompts import Prompts

LIMIT_BYTES = 1 << 29
"""The largest size of all stored masks in bytes. The least recently used masks are dropped first."""
Answer = TypeVar("Answer")


class Memory:
    """Stored outputs of a model. The key of an output is the digest of its input.

    Parameters
    ----------
    limit_bytes
        The largest size of all stored outputs together; None for no limit.
    """

    def __init__(self, limit_bytes: int | None = LIMIT_BYTES) -> None:
        self.saved_s = 0.0
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._answers: OrderedDict[bytes, tuple[Any, float, int]] = OrderedDict()

    def forget(self) -> None:
        """Drop all stored outputs. The evaluation calls this between two cases."""
        self._answers.clear()
        self._held_bytes = 0

    def recall(
        self, key: bytes, answer: Callable[[], Answer], size: Callable[[Answer], int] = lambda _: 0
    ) -> Answer:
        """Return the output stored under `key`. If there is none, then compute and store it.

        The function `answer` computes the output. The function `size` returns the size of an output in bytes.
        """
        if key in self._answers:
            self._answers.move_to_end(key)
            found, seconds, _ = self._answers[key]
            self.saved_s += seconds
            return found
        started = time.perf_counter()
        new = answer()
        self._answers[key] = new, time.perf_counter() - started, size(new)
        self._held_bytes += size(new)
        while self._limit_bytes is not None and self._held_bytes > self._limit_bytes:
            _, (_, _, oldest) = self._answers.popitem(last=False)
            self._held_bytes -= oldest
        return new


@dataclass(frozen=True)
class Remembered:
    """Embeddings of the inner predictor, and the digest that identifies them."""

    key: bytes
    embeddings: Any


class RememberingPredictor:
    """A predictor that stores the outputs of another predictor.

    Parameters
    ----------
    inner
        The predictor that computes the outputs.
    """

    def __init__(self, inner: Predictor[Any]) -> None:
        self._inner = inner
        self.name = inner.name
        self.digest = inner.digest
        self.device = inner.device
        self.input_size = inner.input_size
        self.mask_size = inner.mask_size
        self.whole_slice = inner.whole_slice
        self._encoded, self._decoded = Memory(limit_bytes=None), Memory()

    @property
    def saved_s(self) -> float:
        """Computing time in seconds that the stored outputs have saved."""
        return self._encoded.saved_s + self._decoded.saved_s

    def forget(self) -> None:
        """Drop all stored outputs. The evaluation calls this between two cases."""
        self._encoded.forget()
        self._decoded.forget()

    def encode(self, hu: Float32, neighbours: Float32) -> Remembered:
        """Encode a crop's slices; see `Predictor.encode`."""
        key = _digest(hu, neighbours)
        return self._encoded.recall(key, lambda: Remembered(key, self._inner.encode(hu, neighbours)))

    def decode(self, embeddings: Remembered, prompts: Prompts) -> tuple[Float32, NDArray[np.float32]]:
        """Compute the masks for prompts; see `Predictor.decode`."""
        asked = (prompts.slices, prompts.boxes, prompts.points, prompts.labels, prompts.masks)
        return self._decoded.recall(
            embeddings.key + _digest(*asked),
            lambda: self._inner.decode(embeddings.embeddings, prompts),
            lambda answer: answer[0].nbytes,
        )

    def parts_of(self, embeddings: Remembered) -> tuple[Tensor, ...]:
        """Return the tensors that embeddings consist of; see `Predictor.parts_of`."""
        return self._inner.parts_of(embeddings.embeddings)

    def from_parts(self, parts: tuple[Tensor, ...]) -> Remembered:
        """Return embeddings from their tensors; see `Predictor.from_parts`."""
        return Remembered(_digest(*(part.cpu().numpy() for part in parts)), self._inner.from_parts(parts))


class RememberingOutliner:
    """An outliner (a 3-D model that segments one lesion) that stores the outputs of another outliner.

    Parameters
    ----------
    inner
        The outliner that computes the outputs.
    """

    def __init__(self, inner: Outliner) -> None:
        self._inner = inner
        self.digest = inner.digest
        self._drawn = Memory()

    @property
    def saved_s(self) -> float:
        """Computing time in seconds that the stored outputs have saved."""
        return self._drawn.saved_s

    def forget(self) -> None:
        """Drop all stored outputs. The evaluation calls this between two cases."""
        self._drawn.forget()

    def outline(self, hu: Float32, questions: Sequence[Question], cell_mm: float, step_mm: float) -> Float32:
        """Segment a lesion; see `Outliner.outline`."""
        asked = [part for question in questions for part in question]
        return self._drawn.recall(
            _digest(hu, np.array([cell_mm, step_mm]), *asked),
            lambda: self._inner.outline(hu, questions, cell_mm, step_mm),
            lambda answer: answer.nbytes,
        )


class Stopwatch:
    """A clock that starts when it is made. It adds the computing time that the models' memory saved."""

    def __init__(self, *models: RememberingPredictor | RememberingOutliner) -> None:
        self._models = models
        self._started = time.perf_counter() + self._saved_s

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() + self._saved_s - self._started

    @property
    def _saved_s(self) -> float:
        return sum(model.saved_s for model in self._models)


def _digest(*arrays: NDArray[Any] | None) -> bytes:
    """Return a digest of the arrays' contents, shapes and types."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(b"none" if array is None else repr((array.shape, array.dtype.str)).encode())
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.digest()
