"""The pixel cells of an image's frames: decoded by pydicom's plug-ins, or here where these know no codec.

This module must not know what the cells mean.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from dicom_config.contexts import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from uair_node.codestreams import coded_frames

WHOLE_CELLS_IN_FRAMES = (ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME)
"""Transfer syntaxes whose frames are native pixel cells, each frame by itself (PS3.5 A.4.11, A.4.13)."""


def decode_frames(dataset: Dataset, first: int = 0) -> Iterator[npt.NDArray[Any]]:
    """Decode the frames of an image from `first`, an index, to the last one, each when it is asked for.

    Yields
    ------
    numpy.ndarray
        Pixel cells as they are coded, ``(rows, columns)`` of one sample; all bits of the cell are kept.

    Raises
    ------
    ValueError
        A frame has not the bytes that the header says. Codecs raise what they like.
    """
    if dataset.file_meta.TransferSyntaxUID in WHOLE_CELLS_IN_FRAMES:
        return (_cells(dataset, frame) for frame in islice(coded_frames(dataset), first, None))
    indices = range(first, int(dataset.get("NumberOfFrames") or 1)) if first else None
    return iter_pixels(dataset, indices=indices, correct_unused_bits=False)


def _cells(dataset: Dataset, frame: bytes) -> npt.NDArray[Any]:
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or int(dataset.BitsAllocated) not in (8, 16, 32):
        raise ValueError("the pixel cells are no whole numbers of one sample")
    kind = "i" if dataset.get("PixelRepresentation") else "u"
    cell = np.dtype(f"<{kind}{int(dataset.BitsAllocated) // 8}")
    size = int(dataset.Rows) * int(dataset.Columns) * cell.itemsize
    if dataset.file_meta.TransferSyntaxUID == DEFLATED_IMAGE_FRAME:
        frame = _inflate(frame, size)
    elif len(frame) == size + size % 2:
        frame = frame[:size]  # a frame of odd length is padded
    if len(frame) != size:
        raise ValueError("a frame has not as many bytes as the header says")
    return np.frombuffer(frame, cell).reshape(int(dataset.Rows), int(dataset.Columns))


def _inflate(frame: bytes, size: int) -> bytes:
    """Inflate a frame (RFC 1951, PS3.5 8.2.16) to one byte more than `size` at most."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size + 1)
