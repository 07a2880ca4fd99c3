"""Bounds before parsing: what is too expensive for a parser is refused, what is cut off is told."""

from __future__ import annotations

import zlib
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from dicom_config.errors import InputError
from uair_node.dicom.structure import DEEPEST, MOST_INFLATED_BYTES, MOST_ITEMS, is_whole, require_bounded

_SYNTAXES = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    RLELossless,
)


def _file(dataset: Dataset, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.3"
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def _image(syntax: UID, *, undefined: bool) -> Dataset:
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3.4"
    item = Dataset()
    item.ReferencedInstanceSequence = [inner, Dataset()]
    image = Dataset()
    image.ReferencedSeriesSequence = [item, Dataset()]
    image["ReferencedSeriesSequence"].is_undefined_length = undefined
    image.BitsAllocated = 8
    pixels = bytes(range(64))
    image.PixelData = encapsulate([pixels]) if syntax == RLELossless else pixels
    image["PixelData"].VR = "OB"
    return image


@pytest.mark.parametrize("undefined", [True, False], ids=["delimited", "measured"])
@pytest.mark.parametrize("syntax", _SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_a_whole_file_is_told_from_one_that_lacks_its_last_byte(syntax: UID, undefined: bool) -> None:
    file = _file(_image(syntax, undefined=undefined), syntax)
    assert is_whole(file)
    assert not is_whole(file[: -1 if syntax != DeflatedExplicitVRLittleEndian else -8])


@pytest.mark.parametrize("undefined", [True, False], ids=["delimited", "measured"])
@pytest.mark.parametrize("syntax", _SYNTAXES[:4], ids=lambda syntax: syntax.keyword)
def test_80_000_empty_items_are_refused_in_every_encoding(syntax: UID, undefined: bool) -> None:
    many = Dataset()
    many.ReferencedSeriesSequence = [Dataset() for _ in range(MOST_ITEMS + 1)]
    many["ReferencedSeriesSequence"].is_undefined_length = undefined
    with pytest.raises(InputError) as refused:
        require_bounded(_file(many, syntax))
    assert refused.value.code == "instance-too-complex"
    assert "sequence items" in refused.value.sentence


def test_items_that_hide_in_an_unknown_vr_are_counted() -> None:
    """PS3.5 6.2.2, note 2: the value of a UN sequence is encoded in Implicit VR Little Endian."""
    items = b"\xfe\xff\x00\xe0\x00\x00\x00\x00" * (MOST_ITEMS + 1)
    element = b"\x08\x00\x15\x11UN\0\0" + len(items).to_bytes(4, "little") + items
    with pytest.raises(InputError, match="sequence items"):
        require_bounded(_file(Dataset()) + element)


def test_many_small_elements_are_refused() -> None:
    with pytest.raises(InputError, match="elements"):
        require_bounded(_file(Dataset()) + b"\x09\x00\x01\x10LO\0\0" * 100_001)


def test_sequences_in_sequences_are_refused_without_recursion() -> None:
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    require_bounded(_file(Dataset()) + opening * (DEEPEST - 1))
    with pytest.raises(InputError, match="nested"):
        require_bounded(_file(Dataset()) + opening * 100_000)


@pytest.mark.parametrize("level", [0, 9], ids=["stored", "packed"])
def test_a_data_set_that_inflates_to_too_much_is_refused(level: int) -> None:
    packer = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    zeros = bytes(1 << 20)
    bomb = b"".join(packer.compress(zeros) for _ in range((MOST_INFLATED_BYTES >> 20) + 1)) + packer.flush()
    header = _file(Dataset(), DeflatedExplicitVRLittleEndian)
    meta = BytesIO(header)
    dcmread(meta, stop_before_pixels=True)
    length = int.from_bytes(header[140:144], "little")
    with pytest.raises(InputError, match="inflates to more than 128 MiB"):
        require_bounded(header[: 144 + length] + bomb)


def test_a_damaged_file_passes_the_bounds() -> None:
    """The parser reports the damage later, with its own code."""
    for cut in (0, 3, 131, 140, 150, 200):
        require_bounded(_file(_image(ExplicitVRLittleEndian, undefined=True))[:cut])
