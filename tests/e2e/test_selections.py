"""Objects that a reader sends back besides the SEG itself: Key Objects, reports, and unusable objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from tests.support.edited import selected_segments
from tests.support.pacs import await_pages, await_round, seg_series
from tests.support.peers import Dcmtk, Orthanc
from tests.support.ports import wait_until
from tests.support.running_node import HOST, Deployment
from tests.support.selections import key_object, measurement_report, new_uid, segments_report

pytestmark = pytest.mark.integration


def _candidates(orthanc: Orthanc, number: int) -> list[Dataset]:
    return [dcmread(BytesIO(orthanc.dicom(series.instances[0]))) for series in await_round(orthanc, number)]


def _say(dcmtk: Dcmtk, deployment: Deployment, called: str, document: Dataset, folder: Path) -> None:
    path = folder / f"{document.SOPInstanceUID}.dcm"
    document.save_as(path, enforce_file_format=True)
    sent = dcmtk.storescu(HOST, deployment.port, called, "VIEWER", [path])
    assert sent.returncode == 0, sent.stderr


def _await_selections(deployment: Deployment, count: int) -> Sequence[dict]:
    try:
        wait_until(lambda: len(deployment.case()["selections"]) == count, f"{count} selections", 30.0)
    except TimeoutError as error:
        error.add_note(f"{deployment.case()['state']}, {deployment.case()['selections']}")
        raise
    return deployment.case()["selections"]


def _edited(candidate: Dataset) -> Dataset:
    """The candidate as a viewer would save it after the reader cut a quarter of its frames away."""
    edited = deepcopy(candidate)
    edited.SOPInstanceUID = edited.file_meta.MediaStorageSOPInstanceUID = new_uid()
    edited.SeriesInstanceUID, edited.SeriesDescription = new_uid(), "Segmentation"
    cut = len(edited.PixelData) // 4
    edited.PixelData = bytes(cut) + edited.PixelData[cut:]
    return edited


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_key_objects_edits_and_reports_choose_and_what_is_unusable_says_why(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    assert dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", phantom_series).returncode == 0
    first = _candidates(orthanc, 1)
    deployment.await_state("AWAITING_SELECTION")

    _say(dcmtk, deployment, "UAIR_PICK", key_object(first[:2]), tmp_path)
    (refused,) = _await_selections(deployment, 1)
    assert (refused["outcome"], refused["code"]) == ("refused", "ambiguous-selection")
    assert deployment.case()["state"] == "AWAITING_SELECTION"

    # A reader whose viewer draws no SEG marks the page of candidate 4 as a key image.
    pages = [dcmread(BytesIO(orthanc.dicom(page))) for page in await_pages(orthanc, 1)]
    picked = key_object([pages[4]])
    _say(dcmtk, deployment, "UAIR_PICK", picked, tmp_path)
    assert _await_selections(deployment, 2)[-1]["picked"] == 4
    second = _candidates(orthanc, 2)
    deployment.await_state("AWAITING_SELECTION")

    _say(dcmtk, deployment, "UAIR_PICK", picked, tmp_path)
    assert _await_selections(deployment, 3)[-1]["outcome"] == "repeated"
    assert deployment.case()["round"] == 2

    _say(dcmtk, deployment, "UAIR_PICK", _edited(second[2]), tmp_path)
    drawn = _await_selections(deployment, 4)[-1]
    assert (drawn["outcome"], drawn["mechanism"]) == ("effective", "edited-seg")
    third = _candidates(orthanc, 3)
    deployment.await_state("AWAITING_SELECTION")

    report = measurement_report(third[1], dcmread(phantom_series[0]))
    _say(dcmtk, deployment, "UAIR_ACCEPT", report, tmp_path)
    case = deployment.await_state("ACCEPTED")
    last = case["selections"][-1]
    assert (last["mechanism"], last["picked"], last["calling_ae"]) == ("sr", 2, "VIEWER")

    shown = deployment.command_line("case", "show", "1")
    assert "ambiguous-selection" in shown.stdout


def _lesions(candidate: Dataset) -> dict[str, int]:
    """Segment number of each lesion, by its Tracking UID."""
    return {str(segment.TrackingUID): int(segment.SegmentNumber) for segment in candidate.SegmentSequence[1:]}


def _voxels(candidate: Dataset, tracking_uid: str) -> dict[str, np.ndarray]:
    """The frames of a lesion by the slice that they lie on; empty ones are left out."""
    number = _lesions(candidate)[tracking_uid]
    found = {}
    for frame, group in zip(candidate.pixel_array, candidate.PerFrameFunctionalGroupsSequence, strict=True):
        if group.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number and frame.any():
            source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            found[str(source)] = frame.astype(bool)
    return found


def _combined(wanted: Sequence[tuple[Dataset, str]]) -> dict[str, dict[str, np.ndarray]]:
    """The union of these lesions: where two meet, the higher number wins."""
    names = {
        uid: next(str(s.SegmentLabel) for s in candidate.SegmentSequence[1:] if s.TrackingUID == uid)
        for candidate, uid in wanted
    }
    (low, lower), (high, higher) = sorted(
        ((uid, _voxels(candidate, uid)) for candidate, uid in wanted), key=lambda pair: names[pair[0]]
    )
    left = {source: frame & ~higher.get(source, np.False_) for source, frame in lower.items()}
    return {high: higher, low: {source: frame for source, frame in left.items() if frame.any()}}


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all((a[source] == b[source]).all() for source in a)


def _two_lesions(candidates: Sequence[Dataset]) -> list[tuple[Dataset, str]]:
    """Two lesions from two candidates that draw the second one differently."""
    first, other = sorted(set.intersection(*(set(_lesions(candidate)) for candidate in candidates[:3])))[:2]
    assert not _same(_voxels(candidates[1], other), _voxels(candidates[2], other))
    return [(candidates[1], first), (candidates[2], other)]


def _pick_a_part(deployment: Deployment, orthanc: Orthanc, offered: Sequence[Dataset]) -> list[Dataset]:
    """Take a lesion's part from candidate 3, all else from 1; return the next four."""
    case = deployment.await_state("AWAITING_SELECTION")
    (value, (name, *_)), *_ = sorted(case["rounds"][-1]["parts"].items(), reverse=True)
    number = int(value) - 1
    deployment.command_line("case", "pick", "1", "1", "--part", f"{number}:{name}=3")
    following = _candidates(orthanc, 3)
    deployment.await_state("AWAITING_SELECTION")
    (uid,) = (
        str(segment.TrackingUID)
        for segment in offered[0].SegmentSequence
        if str(segment.SegmentLabel) == f"Lesion {number}"
    )
    before, other, after = (_voxels(candidate, uid) for candidate in (offered[0], offered[2], following[0]))
    changed = agreeing = 0
    for source in before.keys() | other.keys() | after.keys():
        was, wanted, got = (frames.get(source, np.False_) for frames in (before, other, after))
        changed += int(np.sum(got != was))
        agreeing += int(np.sum((got != was) & (got == wanted)))
    assert changed > 0, "the part of candidate 3 differs"
    assert agreeing > 0.9 * changed, "what changed is as in candidate 3"
    assert not _same(after, other), "the other parts are those of candidate 1"
    return following


@pytest.mark.parametrize("deployment", ["embedded"], indirect=True)
def test_each_lesion_from_the_candidate_that_draws_it_best(
    deployment: Deployment, dcmtk: Dcmtk, orthanc: Orthanc, phantom_series: list[Path], tmp_path: Path
) -> None:
    assert dcmtk.storescu(HOST, deployment.port, "UAIR", "ROUTER", phantom_series).returncode == 0
    wanted = _two_lesions(_candidates(orthanc, 1))
    deployment.await_state("AWAITING_SELECTION")

    # A report with a measurement group for each lesion, on the segments that the reader likes.
    segments = [(candidate, _lesions(candidate)[uid]) for candidate, uid in wanted]
    _say(dcmtk, deployment, "UAIR_PICK", segments_report(segments, dcmread(phantom_series[0])), tmp_path)
    (row,) = _await_selections(deployment, 1)
    assert (row["outcome"], row["picked"], list(row["per_target"].values())) == ("effective", 2, [3])
    second = _candidates(orthanc, 2)
    deployment.await_state("AWAITING_SELECTION")
    for uid, voxels in _combined(wanted).items():
        assert _same(_voxels(second[0], uid), voxels), "candidate 1 is what was selected"

    third = _pick_a_part(deployment, orthanc, second)

    # A viewer's "save selected segments", from two candidates, sent to the title that ends the case.
    wanted = _two_lesions(third)
    for candidate, uid in wanted:
        part = selected_segments(candidate, [_lesions(candidate)[uid]])
        _say(dcmtk, deployment, "UAIR_ACCEPT", part, tmp_path)
    case = deployment.await_state("ACCEPTED")
    outcomes = [selection["outcome"] for selection in case["selections"]]
    assert outcomes == ["effective", "effective", "joined", "effective"]
    wait_until(lambda: len(seg_series(orthanc, "UAIR FINAL")) == 1, "the final segmentation in the PACS")
    (series,) = seg_series(orthanc, "UAIR FINAL")
    final = dcmread(BytesIO(orthanc.dicom(series.instances[0])))
    (memory,) = json.loads(deployment.command_line("preference", "show", "--json").stdout)
    assert (memory["scope"], memory["key"], memory["cases"]) == ("department", "ROUTER", 1)
    for uid, voxels in _combined(wanted).items():
        assert _same(_voxels(final, uid), voxels)
