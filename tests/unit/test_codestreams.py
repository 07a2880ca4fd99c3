"""What a compressed frame states of its size is compared with the data set, and nothing is decoded before."""

from __future__ import annotations

import struct
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_config.errors import InputError
from tests.unit.test_transfer_syntaxes import LOSSLESS, LOSSY, smooth_series
from uair_node.codestreams import require_matching_codestreams
from uair_node.decoding import WHOLE_CELLS_IN_FRAMES
from uair_node.volume import read_series

_ENCODERS = {**LOSSLESS, **LOSSY}
_WITHOUT = (RLELossless, *WHOLE_CELLS_IN_FRAMES)
_WITH_SIZE = [
    syntax
    for syntax in _ENCODERS
    if syntax.is_compressed and not syntax.is_deflated and syntax not in _WITHOUT
]


@pytest.mark.parametrize("syntax", _WITH_SIZE, ids=lambda syntax: syntax.keyword)
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(tmp_path: Path, syntax: UID) -> None:
    paths, _ = smooth_series(tmp_path)
    for path in paths:
        _ENCODERS[syntax](path)
    dataset = pydicom.dcmread(paths[0])
    require_matching_codestreams(dataset)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([_claiming(frame, 12_000)])
    dataset.save_as(paths[0])
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(dataset)
    with pytest.raises(InputError) as refused:
        read_series(paths)
    assert refused.value.code == "undecodable-pixels"


def _claiming(frame: bytes, side: int) -> bytes:
    """The same frame, stating that it is a square of another side."""
    changed = bytearray(frame)
    if frame.startswith(b"\xff\x4f"):
        struct.pack_into(">LL", changed, 8, side, side)
        struct.pack_into(">LL", changed, 24, side, side)
        return bytes(changed)
    marker = next(
        at for at in range(len(frame)) if frame[at] == 0xFF and frame[at + 1] in {0xC0, 0xC1, 0xC3, 0xF7}
    )
    struct.pack_into(">HH", changed, marker + 5, side, side)
    return bytes(changed)


def _image(syntax: UID, frame: bytes, rows: int, columns: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.Rows, image.Columns, image.SamplesPerPixel, image.BitsAllocated = rows, columns, 1, 8
    image.PixelData = encapsulate([frame])
    return image


def _siz(side: int, tile: int) -> bytes:
    sizes = struct.pack(">H8LH", 0, side, side, 0, 0, tile, tile, 0, 0, 1)
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(sizes) + 5) + sizes + b"\x07\x01\x01"


@pytest.mark.parametrize("syntax", [JPEG2000, JPEG2000Lossless, HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL])
def test_jpeg_2000_frames_with_very_many_tiles_are_refused(syntax: UID) -> None:
    require_matching_codestreams(_image(syntax, _siz(512, 512), 512, 512))
    for tile in (1, 0):
        with pytest.raises(ValueError, match="states another size"):
            require_matching_codestreams(_image(syntax, _siz(512, tile), 512, 512))


def test_the_codestream_within_a_jp2_file_is_the_one_that_counts() -> None:
    signature = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
    decoy = struct.pack(">L4s", 8 + 51, b"uuid") + _siz(512, 512)[:51].ljust(51, b"\0")
    honest = signature + decoy + struct.pack(">L4s", 0, b"jp2c") + _siz(512, 512)
    require_matching_codestreams(_image(JPEG2000, honest, 512, 512))
    lying = signature + decoy + struct.pack(">L4s", 0, b"jp2c") + _siz(16_000, 16_000)
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(_image(JPEG2000, lying, 512, 512))


@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSLossless, JPEGLosslessSV1, RLELossless])
def test_a_frame_of_more_than_16_million_pixels_is_refused(syntax: UID) -> None:
    with pytest.raises(ValueError, match="too many pixels"):
        require_matching_codestreams(_image(syntax, b"\0\0", 16_000, 16_000))


def test_an_rle_frame_that_expands_without_bound_is_refused() -> None:
    header = struct.pack("<16L", 1, 64, *[0] * 14)
    require_matching_codestreams(_image(RLELossless, header + b"\x81\0" * 32, 64, 64))
    with pytest.raises(ValueError, match="longer than any encoder"):
        require_matching_codestreams(_image(RLELossless, header + b"\x81\0" * 5000, 64, 64))
