"""The evaluation plays the loop through the engine's public face and averages what it finds."""

import numpy as np
import pytest
import torch

from workers.engine import Engine, EngineOptions
from workers.evaluation.evaluate import Evaluation, Score, evaluate, phantom_cases
from workers.evaluation.metrics import Agreement, Overlap
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_localizer import LearnedLocalizer
from workers.training.phantoms import PLAIN


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    device = torch.device("cpu")
    predictor, localizer = EmbeddedPredictor(device), LearnedLocalizer(device)
    engine = Engine(predictor, localizer, EngineOptions(members=8, max_lesions=1))
    cases = phantom_cases([4], "small", PLAIN)
    return evaluate(cases, engine, rounds=2, predictor=predictor, localizer=localizer)


def dice_of(evaluation: Evaluation, method: str, target: str = "liver") -> float:
    return next(row.dice for row in evaluation.rows() if (row.method, row.target) == (method, target))


def test_all_methods_are_listed_with_plausible_livers(evaluation):
    methods = [row.method for row in evaluation.rows() if row.target == "liver"]
    assert methods == ["manual", "auto (one box)", "first round, any of 4", "UAIR(1)", "UAIR(2)"]
    assert dice_of(evaluation, "manual") > 0.8
    assert dice_of(evaluation, "UAIR(1)") > 0.6


def test_the_readers_pick_is_no_worse_than_any_candidate(evaluation):
    assert dice_of(evaluation, "UAIR(1)") >= dice_of(evaluation, "first round, any of 4") - 1e-9


def test_auto_has_no_lesion_row(evaluation):
    assert {row.method for row in evaluation.rows() if row.target == "lesions"} == {
        "manual",
        "first round, any of 4",
        "UAIR(1)",
        "UAIR(2)",
    }


def scored(case: str, method: str, liver: Overlap, lesions: Overlap | None, seconds: float) -> Score:
    return Score(case, method, Agreement(liver, lesions, {}), seconds)


def test_rows_are_means_over_cases_and_leave_out_cases_without_lesions():
    scores = (
        scored("a", "auto", Overlap(5, 10, 10), Overlap(1, 2, 2), 2.0),
        scored("b", "auto", Overlap(10, 10, 10), Overlap(0, 3, 0), 4.0),
    )
    liver, lesions = Evaluation(scores).rows()
    assert (liver.cases, liver.dice, liver.seconds) == (2, pytest.approx(0.75), pytest.approx(3.0))
    assert liver.jaccard == pytest.approx((5 / 15 + 1) / 2)
    assert (lesions.cases, lesions.dice) == (1, pytest.approx(0.5))


def test_the_table_shows_a_line_for_each_row(evaluation):
    lines = evaluation.table().splitlines()
    assert len(lines) == 1 + len(evaluation.rows())
    assert "UAIR(2)" in lines[5]
    assert f"{evaluation.rows()[0].dice:.3f}" in lines[1]


def test_phantom_cases_are_reproducible():
    first, again = (next(iter(phantom_cases([3], "small", PLAIN))) for _ in range(2))
    assert np.array_equal(first.hu, again.hu)
    assert first.name == "phantom 3"
