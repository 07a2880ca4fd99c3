"""The measurement report: its numbers, what they refer to, and that a second run writes the same bytes."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import time_machine
from highdicom.sr import srread
from pydicom.dataset import Dataset

from dicom_config import codes
from tests.support.iods import iod_errors
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.measurements import measure
from uair_node.findings.record import Findings, tabulate
from uair_node.results.measurement_report import ReportRequest, write_report
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms.ct_series import write_ct_series

SHAPE = (24, 80, 90)
SPACING = (2.5, 0.8, 0.8)
AFFINE = np.array([[0, 0, 0.8, -40.0], [0, 0.8, 0, -50.0], [2.5, 0, 0, 120.0], [0, 0, 0, 1]])
HALF_MM = {1: (10.0, 12.0, 12.0), 3: (8.0, 6.0, 14.0)}
CENTRES = {1: (9, 30, 25), 3: (12, 35, 62)}
HU = {1: 40, 3: -15}
PROVENANCE = Provenance(
    round=2,
    model_name="embedded",
    model_digest="0123456789abcdef" * 4,
    software_version="0.1.0",
    case_digest="c" * 64,
    content_datetime=datetime(2026, 1, 5, 10, 0, 1, 250),
)
REQUEST = ReportRequest(result_uid("report"), result_uid("report series"), 3, PROVENANCE)


def make_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:22, 8:72, 8:84] = 1
    z, y, x = np.ogrid[tuple(slice(n) for n in SHAPE)]
    for number, half in HALF_MM.items():
        offsets = zip((z, y, x), CENTRES[number], SPACING, half, strict=True)
        labels[sum(((axis - c) * s / h) ** 2 for axis, c, s, h in offsets) <= 1] = 1 + number
    return labels


LABELS = make_labels()
LABELS.setflags(write=False)
DENSITIES = np.select([LABELS == 1, LABELS == 2, LABELS == 4], [105, HU[1], HU[3]], -100).astype(np.int16)


def findings_of(volume: Volume, labels: np.ndarray) -> Findings:
    measured = measure(volume.array, labels, volume.spacing_mm)
    named = {
        lesion.number: (result_uid("lesion", lesion.number), f"lesion {lesion.number}")
        for lesion in measured.lesions
    }
    return tabulate(measured, named)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    uids = {
        "study_instance_uid": "1.2.3",
        "series_instance_uid": "1.2.3.4",
        "frame_of_reference_uid": "1.2.3.5",
    }
    folder = tmp_path_factory.mktemp("ct")
    return read_series(write_ct_series(folder, DENSITIES, AFFINE, patient_name="Doe^Jane", **uids))


@pytest.fixture(scope="module")
def segmentation(volume: Volume) -> Dataset:
    request = SegRequest(
        sop_instance_uid=result_uid("seg"),
        series_instance_uid=result_uid("seg series"),
        k=3,
        character="tightest",
        provenance=Provenance(
            round=2,
            model_name="embedded",
            model_digest=PROVENANCE.model_digest,
            software_version="0.1.0",
            case_digest=PROVENANCE.case_digest,
            content_datetime=PROVENANCE.content_datetime,
        ),
        tracking={n: Tracking(f"UAIR lesion {n}", result_uid("lesion", n)) for n in HALF_MM},
        final=True,
    )
    return write_seg(volume, LABELS, request)


@pytest.fixture(scope="module")
def path(volume: Volume, segmentation: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sr") / "report.dcm"
    save_durably(write_report(volume, findings_of(volume, LABELS), segmentation, REQUEST), path)
    return path


def value(group: Any, name: Any) -> float:
    """The number of that name; of densities the mean, which comes first."""
    found, *_ = group.get_measurements(name=name)
    return float(found.value)


def test_highdicom_reads_the_numbers_of_each_lesion(path: Path) -> None:
    """Closed forms of the ellipsoids, through the reader's own interface."""
    groups = srread(path).content.get_volumetric_roi_measurement_groups(finding_type=codes.LESION)
    assert [group.tracking_identifier for group in groups] == ["UAIR lesion 1", "UAIR lesion 3"]
    for group, number in zip(groups, HALF_MM, strict=True):
        half = HALF_MM[number]
        assert value(group, codes.VOLUME) == pytest.approx(4 / 3 * np.pi * np.prod(half) / 1000, rel=0.03)
        voxels = np.sum(number + 1 == LABELS)
        assert value(group, codes.VOLUME) == pytest.approx(voxels * np.prod(SPACING) / 1000, abs=5e-4)
        assert value(group, codes.LONG_AXIS) == pytest.approx(2 * max(half[1:]), abs=0.81)
        assert value(group, codes.SHORT_AXIS) == pytest.approx(2 * min(half[1:]), abs=0.81)
        assert value(group, codes.ATTENUATION) == HU[number]


def segments_of(group: Any) -> tuple[str, list[int]]:
    """The object and its segments that a group refers to, as they are written.

    highdicom reads no list of segment numbers from a file.
    """
    (item,) = (item for item in group[0].ContentSequence if item.name.value == "121191")
    (reference,) = item.ReferencedSOPSequence
    numbers = np.atleast_1d(reference.ReferencedSegmentNumber)
    return str(reference.ReferencedSOPInstanceUID), [int(number) for number in numbers]


def organ_groups(content: Any) -> list:
    """The whole organ's group, then that of its own segment, if there is one."""
    return content.get_volumetric_roi_measurement_groups(finding_type=codes.LIVER)


def test_each_group_refers_to_what_of_the_final_seg_was_measured(path: Path, segmentation: Dataset) -> None:
    groups = srread(path).content.get_volumetric_roi_measurement_groups()
    uid = segmentation.SOPInstanceUID
    assert [segments_of(group) for group in groups] == [(uid, [1, 2, 3]), (uid, [1]), (uid, [2]), (uid, [3])]
    assert [group.tracking_identifier for group in groups] == [
        "UAIR liver with lesions",
        "UAIR liver without lesions",
        "UAIR lesion 1",
        "UAIR lesion 3",
    ]
    lesions = list(segmentation.SegmentSequence[1:])
    assert [group.tracking_uid for group in groups[2:]] == [segment.TrackingUID for segment in lesions]
    assert len({group.tracking_uid for group in groups}) == 4


def test_the_organ_is_measured_with_its_lesions(path: Path) -> None:
    content = srread(path).content
    whole, _ = organ_groups(content)
    liver_ml = np.count_nonzero(LABELS) * np.prod(SPACING) / 1000
    lesions_ml = np.count_nonzero(LABELS > 1) * np.prod(SPACING) / 1000
    assert value(whole, codes.VOLUME) == pytest.approx(liver_ml, abs=5e-4)
    assert value(whole, codes.NUMBER_OF_LESIONS) == 2
    assert value(whole, codes.LESION_BURDEN) == pytest.approx(100 * lesions_ml / liver_ml, abs=5e-3)
    assert content.get_image_measurement_groups() == []


def test_the_liver_s_segment_is_measured_as_it_is(path: Path) -> None:
    _, group = organ_groups(srread(path).content)
    expected = np.count_nonzero(LABELS == 1) * np.prod(SPACING) / 1000
    assert value(group, codes.VOLUME) == pytest.approx(expected, abs=5e-4)
    assert value(group, codes.ATTENUATION) == 105


def test_diameters_name_the_slice_they_were_taken_on(path: Path, volume: Volume) -> None:
    measured = measure(volume.array, LABELS, SPACING)
    groups = srread(path).content.get_volumetric_roi_measurement_groups(finding_type=codes.LESION)
    for group, lesion in zip(groups, measured.lesions, strict=True):
        (axis,) = group.get_measurements(name=codes.LONG_AXIS)
        expected = volume.slices[lesion.diameters.slice_index].sop_instance_uid
        assert axis.referenced_images[0].referenced_sop_instance_uid == expected


def test_identity_state_and_evidence(path: Path, volume: Volume, segmentation: Dataset) -> None:
    report = srread(path)
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (report.SOPInstanceUID, report.SeriesInstanceUID) == (
        REQUEST.sop_instance_uid,
        REQUEST.series_instance_uid,
    )
    assert (report.PatientName, report.StudyInstanceUID) == ("Doe^Jane", "1.2.3")
    assert report.SeriesDescription == "UAIR REPORT R2 C3 measurements"
    assert report.SeriesNumber == 9028
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    (study,) = report.CurrentRequestedProcedureEvidenceSequence
    listed = {
        item.ReferencedSOPInstanceUID
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {slice_.sop_instance_uid for slice_ in volume.slices} | {segmentation.SOPInstanceUID}
    assert codes.DISCLAIMER.encode() in path.read_bytes()


def test_a_second_run_writes_the_same_bytes(
    path: Path, volume: Volume, segmentation: Dataset, tmp_path: Path
) -> None:
    findings = findings_of(volume, LABELS)
    with time_machine.travel("2038-01-19"):  # whatever is taken from the clock has another value there
        save_durably(write_report(volume, findings, segmentation, REQUEST), tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kept", [(1,), (2,)], ids=["no lesion", "no liver"])
def test_what_is_absent_is_not_reported(volume: Volume, kept: tuple[int, ...], tmp_path: Path) -> None:
    labels = np.where(np.isin(LABELS, kept), LABELS, 0).astype(np.uint8)
    request = SegRequest(
        "2.25.1", "2.25.2", 1, "", Provenance(1, "m", "d", "0", "c", PROVENANCE.content_datetime)
    )
    tracked = SegRequest(**{**request.__dict__, "tracking": {1: Tracking("UAIR lesion 1", "2.25.3")}})
    report = write_report(volume, findings_of(volume, labels), write_seg(volume, labels, tracked), REQUEST)
    save_durably(report, tmp_path / "report.dcm")
    content = srread(tmp_path / "report.dcm").content
    whole, own = content.get_volumetric_roi_measurement_groups()
    assert value(whole, codes.NUMBER_OF_LESIONS) == (kept != (1,))
    assert segments_of(whole)[1] == segments_of(own)[1] == [1]
    assert own.finding_type == (codes.LIVER if kept == (1,) else codes.LESION)


def test_labels_of_another_segmentation_are_refused(volume: Volume, segmentation: Dataset) -> None:
    labels = np.where(LABELS == 4, 6, LABELS).astype(np.uint8)
    with pytest.raises(ValueError, match="lesion 5"):
        write_report(volume, findings_of(volume, labels), segmentation, REQUEST)


@pytest.mark.integration
def test_dciodvfy_finds_no_error(path: Path) -> None:
    assert iod_errors(path, "Comprehensive3DSR") == []
