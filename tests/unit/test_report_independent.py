"""The report's numbers against SimpleITK's, on a phantom's truth and on real masks, within 1 %.

Diameters agree within the difference of the two definitions. SimpleITK's diameter here runs through the
middles of pixel sides, which is up to 0.9 pixels too long for a ball. Ours runs half a pixel inside of it
(`axial_diameters`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name that its documentation uses
from highdicom.sr import srread
from numpy.typing import NDArray
from scipy import ndimage

from dicom_config import codes
from tests.unit.test_report import PROVENANCE, REQUEST, findings_of, value
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.measurements import measure
from uair_node.results.measurement_report import write_report
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series
from workers.truth.masks import load_truth

WITHIN = 0.01
LEAST_PIXELS = 10
"""Lesions of fewer pixels across are compared in volume and density only: a pixel is 10 % of them."""
FINER = 8


def _image(array: NDArray[np.generic], spacing_mm: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(tuple(float(s) for s in spacing_mm[::-1]))
    return image


def _outlined(mask: sitk.Image) -> sitk.Image:
    """A slice's mask at 1/8 of a pixel: inside is where linear interpolation gives at least one half."""
    size = [int(n) * FINER for n in mask.GetSize()]
    step = [s / FINER for s in mask.GetSpacing()]
    origin = [-(s - t) / 2 for s, t in zip(mask.GetSpacing(), step, strict=True)]
    smooth = sitk.Cast(mask, sitk.sitkFloat32)
    fine = sitk.Resample(smooth, size, sitk.Transform(), sitk.sitkLinear, origin, step, mask.GetDirection())
    return sitk.Cast(fine >= 0.5, sitk.sitkUInt8)


def _longest_mm(lesion: NDArray[np.bool_], pixel_mm: tuple[float, float]) -> float:
    """The largest Feret diameter of a connected part of an axial slice, by SimpleITK."""
    longest = 0.0
    (box,) = ndimage.find_objects(lesion.astype(np.uint8))
    for plane in lesion[box]:
        image = _image(np.pad(plane, 1).astype(np.uint8), pixel_mm)
        parts = sitk.ConnectedComponent(image, True)
        shapes = sitk.LabelShapeStatisticsImageFilter()
        shapes.ComputeFeretDiameterOn()
        for part in range(1, int(sitk.GetArrayViewFromImage(parts).max()) + 1):
            shapes.Execute(_outlined(sitk.Cast(parts == part, sitk.sitkUInt8)))
            longest = max(longest, shapes.GetFeretDiameter(1))
    return longest


def _check(volume: Volume, labels: NDArray[np.uint8], folder: Path) -> int:
    """Compare every number of the report; return how many diameters were."""
    lesions = [int(number) - 1 for number in np.unique(labels) if number > 1]
    request = SegRequest(
        sop_instance_uid=result_uid("seg"),
        series_instance_uid=result_uid("seg series"),
        k=1,
        character="",
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest=PROVENANCE.model_digest,
            software_version="0.1.0",
            case_digest=PROVENANCE.case_digest,
            content_datetime=PROVENANCE.content_datetime,
        ),
        tracking={n: Tracking(f"lesion {n}", result_uid("lesion", n)) for n in lesions},
        final=True,
    )
    segmentation = write_seg(volume, labels, request)
    path = folder / "report.dcm"
    save_durably(write_report(volume, findings_of(volume, labels), segmentation, replace(REQUEST, k=1)), path)
    report = srread(path)
    statistics = sitk.LabelIntensityStatisticsImageFilter()
    statistics.Execute(_image(labels, volume.spacing_mm), _image(volume.array, volume.spacing_mm))
    groups = report.content.get_volumetric_roi_measurement_groups(finding_type=codes.LESION)
    assert len(groups) == len(lesions)
    diameters = 0
    for group, number in zip(groups, lesions, strict=True):
        ml = statistics.GetPhysicalSize(1 + number) / 1000
        assert value(group, codes.VOLUME) == pytest.approx(ml, rel=WITHIN, abs=5e-4)
        assert value(group, codes.ATTENUATION) == pytest.approx(
            statistics.GetMean(1 + number), rel=WITHIN, abs=0.051
        )
        longest = _longest_mm(labels == 1 + number, volume.spacing_mm[1:])
        if longest >= LEAST_PIXELS * max(volume.spacing_mm[1:]):
            pixel = max(volume.spacing_mm[1:])
            assert longest - 0.75 * pixel <= value(group, codes.LONG_AXIS) <= longest
            diameters += 1
    whole, *_ = report.content.get_volumetric_roi_measurement_groups(finding_type=codes.LIVER)
    assert whole.tracking_identifier == "UAIR liver with lesions"
    liver = sum(statistics.GetPhysicalSize(label) for label in statistics.GetLabels())
    tumour = liver - statistics.GetPhysicalSize(1)
    assert value(whole, codes.VOLUME) == pytest.approx(liver / 1000, rel=WITHIN)
    assert value(whole, codes.LESION_BURDEN) == pytest.approx(100 * tumour / liver, rel=WITHIN, abs=5e-3)
    return diameters


@pytest.mark.parametrize("seed", [9, 11])
def test_a_phantom_measures_as_simpleitk_does(seed: int, tmp_path: Path) -> None:
    phantom = make_phantom(seed, size="small")
    z, y, x = phantom.spacing_mm
    affine = np.array([[0, 0, x, -180], [0, y, 0, -180], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    volume = read_series(write_ct_series(tmp_path, phantom.hu, affine))
    assert _check(volume, volume.canonical().to_source(phantom.labels), tmp_path) >= 1


def test_real_masks_measure_as_simpleitk_does(ct_dir: Path, tmp_path: Path) -> None:
    case = ct_dir / "ircadb01_p17"
    volume = read_series([path for path in sorted((case / "PATIENT_DICOM").rglob("*")) if path.is_file()])
    labels = load_truth(case / "MASKS_DICOM.zip", volume)
    assert _check(volume, labels, tmp_path) >= 1
    found = measure(volume.array, labels, volume.spacing_mm)
    assert found.liver_ml == pytest.approx(1860.6, abs=0.05)
    assert [lesion.volume_ml for lesion in found.lesions] == pytest.approx([85.6, 78.6], abs=0.05)
