"""A report with marks, sent to the title for picks: what it says of the round, and why it is refused."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_config.model import Verb
from tests.support.cases import new_result
from tests.support.intake import received
from tests.support.marked import Drawn, graphics_of, marked_report
from tests.support.missed import MISSED, ON_LESION, MissedCase, in_space, understood
from tests.support.selections import new_uid, reference_item
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Result, Round, SelectionOutcome
from uair_node.intake.inbox import Inbox

SPLEEN = Code("78961009", "SCT", "Spleen")


def test_a_line_on_no_offered_lesion_adds_one(missed: MissedCase) -> None:
    row = missed.send(marked_report([missed.line(*MISSED)]))
    marks = understood(row)
    (lesion,) = marks.lesions
    assert (lesion.value, lesion.new, lesion.size_mm, marks.dropped) == (4, True, 4.0, ())
    # Column 11, row 13 on slice 9 of an ascending axial stack: rows and columns grow to P and L.
    assert lesion.marks[0].points == ((9.5, 13.0, 11.0), (9.5, 16.0, 15.0))
    assert (row.mechanism, row.picked, row.artifact) == ("marks", 1, "")
    assert row.sentence == "Lesion 3 added from your measurement of 4 mm."
    with missed.context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.REFINING


def test_a_line_on_an_offered_lesion_keeps_it(missed: MissedCase) -> None:
    row = missed.send(marked_report([missed.line(*ON_LESION, k=7)]))
    (lesion,) = understood(row).lesions
    assert (lesion.value, lesion.new) == (2, False)
    assert row.sentence == "Lesion 1 kept, its size follows your measurement of 3 mm."


@pytest.mark.parametrize("label", ["no lesion", "Drop", "liver / NO LESION"])
def test_a_word_drops_the_finding_that_it_lies_on(missed: MissedCase, label: str) -> None:
    point = Drawn("POINT", [(7.0, 7.5)], missed.image(7), label=label, region=True)
    row = missed.send(marked_report([point, missed.line(*MISSED)]))
    marks = understood(row)
    assert marks.dropped == (2,)
    assert [lesion.new for lesion in marks.lesions] == [True]
    assert row.sentence == "Lesion 3 added from your measurement of 4 mm; lesion 1 dropped."


ELLIPSE = ((10.0, 14.0), (16.0, 14.0), (13.0, 12.0), (13.0, 16.0))
SQUARE = ((11.0, 12.0), (15.0, 12.0), (15.0, 16.0), (11.0, 16.0), (11.0, 12.0))


@pytest.mark.parametrize(
    ("kind", "points", "shape", "size_mm"),
    [
        ("POINT", [(13.0, 14.0)], "point", 0.0),
        ("MULTIPOINT", MISSED, "line", 4.0),
        ("CIRCLE", ((13.0, 14.0), (13.0, 16.0)), "contour", 3.2),
        ("ELLIPSE", ELLIPSE, "contour", 4.8),
        ("POLYLINE", SQUARE, "contour", 4.5),
    ],
)
def test_each_graphic_on_an_image(
    missed: MissedCase,
    kind: str,
    points: list[tuple[float, float]],
    shape: str,
    size_mm: float,
) -> None:
    drawn = Drawn(kind, points, missed.image(9), region=kind != "MULTIPOINT")
    (lesion,) = understood(missed.send(marked_report([drawn]))).lesions
    assert (lesion.marks[0].shape, lesion.size_mm, lesion.new) == (shape, size_mm, True)
    centre = np.asarray(lesion.marks[0].points).mean(axis=0)
    assert np.allclose(centre, (9.5, 14.5 if kind == "MULTIPOINT" else 14.0, 13.0), atol=0.06)


BALL = ((9.5, 14, 11), (9.5, 14, 15), (9.5, 12, 13), (9.5, 16, 13), (9.0, 14, 13), (10.0, 14, 13))


@pytest.mark.parametrize(
    ("kind", "points", "shape"),
    [
        ("POINT", [(9.5, 14, 13)], "point"),
        ("POLYLINE", [(9.5, 13, 11), (9.5, 16, 15)], "line"),
        ("ELLIPSE", BALL[:4], "contour"),
        ("ELLIPSOID", BALL, "contour"),
        ("POLYGON", [(9.5, 12, 11), (9.5, 12, 15), (9.5, 16, 15), (9.5, 16, 11), (9.5, 12, 11)], "contour"),
    ],
)
def test_each_graphic_in_the_frame_of_reference(
    missed: MissedCase,
    kind: str,
    points: list[tuple[float, float, float]],
    shape: str,
) -> None:
    drawn = Drawn(kind, in_space(points), missed.image(9), region=kind != "ELLIPSOID")
    (lesion,) = understood(missed.send(marked_report([drawn]))).lesions
    assert lesion.marks[0].shape == shape
    middle = np.asarray(lesion.marks[0].points)
    assert np.allclose((middle.min(axis=0) + middle.max(axis=0)) / 2, (9.5, 14, 13), atol=0.6)


def test_two_lines_across_one_place_are_one_lesion(missed: MissedCase) -> None:
    across = missed.line((14.5, 13.0), (12.0, 16.0))
    (lesion,) = understood(missed.send(marked_report([missed.line(*MISSED), across]))).lesions
    assert len(lesion.marks) == 2


def test_a_mark_on_another_series_of_the_same_frame_of_reference_is_placed_by_its_plane(
    missed: MissedCase,
) -> None:
    phase = missed.image(9)
    phase.SeriesInstanceUID, phase.SOPInstanceUID = new_uid(), new_uid()
    phase.file_meta.MediaStorageSOPInstanceUID = phase.SOPInstanceUID
    phase.ImagePositionPatient[0] += 1.6  # two columns to the left of the patient
    path = missed.context.store.root.parent / "phase.dcm"
    phase.save_as(path, enforce_file_format=True)
    Inbox(missed.context).receive(received(path))
    line = Drawn("POLYLINE", [(9.0, 13.0), (13.0, 16.0)], phase)
    row = missed.send(marked_report([line], evidence=[missed.image(9)]))
    (lesion,) = understood(row).lesions
    assert np.allclose(lesion.marks[0].points, ((9.5, 13.0, 11.0), (9.5, 16.0, 15.0)))


def _refused(missed: MissedCase, report: Dataset, verb: Verb = Verb.PICK) -> str:
    row = missed.send(report, verb)
    assert row is not None
    assert row.outcome == SelectionOutcome.REFUSED, row.sentence
    assert row.sentence
    assert row.remedy
    with missed.context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.AWAITING_SELECTION
    return row.code


def _with_data(report: Dataset, data: list[float]) -> Dataset:
    graphics_of(report)[0].GraphicData = data
    return report


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ([float("nan"), 13.0, 15.0, 16.0], "mark-not-finite"),
        ([float("inf"), 13.0, 15.0, 16.0], "mark-not-finite"),
        ([], "mark-empty"),
        ([11.0, 13.0, 15.0], "mark-unreadable"),
        ([11.0, 12.0, 15.0, 12.0, 15.0, 16.0], "mark-open-contour"),
        ([13.0, 14.0] * 5_001, "mark-too-large"),
    ],
    ids=["nan", "infinite", "empty", "incomplete point", "open", "points"],
)
def test_what_cannot_be_used_is_refused_with_its_code(
    missed: MissedCase, data: list[float], code: str
) -> None:
    assert _refused(missed, _with_data(marked_report([missed.line(*MISSED)]), data)) == code


def test_a_mark_outside_the_liver_is_refused(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED, k=0)])
    assert _refused(missed, report) == "mark-outside-organ"


def test_a_slice_that_the_case_does_not_have_is_refused(missed: MissedCase) -> None:
    image = missed.image(9)
    image.SOPInstanceUID = generate_uid()
    report = marked_report([Drawn("POLYLINE", MISSED, image)], evidence=[missed.image(3)])
    assert _refused(missed, report) == "mark-slice-unknown"
    above = Drawn("POINT", in_space([(40.0, 14, 13)]), missed.image(9), region=True)
    assert _refused(missed, marked_report([above])) == "mark-slice-unknown"


def test_another_frame_of_reference_is_refused(missed: MissedCase) -> None:
    image = missed.image(9)
    image.FrameOfReferenceUID = generate_uid()
    line = Drawn("POLYLINE", in_space([(9.5, 13, 11), (9.5, 16, 15)]), image)
    assert _refused(missed, marked_report([line])) == "mark-other-frame-of-reference"


@pytest.mark.parametrize(("k", "place"), [(9, MISSED), (7, ON_LESION)], ids=["new", "offered"])
def test_contradicting_marks_are_refused(
    missed: MissedCase, k: int, place: tuple[tuple[float, float], ...]
) -> None:
    lines = [missed.line(*place, k=k), missed.line(*place, k=k, label="no lesion")]
    assert _refused(missed, marked_report(lines)) == "marks-contradict"


def test_a_span_of_the_liver_is_no_lesion(missed: MissedCase) -> None:
    span = Drawn("POLYLINE", in_space([(3.2, 12, 10), (11.8, 12, 10)]), missed.image(9))
    assert _refused(missed, marked_report([span])) == "mark-too-large"


def test_a_drop_where_nothing_is_offered_is_refused(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED, label="drop")])
    assert _refused(missed, report) == "mark-on-nothing"


@pytest.mark.parametrize(
    "about",
    [{"label": "Spleen"}, {"label": "liver"}, {"finding": SPLEEN}, {"site": SPLEEN}, {"label": "Milz"}],
    ids=str,
)
def test_another_structure_by_word_or_code_is_no_lesion(missed: MissedCase, about: dict[str, object]) -> None:
    report = marked_report([missed.line(*MISSED, **about)])
    assert _refused(missed, report) == "mark-other-structure"


@pytest.mark.parametrize(
    "about",
    [{"label": "HCC"}, {"label": "Metastase"}, {"finding": codes.SCT.Lesion}, {"site": codes.SCT.Liver}],
    ids=str,
)
def test_a_lesion_by_word_or_code_is_one(missed: MissedCase, about: dict[str, object]) -> None:
    row = missed.send(marked_report([missed.line(*MISSED, **about)]))
    assert len(understood(row).lesions) == 1


def test_usable_marks_count_and_the_others_are_said(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED), missed.line((1.0, 1.0), (2.0, 1.0), k=0)])
    row = missed.send(report)
    assert understood(row).left_out == ("mark-outside-organ",)
    assert row.sentence == (
        "Lesion 3 added from your measurement of 4 mm. Left out: 1 mark (outside the liver)."
    )


@pytest.mark.parametrize("verb", [Verb.ACCEPT, Verb.REJECT])
def test_a_marked_lesion_must_be_seen_before_the_end(missed: MissedCase, verb: Verb) -> None:
    assert _refused(missed, marked_report([missed.line(*MISSED)]), verb) == "mark-needs-pick"


def test_measurements_of_another_study_start_nothing(missed: MissedCase) -> None:
    image = missed.image(9)
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = generate_uid()
    report = marked_report([Drawn("POLYLINE", MISSED, image)])
    assert _refused(missed, report) == "mark-case-unknown"


def test_a_forwarded_report_without_a_word_starts_nothing(missed: MissedCase) -> None:
    assert missed.send(marked_report([missed.line(*MISSED)]), Verb.STORE) is None


def test_a_forwarded_report_with_the_word_counts(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED)])
    report.SeriesDescription = "Liver PICK"
    assert len(understood(missed.send(report, Verb.STORE)).lesions) == 1


def test_the_same_report_again_is_repeated(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED)])
    understood(missed.send(report))
    row = missed.send(report)
    assert row is not None
    assert row.outcome == SelectionOutcome.REPEATED


def _publish_second(missed: MissedCase, state: CaseState) -> None:
    """Give the case a second round with one candidate, as it is while the others are sent."""
    with missed.context.database.transaction() as session:
        case = session.query(Case).one()
        case.state = state
        session.add(Round(case_id=case.id, number=2, artifacts=case.rounds[0].artifacts))
        session.flush()
        values = dict(vars(new_result(case, 2, 1)), targets=[1])
        del values["destinations"]
        second = session.query(Round).filter_by(number=2).one()
        session.add(Result(round_id=second.id, **values))


def test_marks_before_the_next_four_wait(missed: MissedCase) -> None:
    _publish_second(missed, CaseState.REFINING)
    row = missed.send(marked_report([missed.line(*MISSED)]))
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "round-closed")


def _naming(report: Dataset, sop_instance_uid: str) -> Dataset:
    report.ContentSequence.append(reference_item(sop_instance_uid))
    return report


def test_a_candidate_named_beside_marks_is_picked(missed: MissedCase) -> None:
    row = missed.send(_naming(marked_report([missed.line(*MISSED)]), "2.25.1.1.3"))
    marks = understood(row)
    assert (row.picked, marks.picked, len(marks.lesions)) == (3, True, 1)


def test_unusable_marks_beside_a_candidate_do_not_stop_the_pick(missed: MissedCase) -> None:
    row = missed.send(_naming(marked_report([missed.line(*MISSED, k=0)]), "2.25.1.1.3"))
    assert (row.outcome, row.picked, row.marks) == (SelectionOutcome.EFFECTIVE, 3, None)
    assert row.sentence == "Left out: 1 mark (outside the liver)."


def test_marks_go_with_the_newest_round(missed: MissedCase) -> None:
    _publish_second(missed, CaseState.AWAITING_SELECTION)
    report = _naming(marked_report([missed.line(*MISSED)]), "2.25.1.1.3")
    assert _refused(missed, report) == "mark-older-round"


def test_a_report_of_too_many_graphics_is_refused(missed: MissedCase) -> None:
    report = marked_report([missed.line(*MISSED)])
    (graphic,) = graphics_of(report)
    report.ContentSequence.extend(deepcopy(graphic) for _ in range(256))
    assert _refused(missed, report) == "marks-too-many"
