"""Series of other makers: units, bits, positions and acquisitions are understood or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dicom_config.errors import InputError
from dicom_config.model import GateSection
from tests.support.encoders import LOSSLESS
from tests.support.enhanced import write_enhanced_ct
from tests.support.series import AXIAL, affine_of, edit, edit_all, good_series, noise_hu, turned
from uair_node.dicom.gate import inspect_series
from uair_node.dicom.headers import read_headers
from uair_node.dicom.volume import read_series
from workers.phantoms.ct_series import write_ct_series


def refusal(paths: Sequence[Path]) -> InputError | None:
    return inspect_series(read_headers(paths), GateSection()).refusal


def code(paths: Sequence[Path]) -> str:
    found = refusal(paths)
    return found.code if found else ""


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({"RescaleType": "MGML"}, "Rescale Type MGML"),
        ({"RescaleType": "ED"}, "Rescale Type ED"),
        ({"RescaleType": "Z_EFF"}, "Rescale Type Z_EFF"),
        ({"RescaleType": "US"}, "Rescale Type US"),
        ({"RescaleType": "Doe^John (secret)"}, "Rescale Type unknown"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "IODINE"]}, "Image Type IODINE"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "DE IODINE"]}, "Image Type DE IODINE"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CT_PERFUSION"]}, "Image Type CT_PERFUSION"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "SUBTRACTION"]}, "Image Type SUBTRACTION"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]}, "Image Type EFF_ATOMIC_NUM"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "ELECTRON_DENSIT"]}, "Image Type ELECTRON_DENSIT"),
    ],
)
def test_values_that_are_no_hounsfield_units_are_refused_by_name(
    tmp_path: Path, attributes: dict[str, list[str]] | dict[str, str], named: str
) -> None:
    found = refusal(edit_all(good_series(tmp_path), **attributes))
    assert found.code == "not-hounsfield"
    assert found.sentence == f"The values are not Hounsfield units: {named}."


@pytest.mark.parametrize(
    "attributes",
    [
        {"RescaleType": "HU"},
        {"RescaleType": " hu "},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "PERFUSION"]},
        {"RescaleType": "HU_MOD", "ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_REMOVED"]},
    ],
)
def test_monoenergetic_and_virtual_non_contrast_images_pass(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    assert code(edit_all(good_series(tmp_path), **attributes)) == ""


@pytest.mark.parametrize(("unit", "expected"), [("mg/mL", "not-hounsfield"), ("[hnsf'U]", "")])
def test_real_world_value_maps_tell_the_unit(tmp_path: Path, unit: str, expected: str) -> None:
    paths = good_series(tmp_path / "single")
    item, measured = pydicom.Dataset(), pydicom.Dataset()
    measured.CodeValue, measured.CodingSchemeDesignator, measured.CodeMeaning = unit, "UCUM", "unit"
    item.MeasurementUnitsCodeSequence = [measured]
    assert code(edit_all(paths, RealWorldValueMappingSequence=[item])) == expected
    (enhanced,) = write_enhanced_ct(tmp_path / "multi", paths)
    image = pydicom.dcmread(enhanced)
    image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence = [item]
    image.save_as(enhanced)
    assert code([enhanced]) == expected


def _coded(path: Path, cells: NDArray[Any], syntax: UID, *, signed: bool) -> None:
    """Write whole cells of 16 bits, of which the header says afterwards that 12 are stored."""
    edit(path, PixelRepresentation=int(signed), BitsStored=16, HighBit=15, PixelData=cells.tobytes())
    LOSSLESS[syntax](path)
    edit(path, BitsStored=12, HighBit=11, RescaleIntercept=0)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", LOSSLESS, ids=lambda syntax: syntax.keyword or str(syntax))
def test_bits_beyond_bits_stored_are_no_part_of_the_value(tmp_path: Path, syntax: UID, signed: bool) -> None:
    """Overlays of old scanners lie there."""
    paths = write_ct_series(tmp_path, noise_hu((2, 64, 64)), affine_of())
    values = np.random.default_rng(3).integers(-2048 * signed, 4096 - 2048 * signed, (2, 64, 64))
    for path, plane in zip(paths, values, strict=True):
        cells = (plane & 0x0FFF).astype("<u2")
        cells[::3] |= 0x1000
        cells[:, ::5] |= 0xA000
        _coded(path, cells.view("<i2") if signed else cells, syntax, signed=signed)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_series(paths).array, values)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless])
def test_a_high_bit_above_bits_stored_is_followed(tmp_path: Path, syntax: UID) -> None:
    paths = write_ct_series(tmp_path, noise_hu((2, 64, 64)), affine_of())
    values = np.random.default_rng(4).integers(0, 4096, (2, 64, 64))
    for path, plane in zip(paths, values, strict=True):
        _coded(path, ((plane << 4) | 5).astype("<u2"), syntax, signed=False)
        edit(path, HighBit=15)
    np.testing.assert_array_equal(read_series(paths).array, values)


def test_a_compressed_image_with_another_high_bit_is_refused(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, noise_hu((2, 64, 64)), affine_of())
    _coded(paths[0], np.zeros((64, 64), "<u2"), JPEG2000Lossless, signed=False)
    edit(paths[0], HighBit=15)
    with pytest.raises(Exception, match="slice 1") as caught:
        read_series(paths)
    assert caught.value.code == "undecodable-pixels"


def test_padding_beyond_bits_stored_is_padding_and_zero_is_not(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, noise_hu((2, 64, 64)), affine_of())
    for path in paths:
        cells = np.zeros((64, 64), "<i2")
        cells[0] = -32768
        _coded(path, cells, ExplicitVRLittleEndian, signed=True)
        dataset = pydicom.dcmread(path)
        dataset.add_new("PixelPaddingValue", "SS", -32768)
        dataset.save_as(path)
    array = read_series(paths).array
    assert (array[:, 0] == -1024).all()


def _thin(
    folder: Path, count: int = 120, spacing: float = 0.625, axes: NDArray[Any] = AXIAL, decimals: int = 1
) -> list[Path]:
    paths = write_ct_series(folder, noise_hu((count, 4, 4)), affine_of(axes, (spacing, 0.8, 0.8)))
    for path in paths:
        position = pydicom.dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[f"{float(value):.{decimals}f}" for value in position])
    return paths


@pytest.mark.parametrize("degrees", [0.0, 17.0])
def test_positions_written_with_one_decimal_are_even(tmp_path: Path, degrees: float) -> None:
    assert code(_thin(tmp_path, axes=turned(degrees))) == ""


def test_slices_that_are_missing_among_rounded_positions_are_counted(tmp_path: Path) -> None:
    paths = [path for k, path in enumerate(_thin(tmp_path)) if k != 30 and not 50 <= k < 70]
    found = refusal(paths)
    assert found.code == "missing-slice"
    assert "21 between" in found.sentence


def test_steps_that_drift_are_uneven_though_each_is_near_the_median(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    for k, path in enumerate(paths):
        edit(path, ImagePositionPatient=[-80, -90, round(35.5 + 4.8 * k + 0.0125 * k * k, 4)])
    steps = 4.8 + 0.0125 * (2 * np.arange(15) + 1)
    assert np.abs(steps / np.median(steps) - 1).max() < 0.05
    assert code(paths) == "irregular-spacing"


def test_two_slices_at_one_rounded_position_are_duplicates(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    extra = edit_all(
        write_ct_series(tmp_path / "b", noise_hu(seed=1), affine_of(origin_mm=(-80, -90, 35.55))),
        **{
            keyword: pydicom.dcmread(paths[0])[keyword].value
            for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
        },
    )
    assert code(paths + extra) == "duplicate-position"


@pytest.mark.parametrize(
    ("attribute", "name", "values"),
    [
        ("AcquisitionNumber", "Acquisition Number", (1, 2)),
        ("TemporalPositionIdentifier", "Temporal Position", (1, 2)),
        ("AcquisitionTime", "Acquisition Time", ("093000", "093045")),
        ("KVP", "KVP", ("80", "140")),
        ("ConvolutionKernel", "Convolution Kernel", ("Br40", "Br64")),
    ],
)
def test_interleaved_acquisitions_are_refused_by_name(
    tmp_path: Path, attribute: str, name: str, values: Any
) -> None:
    paths = good_series(tmp_path)
    for k, path in enumerate(paths):
        edit(path, **{attribute: values[k % 2]})
    found = refusal(paths)
    assert found.code == "several-acquisitions"
    assert f"{name}: 8 and 8 slices" in found.sentence


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("AcquisitionNumber", lambda k: k + 1),
        ("AcquisitionNumber", lambda k: k // 4 + 1),
        ("AcquisitionNumber", lambda k: 7 if k == 5 else 1),
        ("ContentTime", lambda k: f"0930{k:02}"),
        ("AcquisitionTime", lambda k: f"0930{k // 2:02}.5"),
        ("XRayTubeCurrent", lambda k: 100 + 7 * (k % 5)),
    ],
)
def test_one_helical_scan_stays_one_case(tmp_path: Path, attribute: str, value: Any) -> None:
    paths = good_series(tmp_path)
    for k, path in enumerate(paths):
        edit(path, **{attribute: value(k)})
    assert code(paths) == ""


@pytest.mark.parametrize(
    ("attribute", "name", "values"),
    [("TemporalPositionIndex", "Temporal Position", (1, 2)), ("StackID", "Stack ID", ("1", "2"))],
)
def test_enhanced_ct_of_two_positions_or_stacks_is_refused_by_name(
    tmp_path: Path, attribute: str, name: str, values: Any
) -> None:
    (path,) = write_enhanced_ct(tmp_path / "multi", good_series(tmp_path / "single"))
    image = pydicom.dcmread(path)
    for k, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        setattr(frame.FrameContentSequence[0], attribute, values[k % 2])
    image.save_as(path)
    assert f"{name}: 8 and 8 slices" in refusal([path]).sentence


@pytest.mark.parametrize("attributes", [{"PatientID": "SECRET-2"}, {"StudyInstanceUID": "2.25.99"}])
def test_two_patients_or_studies_under_one_series_are_refused_without_their_names(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    paths = good_series(tmp_path, patient_id="SECRET-1")
    edit_all(paths[:5], **attributes)
    found = refusal(paths)
    assert found.code == "mixed-patient"
    assert "11 and 5 slices" in found.sentence
    assert "SECRET" not in found.sentence + found.remedy


@pytest.mark.parametrize(
    "attributes", [{"PatientID": "OTHER"}, {"StudyInstanceUID": "2.25.99"}, {"KVP": "80"}]
)
def test_what_only_intake_refuses_is_still_read_for_a_case_of_before(
    tmp_path: Path, attributes: dict[str, str]
) -> None:
    paths = good_series(tmp_path)
    whole = read_series(paths).array
    edit_all(paths[:5], **attributes)
    assert code(paths) != ""
    np.testing.assert_array_equal(read_series(paths).array, whole)
