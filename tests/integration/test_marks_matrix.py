"""The table of marks in docs/readers.md: each cell is what the node made of the marks of that writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from highdicom.pr.content import TextObject
from pydicom import Dataset

from tests.support.enhanced import write_enhanced_ct
from tests.support.foreign_marks import dcmjs_marks, ohif_marks
from tests.support.marked import Drawn, graphics_of, marked_report
from tests.support.matrix import MARK_WRITERS, marked, marks_as_markdown
from tests.support.missed import MISSED, MissedCase, Pixel, in_space, missed_case
from tests.support.presentation import presentation_state, weasis_state
from tests.support.series import good_series
from uair_node.dicom.volume import read_series

pytestmark = pytest.mark.integration

Mark = tuple[int, Sequence[Pixel], str]
"""Slice, points (column, row), label."""
Write = Callable[[MissedCase, Sequence[Mark]], Iterator[Path]]

ENHANCED = "highdicom SR, SCOORD on enhanced CT by frame"
ON_LESION_1 = ((7.0, 7.5),)
SENT: tuple[Mark, ...] = (
    (9, MISSED, "measurement"),
    (7, ON_LESION_1, "no lesion"),
    (9, MISSED, "Spleen"),
    (0, MISSED, "measurement"),
)


def _kept(missed: MissedCase, document: Dataset) -> Path:
    path = missed.context.store.root.parent / f"{document.SOPInstanceUID}.dcm"
    document.save_as(path, enforce_file_format=True)
    return path


def _places(k: int, points: Sequence[Pixel]) -> list[tuple[float, float, float]]:
    return [(k + 0.5, row, column) for column, row in points]


def _ohif(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    tools = [
        ("Probe" if len(points) == 1 else "Length", k, _places(k, points), label)
        for k, points, label in marks
    ]
    yield ohif_marks(missed, tools)


def _dcmjs(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    yield dcmjs_marks(missed, marks)


def _drawn(missed: MissedCase, mark: Mark, *, spatial: bool = False) -> Drawn:
    k, points, label = mark
    kind, region = ("POINT", True) if len(points) == 1 else ("POLYLINE", False)
    places = in_space(_places(k, points)) if spatial else points
    return Drawn(kind, places, missed.image(k), label=label, region=region)


def _highdicom(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    yield _kept(missed, marked_report([_drawn(missed, mark) for mark in marks]))


def _highdicom_3d(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    yield _kept(missed, marked_report([_drawn(missed, mark, spatial=True) for mark in marks]))


def _on_frames(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    report = marked_report([_drawn(missed, mark) for mark in marks])
    for graphic, (k, _, _) in zip(graphics_of(report), marks, strict=True):
        graphic.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber = missed.volume.slices[
            k
        ].frame
    yield _kept(missed, report)


def _weasis(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    """A presentation state for each image."""
    for k, points, label in marks:
        kind = "POINT" if len(points) == 1 else "POLYLINE"
        box = (points[0][0] + 1.0, points[0][1] - 2.0), (points[0][0] + 5.0, points[0][1] - 1.0)
        yield _kept(missed, weasis_state(missed.image(k), [(kind, points)], labels=[(label, *box)]))


def _display(missed: MissedCase, marks: Sequence[Mark]) -> Iterator[Path]:
    for k, points, label in marks:
        image = missed.image(k)
        kind = "POINT" if len(points) == 1 else "POLYLINE"
        shown = (np.asarray(points) / (image.Columns, image.Rows)).tolist()
        text = TextObject(label, units="DISPLAY", anchor_point=tuple(shown[0]), anchor_point_visible=True)
        yield _kept(missed, presentation_state(image, [(kind, shown)], texts=[text], units="DISPLAY"))


WRITERS: Mapping[str, Write] = {
    "OHIF 3 (cornerstone adapters)": _ohif,
    "dcmjs": _dcmjs,
    "highdicom SR, SCOORD": _highdicom,
    "highdicom SR, SCOORD3D": _highdicom_3d,
    ENHANCED: _on_frames,
    "Weasis GSPS": _weasis,
    "highdicom GSPS, display units": _display,
}


def _enhanced(folder: Path) -> Iterator[MissedCase]:
    """The case on an enhanced CT of two instances."""
    paths = write_enhanced_ct(folder / "multi", good_series(folder / "single"), instances=2)
    with missed_case(folder / "case", read_series(paths)) as made:
        yield made


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, writer: str) -> Iterator[MissedCase]:
    if writer == ENHANCED:
        (tmp_path / "case").mkdir()
        yield from _enhanced(tmp_path)
    else:
        yield request.getfixturevalue("missed")


@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_writer_s_marks_are_understood_as(case: MissedCase, writer: str) -> None:
    write, found = WRITERS[writer], []
    for mark in SENT[2:]:  # refused, so that the case waits on
        rows = [case.send_file(path) for path in write(case, [mark])]
        found += [word for row in rows if row is not None for word in marked(row)]
    paths = list(write(case, SENT[:2]))
    (*_, last) = [case.send_file(path) for path in paths]
    assert last is not None
    assert [*marked(last), *found] == list(MARK_WRITERS[writer]), last.sentence


def test_every_row_has_its_writer_and_the_page_has_the_table() -> None:
    assert set(WRITERS) == set(MARK_WRITERS)
    page = (Path(__file__).parents[2] / "docs" / "readers.md").read_text("utf-8")
    assert f"\n{marks_as_markdown()}\n" in page
