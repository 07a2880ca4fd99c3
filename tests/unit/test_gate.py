"""The gate: every code has a real series that triggers it, and good series pass whatever their make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dicom_config.errors import InputError
from dicom_config.modalities import PROFILES
from dicom_config.model import GateSection
from tests.support.series import (
    AXIAL,
    HEADER_FAULTS,
    PIXEL_FAULTS,
    Fault,
    affine_of,
    edit,
    edit_all,
    good_series,
    move,
    noise_hu,
    turned,
)
from uair_node.dicom.gate import MOST_VOXELS, GateResult, check_structure, inspect_series
from uair_node.dicom.gate_codes import GATE_CODES
from uair_node.dicom.headers import read_headers, read_slices
from uair_node.dicom.volume import read_series
from workers.phantoms.ct_series import write_ct_series

MAY_ARRIVE = {
    "mixed-patient",
    "several-acquisitions",
    "mixed-frame-of-reference",
    "too-few-slices",
    "missing-slice",
    "irregular-spacing",
    "spacing-too-wide",
    "coverage-misses-liver",
}


def inspect(paths: Sequence[Path], section: GateSection | None = None) -> GateResult:
    return inspect_series(read_headers(paths), section or GateSection(), tuple(PROFILES.values()))


def test_every_code_has_a_faulty_series() -> None:
    assert {fault.code for fault in HEADER_FAULTS + PIXEL_FAULTS} == set(GATE_CODES)


def test_a_series_of_too_many_voxels_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    headers = read_headers(good_series(tmp_path))
    large = [header.model_copy(update={"rows": 2048, "columns": 2048}) for header in headers]
    assert len(large) * 2048 * 2048 < MOST_VOXELS
    assert inspect_series(large, GateSection(), tuple(PROFILES.values())).refusal is None
    many = [large[0].model_copy(update={"position_mm": (0.0, 0.0, float(z))}) for z in range(500)]
    refusal = inspect_series(many, GateSection(), tuple(PROFILES.values())).refusal
    assert refusal is not None
    assert refusal.code == "too-large"
    with pytest.raises(InputError, match="2048") as refused:
        check_structure(many, PROFILES["ct"])
    assert refused.value.code == "too-large"


@pytest.mark.parametrize("fault", HEADER_FAULTS, ids=lambda fault: fault.name)
def test_faulty_series_gets_its_code_a_sentence_and_a_mend(tmp_path: Path, fault: Fault) -> None:
    verdict = inspect(fault.make(tmp_path))
    assert verdict.refusal is not None
    assert verdict.refusal.code == fault.code
    assert re.fullmatch(r"[A-Z][^{}]*\.", verdict.refusal.sentence)
    assert re.fullmatch(r"[A-Z][^{}]*\.", verdict.refusal.remedy)
    assert verdict.may_complete == (fault.code in MAY_ARRIVE)


@pytest.mark.parametrize("fault", PIXEL_FAULTS, ids=lambda fault: fault.name)
def test_damaged_pixels_pass_the_headers_and_fail_the_reading(tmp_path: Path, fault: Fault) -> None:
    paths = fault.make(tmp_path)
    assert inspect(paths).refusal is None
    with pytest.raises(Exception, match="slice 8") as caught:
        read_series(paths)
    assert caught.value.code == fault.code


@pytest.mark.parametrize("degrees", [0.0, 20.0, -44.0])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, 1)])
def test_near_axial_series_pass_whatever_their_directions(
    tmp_path: Path, degrees: float, flips: tuple[int, ...]
) -> None:
    paths = write_ct_series(tmp_path, noise_hu(), affine_of(turned(degrees, AXIAL * flips)))
    verdict = inspect(paths[::-1])
    assert verdict.refusal is None
    assert verdict.assumed == ()


def test_missing_identifiers_are_assumed_and_named(tmp_path: Path) -> None:
    paths = edit_all(good_series(tmp_path), FrameOfReferenceUID=None, PatientID="", SeriesNumber=None)
    verdict = inspect(paths)
    assert verdict.refusal is None
    assert verdict.assumed == ("frame-of-reference-uid", "patient-id", "series-number")


def test_frame_of_reference_missing_in_one_slice_is_no_mixture(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    edit(paths[3], FrameOfReferenceUID=None)
    verdict = inspect(paths)
    assert verdict.refusal is None
    assert verdict.assumed == ("frame-of-reference-uid",)


def test_a_fault_that_stays_is_told_before_one_that_may_heal(tmp_path: Path) -> None:
    paths = good_series(tmp_path)[:4]
    edit(paths[0], FrameOfReferenceUID="2.25.9")
    assert inspect(paths).refusal.code == "mixed-frame-of-reference"


def test_no_slice_at_all_may_still_complete() -> None:
    verdict = inspect([])
    assert verdict.refusal.code == "too-few-slices"
    assert verdict.may_complete


def test_the_lost_slices_are_counted(tmp_path: Path) -> None:
    paths = [path for k, path in enumerate(good_series(tmp_path)) if k not in (3, 8, 9)]
    assert "3 between" in inspect(paths).refusal.sentence


@pytest.mark.parametrize(("offset", "passes"), [(0.2, True), (0.4, False)])
def test_spacing_tolerance_is_that_of_the_configuration(tmp_path: Path, offset: float, passes: bool) -> None:
    # 5 mm spacing, 5 % tolerance: 0.25 mm off the best even grid, which goes 23 % of the way
    paths = good_series(tmp_path)
    move(paths[-1], (0.0, 0.0, offset))
    assert (inspect(paths).refusal is None) == passes


def test_thresholds_are_those_of_the_configuration(tmp_path: Path) -> None:
    paths = write_ct_series(tmp_path, noise_hu((7, 8, 8)), affine_of(turned(50.0), (12.0, 0.8, 0.8)))
    generous = GateSection(min_slices=5, max_spacing_mm=15.0, max_oblique_deg=60.0)
    assert inspect(paths, generous).refusal is None


def test_records_show_no_patient_data(tmp_path: Path) -> None:
    (header,) = read_slices(good_series(tmp_path, patient_id="SECRET-ID", accession_number="SECRET-ACC")[0])
    assert header.patient_id == "SECRET-ID"
    assert header.accession_number == "SECRET-ACC"
    assert "SECRET" not in repr(header)


@pytest.mark.parametrize("content", [b"", b"not dicom", b"\x00" * 128 + b"DICM", b"\x00" * 128 + b"DICM\x02"])
def test_what_is_no_dicom_file_is_said_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(Exception, match="not a readable DICOM") as caught:
        read_slices(path)
    assert caught.value.code == "not-dicom"


def test_malformed_numbers_read_as_missing(tmp_path: Path) -> None:
    path = good_series(tmp_path)[0]
    raw = path.read_bytes()
    spacing = raw.index(b"\x28\x00\x30\x00DS") + 8
    path.write_bytes(raw[:spacing] + b"a" + raw[spacing + 1 :])
    assert read_slices(path)[0].pixel_spacing_mm is None


def test_real_imperfect_series_passes_in_any_order(ct_dir: Path) -> None:
    paths = list((ct_dir / "ircadb01_p17" / "PATIENT_DICOM").iterdir())
    np.random.default_rng(0).shuffle(paths)
    verdict = inspect(paths)
    assert verdict.refusal is None
    assert verdict.assumed == ("frame-of-reference-uid", "patient-id", "series-number")
