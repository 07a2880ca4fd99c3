"""Hostile variants of images with coded pixels: codestreams, headers about them, fragments, offsets."""

from __future__ import annotations

import random
import struct
import zlib
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.fuzz.mutate import mutated
from tests.support.encoders import claiming
from uair_node.dicom.codestreams import coded_frames

_SIZES = (0, 1, 2, 63, 512, 1024, 2048, 4096, 12_000, 0xFFFF)
_HEADER = {
    "Rows": _SIZES,
    "Columns": _SIZES,
    "NumberOfFrames": (0, 1, 2, 4, 10_000, 1 << 30, -1),
    "SamplesPerPixel": (0, 1, 3, 4, 0xFFFF),
    "BitsAllocated": (0, 1, 8, 12, 16, 32, 64),
    "BitsStored": (0, 1, 8, 12, 16, 17, 32),
    "HighBit": (0, 7, 11, 15, 31),
    "PixelRepresentation": (0, 1, 2),
    "PlanarConfiguration": (0, 1),
    "PhotometricInterpretation": ("MONOCHROME2", "RGB", "YBR_FULL", "YBR_ICT", "PALETTE COLOR"),
}
_OFFSETS = (0, 1, 8, 0x7FFFFFFF, 0xFFFFFFFF)
_MOST_ZEROS = 127 << 20


def mutated_pixels(seed: bytes, chooser: random.Random) -> bytes:
    """Return a variant of a valid image with a fault in its pixels or in the attributes about them."""
    image = pydicom.dcmread(BytesIO(seed))
    syntax = image.file_meta.TransferSyntaxUID
    try:
        frames = list(coded_frames(image)) if syntax.is_encapsulated else [bytes(image.PixelData)]
        for _ in range(chooser.choice((1, 1, 2, 3))):
            frames = _spoiled(image, frames, chooser)
        image.PixelData = _put_together(image, frames, chooser) if syntax.is_encapsulated else frames[0]
        buffer = BytesIO()
        if syntax == DeflatedExplicitVRLittleEndian:
            return _deflated(image, chooser)
        image.save_as(buffer, enforce_file_format=True)
    except Exception:
        # The writer refuses some contents. Such inputs become broken bytes instead.
        return mutated(seed, chooser)
    return buffer.getvalue()


def _spoiled(image: Dataset, frames: list[bytes], chooser: random.Random) -> list[bytes]:
    """Return the frames with one fault, or put one fault into the header."""
    kind = chooser.randrange(8)
    if kind == 0:
        keyword = chooser.choice(list(_HEADER))
        setattr(image, keyword, chooser.choice(_HEADER[keyword]))
        return frames
    if kind == 1 and frames:  # header and codestream have the same wrong size
        image.Rows, image.Columns = chooser.choice(_SIZES), chooser.choice(_SIZES)
        return [_claiming(frame, image.Rows, image.Columns) for frame in frames]
    if kind == 2:
        return chooser.sample(frames, chooser.randrange(len(frames) + 1)) + frames[:1] * chooser.randrange(3)
    if not frames:
        return [chooser.randbytes(20)]
    at = chooser.randrange(len(frames))
    return [*frames[:at], _broken(frames[at], kind, chooser), *frames[at + 1 :]]


def _claiming(frame: bytes, rows: int, columns: int) -> bytes:
    try:
        return claiming(frame, rows, columns)
    except (StopIteration, IndexError, struct.error):
        return frame


def _broken(frame: bytes, kind: int, chooser: random.Random) -> bytes:
    data = bytearray(frame)
    if kind == 3 or not data:
        return bytes(data[: chooser.randrange(len(data) + 1)])
    if kind == 4:
        return frame + chooser.randbytes(chooser.choice((1, 2, 100)))
    for _ in range(chooser.choice((1, 2, 8, 64))):
        # Half of the faults are in the headers of the codestream.
        at = chooser.randrange(min(len(data), 120) if kind == 5 else len(data))
        data[at] = chooser.choice((0, 1, 0x7F, 0xFF, data[at] ^ 1 << chooser.randrange(8)))
    return bytes(data)


def _put_together(image: Dataset, frames: list[bytes], chooser: random.Random) -> bytes:
    """Return the frames as fragments with an offset table. There may be one fault (PS3.5 A.4)."""
    kind = chooser.randrange(7)
    if kind == 0:
        return encapsulate(frames, has_bot=True)
    if kind == 1:
        return encapsulate(frames, has_bot=False)
    if kind == 2:
        _extend_offsets(image, frames, chooser)
        return encapsulate(frames, has_bot=False)
    if kind == 3:
        return encapsulate(frames, fragments_per_frame=chooser.randint(2, 4))
    table = b"".join(struct.pack("<L", _offset(chooser)) for _ in range(chooser.choice((0, 1, 3, 1000))))
    pieces = [piece for frame in frames for piece in _cut(frame, chooser)]
    items = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(piece)) + piece for piece in pieces)
    if kind == 4:
        items = items[: chooser.randrange(len(items) + 1)]
    return b"\xfe\xff\x00\xe0" + struct.pack("<L", len(table)) + table + items


def _extend_offsets(image: Dataset, frames: list[bytes], chooser: random.Random) -> None:
    """Add an extended offset table that is right, too long, or has invalid offsets (C.7.6.3.1.8)."""
    count = chooser.choice((len(frames), 1, 5000))
    known = [sum(len(frame) + 8 for frame in frames[:n]) for n in range(len(frames))]
    offsets = [
        known[n] if n < len(known) and chooser.random() < 0.7 else _offset(chooser) for n in range(count)
    ]
    lengths = [len(frames[n]) if n < len(frames) else _offset(chooser) for n in range(count)]
    image.ExtendedOffsetTable = struct.pack(f"<{count}Q", *offsets)
    if chooser.random() < 0.9:
        image.ExtendedOffsetTableLengths = struct.pack(f"<{count}Q", *lengths)


def _offset(chooser: random.Random) -> int:
    return chooser.choice((*_OFFSETS, chooser.randrange(4000)))


def _cut(frame: bytes, chooser: random.Random) -> list[bytes]:
    """Cut a frame into fragments, some of them empty."""
    places = sorted(chooser.randrange(len(frame) + 1) for _ in range(chooser.choice((0, 1, 5, 50))))
    return [frame[a:b] for a, b in zip([0, *places], [*places, len(frame)], strict=True)]


def _deflated(image: Dataset, chooser: random.Random) -> bytes:
    """Return the image in a deflate stream: whole, truncated, broken, or with very many zeros (PS3.5 A.5)."""
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = _split(image)[1]
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if chooser.random() < 0.02:
        data += _zeros(int(_MOST_ZEROS ** chooser.random()))
    packer = zlib.compressobj(chooser.choice((0, 1, 9)), wbits=-zlib.MAX_WBITS)
    stream = bytearray(packer.compress(data) + packer.flush())
    kind = chooser.randrange(4)
    if kind == 0:
        del stream[chooser.randrange(len(stream)) :]
    elif kind == 1:
        stream[chooser.randrange(len(stream))] ^= 1 << chooser.randrange(8)
    elif kind == 2:
        stream += chooser.randbytes(9)
    return _split(image)[0] + bytes(stream)


def _zeros(count: int) -> bytes:
    """Return a private element of `count` zeros."""
    return b"\xe1\x7f\x10\x10OB\x00\x00" + struct.pack("<L", count & ~1) + bytes(count & ~1)


def _split(image: Dataset) -> tuple[bytes, bytes]:
    """Return the image's file: preamble with file meta information (PS3.10 7.1), and the rest."""
    buffer = BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    at = 144 + struct.unpack_from("<L", data, 140)[0]
    return data[:at], data[at:]
