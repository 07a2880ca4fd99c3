"""The size that a compressed frame states is compared with the data set before anything is decoded."""

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
from tests.support.encoders import LOSSLESS, LOSSY, claiming, many_precincts, smooth_series
from uair_node.dicom.codestreams import require_matching_codestreams
from uair_node.dicom.decoding import WHOLE_CELLS_IN_FRAMES
from uair_node.dicom.volume import read_series

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
    dataset.PixelData = encapsulate([claiming(frame, 12_000, 12_000)])
    dataset.save_as(paths[0])
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(dataset)
    with pytest.raises(InputError) as refused:
        read_series(paths)
    assert refused.value.code == "undecodable-pixels"


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


@pytest.mark.parametrize("syntax", [JPEG2000, HTJ2KLossless])
def test_jpeg_2000_frames_with_very_many_precincts_are_refused(syntax: UID) -> None:
    for exponent in (1, 5, 7, 15):
        require_matching_codestreams(_image(syntax, many_precincts(256, exponent), 256, 256))
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(_image(syntax, many_precincts(512, 0), 512, 512))
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(_image(syntax, many_precincts(2048, 2), 2048, 2048))
    tile = many_precincts(512, 15).partition(b"\xff\x90")
    coding = b"\xff\x52\x00\x0d\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00"
    hidden = tile[0] + b"\xff\x90" + tile[2][:10] + coding + tile[2][10:]  # in the tile's own header
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(_image(syntax, hidden, 512, 512))


def test_the_codestream_within_a_jp2_file_is_the_one_that_counts() -> None:
    signature = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
    decoy = struct.pack(">L4s", 8 + 51, b"uuid") + _siz(512, 512)[:51].ljust(51, b"\0")
    honest = signature + decoy + struct.pack(">L4s", 0, b"jp2c") + _siz(512, 512)
    require_matching_codestreams(_image(JPEG2000, honest, 512, 512))
    lying = signature + decoy + struct.pack(">L4s", 0, b"jp2c") + _siz(16_000, 16_000)
    with pytest.raises(ValueError, match="states another size"):
        require_matching_codestreams(_image(JPEG2000, lying, 512, 512))


@pytest.mark.parametrize(("side", "samples"), [(16_000, 1), (4096, 2), (1, 1 << 25)])
@pytest.mark.parametrize("syntax", [JPEG2000, JPEGLSLossless, JPEGLosslessSV1, RLELossless])
def test_a_frame_of_more_than_16_million_samples_is_refused(syntax: UID, side: int, samples: int) -> None:
    image = _image(syntax, b"\0\0", side, side)
    image.SamplesPerPixel = samples
    with pytest.raises(ValueError, match="too many pixels"):
        require_matching_codestreams(image)


def test_an_extended_offset_table_that_names_bytes_many_times_is_refused() -> None:
    """A hundred thousand entries, each of which is the whole frame, would copy it as often."""
    frame = _siz(512, 512)
    image = _image(JPEG2000, frame, 512, 512)
    image.ExtendedOffsetTable = bytes(8)
    image.ExtendedOffsetTableLengths = struct.pack("<Q", len(frame))
    require_matching_codestreams(image)
    image.ExtendedOffsetTable = bytes(8 * 100_000)
    image.ExtendedOffsetTableLengths = struct.pack("<Q", len(frame)) * 100_000
    with pytest.raises(ValueError, match="more bytes than there are"):
        require_matching_codestreams(image)


def test_an_rle_frame_that_expands_without_bound_is_refused() -> None:
    header = struct.pack("<16L", 1, 64, *[0] * 14)
    require_matching_codestreams(_image(RLELossless, header + b"\x81\0" * 32, 64, 64))
    with pytest.raises(ValueError, match="longer than any encoder"):
        require_matching_codestreams(_image(RLELossless, header + b"\x81\0" * 5000, 64, 64))
