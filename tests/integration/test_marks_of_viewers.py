"""Measurements as the adapters of OHIF write them, sent to the title for picks."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from dicom_config.model import Verb
from tests.support.foreign_readers import node_program
from tests.support.intake import context_in, received
from tests.support.series import SHAPE, affine_of, good_series
from tests.support.waiting import waiting_case
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.tables import Selection, SelectionOutcome
from uair_node.context import Context
from uair_node.dicom.volume import Volume, read_series
from uair_node.intake.inbox import Inbox
from uair_node.storage.artifacts import StoredCandidate

pytestmark = pytest.mark.integration

Place = tuple[float, float, float]


def _labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:12, 3:20, 3:17] = 1
    labels[6:8, 6:9, 5:9] = 2
    return labels


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_series(good_series(tmp_path_factory.mktemp("series") / "ct"))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, volume: Volume) -> Path:
    folder = tmp_path_factory.mktemp("case")
    with waiting_case(folder, volume, [StoredCandidate(k, _labels(), "") for k in (1, 2, 3, 4)]):
        return folder


@pytest.fixture
def context(tmp_path: Path, original: Path) -> Iterator[Context]:
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as made:
        yield made


def _world(points: Sequence[Place]) -> list[list[float]]:
    index = np.column_stack([np.asarray(points) - 0.5, np.ones(len(points))])
    return (index @ affine_of().T)[:, :3].tolist()


def _stored(volume: Volume, folder: Path, marks: Sequence[tuple[str, int, Sequence[Place], str]]) -> Path:
    """Let the adapters write a report with these marks: tool, slice, points (z, y, x), label."""
    images = [str(source.path) for source in volume.slices]
    job, report = folder / "job.json", folder / "report.dcm"
    drawn = [
        {"tool": tool, "image": images[k], "points": _world(points), "label": label}
        for tool, k, points, label in marks
    ]
    job.write_text(json.dumps({"images": images, "marks": drawn, "report": str(report)}))
    command = [*node_program("write_marks.mjs", folder), str(job)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return report


def _understood(context: Context, report: Path) -> tuple[Marks, Selection]:
    Inbox(context).receive(received(report, Verb.PICK, "OHIF"))
    with context.database.transaction() as session:
        row = session.query(Selection).one()
    assert row.outcome == SelectionOutcome.EFFECTIVE, (row.code, row.sentence)
    marks = marks_of(row.marks)
    assert marks is not None
    return marks, row


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
    context: Context,
    volume: Volume,
    tmp_path: Path,
    tool: str,
    points: Sequence[Place],
    shapes: list[str],
) -> None:
    marks, _ = _understood(context, _stored(volume, tmp_path, [(tool, 9, points, "")]))
    (lesion,) = marks.lesions
    assert lesion.new
    assert [mark.shape for mark in lesion.marks] == shapes
    drawn = np.concatenate([np.asarray(mark.points) for mark in lesion.marks])
    middle = (drawn.min(axis=0) + drawn.max(axis=0)) / 2
    assert np.allclose(middle, (9.5, 14.25, 13.0), atol=0.3)
    if tool == "Length":
        assert np.allclose(drawn, LINE, atol=1e-3), "no half pixel is lost"


def test_labels_of_the_viewer_add_and_drop(context: Context, volume: Volume, tmp_path: Path) -> None:
    report = _stored(
        volume, tmp_path, [("Length", 9, LINE, "HCC"), ("Probe", 7, [(7.5, 7.5, 7.0)], "no lesion")]
    )
    marks, row = _understood(context, report)
    assert (len(marks.lesions), marks.dropped) == (1, (2,))
    assert row.sentence == "Lesion 3 added from your measurement of 4 mm; lesion 1 dropped."
    assert b"TextPosition" in report.read_bytes(), "the place of a label is a graphic, too, and no mark"
