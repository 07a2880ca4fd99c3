"""The pixel cells of an image's frames, decoded by pydicom's plug-ins or by this module.

This module decodes the two transfer syntaxes that the plug-ins do not support. It also reads files that lack
the delimiter after encapsulated pixel data. Parsers find no pixels in such files. This module does not
interpret pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels

from dicom_config.contexts import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from uair_node.dicom.codestreams import coded_frames

WHOLE_CELLS_IN_FRAMES = (ENCAPSULATED_UNCOMPRESSED, DEFLATED_IMAGE_FRAME)
"""Transfer syntaxes whose frames hold native pixel cells, each frame stored by itself (PS3.5 A.4.11, A.4.13).
"""


_ITEM = b"\xfe\xff\x00\xe0"
_SEQUENCE_END = b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
_PIXEL_DATA = (b"\xe0\x7f\x10\x00OB\x00\x00\xff\xff\xff\xff", b"\xe0\x7f\x10\x00OW\x00\x00\xff\xff\xff\xff")
"""The first bytes of the element Pixel Data if the pixel data are encapsulated (PS3.5 A.4)."""


def read_image(path: Path) -> Dataset:
    """Read a DICOM file with its pixels, even if the delimiter after the last complete fragment is missing.

    Raises
    ------
    ValueError
        The file ends within a fragment. `pydicom.dcmread` may raise other exceptions.
    """
    image: Dataset = dcmread(path)
    if "PixelData" in image:
        return image
    with path.open("rb") as file:
        dcmread(file, stop_before_pixels=True)  # the file's position is then at the pixel data
        start = file.tell()
    content = path.read_bytes()
    if content[start : start + len(_PIXEL_DATA[0])] not in _PIXEL_DATA:
        return image
    end = _end_of_fragments(content, start + len(_PIXEL_DATA[0]))
    ended: Dataset = dcmread(BytesIO(content[:end] + _SEQUENCE_END))
    return ended


def _end_of_fragments(content: bytes, at: int) -> int:
    """Return the offset at which the last fragment ends. Only zeros may follow it."""
    while content.startswith(_ITEM, at) and at + 8 <= len(content):
        at += 8 + struct.unpack_from("<L", content, at + 4)[0]
    if at > len(content) or content[at:].strip(b"\0"):
        raise ValueError("the file ends within a fragment of its pixel data")
    return at


def decode_frames(dataset: Dataset, first: int = 0) -> Iterator[npt.NDArray[Any]]:
    """Decode the frames of an image lazily, from index `first` (0-based) to the last frame.

    Yields
    ------
    numpy.ndarray
        ``(rows, columns)`` pixel cells as stored, one sample per pixel. No bit of a cell is masked.

    Raises
    ------
    ValueError
        The number of a frame's bytes differs from the header. Codecs may raise other exceptions.
    """
    if dataset.file_meta.TransferSyntaxUID in WHOLE_CELLS_IN_FRAMES:
        return (_cells(dataset, frame) for frame in islice(coded_frames(dataset), first, None))
    indices = range(first, int(dataset.get("NumberOfFrames") or 1)) if first else None
    return iter_pixels(dataset, indices=indices, correct_unused_bits=False)


def _cells(dataset: Dataset, frame: bytes) -> npt.NDArray[Any]:
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or int(dataset.BitsAllocated) not in (8, 16, 32):
        raise ValueError("the pixels are not integers with one sample each")
    kind = "i" if dataset.get("PixelRepresentation") else "u"
    cell = np.dtype(f"<{kind}{int(dataset.BitsAllocated) // 8}")
    size = int(dataset.Rows) * int(dataset.Columns) * cell.itemsize
    if dataset.file_meta.TransferSyntaxUID == DEFLATED_IMAGE_FRAME:
        frame = _inflate(frame, size)
    elif len(frame) == size + size % 2:
        frame = frame[:size]  # a frame of odd length is padded
    if len(frame) != size:
        raise ValueError("the size of a frame in bytes differs from the header")
    return np.frombuffer(frame, cell).reshape(int(dataset.Rows), int(dataset.Columns))


def _inflate(frame: bytes, size: int) -> bytes:
    """Inflate a frame (RFC 1951, PS3.5 8.2.16). Stop after `size` + 1 bytes: the frame is then too long."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, size + 1)
