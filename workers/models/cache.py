"""Keep image embeddings in memory and on disk, for later prompts and later rounds.

Files stay after the end of the process, and other workers of the machine can read them. A file may be
missing, old or damaged at any time. Then the crop is encoded again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from workers.models.predictor import Predictor
from workers.uair.grids import Crop, Float32

log = logging.getLogger(__name__)

_FORMAT = "1"
"""A part of every key. Increase it if new code makes other embeddings from the same weights and crop."""
_SUFFIX = ".safetensors"


class EmbeddingFolder:
    """Embeddings as files. Beyond a limit, the least recently used files are deleted.

    Parameters
    ----------
    folder
        A folder on a disk of this machine, because reading must be faster than encoding.
    limit_bytes
        The most bytes of all files together. Larger embeddings are not kept.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit = limit_bytes

    def read(self, key: str) -> tuple[Tensor, ...] | None:
        """Return the tensors that were written for a key; None if they do not exist or are incomplete."""
        path = self._folder / (key + _SUFFIX)
        try:
            with safe_open(path, "pt") as file:
                names = sorted(file.keys())
                parts = tuple(file.get_tensor(name) for name in names)
                stated = (file.metadata() or {}).get("checksum")
            if stated != _checksum(parts):
                raise SafetensorError("checksum")
            os.utime(path)
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError) as error:
            log.warning("stored embeddings cannot be read (%s); encoding again", type(error).__name__)
            path.unlink(missing_ok=True)
            return None
        return parts

    def write(self, key: str, parts: tuple[Tensor, ...]) -> None:
        """Write the tensors of embeddings. If the disk is full or broken, then only log a warning."""
        path = self._folder / (key + _SUFFIX)
        on_cpu = tuple(part.detach().cpu().contiguous() for part in parts)
        if path.exists() or sum(part.nbytes for part in on_cpu) > self._limit:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._folder, suffix=".part")
            os.close(handle)
            try:
                named = {str(index): part for index, part in enumerate(on_cpu)}
                save_file(named, temporary, metadata={"checksum": _checksum(on_cpu)})
                # No fsync: the checksum detects files that a power failure damaged.
                Path(temporary).replace(path)
            finally:
                Path(temporary).unlink(missing_ok=True)
            self._shrink()
        except (OSError, SafetensorError) as error:
            log.warning("embeddings cannot be kept on disk (%s)", type(error).__name__)

    def _shrink(self) -> None:
        files = []
        for path in self._folder.iterdir():  # includes unfinished files of dead processes
            try:
                status = path.stat()
            except FileNotFoundError:  # another worker was faster
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._limit:
                return
            path.unlink(missing_ok=True)
            total -= size


def _checksum(parts: tuple[Tensor, ...]) -> str:
    total = 0
    for part in parts:
        total = zlib.crc32(part.contiguous().view(torch.uint8).numpy().data, total)
    return f"{total:08x}"


class EmbeddingCache:
    """Encodes crops with a predictor and keeps the latest embeddings.

    Parameters
    ----------
    predictor
        The predictor that encodes.
    limit_bytes
        The most bytes in memory. Above this limit, the least recently used embeddings are dropped. The
        embeddings of one crop always stay.
    folder
        The folder that keeps embeddings after the end of the process; None for no folder.
    """

    def __init__(
        self, predictor: Predictor[Any], limit_bytes: int, folder: EmbeddingFolder | None = None
    ) -> None:
        self._predictor = predictor
        self._limit = limit_bytes
        self._folder = folder
        self._entries: OrderedDict[str, tuple[Any, int]] = OrderedDict()

    def encode(self, content: str, crop: Crop, images: Callable[[], tuple[Float32, Float32]]) -> Any:
        """Return the embeddings of a crop; see `Predictor.encode`.

        Parameters
        ----------
        content
            Digest of the volume.
        images
            A function that makes the crop's images, see `Crop.images`. It is called only if the crop must be
            encoded.
        """
        key = self._key(content, crop)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key][0]
        parts = self._folder.read(key) if self._folder else None
        if parts is None:
            embeddings = self._predictor.encode(*images())
            parts = self._predictor.parts_of(embeddings)
        else:
            embeddings = self._predictor.from_parts(parts)
        self._entries[key] = (embeddings, sum(part.nbytes for part in parts))
        while len(self._entries) > 1 and self.held_bytes > self._limit:
            self._entries.popitem(last=False)
        return embeddings

    def keep(self, content: str, crop: Crop) -> None:
        """Write a crop's embeddings to disk, if they are still in memory."""
        key = self._key(content, crop)
        if self._folder is not None and key in self._entries:
            self._folder.write(key, self._predictor.parts_of(self._entries[key][0]))

    @property
    def held_bytes(self) -> int:
        """Bytes of the embeddings in memory."""
        return sum(size for _, size in self._entries.values())

    def _key(self, content: str, crop: Crop) -> str:
        seen = (crop.centre, crop.side_mm, crop.slices, crop.spacing, crop.shape, crop.pixels, crop.cells)
        # The digest is not enough: the name also stands for the normalisation of the input.
        model = (self._predictor.name, self._predictor.digest, self._predictor.device)
        known = json.dumps([_FORMAT, content, *model, *seen], default=float)
        return hashlib.blake2b(known.encode(), digest_size=20).hexdigest()
