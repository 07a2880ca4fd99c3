"""A profile of another organ: every object and page says so, and nothing that knows only livers is asked."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from dicom_config import model
from dicom_config.errors import ConfigError, InputError
from dicom_config.modalities import CT, PROFILES
from dicom_config.modalities.profile import LIVER, Organ
from tests.support.series import affine_of
from tests.support.synthetic import SPACING, DensityLesions, DensityLocalizer, DensityPredictor, abdomen
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.measurements import measure
from uair_node.findings.record import tabulate
from uair_node.rendering.differences import against_reference, against_siblings
from uair_node.results.measurement_report import ReportRequest, write_report
from uair_node.results.provenance import Provenance
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.engine import Engine, EngineOptions
from workers.phantoms.ct_series import write_ct_series

SPLEEN = Organ("spleen", Code("78961009", "SCT", "Spleen"))
PROFILE = replace(CT, organ=SPLEEN)
SHAPE = (16, 24, 20)


def labels_of() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:14, 4:20, 4:16] = 1
    labels[6:9, 8:12, 8:12] = 2
    return labels


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    values = np.where(labels_of() > 0, 100, -50).astype(np.int16)
    folder = tmp_path_factory.mktemp("series")
    return replace(read_series(write_ct_series(folder, values, affine_of())), profile=PROFILE)


@pytest.fixture(scope="module")
def segmentation(volume: Volume) -> Dataset:
    request = SegRequest(
        sop_instance_uid=result_uid("seg"),
        series_instance_uid=result_uid("seg series"),
        k=1,
        character="tight",
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest="0" * 64,
            software_version="0",
            case_digest="c" * 64,
            content_datetime=datetime(2026, 1, 5),
        ),
        tracking={1: Tracking("UAIR lesion 1", result_uid("lesion", 1))},
    )
    file = BytesIO()
    write_seg(volume, labels_of(), request).save_as(file, enforce_file_format=True)
    return dcmread(BytesIO(file.getvalue()))


def test_the_segmentation_names_the_organ(segmentation: Dataset) -> None:
    organ, lesion = segmentation.SegmentSequence
    assert organ.SegmentLabel == "Spleen"
    assert organ.SegmentedPropertyTypeCodeSequence[0].CodeValue == "78961009"
    assert lesion.AnatomicRegionSequence[0].CodeValue == "78961009"


def test_an_edited_one_is_recognized_by_its_organ(volume: Volume, segmentation: Dataset) -> None:
    edited = deepcopy(segmentation)
    for keyword in ("TrackingID", "TrackingUID"):
        del edited.SegmentSequence[1][keyword]
    by_code = read_edited(edited, volume, KnownTargets())
    assert by_code.label_of_segment == {1: 1, 2: 2}
    np.testing.assert_array_equal(by_code.labels, labels_of())
    edited.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeValue = "85756007"  # tissue
    assert read_edited(edited, volume, KnownTargets()).label_of_segment[1] == 1, "by its label"


def test_the_report_finds_in_the_organ(volume: Volume, segmentation: Dataset, tmp_path: Path) -> None:
    measured = measure(volume.array, labels_of(), volume.spacing_mm)
    findings = tabulate(measured, {1: (result_uid("lesion", 1), "UAIR lesion 1")}, profile=volume.profile)
    provenance = Provenance(1, "embedded", "0" * 64, "0", "c" * 64, datetime(2026, 1, 5))
    request = ReportRequest(result_uid("report"), result_uid("report series"), 1, provenance)
    path = tmp_path / "report.dcm"
    write_report(volume, findings, segmentation, request).save_as(path, enforce_file_format=True)
    groups = srread(path).content.get_volumetric_roi_measurement_groups()
    assert [group.finding_type.value for group in groups] == ["78961009", "78961009", "52988006"]
    assert [site.value.value for site in groups[2].finding_sites] == ["78961009"]
    assert "10200004" not in path.read_bytes().decode("latin1"), "no liver anywhere"


def test_of_profiles_that_fit_the_first_configured_one_is_taken(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    spleen = replace(PROFILE, name="spleen")
    monkeypatch.setattr(model, "PROFILES", {**PROFILES, "spleen": spleen})
    known = model.IntakeSection(profiles=("spleen",)).known
    assert known[0] == spleen
    assert set(known[1:]) == set(PROFILES.values()), "other cases stay readable"
    paths = [slice_.path for slice_ in volume.slices]
    assert read_series(paths, known).profile == spleen
    assert read_series(paths).profile == CT


def test_pages_say_the_organ() -> None:
    larger = labels_of()
    larger[2:14, 3, 4:16] = 1
    mm = (5.0, 3.0, 3.0)
    assert against_siblings(larger, [labels_of()] * 3, mm, "spleen")[0].startswith("largest spleen")
    assert against_reference(larger, labels_of(), mm, "spleen")[0].startswith("spleen: ")


def test_the_learned_finder_of_liver_lesions_is_not_asked() -> None:
    class Asked(DensityLesions):
        times = 0

        def search(self, *arguments: Any) -> Any:
            Asked.times += 1
            return super().search(*arguments)

    hu, _ = abdomen()
    made = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(members=8), lesions=Asked())
    assert len(made.first_round(hu, SPACING, wanted=SPLEEN).candidates) == 4
    assert Asked.times == 0
    made.first_round(hu, SPACING, wanted=LIVER)
    assert Asked.times == 1
    with pytest.raises(InputError, match="No spleen was found"):
        made.first_round(abdomen(liver=False)[0], SPACING, wanted=SPLEEN)


def test_an_organ_that_the_localizer_does_not_know_needs_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {**PROFILES, "spleen": replace(PROFILE, name="spleen")}
    monkeypatch.setattr(model, "PROFILES", known)
    site = tmp_path / "site.yaml"
    for text, words in (
        ("intake: {profiles: [spleen]}", "localizer: templates"),
        ("intake: {profiles: [ct, spleen]}\nengine: {localizer: templates}", "the same organ"),
    ):
        site.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=words):
            model.load_settings(site)
    site.write_text("intake: {profiles: [spleen]}\nengine: {localizer: templates}", "utf-8")
    (profile,) = model.load_settings(site).intake.modalities
    assert profile.organ == SPLEEN
