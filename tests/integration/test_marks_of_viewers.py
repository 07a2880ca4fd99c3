"""Measurements as the adapters of OHIF write them, sent to the title for picks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.support.foreign_marks import ohif_marks
from tests.support.missed import MissedCase, Place, understood

pytestmark = pytest.mark.integration


LINE = [(9.5, 13.0, 11.0), (9.5, 16.0, 15.0)]
AXES = [(9.5, 14.0, 11.0), (9.5, 14.0, 15.0), (9.5, 13.0, 13.0), (9.5, 15.0, 13.0)]
RING = [(9.5, 14.0 + 2 * np.sin(a), 13.0 + 2 * np.cos(a)) for a in np.linspace(0, 6.2, 16)]


@pytest.mark.parametrize(
    ("tool", "points", "shapes"),
    [
        ("Length", LINE, ["line"]),
        ("Bidirectional", AXES, ["line", "line"]),
        ("EllipticalROI", [AXES[3], AXES[2], AXES[0], AXES[1]], ["contour"]),
        ("CircleROI", [(9.5, 14.0, 13.0), (9.5, 14.0, 15.0)], ["contour"]),
        ("RectangleROI", [LINE[0], (9.5, 13.0, 15.0), (9.5, 16.0, 11.0), LINE[1]], ["contour"]),
        ("PlanarFreehandROI", RING, ["contour"]),
        ("Probe", [(9.5, 14.5, 13.0)], ["point"]),
        ("ArrowAnnotate", [(9.5, 14.5, 13.0), (9.5, 5.0, 5.0)], ["point"]),
    ],
)
def test_each_tool_of_the_viewer_marks_a_lesion(
    missed: MissedCase,
    tool: str,
    points: Sequence[Place],
    shapes: list[str],
) -> None:
    marks = understood(missed.send_file(ohif_marks(missed, [(tool, 9, points, "")])))
    (lesion,) = marks.lesions
    assert lesion.new
    assert [mark.shape for mark in lesion.marks] == shapes
    drawn = np.concatenate([np.asarray(mark.points) for mark in lesion.marks])
    middle = (drawn.min(axis=0) + drawn.max(axis=0)) / 2
    assert np.allclose(middle, (9.5, 14.25, 13.0), atol=0.3)
    if tool == "Length":
        assert np.allclose(drawn, LINE, atol=1e-3), "no half pixel is lost"


def test_labels_of_the_viewer_add_and_drop(missed: MissedCase) -> None:
    report = ohif_marks(missed, [("Length", 9, LINE, "HCC"), ("Probe", 7, [(7.5, 7.5, 7.0)], "no lesion")])
    row = missed.send_file(report)
    marks = understood(row)
    assert (len(marks.lesions), marks.dropped) == (1, (2,))
    assert row.sentence == "Lesion 3 added from your measurement of 4 mm; lesion 1 dropped."
    assert b"TextPosition" in report.read_bytes(), "the place of a label is a graphic, too, and no mark"
