"""A patient comes again, through DICOM: report and final SEG tell what changed; of others nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.sr import srread
from pydicom import dcmread

from dicom_config import change_codes, codes
from dicom_config.errors import TransientError
from dicom_config.model import Destination, Verb
from tests.support.foreign_readers import PROGRAMS, SegOnSeries, read_segs
from tests.support.intake import context_in
from tests.support.iods import iod_errors
from tests.support.offered import do_work
from tests.support.peers import Orthanc
from tests.support.pixelmed import validate_reports
from tests.support.ports import free_port
from tests.support.seg_grids import centres_mm
from tests.support.studies import receive_study
from tests.support.synthetic import Lesion, abdomen
from uair_node.cases import lifecycle, work_items
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, Result, ResultKind, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import read_series
from uair_node.findings.record import Findings, as_csv, load_findings
from uair_node.network.retrieve import latest_final
from uair_node.results.priors import find_priors
from uair_node.results.reader_preference import prior_of, radius_mm
from uair_node.results.round_inputs import CANDIDATES_FILE, FINDINGS_FILE
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.artifacts import StoredCandidate, save_candidates
from workers.phantoms.ct_series import write_ct_series
from workers.phantoms.mr_series import write_mr_series

pytestmark = pytest.mark.integration

SHAPE, SPACING = (36, 96, 112), (5.0, 2.6, 2.6)
STAYS, VANISHES, APPEARS = (90.0, 120.0, 110.0), (70.0, 140.0, 80.0), (75.0, 100.0, 140.0)
BEFORE = (Lesion(VANISHES, 11.0), Lesion(STAYS, 12.0))
BASE_MM = {"1": 60.0, "2": 10.0, "3": 10.0}
BOTH = {"quiet_s": 0.01, "max_wait_s": 60, "min_free_bytes": 0, "profiles": ["ct", "mr-t1"]}
NOW = (Lesion(STAYS, 16.0), Lesion(APPEARS, 10.0))


@dataclass(frozen=True)
class Done:
    """An accepted case: its objects' paths, and its findings."""

    final: Path
    report: Path
    page: Path
    findings: Findings
    preference: Mapping[str, float]
    labels: np.ndarray
    on_series: SegOnSeries


def _study(
    context: Context,
    folder: Path,
    lesions: Sequence[Lesion],
    patient: str,
    day: str,
    shift: int = 0,
    *,
    mr: bool = False,
) -> Done:
    """Send a study, let its first round hold the truth in four sizes, accept the second, finish."""
    hu, truth = abdomen(lesions, shape=SHAPE, spacing=SPACING, seed=int(day))
    hu, truth = np.roll(hu, shift, 0), np.roll(truth, shift, 0)
    z, y, x = SPACING
    affine = np.array([[0, 0, x, -140], [0, y, 0, -120], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    write, values = (write_mr_series, hu + 1000) if mr else (write_ct_series, hu)
    paths = write(folder, values, affine, patient_id=patient)
    newest = receive_study(context, paths, day)
    labels = read_series(paths).canonical().to_source(truth)
    priors = find_priors(context, newest)
    earlier = priors[-1].case_id if priors else None
    with context.database.transaction() as session:
        case = session.get_one(Case, newest)
        case_id, round_ = case.id, case.current_round
        lifecycle.start_computing(session, case, actor="worker")
        store = context.store.round_folder(case.id, 1, "made")
        candidates = [StoredCandidate(k, _resized(labels, k), "") for k in (1, 2, 3, 4)]
        save_candidates(store / CANDIDATES_FILE, candidates)
        round_.artifacts = context.store.relative(store)
        round_.base_mm = BASE_MM
        preference = prior_of(session, "off", case, round_, earlier=earlier)
        round_.model_name, round_.model_digest = "embedded", "0123456789abcdef" * 4
        lifecycle.finish_computing(session, case, round_)
        work_items.close(session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one())
    do_work(context, WorkKind.PUBLISH)
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        select_by_number(session, Evidence(Verb.ACCEPT, "command-line"), case, ReaderChoice(2))
    do_work(context, WorkKind.FINISH)
    with context.database.transaction() as session:
        rows = session.query(Result).filter(Result.round.has(case_id=case_id))
        found = {row.kind: context.store.absolute(row.path) for row in rows}
    findings = load_findings(found[ResultKind.FINAL].parent / FINDINGS_FILE)
    assert findings is not None
    final, volume = found[ResultKind.FINAL], read_series(paths)
    return Done(
        final,
        found[ResultKind.REPORT],
        found[ResultKind.FINAL_PAGE],
        findings,
        preference,
        labels,
        SegOnSeries(final, [slice_.path for slice_ in volume.slices], volume.affine),
    )


def _resized(labels: np.ndarray, k: int) -> np.ndarray:
    """Candidates 1 to 4: the second is the truth, others have a slice more or less of each lesion."""
    grown = labels.copy()
    for value in np.unique(labels[labels > 1]):
        at = np.flatnonzero((labels == value).any(axis=(1, 2)))
        if k == 1:
            grown[at[-1] + 1][labels[at[-1]] == value] = value
        if k > 2:
            grown[at[: k - 2]] = np.where(labels[at[: k - 2]] == value, 1, grown[at[: k - 2]])
    return grown


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Done]]:
    folder = tmp_path_factory.mktemp("patient")
    with context_in(folder / "data", f"sqlite:///{folder / 'uair.sqlite'}", intake=BOTH) as context:
        yield [
            _study(context, folder / "1", BEFORE, "P1", "20260105"),
            _study(context, folder / "2", NOW, "P1", "20260205", shift=2),
            _study(context, folder / "3", NOW, "P2", "20260305"),
            _study(context, folder / "4", NOW, "P1", "20260306", mr=True),
        ]


def test_an_mr_is_not_compared_with_a_ct(studies: list[Done]) -> None:
    mr = studies[3]
    assert mr.findings.profile == "mr-t1"
    assert mr.findings.follow_up is None
    before = {lesion.tracking_uid for done in studies[:2] for lesion in done.findings.lesions}
    assert not before & {lesion.tracking_uid for lesion in mr.findings.lesions}


def _group(report: Path, uid: str) -> Any:
    content = srread(report).content
    groups = [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]
    return next(group for group in groups if group.tracking_uid == uid)


def _said(group: Any) -> dict:
    return {
        evaluation.name.meaning: evaluation.value.meaning
        for evaluation in group.get_qualitative_evaluations()
    }


def _numbers(group: Any, code: Any) -> float:
    (found,) = group.get_measurements(name=code)
    return float(found.value)


def test_a_first_study_has_nothing_to_compare_with(studies: list[Done]) -> None:
    assert studies[0].findings.follow_up is None


def test_the_lesion_that_stayed_keeps_its_tracking_uid_in_seg_and_report(studies: list[Done]) -> None:
    first, second = studies[:2]
    (before,) = (lesion for lesion in first.findings.lesions if lesion.number == 2)
    (now,) = (lesion for lesion in second.findings.lesions if lesion.number == 1)
    assert now.tracking_uid == before.tracking_uid
    segments = {segment.SegmentLabel: segment for segment in dcmread(second.final).SegmentSequence}
    assert segments["Lesion 1"].TrackingUID == before.tracking_uid
    assert segments["Lesion 2"].TrackingUID not in {lesion.tracking_uid for lesion in first.findings.lesions}
    group = _group(second.report, before.tracking_uid)
    assert _said(group)["Change since the prior study"] == "Seen before"
    volume = before.values["volume_ml"].value
    assert _numbers(group, change_codes.VOLUME_BEFORE) == volume
    change = 100 * (now.values["volume_ml"].value / volume - 1)
    assert _numbers(group, change_codes.VOLUME_CHANGE) == pytest.approx(change, abs=0.06)


def test_new_and_vanished_lesions_are_told(studies: list[Done]) -> None:
    first, second = studies[:2]
    new = second.findings.lesions[1]
    assert _said(_group(second.report, new.tracking_uid))["Change since the prior study"] == "New lesion"
    gone = first.findings.lesions[0]
    group = _group(second.report, gone.tracking_uid)
    assert _said(group)["Change since the prior study"] == "No longer seen"
    assert _numbers(group, change_codes.VOLUME_CHANGE) == -100
    (reference,) = [item for item in group[0].ContentSequence if item.ValueType == "IMAGE"]
    (named,) = reference.ReferencedSOPSequence
    then = dcmread(first.final, stop_before_pixels=True)
    assert named.ReferencedSOPInstanceUID == then.SOPInstanceUID
    segments = {segment.SegmentNumber: segment for segment in then.SegmentSequence}
    assert segments[named.ReferencedSegmentNumber].TrackingUID == gone.tracking_uid
    (other,) = dcmread(second.report).PertinentOtherEvidenceSequence
    assert other.StudyInstanceUID == then.StudyInstanceUID


def test_the_organ_s_group_names_sums_and_response(studies: list[Done]) -> None:
    follow_up = studies[1].findings.follow_up
    assert follow_up is not None
    assert (follow_up.days, follow_up.response) == (31, "PD")
    content = srread(studies[1].report).content
    group, _ = content.get_volumetric_roi_measurement_groups(finding_type=codes.LIVER)
    assert group.tracking_identifier == "UAIR liver with lesions"
    assert _said(group)["Current Response"] == "Target Lesion Progressive Disease"
    assert _said(group)["Response Evaluation Method"] == "RECIST 1.1"
    assert _numbers(group, change_codes.SUM_NOW) == follow_up.points[-1].sum_mm
    assert _numbers(group, change_codes.SUM_BASELINE) == follow_up.points[0].sum_mm


def test_the_picture_of_the_change_joins_the_result_s_page(studies: list[Done]) -> None:
    first, second, third = (dcmread(done.page, stop_before_pixels=True) for done in studies[:3])
    assert [entry.InstanceNumber for entry in (first, second, third)] == [1, 2, 1]
    assert second.ImageComments == "change since the prior study"
    assert (
        second.SeriesInstanceUID == dcmread(studies[1].page.parent / "UAIR-FINAL-PAGE.dcm").SeriesInstanceUID
    )


def test_the_next_study_starts_with_the_size_that_was_accepted_before(studies: list[Done]) -> None:
    first, second, third, _ = studies
    assert (first.preference, third.preference) == ({}, {})
    radii = [radius_mm(lesion.values["volume_ml"].value) for lesion in first.findings.lesions]
    assert second.preference["lesion_mm"] == pytest.approx(np.mean(radii) - 10.0, abs=2e-3)
    liver = radius_mm(first.findings.liver["liver_ml"].value) - 60.0
    assert second.preference["liver_mm"] == pytest.approx(np.clip(liver, -4, 4), abs=2e-3)
    (candidate,) = second.final.parent.parent.rglob("UAIR-R1C1.dcm")
    assert "patient: liver" in str(dcmread(candidate).to_json())


def test_another_patient_has_no_prior(studies: list[Done]) -> None:
    assert studies[2].findings.follow_up is None
    texts = {_said(group).get("Change since the prior study") for group in _all_groups(studies[2].report)}
    assert texts == {None}


def _all_groups(report: Path) -> list[Any]:
    content = srread(report).content
    return [*content.get_volumetric_roi_measurement_groups(), *content.get_image_measurement_groups()]


def test_report_and_table_state_the_same_numbers(studies: list[Done]) -> None:
    findings = studies[1].findings
    rows = [line.split(",") for line in as_csv(findings).splitlines()[1:]]
    for lesion in findings.lesions:
        group = _group(studies[1].report, lesion.tracking_uid)
        table = {row[2]: float(row[3]) for row in rows if row[1] == lesion.tracking_uid}
        assert _numbers(group, codes.VOLUME) == table["volume_ml"]
        assert _numbers(group, codes.LONG_AXIS) == table["long_mm"]
        assert [
            float(measurement.value) for measurement in group.get_measurements(name=codes.ATTENUATION)
        ] == [table[key] for key in ("mean_hu", "sd_hu", "min_hu", "max_hu")]
        assert float(group.get_measurements()[9].value) == table["sphericity"]


def test_intervals_stand_as_ranges_of_uncertainty(studies: list[Done]) -> None:
    """PS3.16 TID 310: what lies above and below the number."""
    lesion = studies[1].findings.lesions[0]
    ((number,),) = _group(studies[1].report, lesion.tracking_uid).get_measurements(name=codes.VOLUME)
    ranges = {
        item.ConceptNameCodeSequence[0].CodeValue: float(item.MeasuredValueSequence[0].NumericValue)
        for item in number.ContentSequence
        if item.ValueType == "NUM"
    }
    volume = lesion.values["volume_ml"]
    assert volume.low < volume.value < volume.high
    above, below = ranges["371886008"], ranges["371885007"]
    assert (volume.value + above, volume.value - below) == pytest.approx((volume.high, volume.low), abs=1e-6)


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_dciodvfy_finds_no_error(studies: list[Done], number: int) -> None:
    done = studies[number]
    for path, iod in (
        (done.report, "Comprehensive3DSR"),
        (done.final, "Segmentation"),
        (done.page, "SCImage"),
    ):
        assert iod_errors(path, iod) == []


def test_pixelmed_finds_no_error(studies: list[Done]) -> None:
    reports = [done.report for done in studies]
    said = validate_reports(reports)
    for report in reports:
        assert "Root Template Validation Complete" in said[report]
        assert [line for line in said[report] if line.startswith("Error")] == []


@pytest.mark.parametrize("reader", PROGRAMS)
def test_a_foreign_program_reads_the_final_segmentation(
    studies: list[Done], reader: str, tmp_path: Path
) -> None:
    done = studies[1]
    (segments,) = read_segs(reader, [done.on_series], tmp_path)
    assert [segment.label for segment in segments] == ["Liver", "Lesion 1", "Lesion 2"]
    uids = [lesion.tracking_uid for lesion in done.findings.lesions]
    assert [segment.tracking_uid for segment in segments] == ["", *uids]
    for value, segment in enumerate(segments, 1):
        assert segment.covers_exactly(centres_mm(done.labels == value, done.on_series.affine))


@pytest.mark.parametrize("protocol", ["dimse", "web"])
def test_an_earlier_result_is_found_in_the_archive(
    studies: list[Done], orthanc: Orthanc, tmp_path: Path, protocol: str
) -> None:
    """Another node, with an empty database, compares with what the archive holds."""
    orthanc.delete_all()
    orthanc.upload(studies[0].final.read_bytes())
    pacs = {"name": "pacs"}
    if protocol == "web":
        if orthanc.dicomweb_url is None:
            pytest.skip("Orthanc has no DICOMweb plugin here")
        pacs |= {"url": orthanc.dicomweb_url}
    else:
        orthanc.add_modality("uair", "UAIR", "127.0.0.1", 104)
        pacs |= {"ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    sections = {"destinations": [pacs], "results": {"prior_from": "pacs"}, "intake": BOTH}
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}", **sections) as context:
        done = _study(context, tmp_path / "ct", NOW, "P1", "20260205", shift=2)
        other = _study(context, tmp_path / "other", NOW, "P2", "20260206")
        mr = _study(context, tmp_path / "mr", NOW, "P1", "20260207", mr=True)
    assert other.findings.follow_up is None
    assert mr.findings.follow_up is None
    follow_up = done.findings.follow_up
    assert follow_up is not None
    assert (follow_up.days, follow_up.response) == (31, "PD")
    before = next(lesion for lesion in studies[0].findings.lesions if lesion.number == 2)
    link = next(link for link in follow_up.links if link.earlier_uids == (before.tracking_uid,))
    assert link.tracking_uid == before.tracking_uid
    assert link.earlier_ml == before.values["volume_ml"].value
    assert {link.fate for link in follow_up.links} == {"matched", "new", "vanished"}
    assert iod_errors(done.page, "SCImage") == []


def test_an_archive_that_answers_no_search_is_no_empty_archive(orthanc: Orthanc) -> None:
    orthanc.add_modality("uair", "ELSE", "127.0.0.1", 104)
    pacs = Destination(
        name="pacs", ae_title=orthanc.aet, host="127.0.0.1", port=orthanc.dicom_port, calling_ae="STRANGER"
    )
    with pytest.raises(TransientError, match=r"pacs .*search for segmentations"):
        latest_final(pacs, "P1", date(2026, 2, 5))


def test_an_archive_that_is_away_holds_up_nothing_for_ever(tmp_path: Path) -> None:
    """The last attempt goes without it."""
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()}
    sections = {"destinations": [pacs], "results": {"prior_from": "pacs"}, "work": {"max_attempts": 1}}
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}", **sections) as context:
        assert _study(context, tmp_path / "ct", NOW, "P1", "20260205").findings.follow_up is None
