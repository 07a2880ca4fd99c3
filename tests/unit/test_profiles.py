"""Viewer profiles of destinations: each changes what its viewer needs, and only that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import Dataset, dcmread

from dicom_config.errors import ConfigError
from dicom_config.model import Verb, load_settings
from dicom_config.profiles import NEEDS, Profile
from tests.support.iods import iod_errors
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.selections import key_object
from uair_node.cases.tables import Delivery, Result, ResultKind, SelectionOutcome, WorkKind
from uair_node.dicom.readers import read_selection
from uair_node.dicom.rtstruct_reader import read_structures
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.results.uids import lesion_uid

COSMETIC = {"SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationSequence", "DimensionIndexSequence"}


def _destination(profile: str, *, withdraw: bool = False) -> dict:
    return {
        "name": f"at-{profile}",
        "ae_title": "PACS",
        "host": "127.0.0.1",
        "port": 1,
        "profile": profile,
        "withdraw": withdraw,
    }


def _got(offered: OfferedCase, destination: str, kind: ResultKind | None = None) -> list[Result]:
    """The results that a destination is due to get, in the order of their sending."""
    with offered.context.database.transaction() as session:
        rows = session.query(Delivery).filter_by(destination=destination).order_by(Delivery.id).all()
        found = [row.result for row in rows if kind in (None, row.result.kind)]
        session.expunge_all()
    return found


def _segs(offered: OfferedCase, destination: str, kind: ResultKind = ResultKind.CANDIDATE) -> list[Dataset]:
    return [dcmread(offered.path(dataset)) for dataset in _got(offered, destination, kind)]


def _differing(first: Dataset, other: Dataset) -> set[str]:
    keywords = {element.keyword for element in [*first, *other]}
    return {key for key in keywords if first.get(key) != other.get(key)} - COSMETIC


@pytest.fixture
def gappy(monkeypatch: pytest.MonkeyPatch) -> Sequence[int]:
    """Liver on slices 3 to 12 but not on 7 and 8, a lesion on 5 and 10: gaps that no other segment fills."""

    def labels(k: int) -> np.ndarray:
        drawn = candidate_labels(k)
        drawn[7:9] = 0
        drawn[drawn > 1] = 1
        drawn[5, 7:9, 5:9] = drawn[10, 7:9, 5 : 8 + k] = 2
        return drawn

    monkeypatch.setattr("tests.support.offered.candidate_labels", labels)
    return [3, 4, 5, 6, 9, 10, 11, 12]


def test_every_profile_says_what_it_needs() -> None:
    assert set(NEEDS) == set(Profile)
    assert NEEDS[Profile.STRICT] == type(NEEDS[Profile.STRICT])()


def test_without_a_gap_the_ohif_form_is_the_strict_one(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[_destination("strict"), _destination("ohif")]) as offered:
        for strict, ohif in zip(_segs(offered, "at-strict"), _segs(offered, "at-ohif"), strict=True):
            assert _differing(strict, ohif) == set()
            assert strict.SOPInstanceUID != ohif.SOPInstanceUID


def test_ohif_gets_frames_in_the_gaps_of_a_segment_and_nothing_else_changes(
    tmp_path: Path, gappy: Sequence[int]
) -> None:
    with offered_case(tmp_path, destinations=[_destination("strict"), _destination("ohif")]) as offered:
        strict, ohif = _segs(offered, "at-strict")[1], _segs(offered, "at-ohif")[1]
        assert _differing(strict, ohif) == {"NumberOfFrames", "PerFrameFunctionalGroupsSequence", "PixelData"}
        assert (strict.NumberOfFrames, ohif.NumberOfFrames) == (len(gappy) + 2, 10 + 6)
        sources = [slice_.sop_instance_uid for slice_ in offered.volume.slices]
        shown = [
            (
                int(frame.FrameContentSequence[0].DimensionIndexValues[0]),
                sources.index(
                    frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
                ),
            )
            for frame in ohif.PerFrameFunctionalGroupsSequence
        ]
        assert shown == [*((1, k) for k in range(3, 13)), *((2, k) for k in range(5, 11))]
        z_mm = [
            float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
            for frame in ohif.PerFrameFunctionalGroupsSequence
        ]
        assert z_mm == [
            float(offered.volume.affine[2, 3] + k * offered.volume.affine[2, 0]) for _, k in shown
        ]
        tracking = {lesion_uid(offered.case().digest, 1): 1}
        read = [read_edited(entry, offered.volume, KnownTargets(tracking)).labels for entry in (strict, ohif)]
        assert (read[0] == read[1]).all()
        assert read[0].any()


def test_weasis_gets_a_label_that_is_whole_in_its_list(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[_destination("strict"), _destination("weasis")]) as offered:
        offered.send(offered.candidate(1), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        for kind, expected in ((ResultKind.CANDIDATE, "R1C1"), (ResultKind.FINAL, "FINAL R1C1")):
            strict, weasis = _segs(offered, "at-strict", kind)[0], _segs(offered, "at-weasis", kind)[0]
            assert _differing(strict, weasis) == {"ContentLabel"}
            listed = f"[{weasis.InstanceNumber}] {weasis.ContentLabel} - {weasis.ContentDescription}"[:16]
            assert weasis.ContentLabel == expected
            assert expected in listed
            assert (
                expected not in f"[{strict.InstanceNumber}] {strict.ContentLabel}"[:16]
                or "FINAL" not in expected
            )


def test_without_segmentations_pages_and_notices_are_all(tmp_path: Path) -> None:
    both = [_destination("strict", withdraw=True), _destination("no-seg", withdraw=True)]
    with offered_case(tmp_path, destinations=both) as offered:
        offered.work(WorkKind.PAGES)
        page = dcmread(offered.path(_got(offered, "at-no-seg", ResultKind.PAGE)[-1]))
        assert offered.send(key_object([page]), Verb.REJECT).outcome == SelectionOutcome.EFFECTIVE
        offered.work(WorkKind.NOTICES)
        offered.compute()
        offered.work(WorkKind.PUBLISH)
        offered.send(offered.candidate(2, 2), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        kinds = {result.kind for result in _got(offered, "at-no-seg")}
        pages = {ResultKind.PAGE, ResultKind.FINDING, ResultKind.FINAL_PAGE}
        assert kinds == {*pages, ResultKind.NOTICE, ResultKind.WITHDRAWAL}
        for name in ("at-strict", "at-no-seg"):
            (note,) = _got(offered, name, ResultKind.WITHDRAWAL)
            withdrawn = set(read_selection(dcmread(offered.path(note))).references)
            ended = (ResultKind.FINAL, ResultKind.FINAL_PAGE, ResultKind.REPORT, ResultKind.WITHDRAWAL)
            assert withdrawn == {
                result.sop_instance_uid for result in _got(offered, name) if result.kind not in ended
            }, "what the archive got, and nothing that it has not"


def test_a_planning_system_gets_the_accepted_contours_and_nothing_else(
    tmp_path: Path,
) -> None:
    both = [_destination("strict"), _destination("rtstruct")]
    with offered_case(tmp_path, destinations=both) as offered:
        offered.work(WorkKind.PAGES)
        assert _got(offered, "at-rtstruct") == []
        offered.send(offered.candidate(3), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        (sent,) = _got(offered, "at-rtstruct")
        assert sent.kind == ResultKind.STRUCTURES
        assert ResultKind.STRUCTURES not in {result.kind for result in _got(offered, "at-strict")}
        made = dcmread(offered.path(sent))
        known = KnownTargets(offered=[candidate_labels(3)], used=[1, 2])
        assert (read_structures(made, offered.volume, known).labels == candidate_labels(3)).all()
        again = offered.send(made, Verb.PICK)
        assert (again.outcome, again.code) == (SelectionOutcome.REFUSED, "own-object")


def test_a_candidate_is_picked_in_any_of_its_forms(tmp_path: Path) -> None:
    three = [_destination(name) for name in ("strict", "ohif", "weasis")]
    with offered_case(tmp_path, destinations=three) as offered:
        assert [result.k for result in _got(offered, "at-weasis")] == [1, 2, 3, 4]
        row = offered.send(_segs(offered, "at-weasis")[2], Verb.PICK)
        assert (row.outcome, row.picked) == (SelectionOutcome.EFFECTIVE, 3)
        again = offered.send(_segs(offered, "at-ohif")[2], Verb.PICK)
        assert again.outcome == SelectionOutcome.REPEATED


def test_reports_refer_to_the_final_segmentation_of_their_form(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[_destination("strict"), _destination("weasis")]) as offered:
        offered.send(offered.candidate(1), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        for name in ("at-strict", "at-weasis"):
            (final,), (report,) = (
                _got(offered, name, kind) for kind in (ResultKind.FINAL, ResultKind.REPORT)
            )
            assert final.sop_instance_uid in read_selection(dcmread(offered.path(report))).references


def test_without_a_strict_destination_no_strict_form_is_written(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[_destination("ohif")]) as offered:
        assert len(offered.results(ResultKind.CANDIDATE)) == 4
        assert len(_got(offered, "at-ohif")) == 4


def test_a_destination_that_would_get_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "results: {pages: false}\ndestinations: [{name: a, ae_title: A, host: h, port: 1, profile: no-seg}]\n"
    )
    with pytest.raises(ConfigError, match="no-seg"):
        load_settings(path)


@pytest.mark.integration
@pytest.mark.parametrize("profile", ["strict", "ohif", "weasis"])
def test_every_form_conforms_and_is_read_by_highdicom(
    tmp_path: Path, profile: str, gappy: Sequence[int]
) -> None:
    with offered_case(tmp_path, destinations=[_destination(profile)]) as offered:
        offered.send(offered.candidate(4), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        for kind in (ResultKind.CANDIDATE, ResultKind.FINAL):
            for dataset in _got(offered, f"at-{profile}", kind):
                assert iod_errors(offered.path(dataset), "Segmentation") == []
                seg = segread(offered.path(dataset))
                found = seg.get_pixels_by_source_instance(
                    [source.sop_instance_uid for source in offered.volume.slices],
                    combine_segments=True,
                    ignore_spatial_locations=False,
                    assert_missing_frames_are_empty=True,
                )
                assert sorted(set(np.flatnonzero(found.any(axis=(1, 2))))) == list(gappy)
