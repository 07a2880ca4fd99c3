"""The reader who measures what round 1 missed: the line, what the node makes of it, and the rows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from dicom_config.model import EngineSection
from workers.phantoms import PLAIN
from workers.research.evaluation.evaluated_cases import EvaluationCase, PhantomSource
from workers.research.evaluation.json_report import as_json
from workers.research.evaluation.marking import OFF_MM, measure_missed, measured_line
from workers.research.evaluation.report import Header, as_markdown
from workers.research.evaluation.results import CaseResult, Detected, Measure, Strokes
from workers.research.evaluation.table import rows, strokes
from workers.research.evaluation.whole import Opened, opened
from workers.research.evaluation.workbench import Workbench, build_workbench

HEADER = Header("1 phantom", 1, (), 4, 8, "embedded", "learned", "ab" * 32, {}, "0", "2026-01-05")
SPACING = (3.0, 0.8, 0.8)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    """An engine that looks for no lesion: it misses all."""
    return build_workbench(EngineSection(device="cpu", members=8, max_lesions=0))


@pytest.fixture(scope="module")
def case() -> EvaluationCase:
    return PhantomSource(4, "small", PLAIN).load()


@pytest.fixture(scope="module")
def start(bench: Workbench, case: EvaluationCase) -> Opened:
    return opened(case, bench, "belief")


@pytest.fixture(scope="module")
def played(bench: Workbench, case: EvaluationCase, start: Opened) -> tuple[list[Measure], Strokes]:
    found, drawn = measure_missed(case, bench, start, 1)
    assert drawn is not None
    return found, drawn


def _result(found: list[Measure], drawn: Strokes | None, name: str = "x") -> CaseResult:
    nothing = Detected(name, (), (), ())
    return CaseResult(name, tuple(found), (), nothing, nothing, strokes=drawn)


def test_the_line_joins_the_farthest_points_of_the_largest_slice_but_for_its_ends() -> None:
    lesion = np.zeros((6, 60, 60), bool)
    lesion[1, 10:14, 10:14] = True
    lesion[3, 20:30, 10:50] = True  # 8 x 32 mm
    far = np.array([[3.5, 20, 10], [3.5, 30, 50]]), np.array([[3.5, 30, 10], [3.5, 20, 50]])
    lengths = []
    for seed in range(20):
        line = measured_line(lesion, SPACING, np.random.default_rng(seed))
        assert (line[:, 0] == 3.5).all()
        ends = line[np.argsort(line[:, 2])]
        off = min(
            (np.linalg.norm((ends - meant) * SPACING, axis=1) for meant in far),
            key=lambda mm: float(mm.sum()),
        )
        assert (off >= OFF_MM[0] - 1e-9).all()
        assert (off <= OFF_MM[1] + 1e-9).all()
        lengths.append(float(np.linalg.norm((ends[1] - ends[0]) * SPACING)))
    assert np.mean(lengths) == pytest.approx(np.hypot(8, 32), abs=1.5)
    assert len(set(lengths)) == 20
    again = measured_line(lesion, SPACING, np.random.default_rng(0))
    assert (again == measured_line(lesion, SPACING, np.random.default_rng(0))).all()


def test_a_lesion_of_a_single_voxel_can_be_measured() -> None:
    lesion = np.zeros((3, 9, 9), bool)
    lesion[1, 4, 4] = True
    line = measured_line(lesion, SPACING, np.random.default_rng(0))
    assert np.isfinite(line).all()


def test_every_missed_lesion_gets_a_line_and_is_there_afterwards(
    played: tuple[list[Measure], Strokes], case: EvaluationCase
) -> None:
    found, drawn = played
    assert (drawn.lesions, drawn.missed, drawn.lines, drawn.refused) == (2, 2, 2, 0)
    assert drawn.boxes == sum(int(case.lesion(value).any(axis=(1, 2)).sum()) for value in case.lesions)
    dices = {
        (measure.method.name, measure.lesion): measure.overlap.dice
        for measure in found
        if measure.target == "missed"
    }
    assert {lesion for _, lesion in dices} == {2, 3}
    for lesion in (2, 3):
        assert dices["marked0", lesion] > 0.4
        assert dices["marked1", lesion] >= dices["marked0", lesion]
        assert dices["marked2", lesion] >= dices["marked1", lesion] - 1e-9


def test_the_tumour_gains_by_marks_and_the_liver_stays(
    played: tuple[list[Measure], Strokes], case: EvaluationCase, start: Opened
) -> None:
    found, _ = played
    assert start.first is not None
    assert max(start.first.targets) == 1, "nothing was found by itself"
    tumour = {measure.method.name: measure for measure in found if measure.target == "tumour"}
    assert tumour["marked1"].overlap.dice > 0.6
    assert [tumour[f"marked{n}"].picks for n in (0, 1, 2)] == [2, 4, 6]
    assert all(measure.overlap.dice > 0.6 for measure in found if measure.target == "liver")


def test_without_a_missed_lesion_nothing_is_drawn(
    bench: Workbench, case: EvaluationCase, start: Opened
) -> None:
    healthy = replace(case, truth=np.minimum(case.truth, 1))
    found, drawn = measure_missed(healthy, bench, start, 1)
    assert drawn is None
    assert {measure.target for measure in found} == {"liver"}


def test_a_line_outside_the_liver_is_refused_and_its_lesion_stays_missed(
    bench: Workbench, case: EvaluationCase, start: Opened
) -> None:
    truth = np.minimum(case.truth, 1)
    truth[2:9, 2:9, 2:9] = 2  # in a corner of the image
    found, drawn = measure_missed(replace(case, truth=truth), bench, start, 1)
    assert drawn is not None
    assert (drawn.lines, drawn.refused) == (1, 1)
    assert [measure.overlap.dice for measure in found if measure.target == "missed"] == [0.0] * 3


def test_a_case_without_a_liver_counts_as_missed(bench: Workbench, case: EvaluationCase) -> None:
    found, drawn = measure_missed(case, bench, Opened("belief", None, 1.0, "x"), 1)
    assert drawn is not None
    assert drawn.refused == 2
    assert {measure.overlap.dice for measure in found} == {0.0}


def test_the_tables_hold_the_reader_and_the_strokes(played: tuple[list[Measure], Strokes]) -> None:
    found, drawn = played
    results = [_result(found, drawn), _result([], Strokes(9, 4, 4, 1, 60)), _result([], None)]
    named = {(row.target, row.method.name): row for row in rows(results, "measuring")}
    assert {("missed", f"marked{n}") for n in (0, 1, 2)} <= set(named)
    assert not any(row.automatic for row in named.values())
    total = strokes(results)
    assert total is not None
    assert (total.cases, total.lesions, total.missed, total.refused) == (2, 11, 6, 1)
    assert (total.lines, total.boxes) == (3.0, (60 + drawn.boxes) / 2)
    text = as_markdown(HEADER, results)
    assert "the reader measures each lesion that round 1 missed" in text
    assert f"| 2 | 11 | 6 | 1 | 3.0 | {total.boxes:.1f} | {3 / total.boxes:.3f} |" in text
    values = json.loads(json.dumps(as_json(HEADER, results)))
    assert values["strokes"]["lines"] == 3.0
    assert {row["method"] for row in values["measuring_reader"]} == {"marked0", "marked1", "marked2"}
    assert strokes([_result([], None)]) is None
