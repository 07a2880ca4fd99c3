"""A report with marks, sent to the title for picks: what it says of the round, and why it is refused."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from dicom_config.model import Verb
from tests.support.cases import new_result
from tests.support.intake import context_in, received
from tests.support.marked import Drawn, graphics_of, marked_report
from tests.support.selections import new_uid, reference_item
from tests.support.series import SHAPE, affine_of, good_series
from tests.support.waiting import waiting_case
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Result, Round, Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.storage.artifacts import StoredCandidate

SPLEEN = Code("78961009", "SCT", "Spleen")


def _labels(grow: int) -> np.ndarray:
    """A liver of 9 x 17 x 14 voxels (5 x 0.8 x 0.8 mm) with one lesion; rows and columns differ."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:12, 3:20, 3:17] = 1
    labels[6:8, 6 : 9 + grow, 5:9] = 2
    return labels


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_series(good_series(tmp_path_factory.mktemp("series") / "ct"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, volume: Volume) -> Path:
    """A case that waits for a reader; each test has a copy of it."""
    folder = tmp_path_factory.mktemp("case")
    with waiting_case(folder, volume, [StoredCandidate(k, _labels(k - 1), "") for k in (1, 2, 3, 4)]):
        return folder


@pytest.fixture
def context(tmp_path: Path, original: Path) -> Iterator[Context]:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as made:
        yield made


def _image(volume: Volume, k: int) -> Dataset:
    return dcmread(volume.slices[k].path)


def _send(context: Context, report: Dataset, folder: Path, verb: Verb = Verb.PICK) -> Selection | None:
    path = folder / "report.dcm"
    report.save_as(path, enforce_file_format=True)
    Inbox(context).receive(received(path, verb, "VIEWER"))
    with context.database.transaction() as session:
        return session.query(Selection).order_by(Selection.id.desc()).first()


def _understood(row: Selection | None) -> Marks:
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE, (row.code, row.sentence)
    marks = marks_of(row.marks)
    assert marks is not None
    return marks


def _line(volume: Volume, *points: tuple[float, float], k: int = 9, **more: object) -> Drawn:
    return Drawn("POLYLINE", points, _image(volume, k), **more)


MISSED = ((11.0, 13.0), (15.0, 16.0))
ON_LESION = ((5.5, 7.0), (8.5, 8.5))


def test_a_line_on_no_offered_lesion_adds_one(context: Context, volume: Volume, tmp_path: Path) -> None:
    row = _send(context, marked_report([_line(volume, *MISSED)]), tmp_path)
    marks = _understood(row)
    (lesion,) = marks.lesions
    assert (lesion.value, lesion.new, lesion.size_mm, marks.dropped) == (4, True, 4.0, ())
    # Column 11, row 13 on slice 9 of an ascending axial stack: rows and columns grow to P and L.
    assert lesion.marks[0].points == ((9.5, 13.0, 11.0), (9.5, 16.0, 15.0))
    assert (row.mechanism, row.picked, row.artifact) == ("marks", 1, "")
    assert row.sentence == "Lesion 3 added from your measurement of 4 mm."
    with context.database.transaction() as session:
        assert session.query(Case).one().state == CaseState.REFINING


def test_a_line_on_an_offered_lesion_keeps_it(context: Context, volume: Volume, tmp_path: Path) -> None:
    row = _send(context, marked_report([_line(volume, *ON_LESION, k=7)]), tmp_path)
    (lesion,) = _understood(row).lesions
    assert (lesion.value, lesion.new) == (2, False)
    assert row.sentence == "Lesion 1 kept, its size follows your measurement of 3 mm."


@pytest.mark.parametrize("label", ["no lesion", "Drop", "liver / NO LESION"])
def test_a_word_drops_the_finding_that_it_lies_on(
    context: Context, volume: Volume, tmp_path: Path, label: str
) -> None:
    point = Drawn("POINT", [(7.0, 7.5)], _image(volume, 7), label=label, region=True)
    row = _send(context, marked_report([point, _line(volume, *MISSED)]), tmp_path)
    marks = _understood(row)
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
    context: Context,
    volume: Volume,
    tmp_path: Path,
    kind: str,
    points: list[tuple[float, float]],
    shape: str,
    size_mm: float,
) -> None:
    drawn = Drawn(kind, points, _image(volume, 9), region=kind != "MULTIPOINT")
    (lesion,) = _understood(_send(context, marked_report([drawn]), tmp_path)).lesions
    assert (lesion.marks[0].shape, lesion.size_mm, lesion.new) == (shape, size_mm, True)
    centre = np.asarray(lesion.marks[0].points).mean(axis=0)
    assert np.allclose(centre, (9.5, 14.5 if kind == "MULTIPOINT" else 14.0, 13.0), atol=0.06)


def _in_space(points: list[tuple[float, float, float]]) -> list[tuple[float, ...]]:
    """Voxel edges (z, y, x) of the source grid in LPS mm."""
    index = np.column_stack([np.asarray(points) - 0.5, np.ones(len(points))])
    return [tuple(place) for place in (index @ affine_of().T)[:, :3]]


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
    context: Context,
    volume: Volume,
    tmp_path: Path,
    kind: str,
    points: list[tuple[float, float, float]],
    shape: str,
) -> None:
    drawn = Drawn(kind, _in_space(points), _image(volume, 9), region=kind != "ELLIPSOID")
    (lesion,) = _understood(_send(context, marked_report([drawn]), tmp_path)).lesions
    assert lesion.marks[0].shape == shape
    middle = np.asarray(lesion.marks[0].points)
    assert np.allclose((middle.min(axis=0) + middle.max(axis=0)) / 2, (9.5, 14, 13), atol=0.6)


def test_two_lines_across_one_place_are_one_lesion(context: Context, volume: Volume, tmp_path: Path) -> None:
    across = _line(volume, (14.5, 13.0), (12.0, 16.0))
    (lesion,) = _understood(_send(context, marked_report([_line(volume, *MISSED), across]), tmp_path)).lesions
    assert len(lesion.marks) == 2


def test_a_mark_on_another_series_of_the_same_frame_of_reference_is_placed_by_its_plane(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    phase = _image(volume, 9)
    phase.SeriesInstanceUID, phase.SOPInstanceUID = new_uid(), new_uid()
    phase.file_meta.MediaStorageSOPInstanceUID = phase.SOPInstanceUID
    phase.ImagePositionPatient[0] += 1.6  # two columns to the left of the patient
    path = tmp_path / "phase.dcm"
    phase.save_as(path, enforce_file_format=True)
    Inbox(context).receive(received(path))
    line = Drawn("POLYLINE", [(9.0, 13.0), (13.0, 16.0)], phase)
    row = _send(context, marked_report([line], evidence=[_image(volume, 9)]), tmp_path)
    (lesion,) = _understood(row).lesions
    assert np.allclose(lesion.marks[0].points, ((9.5, 13.0, 11.0), (9.5, 16.0, 15.0)))


def _refused(context: Context, report: Dataset, folder: Path, verb: Verb = Verb.PICK) -> str:
    row = _send(context, report, folder, verb)
    assert row is not None
    assert row.outcome == SelectionOutcome.REFUSED, row.sentence
    assert row.sentence
    assert row.mend
    with context.database.transaction() as session:
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
    ids=["nan", "infinite", "empty", "half a point", "open", "points"],
)
def test_what_cannot_be_used_is_refused_with_its_code(
    context: Context, volume: Volume, tmp_path: Path, data: list[float], code: str
) -> None:
    assert _refused(context, _with_data(marked_report([_line(volume, *MISSED)]), data), tmp_path) == code


def test_a_mark_outside_the_liver_is_refused(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED, k=0)])
    assert _refused(context, report, tmp_path) == "mark-outside-organ"


def test_a_slice_that_the_case_does_not_have_is_refused(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    image = _image(volume, 9)
    image.SOPInstanceUID = generate_uid()
    report = marked_report([Drawn("POLYLINE", MISSED, image)], evidence=[_image(volume, 3)])
    assert _refused(context, report, tmp_path) == "mark-slice-unknown"
    above = Drawn("POINT", _in_space([(40.0, 14, 13)]), _image(volume, 9), region=True)
    assert _refused(context, marked_report([above]), tmp_path) == "mark-slice-unknown"


def test_another_frame_of_reference_is_refused(context: Context, volume: Volume, tmp_path: Path) -> None:
    image = _image(volume, 9)
    image.FrameOfReferenceUID = generate_uid()
    line = Drawn("POLYLINE", _in_space([(9.5, 13, 11), (9.5, 16, 15)]), image)
    assert _refused(context, marked_report([line]), tmp_path) == "mark-other-frame-of-reference"


@pytest.mark.parametrize(("k", "place"), [(9, MISSED), (7, ON_LESION)], ids=["new", "offered"])
def test_contradicting_marks_are_refused(
    context: Context, volume: Volume, tmp_path: Path, k: int, place: tuple[tuple[float, float], ...]
) -> None:
    lines = [_line(volume, *place, k=k), _line(volume, *place, k=k, label="no lesion")]
    assert _refused(context, marked_report(lines), tmp_path) == "marks-contradict"


def test_a_span_of_the_liver_is_no_lesion(context: Context, volume: Volume, tmp_path: Path) -> None:
    span = Drawn("POLYLINE", _in_space([(3.2, 12, 10), (11.8, 12, 10)]), _image(volume, 9))
    assert _refused(context, marked_report([span]), tmp_path) == "mark-too-large"


def test_a_drop_where_nothing_is_offered_is_refused(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED, label="drop")])
    assert _refused(context, report, tmp_path) == "mark-on-nothing"


@pytest.mark.parametrize(
    "about",
    [{"label": "Spleen"}, {"label": "liver"}, {"finding": SPLEEN}, {"site": SPLEEN}, {"label": "Milz"}],
    ids=str,
)
def test_another_structure_by_word_or_code_is_no_lesion(
    context: Context, volume: Volume, tmp_path: Path, about: dict[str, object]
) -> None:
    report = marked_report([_line(volume, *MISSED, **about)])
    assert _refused(context, report, tmp_path) == "mark-other-structure"


@pytest.mark.parametrize(
    "about",
    [{"label": "HCC"}, {"label": "Metastase"}, {"finding": codes.SCT.Lesion}, {"site": codes.SCT.Liver}],
    ids=str,
)
def test_a_lesion_by_word_or_code_is_one(
    context: Context, volume: Volume, tmp_path: Path, about: dict[str, object]
) -> None:
    row = _send(context, marked_report([_line(volume, *MISSED, **about)]), tmp_path)
    assert len(_understood(row).lesions) == 1


def test_usable_marks_count_and_the_others_are_said(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED), _line(volume, (1.0, 1.0), (2.0, 1.0), k=0)])
    row = _send(context, report, tmp_path)
    assert _understood(row).left_out == ("mark-outside-organ",)
    assert row.sentence == (
        "Lesion 3 added from your measurement of 4 mm. Left out: 1 mark (outside the liver)."
    )


@pytest.mark.parametrize("verb", [Verb.ACCEPT, Verb.REJECT])
def test_a_marked_lesion_must_be_seen_before_the_end(
    context: Context, volume: Volume, tmp_path: Path, verb: Verb
) -> None:
    assert _refused(context, marked_report([_line(volume, *MISSED)]), tmp_path, verb) == "mark-needs-pick"


def test_measurements_of_another_study_start_nothing(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    image = _image(volume, 9)
    image.StudyInstanceUID, image.SeriesInstanceUID = generate_uid(), generate_uid()
    image.SOPInstanceUID = generate_uid()
    report = marked_report([Drawn("POLYLINE", MISSED, image)])
    assert _refused(context, report, tmp_path) == "mark-case-unknown"


def test_a_forwarded_report_without_a_word_starts_nothing(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    assert _send(context, marked_report([_line(volume, *MISSED)]), tmp_path, Verb.STORE) is None


def test_a_forwarded_report_with_the_word_counts(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED)])
    report.SeriesDescription = "Liver PICK"
    assert len(_understood(_send(context, report, tmp_path, Verb.STORE)).lesions) == 1


def test_the_same_report_again_is_repeated(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED)])
    _understood(_send(context, report, tmp_path))
    row = _send(context, report, tmp_path)
    assert row is not None
    assert row.outcome == SelectionOutcome.REPEATED


def _publish_second(context: Context, state: CaseState) -> None:
    """Give the case a second round with one candidate, as it is while the others are sent."""
    with context.database.transaction() as session:
        case = session.query(Case).one()
        case.state = state
        session.add(Round(case_id=case.id, number=2, artifacts=case.rounds[0].artifacts))
        session.flush()
        values = dict(vars(new_result(case, 2, 1)), targets=[1])
        del values["destinations"]
        second = session.query(Round).filter_by(number=2).one()
        session.add(Result(round_id=second.id, **values))


def test_marks_before_the_next_four_wait(context: Context, volume: Volume, tmp_path: Path) -> None:
    _publish_second(context, CaseState.REFINING)
    row = _send(context, marked_report([_line(volume, *MISSED)]), tmp_path)
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "round-closed")


def _naming(report: Dataset, sop_instance_uid: str) -> Dataset:
    report.ContentSequence.append(reference_item(sop_instance_uid))
    return report


def test_a_candidate_named_beside_marks_is_picked(context: Context, volume: Volume, tmp_path: Path) -> None:
    row = _send(context, _naming(marked_report([_line(volume, *MISSED)]), "2.25.1.1.3"), tmp_path)
    marks = _understood(row)
    assert (row.picked, marks.picked, len(marks.lesions)) == (3, True, 1)


def test_unusable_marks_beside_a_candidate_do_not_stop_the_pick(
    context: Context, volume: Volume, tmp_path: Path
) -> None:
    row = _send(context, _naming(marked_report([_line(volume, *MISSED, k=0)]), "2.25.1.1.3"), tmp_path)
    assert (row.outcome, row.picked, row.marks) == (SelectionOutcome.EFFECTIVE, 3, None)
    assert row.sentence == "Left out: 1 mark (outside the liver)."


def test_marks_go_with_the_newest_round(context: Context, volume: Volume, tmp_path: Path) -> None:
    _publish_second(context, CaseState.AWAITING_SELECTION)
    report = _naming(marked_report([_line(volume, *MISSED)]), "2.25.1.1.3")
    assert _refused(context, report, tmp_path) == "mark-older-round"


def test_a_report_of_too_many_graphics_is_refused(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = marked_report([_line(volume, *MISSED)])
    (graphic,) = graphics_of(report)
    report.ContentSequence.extend(deepcopy(graphic) for _ in range(256))
    assert _refused(context, report, tmp_path) == "marks-too-many"
