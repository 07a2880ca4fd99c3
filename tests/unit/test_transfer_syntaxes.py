"""Every transfer syntax that the node offers is decoded, from files that real encoders wrote."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from dicom_config.contexts import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED, transfer_syntaxes
from dicom_config.errors import InputError
from dicom_config.model import GateSection
from tests.support.enhanced import write_enhanced_ct
from tests.support.series import affine_of, edit, good_series
from tests.support.server import need
from uair_node.intake.gate import inspect_series
from uair_node.intake.headers import read_headers
from uair_node.volume import read_geometry, read_series, read_slice
from workers.training.ct_series import write_ct_series

Encode = Callable[[Path], None]


def _by_dcmtk(program: str, *options: str) -> Encode:
    def encode(path: Path) -> None:
        (found,) = need(program)
        subprocess.run([found, *options, path, path], check=True, capture_output=True, timeout=60)

    return encode


def _in_8_bits(then: Encode) -> Encode:
    """JPEG Baseline holds 8 bits: such a CT exists as a secondary reconstruction."""

    def encode(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        dataset.PixelData = ((dataset.pixel_array + 8) // 16).astype(np.uint8).tobytes()
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.RescaleSlope = 16
        dataset.save_as(path, enforce_file_format=True)
        then(path)

    return encode


def _by_pydicom(syntax: UID, **options: object) -> Encode:
    def encode(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, **options)
        dataset.save_as(path, enforce_file_format=True)

    return encode


def _by_openjph(syntax: UID, **options: object) -> Encode:
    def encode(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        stream = imagecodecs.htj2k_encode(dataset.pixel_array, **options)
        dataset.PixelData = encapsulate([stream])
        dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, enforce_file_format=True)

    return encode


def _frame_by_frame(syntax: UID, code: Callable[[bytes], bytes]) -> Encode:
    def encode(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        _put(dataset, syntax, [code(dataset.PixelData)])
        dataset.save_as(path, implicit_vr=False, little_endian=True)

    return encode


def _put(dataset: pydicom.Dataset, syntax: UID, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


LOSSLESS: dict[UID, Encode] = {
    ImplicitVRLittleEndian: _by_dcmtk("dcmconv", "+ti"),
    ExplicitVRLittleEndian: _by_dcmtk("dcmconv", "+te"),
    ExplicitVRBigEndian: _by_dcmtk("dcmconv", "+tb"),
    DeflatedExplicitVRLittleEndian: _by_dcmtk("dcmconv", "+td"),
    RLELossless: _by_dcmtk("dcmcrle"),
    JPEGLossless: _by_dcmtk("dcmcjpeg", "+el"),
    JPEGLosslessSV1: _by_dcmtk("dcmcjpeg", "+e1"),
    JPEGLSLossless: _by_dcmtk("dcmcjpls", "+el"),
    JPEG2000Lossless: _by_pydicom(JPEG2000Lossless),
    HTJ2KLossless: _by_openjph(HTJ2KLossless, reversible=True),
    HTJ2KLosslessRPCL: _by_openjph(HTJ2KLosslessRPCL, reversible=True),
    ENCAPSULATED_UNCOMPRESSED: _frame_by_frame(ENCAPSULATED_UNCOMPRESSED, bytes),
    DEFLATED_IMAGE_FRAME: _frame_by_frame(DEFLATED_IMAGE_FRAME, _deflate),
}
LOSSY: dict[UID, Encode] = {
    JPEGBaseline8Bit: _in_8_bits(_by_dcmtk("dcmcjpeg", "+eb")),
    JPEGExtended12Bit: _by_dcmtk("dcmcjpeg", "+ee"),
    JPEGLSNearLossless: _by_dcmtk("dcmcjpls", "+en", "+md", "2"),
    JPEG2000: _by_pydicom(JPEG2000, j2k_cr=[4]),
    HTJ2K: _by_openjph(HTJ2K, reversible=False, level=0.0005),
}


def smooth_series(folder: Path) -> tuple[list[Path], np.ndarray]:
    """A series that lossy codecs are made for: unsigned, 12 bits, no noise."""
    z, y, x = np.mgrid[0:3, 0:64, 0:48]
    hu = (400 * np.sin(x / 9) + 300 * np.cos(y / 7) + 20 * z).astype(np.int16)
    paths = write_ct_series(folder, hu, affine_of())
    for path in paths:
        stored = pydicom.dcmread(path).pixel_array.astype(np.int32)
        slope_1 = (stored - stored.min() if stored.min() < 0 else stored).astype(np.uint16)
        dataset = pydicom.dcmread(path)
        intercept = float(dataset.RescaleIntercept) + min(0, int(stored.min()))
        edit(path, PixelRepresentation=0, RescaleIntercept=str(intercept), PixelData=slope_1.tobytes())
        edit(path, BitsStored=12, HighBit=11)
    return paths, read_series(paths).array


def test_every_offered_syntax_has_a_test_and_none_is_missing() -> None:
    assert set(transfer_syntaxes()) == {*LOSSLESS, *LOSSY}


@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda uid: uid.keyword or uid)
def test_lossless_syntaxes_are_decoded_exactly(tmp_path: Path, syntax: UID) -> None:
    paths, hu = smooth_series(tmp_path)
    for path in paths:
        LOSSLESS[syntax](path)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_series(paths).array, hu)


@pytest.mark.parametrize("syntax", LOSSY, ids=lambda uid: uid.keyword)
def test_lossy_syntaxes_are_decoded_closely(tmp_path: Path, syntax: UID) -> None:
    paths, hu = smooth_series(tmp_path)
    for path in paths:
        LOSSY[syntax](path)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    error = np.abs(read_series(paths).array.astype(int) - hu)
    assert error.mean() < 12, "of 1400 HU; with 8 bits a step is 16 HU"
    assert error.max() < 60


@pytest.mark.parametrize(
    "syntax",
    [
        JPEGLosslessSV1,
        JPEGLSLossless,
        RLELossless,
        ExplicitVRBigEndian,
        ENCAPSULATED_UNCOMPRESSED,
        DEFLATED_IMAGE_FRAME,
    ],
)
def test_signed_pixels_are_decoded_exactly(tmp_path: Path, syntax: UID) -> None:
    hu = np.random.default_rng(0).integers(-1000, 1500, (2, 32, 40)).astype(np.int16)
    paths = write_ct_series(tmp_path, hu, affine_of())
    for path in paths:
        dataset = pydicom.dcmread(path)
        signed = dataset.pixel_array.astype(np.int32) + int(dataset.RescaleIntercept)
        edit(path, PixelRepresentation=1, BitsStored=16, HighBit=15, RescaleIntercept="0")
        edit(path, PixelData=signed.astype("<i2").tobytes())
        LOSSLESS[syntax](path)
    np.testing.assert_array_equal(np.sort(read_series(paths).array, axis=0), np.sort(hu, axis=0))


@pytest.mark.parametrize(
    ("syntax", "code"), [(ENCAPSULATED_UNCOMPRESSED, bytes), (DEFLATED_IMAGE_FRAME, _deflate)]
)
def test_each_frame_of_an_enhanced_ct_is_decoded_by_itself(
    tmp_path: Path, syntax: UID, code: Callable[[bytes], bytes]
) -> None:
    (path,) = write_enhanced_ct(tmp_path / "multi", good_series(tmp_path / "single"))
    whole = read_series([path]).array
    dataset = pydicom.dcmread(path)
    size = dataset.Rows * dataset.Columns * 2
    cells = dataset.PixelData
    _put(dataset, syntax, [code(cells[at : at + size]) for at in range(0, len(cells), size)])
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(read_series([path]).array, whole)
    np.testing.assert_array_equal(read_slice(read_geometry([path]), 5), whole[5])


@pytest.mark.parametrize(
    ("syntax", "frame", "named"),
    [
        (DEFLATED_IMAGE_FRAME, _deflate(bytes(1 << 24)), "Deflated Image Frame Compression"),
        (DEFLATED_IMAGE_FRAME, _deflate(bytes(100)), "Deflated Image Frame Compression"),
        (DEFLATED_IMAGE_FRAME, b"no deflate stream", "Deflated Image Frame Compression"),
        (ENCAPSULATED_UNCOMPRESSED, bytes(64 * 48 * 2 - 2), "Encapsulated Uncompressed"),
        (ENCAPSULATED_UNCOMPRESSED, bytes(64 * 48 * 2 + 2), "Encapsulated Uncompressed"),
    ],
)
def test_a_frame_of_another_length_is_refused_with_its_syntax(
    tmp_path: Path, syntax: UID, frame: bytes, named: str
) -> None:
    paths, _ = smooth_series(tmp_path)
    _frame_by_frame(syntax, lambda _: frame)(paths[0])
    with pytest.raises(InputError) as refused:
        read_series(paths)
    assert refused.value.code == "undecodable-pixels"
    assert named in refused.value.sentence


@pytest.mark.parametrize(
    ("syntax", "named"),
    [
        ("1.2.840.10008.1.2.4.102", "MPEG-4 AVC/H.264 High Profile / Level 4.1"),
        ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless"),
        ("1.3.6.1.4.1.99.7", "1.3.6.1.4.1.99.7"),
    ],
)
def test_a_syntax_that_nothing_decodes_is_refused_at_intake_by_name(
    tmp_path: Path, syntax: str, named: str
) -> None:
    paths = good_series(tmp_path)
    for path in paths:
        _frame_by_frame(UID(syntax), bytes)(path)
    verdict = inspect_series(read_headers(paths), GateSection())
    assert (verdict.refusal.code, verdict.may_complete) == ("undecodable-pixels", False)
    assert named in verdict.refusal.sentence
