"""Image embeddings, computed once and kept for later prompts and later rounds."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

from workers.models.predictor import Predictor
from workers.uair.grids import Float32


class EmbeddingCache:
    """Encodes crops with a predictor and remembers the latest ones, by content.

    The key is a digest of the pixels, so a crop is recognised in a later round whatever case it came from.

    Parameters
    ----------
    predictor
        What encodes.
    limit_bytes
        The least recently used embeddings are dropped beyond this. One crop is always kept.
    """

    def __init__(self, predictor: Predictor[Any], limit_bytes: int) -> None:
        self._predictor = predictor
        self._limit = limit_bytes
        self._entries: OrderedDict[bytes, tuple[Any, int]] = OrderedDict()

    def encode(self, hu: Float32, neighbours: Float32) -> Any:
        """Return the embeddings of a crop; see `Predictor.encode`."""
        key = hashlib.blake2b(hu.tobytes() + neighbours.tobytes(), digest_size=16).digest()
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        embeddings = self._predictor.encode(hu, neighbours)
        self._entries[key] = (embeddings, self._predictor.size_of(embeddings))
        while len(self._entries) > 1 and self.held_bytes > self._limit:
            self._entries.popitem(last=False)
        return embeddings

    @property
    def held_bytes(self) -> int:
        """How much is held now."""
        return sum(size for _, size in self._entries.values())
