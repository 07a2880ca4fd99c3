"""Compare the sizes in compressed frames with the size in the data set, before the frames are decoded.

A decoder allocates memory for the size in the codestream, not for the size in the data set. A codestream of
7 KB can state a size of gigabytes. This module does not interpret pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

MOST_PIXELS = 1 << 24
"""The largest product of rows, columns and samples per pixel of a frame: 4096 x 4096."""
_MOST_TILES = 4096
"""The largest number of tiles of a JPEG 2000 frame. A decoder keeps several kilobytes for each tile."""
_MOST_PRECINCTS = 1 << 16
"""The largest number of precincts of a JPEG 2000 frame. A decoder keeps about 600 bytes for each precinct."""

_Size = tuple[int, int, int]
"""Rows, columns, samples."""

_START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""The second byte of the SOF markers (ISO 10918-1 Table B.1; ISO 14495-1 C.2.2 for 0xF7, SOF55)."""
_END_OF_IMAGE = b"\xff\xd9"
_PADDING_BYTES = 16
"""The last bytes of a frame that must contain the end marker. Writers may add padding after the marker."""
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"
_COD, _COC, _SOT, _SOD, _EOC = 0x52, 0x53, 0x90, 0x93, 0xD9
"""The second byte of some JPEG 2000 markers (ISO 15444-1 Table A.2)."""


def require_matching_codestreams(dataset: Dataset) -> None:
    """Refuse pixel data if its decoded size would differ from the size in the data set.

    Raises
    ------
    ValueError
        A frame's own header contradicts Rows, Columns or Samples per Pixel. A JPEG or JPEG-LS frame lacks its
        end: decoders would silently fill the missing pixels with grey. A frame exceeds a limit of this
        module. Two frames of the offset table share bytes.
    """
    size = (int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel") or 1))
    if size[0] * size[1] * size[2] > MOST_PIXELS:
        raise ValueError("a frame has too many pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        # An RLE segment of n bytes decodes to at most 64 n bytes (PS3.5 G.3.1). A frame needs at most `most`.
        most = 64 + (2 * size[0] * size[1] + 64) * size[2] * (int(dataset.BitsAllocated) // 8 or 1)
        if any(len(frame) > most for frame in coded_frames(dataset)):
            raise ValueError("an RLE frame is longer than any encoder makes it")
    elif syntax in _READERS and any(_READERS[syntax](frame) != size for frame in coded_frames(dataset)):
        raise ValueError("a codestream states another size than the data set")
    if syntax in _MARKED_END and not all(_has_end(frame) for frame in coded_frames(dataset)):
        raise ValueError("a codestream ends before its end marker")


def coded_frames(dataset: Dataset) -> Iterator[bytes]:
    """Yield the coded bytes of each frame of encapsulated pixel data, its fragments joined (PS3.5 A.4)."""
    number = int(dataset.get("NumberOfFrames") or 1)
    return generate_frames(
        dataset.PixelData, number_of_frames=number, extended_offsets=_extended_offsets(dataset)
    )


def _extended_offsets(dataset: Dataset) -> tuple[bytes, bytes] | None:
    """Return the extended offset table as the decoder uses it (PS3.3 C.7.6.3.1.8)."""
    if "ExtendedOffsetTable" not in dataset or "ExtendedOffsetTableLengths" not in dataset:
        return None
    offsets, lengths = dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths
    if sum(struct.unpack_from(f"<{len(lengths) // 8}Q", lengths)) > len(dataset.PixelData):
        raise ValueError("the extended offset table names more bytes than there are")
    return offsets, lengths


def _has_end(frame: bytes) -> bool:
    """Return whether a JPEG or JPEG-LS frame has its end marker.

    Coded samples never contain the two bytes of this marker.
    """
    return _END_OF_IMAGE in frame[-_PADDING_BYTES:]


def _jpeg_size(frame: bytes) -> _Size | None:
    """Return the size in the first SOF marker segment (ISO 10918-1 B.2.2); None without such a segment."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker, (length,) = frame[at + 1], struct.unpack_from(">H", frame, at + 2)
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _START_OF_FRAME:
            _, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return rows, columns, samples
        else:
            at += 2 + length
    return None


def _jpeg_2000_size(frame: bytes) -> _Size | None:
    """Return the size in the SIZ marker segment (ISO 15444-1 A.5.1).

    The result is None if there is no such segment, or if the frame has too many tiles or precincts.
    """
    at = _codestream(frame) if frame.startswith(_JP2_SIGNATURE) else 0
    if frame[at : at + 4] != _START_OF_CODESTREAM:
        return None
    right, bottom, left, top, width, height, first_x, first_y, samples = struct.unpack_from(
        ">8LH", frame, at + 8
    )
    if not (width and height):
        return None
    tiles = -(-(right - first_x) // width) * -(-(bottom - first_y) // height)
    size = (bottom - top, right - left, samples)
    few = 0 < tiles <= _MOST_TILES and _most_precincts(frame, at, size, samples) <= _MOST_PRECINCTS
    return size if few else None


def _most_precincts(frame: bytes, at: int, size: _Size, samples: int) -> int:
    """Return the most precincts that a coding style of the frame gives (ISO 15444-1 A.6.1, A.6.2)."""
    most, position, tile_part_end = 0, at + 2, 0
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker, (length,) = frame[position + 1], struct.unpack_from(">H", frame, position + 2)
        begin = position
        position += 2 + length
        if marker == _EOC:
            break
        if marker == _SOT:
            (part,) = struct.unpack_from(">L", frame, begin + 6)
            tile_part_end = begin + part if part else len(frame)
        elif marker == _SOD:
            position = max(tile_part_end, begin + 2)
        elif marker in (_COD, _COC):
            style = begin + 4 if marker == _COD else begin + (5 if samples < 257 else 6)
            if frame[style] & 1:
                levels = style + (5 if marker == _COD else 1)
                exponents = frame[levels + 5 : begin + 2 + length]
                most = max(most, samples * _count_precincts(size, frame[levels], exponents))
    return most


def _count_precincts(size: _Size, levels: int, exponents: bytes) -> int:
    """Count the precincts of all resolution levels.

    `exponents` has one byte for each level, the lowest first. Each byte has the exponents of a precinct's
    width and height.
    """
    total = 0
    for resolution, both in enumerate(exponents[: levels + 1]):
        shrunk = max(levels - resolution, 0)
        rows, columns = (size[0] >> shrunk) + 1, (size[1] >> shrunk) + 1
        total += ((rows >> (both >> 4)) + 1) * ((columns >> (both & 15)) + 1)
    return total


def _codestream(frame: bytes) -> int:
    """Return the offset of the codestream in a JP2 file (ISO 15444-1 I.4). Some systems send JP2 files."""
    at = 0
    while at + 16 <= len(frame):
        length, kind = struct.unpack_from(">L4s", frame, at)
        head = 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", frame, at + 8)
            head = 16
        if kind == b"jp2c":
            return at + head
        if length < head:
            break
        at += length
    return len(frame)


_MARKED_END = frozenset(
    (
        JPEGBaseline8Bit,
        JPEGExtended12Bit,
        JPEGLossless,
        JPEGLosslessSV1,
        JPEGLSLossless,
        JPEGLSNearLossless,
    )
)
"""Transfer syntaxes whose decoders accept a truncated frame.

Decoders of JPEG 2000 refuse such a frame.
"""

_READERS: Mapping[str, Callable[[bytes], _Size | None]] = {
    **dict.fromkeys(_MARKED_END, _jpeg_size),
    **dict.fromkeys((JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL), _jpeg_2000_size),
}
