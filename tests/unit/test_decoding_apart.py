"""A child with limits decodes a peer's objects: the same frames, and no fault of a codec reaches us."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, JPEG2000Lossless, RLELossless

from dicom_config.errors import ResourceError
from tests.support.encoders import LOSSLESS, LOSSY, many_precincts, smooth_series
from uair_node.dicom import decoding_apart
from uair_node.dicom.decoding import decode_frames
from uair_node.dicom.decoding_apart import DecoderEndedError, decode_apart

_ENCODERS = {**LOSSLESS, **LOSSY}


@pytest.fixture(scope="module")
def slice_(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smooth_series(tmp_path_factory.mktemp("ct"))[0][0]


def _in(syntax: UID, slice_: Path, folder: Path) -> Dataset:
    path = folder / "image.dcm"
    path.write_bytes(slice_.read_bytes())
    _ENCODERS[syntax](path)
    return pydicom.dcmread(path)


@pytest.mark.parametrize("syntax", _ENCODERS, ids=lambda uid: uid.keyword or uid)
def test_frames_are_those_of_the_same_process(tmp_path: Path, slice_: Path, syntax: UID) -> None:
    image = _in(syntax, slice_, tmp_path)
    with decode_apart(image) as frames:
        np.testing.assert_array_equal(list(frames), list(decode_frames(image)))


def test_several_frames_come_one_after_the_other(tmp_path: Path, slice_: Path) -> None:
    image = _in(JPEG2000Lossless, slice_, tmp_path)
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData, image.NumberOfFrames = encapsulate([frame] * 40), 40
    with decode_apart(image) as frames:
        assert np.array_equal(next(frames), next(frames))  # and the rest is never asked for
    with decode_apart(image) as frames:
        assert len(list(frames)) == 40


def test_a_damaged_frame_is_an_error_after_those_before_it(tmp_path: Path, slice_: Path) -> None:
    image = _in(RLELossless, slice_, tmp_path)
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData, image.NumberOfFrames = encapsulate([frame, frame[:70]]), 2
    with decode_apart(image) as frames:
        next(frames)
        with pytest.raises(DecoderEndedError):
            next(frames)


def test_a_codec_that_wants_gigabytes_ends_the_child_alone(tmp_path: Path, slice_: Path) -> None:
    image = _in(JPEG2000Lossless, slice_, tmp_path)
    image.Rows = image.Columns = 4096
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelData = encapsulate([many_precincts(4096, 0)])
    with decode_apart(image) as frames, pytest.raises(DecoderEndedError):
        list(frames)


def test_the_child_ends_when_its_time_is_over(
    tmp_path: Path, slice_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _in(JPEG2000Lossless, slice_, tmp_path)
    monkeypatch.setattr(decoding_apart, "MOST_WALL_S", 0.0)
    with decode_apart(image) as frames, pytest.raises(DecoderEndedError):
        list(frames)


def test_the_child_ends_when_its_time_of_computing_is_used_up(
    tmp_path: Path, slice_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _in(RLELossless, slice_, tmp_path)
    image.Rows = image.Columns = 4096
    runs = b"\x00\x01" * (4096 * 4096)  # a run for each pixel
    frame = struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + runs + runs
    image.PixelData, image.NumberOfFrames = encapsulate([frame] * 4), 4
    monkeypatch.setattr(decoding_apart, "MOST_CPU_S", 1)
    with decode_apart(image) as frames, pytest.raises(DecoderEndedError):
        list(frames)


def test_a_machine_that_starts_no_process_is_no_fault_of_the_object(
    tmp_path: Path, slice_: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = _in(RLELossless, slice_, tmp_path)
    monkeypatch.setattr(decoding_apart.sys, "executable", str(tmp_path / "absent"))
    with pytest.raises(ResourceError) as caught, decode_apart(image):
        pass
    assert caught.value.code == "decoder-not-started"
