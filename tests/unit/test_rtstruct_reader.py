"""RT Structure Sets on the source grid: voxels, targets, and what is refused."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_config.errors import InputError
from tests.support.offered import candidate_labels
from tests.support.series import good_series
from tests.support.structures import Dialect, Roi, outlines, structure_set
from uair_node.dicom.edited_segmentation import EditedSegmentation
from uair_node.dicom.rtstruct_reader import read_structures
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_geometry

LABELS = candidate_labels(3)
LIVER = Roi("Liver", outlines(LABELS > 0), "ORGAN")
SQUARE = [(5.5, 3.5), (5.5, 8.5), (9.5, 8.5), (9.5, 3.5)]

ECLIPSE = Dialect(
    decimals=2,
    root={
        "Manufacturer": "Varian Medical Systems",
        "ManufacturerModelName": "ARIA RadOnc",
        "SoftwareVersions": "16.1.0",
        "StructureSetLabel": "CT_1",
        "StructureSetName": "CT_1",
        "ApprovalStatus": "UNAPPROVED",
    },
)
"""Eclipse: coordinates of two decimals; each contour names its image and has no number. Codes are of FMA or
of its own scheme 99VMS_STRUCTCODE. Templates leave regions without a Contour Sequence."""
RAYSTATION = Dialect(
    decimals=6,
    numbers_contours=True,
    root={"Manufacturer": "RaySearch Laboratories", "ManufacturerModelName": "RayStation"},
    observation={"ROIObservationLabel": "", "ROIInterpreter": "planner"},
)
"""RayStation: numbered contours; points of interest are regions of one POINT; no identification codes."""
PINNACLE = Dialect(
    decimals=4,
    numbers_contours=True,
    names_images=False,
    root={"Manufacturer": "ADAC", "ManufacturerModelName": "Pinnacle3", "StructureSetLabel": "Plan_0"},
)
"""Pinnacle: contours name no image; ORGAN is the type of all regions."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return good_series(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def volume(paths: list[Path]) -> Volume:
    return read_geometry(paths)


@pytest.fixture(scope="module")
def header(paths: list[Path]) -> Dataset:
    return dcmread(paths[0], stop_before_pixels=True)


def _reread(dataset: Dataset) -> Dataset:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    file.seek(0)
    return dcmread(file)


def _read(dataset: Dataset, volume: Volume, known: KnownTargets | None = None) -> EditedSegmentation:
    return read_structures(_reread(dataset), volume, known or KnownTargets())


def _refusal(dataset: Dataset, volume: Volume, known: KnownTargets | None = None) -> InputError:
    with pytest.raises(InputError) as caught:
        _read(dataset, volume, known)
    return caught.value


def test_eclipse(volume: Volume, header: Dataset) -> None:
    rois = [
        Roi("BODY", outlines(np.ones(LABELS.shape, bool), range(3)), "EXTERNAL"),
        Roi("Structure1", outlines(LABELS > 0), "ORGAN", code=("7197", "FMA", "Liver")),
        Roi("X1", outlines(LABELS == 2), "GTV", code=("GTVp", "99VMS_STRUCTCODE", "GTV Primary")),
        Roi("GTV2", outlines(LABELS == 3), "GTV"),
        Roi("PTV liver", outlines(LABELS > 1), "PTV"),
        Roi("CouchSurface", [], "SUPPORT"),
        Roi("Liver-GTV", [], "ORGAN"),
    ]
    read = _read(structure_set(volume, header, rois, ECLIPSE), volume)
    assert (read.labels == LABELS).all()
    assert read.label_of_segment == {2: 1, 3: 2, 4: 3}
    assert read.targets.ignored == (1, 5, 6)
    assert read.remarks == ("Empty structures were left out: ROI 7.",)


def test_raystation(volume: Volume, header: Dataset) -> None:
    rois = [
        Roi("External", outlines(np.ones(LABELS.shape, bool), range(3)), "EXTERNAL"),
        Roi("Liver", outlines(LABELS > 0), "ORGAN"),
        Roi("GTV_liver", outlines(LABELS == 2), "GTV"),
        Roi("Iso", [(4, [(5, 5)])], "ISOCENTER", kind="POINT"),
        Roi("Fiducial", [(4, [(5, 5)])], "MARKER", kind="POINT"),
    ]
    read = _read(structure_set(volume, header, rois, RAYSTATION), volume)
    assert (read.labels == np.where(LABELS == 3, 1, LABELS)).all()
    assert read.targets.ignored == (1, 4, 5)


def test_pinnacle(volume: Volume, header: Dataset) -> None:
    rois = [
        Roi("liver", outlines(LABELS > 0), "ORGAN"),
        Roi("hepatic met 1", outlines(LABELS == 2), "ORGAN"),
        Roi("spinal cord", outlines(LABELS == 3), "ORGAN"),
    ]
    read = _read(structure_set(volume, header, rois, PINNACLE), volume)
    assert (read.labels == np.where(LABELS == 3, 1, LABELS)).all()
    assert read.targets.ignored == (3,)


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_holes_and_islands_are_kept_voxel_for_voxel(volume: Volume, header: Dataset, kind: str) -> None:
    ring = LABELS > 0
    ring[5, 7:11, 5:12] = False
    ring[5, 8, 7] = True
    read = _read(structure_set(volume, header, [Roi("Liver", outlines(ring), kind=kind)]), volume)
    assert ((read.labels > 0) == ring).all()


def test_a_keyhole_is_a_hole(volume: Volume, header: Dataset) -> None:
    outer = [(4.5, 2.5), (4.5, 15.5), (14.5, 15.5), (14.5, 2.5)]
    inner = [(7.5, 5.5), (10.5, 5.5), (10.5, 9.5), (7.5, 9.5)]
    keyhole = [*outer, outer[0], *inner, inner[0], outer[0]]
    read = _read(structure_set(volume, header, [Roi("Liver", [(5, keyhole)])]), volume)
    expected = np.zeros(LABELS.shape, bool)
    expected[5, 5:15, 3:16] = True
    expected[5, 8:11, 6:10] = False
    assert ((read.labels > 0) == expected).all()


def test_a_missing_slice_is_filled_by_shape_and_said(volume: Volume, header: Dataset) -> None:
    drawn = outlines(LABELS > 0, [k for k in range(16) if k not in (6, 7, 9)])
    read = _read(structure_set(volume, header, [Roi("Liver", drawn)]), volume)
    assert ((read.labels > 0)[9] == (LABELS > 0)[9]).all()
    assert not read.labels[6:8].any(), "two lost slices of 5 mm are no slip of the pen"
    assert read.remarks == ('ROI 1 "Liver": 1 slice without contours interpolated.',)


def test_contours_on_every_third_slice_are_filled_by_shape(volume: Volume, header: Dataset) -> None:
    drawn = outlines(LABELS > 0, (3, 6, 9, 12))
    read = _read(structure_set(volume, header, [Roi("Liver", drawn)]), volume)
    assert (read.labels[3:13] > 0).any(axis=(1, 2)).all()
    assert ((read.labels > 0)[8] == (LABELS > 0)[8]).mean() > 0.9


def test_names_and_types_of_lesions_that_the_case_knows(volume: Volume, header: Dataset) -> None:
    known = KnownTargets(offered=[LABELS], used=[1, 2])
    rois = [LIVER, Roi("Lesion 2", outlines(LABELS == 3)), Roi("a", outlines(LABELS == 2), "GTV")]
    assert _read(structure_set(volume, header, rois), volume, known).label_of_segment == {1: 1, 2: 3, 3: 2}


def _points(kind: str, polygon: list[tuple[float, float]], k: float = 5) -> Roi:
    return Roi("Lesion 1", [(k, polygon)], kind=kind)


REFUSED = {
    "open contour": ("contour-open", _points("OPEN_PLANAR", SQUARE)),
    "open contour in space": ("contour-open", _points("OPEN_NONPLANAR", SQUARE)),
    "closed contour of two points": ("contour-open", _points("CLOSED_PLANAR", SQUARE[:2])),
    "point": ("contour-open", _points("POINT", SQUARE[:1])),
    "contour without points": ("contour-open", _points("CLOSED_PLANAR", [])),
    "NaN": ("contour-not-finite", _points("CLOSED_PLANAR", [*SQUARE, (np.nan, 5.0)])),
    "infinite": ("contour-not-finite", _points("CLOSED_PLANAR", [*SQUARE, (np.inf, 5.0)])),
    "above the series": ("contour-slice-unknown", _points("CLOSED_PLANAR", SQUARE, k=16)),
    "between two slices": ("contour-slice-unknown", _points("CLOSED_PLANAR", SQUARE, k=5.5)),
    "10,000 contours": ("edited-too-large", Roi("Lesion 1", [(5, SQUARE)] * 10_000)),
    "300 contours on a slice": ("edited-too-large", Roi("Lesion 1", [(5, SQUARE)] * 300)),
    "no contour": ("edited-empty", Roi("Lesion 1", [])),
    "smaller than a voxel": ("edited-empty", _points("CLOSED_PLANAR", [(5.2, 5.2), (5.2, 5.4), (5.4, 5.4)])),
    "another structure": ("edited-unrecognised", Roi("Spleen", [(5, SQUARE)])),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_used_is_refused_with_its_code(volume: Volume, header: Dataset, what: str) -> None:
    code, roi = REFUSED[what]
    refusal = _refusal(structure_set(volume, header, [roi], PINNACLE), volume)
    assert refusal.code == code
    assert refusal.remedy


def test_one_open_contour_refuses_the_set_and_one_of_another_structure_does_not(
    volume: Volume, header: Dataset
) -> None:
    opened = _points("OPEN_PLANAR", SQUARE)
    assert _refusal(structure_set(volume, header, [LIVER, opened]), volume).code == "contour-open"
    other = Roi("Spinal cord", opened.contours, kind="OPEN_PLANAR")
    assert _read(structure_set(volume, header, [LIVER, other]), volume).targets.ignored == (2,)


def test_a_contour_across_the_slices_is_refused(volume: Volume, header: Dataset) -> None:
    made = structure_set(volume, header, [_points("CLOSED_PLANAR", SQUARE)])
    contour = made.ROIContourSequence[0].ContourSequence[0]
    points = np.array(contour.ContourData, float).reshape(-1, 3)
    points[0, 2] += 5.0
    contour.ContourData = [f"{value:.2f}" for value in points.ravel()]
    assert _refusal(made, volume).code == "contour-not-planar"


def test_a_contour_that_names_another_slice_than_its_own_is_refused(volume: Volume, header: Dataset) -> None:
    made = structure_set(volume, header, [_points("CLOSED_PLANAR", SQUARE)])
    (image,) = made.ROIContourSequence[0].ContourSequence[0].ContourImageSequence
    image.ReferencedSOPInstanceUID = volume.slices[9].sop_instance_uid
    assert _refusal(made, volume).code == "contour-slice-unknown"


def test_half_a_point_is_refused(volume: Volume, header: Dataset) -> None:
    made = structure_set(volume, header, [_points("CLOSED_PLANAR", SQUARE)])
    contour = made.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [*contour.ContourData, 1.0]
    assert _refusal(made, volume).code == "edited-unreadable"


def test_a_lesion_outside_the_liver_is_refused_and_named(volume: Volume, header: Dataset) -> None:
    corner = [(18.5, 15.5), (18.5, 19.0), (22.5, 19.0), (22.5, 15.5)]
    made = structure_set(volume, header, [LIVER, Roi("GTV", [(15, corner)], "GTV")])
    read = _read(made, volume, KnownTargets(offered=[LABELS], used=[1, 2]))
    assert read.targets.outside == (2,)
    alone = structure_set(volume, header, [Roi("GTV", [(15, corner)], "GTV")])
    refusal = _refusal(alone, volume, KnownTargets(offered=[LABELS], used=[1, 2]))
    assert refusal.code == "edited-outside-organ"
    assert "ROI 1" in refusal.sentence


def test_another_frame_of_reference_and_another_series_are_refused(
    volume: Volume, header: Dataset, tmp_path: Path
) -> None:
    stranger = read_geometry(good_series(tmp_path / "a"))
    assert (
        _refusal(structure_set(stranger, header, [LIVER]), volume).code == "edited-other-frame-of-reference"
    )
    phase = read_geometry(good_series(tmp_path / "b", frame_of_reference_uid=volume.frame_of_reference_uid))
    assert _refusal(structure_set(phase, header, [LIVER]), volume).code == "edited-other-series"


def test_a_region_in_another_space_than_the_others_is_refused(volume: Volume, header: Dataset) -> None:
    made = structure_set(volume, header, [LIVER, _points("CLOSED_PLANAR", SQUARE)], PINNACLE)
    del made.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence
    made.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    assert _refusal(made, volume).code == "edited-other-frame-of-reference"
