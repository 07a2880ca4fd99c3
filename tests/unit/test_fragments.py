"""Encapsulated pixel data that is not as PS3.5 A.4 wants it is decoded exactly, or refused with a code."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless

from dicom_config.errors import InputError
from tests.support.enhanced import write_enhanced_ct
from tests.support.intake import context_in, received
from tests.support.series import affine_of, compress, good_series, noise_hu
from tests.unit.test_transfer_syntaxes import LOSSLESS, LOSSY, smooth_series
from uair_node.cases.tables import Instance
from uair_node.dicom.volume import read_geometry, read_series, read_slice
from uair_node.intake.inbox import Inbox
from workers.phantoms.ct_series import write_ct_series

ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
SYNTAXES = [RLELossless, JPEG2000Lossless, JPEGLSLossless]
ENCODERS = {**LOSSLESS, **LOSSY}
CODED = [syntax for syntax in ENCODERS if syntax.is_encapsulated]
Change = Callable[[bytes], bytes]


def _end(file: bytes) -> int:
    return file.rfind(END)


def _last_fragment(file: bytes) -> int:
    return file.rfind(ITEM, 0, _end(file))


def _length(change: Callable[[int], int]) -> Change:
    def changed(file: bytes) -> bytes:
        at = _last_fragment(file) + 4
        (length,) = struct.unpack_from("<L", file, at)
        return file[:at] + struct.pack("<L", change(length)) + file[at + 4 :]

    return changed


def _without_end(change: Change) -> Change:
    return lambda file: change(file)[: _end(file)]


DECODED: dict[str, Change] = {
    "no-delimiter": lambda file: file[: _end(file)],
    "half-a-delimiter": lambda file: file[: _end(file) + 4],
    "delimiter-of-six-bytes": lambda file: file[: _end(file) + 6],
    "zeros-for-a-delimiter": lambda file: file[: _end(file)] + bytes(10),
    "zeros-behind-the-delimiter": lambda file: file + bytes(6),
    "last-fragment-too-long-by-its-length": _length(lambda length: length + 2),
    "last-fragment-far-too-long-by-its-length": _length(lambda length: 1 << 30),
}
REFUSED: dict[str, Change] = {
    "fragment-cut-off": lambda file: file[: (_last_fragment(file) + _end(file)) // 2],
    "fragment-cut-off-before-its-last-bytes": lambda file: file[: _end(file) - 2],
    "fragment-of-undefined-length": _length(lambda length: 0xFFFFFFFF),
    "no-delimiter-and-a-wrong-length": _without_end(_length(lambda length: length + 2)),
    "rubbish-for-a-delimiter": lambda file: file[: _end(file)] + b"rubbish!",
    "no-fragment": lambda file: file[: _last_fragment(file)],
}


def _coded(folder: Path, syntax: UID) -> list[Path]:
    paths = write_ct_series(folder, noise_hu((2, 64, 64)), affine_of())
    for path in paths:
        compress(path, syntax)
    return paths


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("change", DECODED.values(), ids=DECODED)
def test_whole_fragments_are_decoded(tmp_path: Path, syntax: UID, change: Change) -> None:
    paths = _coded(tmp_path, syntax)
    expected = read_series(paths).array
    paths[1].write_bytes(change(paths[1].read_bytes()))
    np.testing.assert_array_equal(read_series(paths).array, expected)
    np.testing.assert_array_equal(read_slice(read_geometry(paths), 1), expected[1])


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("change", REFUSED.values(), ids=REFUSED)
def test_what_is_no_whole_fragment_is_refused(tmp_path: Path, syntax: UID, change: Change) -> None:
    paths = _coded(tmp_path, syntax)
    paths[1].write_bytes(change(paths[1].read_bytes()))
    with pytest.raises(InputError, match="slice 2") as caught:
        read_series(paths)
    assert caught.value.code == "undecodable-pixels"


@pytest.mark.parametrize("syntax", CODED, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_codestream_that_is_cut_off_is_refused_by_every_codec(
    tmp_path: Path, syntax: UID, kept: float
) -> None:
    """Decoders of JPEG and JPEG-LS fill what lacks with grey and say nothing."""
    paths, _ = smooth_series(tmp_path)
    for path in paths:
        ENCODERS[syntax](path)
    read_series(paths)
    image = pydicom.dcmread(paths[1])
    (frame,) = generate_frames(image.PixelData, number_of_frames=1)
    image.PixelData = encapsulate([frame[: int(len(frame) * kept) // 2 * 2]])
    image.save_as(paths[1])
    with pytest.raises(InputError, match="slice 2") as caught:
        read_series(paths)
    assert caught.value.code == "undecodable-pixels"


def _fragments(frame: bytes, count: int) -> bytes:
    size = -(-len(frame) // count) // 2 * 2
    parts = [frame[n * size : (n + 1) * size if n < count - 1 else None] for n in range(count)]
    return b"".join(ITEM + struct.pack("<L", len(part)) + part for part in parts)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("delimited", [True, False])
@pytest.mark.parametrize("count", [1, 3])
def test_a_frame_in_several_fragments_behind_an_empty_offset_table_is_decoded(
    tmp_path: Path, syntax: UID, delimited: bool, count: int
) -> None:
    paths = _coded(tmp_path, syntax)
    expected = read_series(paths).array
    (frame,) = generate_frames(pydicom.dcmread(paths[1]).PixelData, number_of_frames=1)
    file = paths[1].read_bytes()
    start = file.find(ITEM, file.find(b"\xe0\x7f\x10\x00OB"))
    table = ITEM + bytes(4)
    paths[1].write_bytes(file[:start] + table + _fragments(frame, count) + (END + bytes(4)) * delimited)
    np.testing.assert_array_equal(read_series(paths).array, expected)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("delimited", [True, False])
def test_a_fragment_of_odd_length_is_decoded(tmp_path: Path, syntax: UID, delimited: bool) -> None:
    paths = _coded(tmp_path, syntax)
    expected = read_series(paths).array
    (frame,) = generate_frames(pydicom.dcmread(paths[1]).PixelData, number_of_frames=1)
    frame = frame[: frame.rfind(b"\xff\xd9") + 2]
    frame += b"\0" * (1 - len(frame) % 2)
    assert len(frame) % 2 == 1
    file = paths[1].read_bytes()
    start = file.find(ITEM, file.find(b"\xe0\x7f\x10\x00OB"))
    fragment = ITEM + struct.pack("<L", len(frame)) + frame
    paths[1].write_bytes(file[:start] + ITEM + bytes(4) + fragment + (END + bytes(4)) * delimited)
    np.testing.assert_array_equal(read_series(paths).array, expected)


def test_frames_of_an_enhanced_ct_without_their_delimiter_are_decoded(tmp_path: Path) -> None:
    singles = good_series(tmp_path / "single")
    (path,) = write_enhanced_ct(tmp_path / "multi", singles, transfer_syntax=str(RLELossless))
    file = path.read_bytes()
    path.write_bytes(file[: _end(file)])
    np.testing.assert_array_equal(read_series([path]).array, read_series(singles).array)


def test_native_pixels_that_are_missing_stay_missing(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, noise_hu((2, 64, 64)), affine_of())
    assert pydicom.dcmread(paths[1]).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    file = paths[1].read_bytes()
    paths[1].write_bytes(file[: file.rfind(b"\xe0\x7f\x10\x00")])
    with pytest.raises(InputError, match="slice 2"):
        read_series(paths)


def test_an_instance_without_its_delimiter_is_stored_as_it_came(tmp_path: Path) -> None:
    paths = _coded(tmp_path / "ct", RLELossless)
    file = paths[1].read_bytes()
    whole = received(paths[1])
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'u.sqlite'}") as context:
        cut = replace(whole, data=whole.data[:-8])
        assert whole.data[-8:] == file[_end(file) :]
        Inbox(context).receive(cut)
        with context.database.transaction() as session:
            (row,) = session.query(Instance)
            assert context.store.absolute(row.path).read_bytes() == cut.data
