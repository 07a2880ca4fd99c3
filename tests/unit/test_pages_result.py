"""The page of an accepted candidate, and the views of it as a solid."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.support.iods import iod_errors
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.record import Findings, LesionFindings, Value
from uair_node.rendering.result_numbers import result_lines
from uair_node.rendering.surface import solid_view
from uair_node.results.pages import PageCandidate, ResultPageRequest, write_result_page
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from workers.phantoms.ct_series import write_ct_series

SHAPE, SPACING = (24, 64, 72), (4.0, 3.0, 3.0)
AFFINE = np.array([[0, 0, 3.0, -100.0], [0, 3.0, 0, -90.0], [4.0, 0, 0, 50.0], [0, 0, 0, 1]])
PROVENANCE = Provenance(2, "embedded", "ab" * 32, "0.1.0", "c" * 64, datetime(2026, 1, 5, 10, 0, 1))
REQUEST = ResultPageRequest("2.25.81", "2.25.82", PROVENANCE)


def make_labels() -> np.ndarray:
    """Lesion 1 is superior, anterior and right in the liver, lesion 3 inferior, posterior and left."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:21, 15:45, 10:45] = 1
    labels[15:19, 18:26, 13:21] = 2
    labels[5:8, 33:40, 32:40] = 4
    return labels


LABELS = make_labels()


def lesion(number: int, ml: Value) -> LesionFindings:
    """A lesion whose long axis has an interval, and whose short axis has none."""
    values = {"volume_ml": ml, "long_mm": Value(40.2, 38.1, 42.4), "short_mm": Value(31.8)}
    return LesionFindings(number, f"2.25.{number}", "", 3, values)


WHOLE = {
    "liver_ml": Value(1724.4, 1690.0, 1760.0),
    "lesions": Value(2),
    "lesions_ml": Value(37.3),
    "burden_percent": Value(2.16),
}
FINDINGS = Findings(WHOLE, {}, (lesion(1, Value(29.9, 26.9, 33.5)), lesion(3, Value(7.4))))


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    hu = np.where(LABELS > 0, 100, -50).astype(np.int16)
    return read_series(write_ct_series(tmp_path_factory.mktemp("ct"), hu, AFFINE))


@pytest.fixture(scope="module")
def page(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> pydicom.FileDataset:
    path = tmp_path_factory.mktemp("page") / "result.dcm"
    accepted = PageCandidate(3, "tightest", LABELS, "2.25.99")
    save_durably(write_result_page(volume, accepted, FINDINGS, REQUEST), path)
    return pydicom.dcmread(path)


def test_the_page_names_what_was_accepted(page: pydicom.FileDataset, volume: Volume) -> None:
    assert (page.SOPInstanceUID, page.SeriesInstanceUID) == ("2.25.81", "2.25.82")
    assert page.SeriesDescription == "UAIR RESULT R2 candidate 3 accepted"
    assert page.SeriesNumber == 9027
    assert [item.ReferencedSOPInstanceUID for item in page.ReferencedImageSequence] == ["2.25.99"]
    assert len(page.SourceImageSequence) == len(volume.slices)
    assert page.pixel_array.max() == 255


def test_the_numbers_are_the_report_s_with_their_intervals() -> None:
    assert result_lines(FINDINGS, "liver") == [
        "liver 1724 (1690–1760) ml with lesions",
        "2 lesions, 37.3 ml, 2.2 %",
        "lesion   ml (90%)    long × short, mm",
        "  1  29.9 (26.9–33.5)  40 (38–42) × 32",
        "  3               7.4  40 (38–42) × 32",
    ]
    many = replace(FINDINGS, lesions=tuple(lesion(n, Value(float(n))) for n in range(1, 15)))
    lines = result_lines(many, "liver")
    assert (lines[3].split()[0], lines[-1]) == ("3", "and 2 smaller")
    assert result_lines(replace(FINDINGS, lesions=()), "liver")[1:] == ["no lesion"]


def test_a_second_run_writes_the_same_bytes(
    page: pydicom.FileDataset, volume: Volume, tmp_path: Path
) -> None:
    again = write_result_page(volume, PageCandidate(3, "tightest", LABELS, "2.25.99"), FINDINGS, REQUEST)
    save_durably(again, tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == Path(page.filename).read_bytes()


@pytest.mark.parametrize(("azimuth", "first_is_left"), [(0.0, True), (90.0, False), (180.0, False)])
def test_the_solid_stands_as_the_patient_is_seen(azimuth: float, first_is_left: bool) -> None:
    """From the front the patient's right is on the left; from the right, anterior is on the right."""
    (first, (row_1, column_1)), (three, (row_3, column_3)) = solid_view(LABELS, SPACING, azimuth).lesions
    assert (first, three) == (1, 3)
    assert row_1 < row_3, "superior is up"
    assert (column_1 < column_3) == first_is_left


def test_lesions_shine_through_the_liver() -> None:
    solid = solid_view(LABELS, SPACING)
    row, column = (round(at) for at in solid.lesions[0][1])
    red, _, blue = solid.picture[row, column]
    assert red > blue, "yellow, behind blue"
    liver = solid.picture[solid.picture.any(axis=2)]
    assert np.median(liver[:, 2]) > np.median(liver[:, 0])


def test_a_solid_has_its_size_in_millimetres() -> None:
    labels = np.where(LABELS > 0, 1, 0).astype(np.uint8)
    seen = solid_view(labels, SPACING).picture.any(axis=2)
    rows, columns = np.nonzero(seen)
    assert np.ptp(rows) * 1.5 == pytest.approx(18 * SPACING[0], abs=4.0)
    assert np.ptp(columns) * 1.5 == pytest.approx(35 * SPACING[2], abs=4.0)


def test_nothing_is_seen_of_nothing() -> None:
    solid = solid_view(np.zeros(SHAPE, np.uint8), SPACING)
    assert not solid.picture.any()
    assert solid.lesions == ()


@pytest.mark.integration
def test_dciodvfy_finds_no_error(page: pydicom.FileDataset) -> None:
    assert iod_errors(Path(page.filename), "SCImage") == []
