"""De-identification for support: what is kept is known, everything else is left out."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless

from tests.support.series import good_series
from uair_node.operations.housekeeping.anonymous import Pseudonyms

_SECRET = "SECRET"


def _named(path: Path) -> Dataset:
    """A slice with a secret wherever a scanner, a PACS or a person may put one."""
    dataset = dcmread(path)
    for keyword in ("PatientName", "PatientID", "InstitutionName", "StudyDescription", "StationName"):
        setattr(dataset, keyword, _SECRET)
    for keyword in ("ImageComments", "AccessionNumber", "StudyID", "DeviceSerialNumber", "PatientComments"):
        setattr(dataset, keyword, _SECRET)
    dataset.PatientBirthDate, dataset.PatientAge, dataset.PatientWeight = "19501231", "075Y", "71.5"
    item = Dataset()
    item.PatientID, item.OperatorsName = _SECRET, _SECRET
    dataset.OtherPatientIDsSequence = Sequence([item])
    dataset.SourceImageSequence = Sequence([item])
    block = dataset.private_block(0x0029, _SECRET, create=True)
    block.add_new(0x01, "LO", _SECRET)
    block = dataset.private_block(0x0021, "VENDOR", create=True)
    block.add_new(0x02, "UN", _SECRET.encode())
    dataset.add_new(0x60003000, "OW", b"\1\0")
    dataset.add_new(0x60000022, "LO", _SECRET)
    dataset.preamble = _SECRET.encode().ljust(128)
    return dataset


def _bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    Pseudonyms().file(dataset).save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_nothing_that_names_anybody_is_kept(tmp_path: Path) -> None:
    source = _named(good_series(tmp_path)[0])
    uids = [
        str(element.value)
        for element in source
        if element.VR == "UI" and not element.value.startswith("1.2.840.10008.")
    ]
    content = _bytes(source)
    hidden = [_SECRET, "VENDOR", "19501231", "075Y", "71.5", str(source.StudyDate), *uids]
    assert len(uids) >= 4
    assert [text for text in hidden if text.encode() in content] == []


def test_pixels_and_geometry_are_kept(tmp_path: Path) -> None:
    source = dcmread(good_series(tmp_path)[3])
    pixels = source.pixel_array.copy()
    source.compress(RLELossless)
    found = dcmread(BytesIO(_bytes(source)))
    assert np.array_equal(found.pixel_array, pixels)
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleIntercept"):
        assert found[keyword].value == source[keyword].value
    assert found.PatientIdentityRemoved == "YES"


def test_an_image_whose_pixels_cannot_be_decoded_is_exported_without_them(tmp_path: Path) -> None:
    source = dcmread(good_series(tmp_path)[3])
    source.compress(RLELossless)
    source.Rows = 1 << 13  # decoding would need more than the frame's own size
    source.Columns = 1 << 13
    found = dcmread(BytesIO(_bytes(source)))
    assert "PixelData" not in found
    assert found.ImagePositionPatient == source.ImagePositionPatient
    assert found.DeidentificationMethod == "UAIR export: geometry and coded concepts kept"


def test_uids_are_the_same_within_one_export_only() -> None:
    first, second = Pseudonyms(), Pseudonyms()
    assert first.uid("1.2.3") == first.uid("1.2.3") != second.uid("1.2.3")
    assert len(first.uid("1.2.3")) <= 64
    assert first.uid("1.2.840.10008.5.1.4.1.1.2") == "1.2.840.10008.5.1.4.1.1.2"
