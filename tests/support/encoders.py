"""Real encoders of every transfer syntax that the node offers. Each encoder changes a file of one frame."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
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

from dicom_config.contexts import DEFLATED_IMAGE_FRAME, ENCAPSULATED_UNCOMPRESSED
from tests.support.series import affine_of, edit
from tests.support.server import need
from uair_node.dicom.volume import read_series
from workers.phantoms.ct_series import write_ct_series

Encode = Callable[[Path], None]


def _by_dcmtk(program: str, *options: str) -> Encode:
    def encode(path: Path) -> None:
        (found,) = need(program)
        subprocess.run([found, *options, path, path], check=True, capture_output=True, timeout=60)

    return encode


def _in_8_bits(then: Encode) -> Encode:
    """Reduce an image to 8 bits for JPEG Baseline. Such a CT exists as a secondary reconstruction."""

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


def frame_by_frame(syntax: UID, code: Callable[[bytes], bytes]) -> Encode:
    def encode(path: Path) -> None:
        dataset = pydicom.dcmread(path)
        put_frames(dataset, syntax, [code(dataset.PixelData)])
        dataset.save_as(path, implicit_vr=False, little_endian=True)

    return encode


def put_frames(dataset: Dataset, syntax: UID, frames: list[bytes]) -> None:
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    dataset.file_meta.TransferSyntaxUID = syntax


def deflate(data: bytes) -> bytes:
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
    ENCAPSULATED_UNCOMPRESSED: frame_by_frame(ENCAPSULATED_UNCOMPRESSED, bytes),
    DEFLATED_IMAGE_FRAME: frame_by_frame(DEFLATED_IMAGE_FRAME, deflate),
}
LOSSY: dict[UID, Encode] = {
    JPEGBaseline8Bit: _in_8_bits(_by_dcmtk("dcmcjpeg", "+eb")),
    JPEGExtended12Bit: _by_dcmtk("dcmcjpeg", "+ee"),
    JPEGLSNearLossless: _by_dcmtk("dcmcjpls", "+en", "+md", "2"),
    JPEG2000: _by_pydicom(JPEG2000, j2k_cr=[4]),
    HTJ2K: _by_openjph(HTJ2K, reversible=False, level=0.0005),
}


def smooth_series(folder: Path) -> tuple[list[Path], np.ndarray]:
    """A series that suits lossy codecs: unsigned, 12 bits, no noise."""
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


def claiming(frame: bytes, rows: int, columns: int) -> bytes:
    """The same coded frame of a JPEG family, with another size in its header."""
    changed = bytearray(frame)
    if frame.startswith(b"\xff\x4f"):
        struct.pack_into(">LL", changed, 8, columns, rows)
        struct.pack_into(">LL", changed, 24, columns, rows)
        return bytes(changed)
    marker = next(
        at for at in range(len(frame)) if frame[at] == 0xFF and frame[at + 1] in {0xC0, 0xC1, 0xC3, 0xF7}
    )
    struct.pack_into(">HH", changed, marker + 5, rows, columns)
    return bytes(changed)


def in_syntax(dataset: Dataset, syntax: UID, folder: Path) -> Dataset:
    """Return an image of 8-bit cells in another transfer syntax, as read from a file.

    Each frame is coded by the encoder of single frames. JPEG Baseline's encoder changes the values.
    """
    path = folder / "whole.dcm"
    if syntax.is_encapsulated:
        planes = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
        put_frames(dataset, syntax, [_coded(plane, syntax, folder) for plane in planes])
        dataset.save_as(path, implicit_vr=False, little_endian=True)
    else:
        dataset.save_as(path, enforce_file_format=True)
        LOSSLESS[syntax](path)
    return pydicom.dcmread(path)


def _coded(plane: np.ndarray, syntax: UID, folder: Path) -> bytes:
    if syntax in (JPEG2000, JPEG2000Lossless):  # pydicom's plug-in cannot code fewer than 32 rows
        reversible = syntax == JPEG2000Lossless
        return bytes(
            imagecodecs.jpeg2k_encode(plane, codecformat="j2k", resolutions=2, reversible=reversible)
        )
    (path,) = write_ct_series(folder / "plane", np.zeros((1, *plane.shape), np.int16), affine_of())
    cells = plane.astype(np.uint8).tobytes()
    edit(path, BitsAllocated=8, BitsStored=8, HighBit=7, PixelRepresentation=0)
    edit(path, PixelData=cells + b"\0" * (len(cells) % 2))
    {**LOSSLESS, **LOSSY}[syntax](path)
    (frame,) = generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)
    return frame


def many_precincts(side: int, exponent: int) -> bytes:
    """JPEG 2000 (ISO 15444-1 Annex A) of one tile without its data; precincts have a side of 2 ** exponent.

    A decoder keeps some hundred bytes for each precinct. With exponent 0, this is 2.3 GiB for 2048 x 2048
    pixels.
    """
    sizes = struct.pack(">H8LH", 0, side, side, 0, 0, side, side, 0, 0, 1) + b"\x07\x01\x01"
    coding = bytes([1, 0, 0, 1, 0, 0, 0, 0, 0, 1, exponent << 4 | exponent])
    parts = [(0x51, sizes), (0x52, coding), (0x5C, b"\x40\x40")]
    head = b"".join(b"\xff" + bytes([code]) + struct.pack(">H", len(part) + 2) + part for code, part in parts)
    tile = b"\xff\x90" + struct.pack(">HHLBB", 10, 0, 14 + 64, 0, 1) + b"\xff\x93" + bytes(64)
    return b"\xff\x4f" + head + tile + b"\xff\xd9"
