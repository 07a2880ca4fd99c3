"""Every transfer syntax that the node offers is decoded, from files that real encoders wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_config.contexts import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED, transfer_syntaxes
from dicom_config.errors import InputError
from dicom_config.model import GateSection
from tests.support.encoders import LOSSLESS, LOSSY, deflate, frame_by_frame, put_frames, smooth_series
from tests.support.enhanced import write_enhanced_ct
from tests.support.series import affine_of, edit, good_series
from uair_node.dicom.gate import inspect_series
from uair_node.dicom.headers import read_headers
from uair_node.dicom.volume import read_geometry, read_series, read_slice
from workers.phantoms.ct_series import write_ct_series


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
    ("syntax", "code"), [(ENCAPSULATED_UNCOMPRESSED, bytes), (DEFLATED_IMAGE_FRAME, deflate)]
)
def test_each_frame_of_an_enhanced_ct_is_decoded_by_itself(
    tmp_path: Path, syntax: UID, code: Callable[[bytes], bytes]
) -> None:
    (path,) = write_enhanced_ct(tmp_path / "multi", good_series(tmp_path / "single"))
    whole = read_series([path]).array
    dataset = pydicom.dcmread(path)
    size = dataset.Rows * dataset.Columns * 2
    cells = dataset.PixelData
    put_frames(dataset, syntax, [code(cells[at : at + size]) for at in range(0, len(cells), size)])
    dataset.save_as(path, implicit_vr=False, little_endian=True)
    np.testing.assert_array_equal(read_series([path]).array, whole)
    np.testing.assert_array_equal(read_slice(read_geometry([path]), 5), whole[5])


@pytest.mark.parametrize(
    ("syntax", "frame", "named"),
    [
        (DEFLATED_IMAGE_FRAME, deflate(bytes(1 << 24)), "Deflated Image Frame Compression"),
        (DEFLATED_IMAGE_FRAME, deflate(bytes(100)), "Deflated Image Frame Compression"),
        (DEFLATED_IMAGE_FRAME, b"no deflate stream", "Deflated Image Frame Compression"),
        (ENCAPSULATED_UNCOMPRESSED, bytes(64 * 48 * 2 - 2), "Encapsulated Uncompressed"),
        (ENCAPSULATED_UNCOMPRESSED, bytes(64 * 48 * 2 + 2), "Encapsulated Uncompressed"),
    ],
)
def test_a_frame_of_another_length_is_refused_with_its_syntax(
    tmp_path: Path, syntax: UID, frame: bytes, named: str
) -> None:
    paths, _ = smooth_series(tmp_path)
    frame_by_frame(syntax, lambda _: frame)(paths[0])
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
        frame_by_frame(UID(syntax), bytes)(path)
    verdict = inspect_series(read_headers(paths), GateSection())
    assert (verdict.refusal.code, verdict.may_complete) == ("undecodable-pixels", False)
    assert named in verdict.refusal.sentence
