"""The classifier learns, repeats itself, and survives its JSON form."""

import json

import numpy as np
import pytest

from workers.training.classifier import BoostingOptions, fit_classifier, fit_forest, fit_linear
from workers.uair.classifier import WITHIN, Classifier, Forest, Linear

NAMES = ("a", "b", "c")


def either_but_not_both(count=600):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(count, 3))
    return rows, (rows[:, 0] > 0.2) != (rows[:, 1] > -0.1)


def test_trees_learn_an_interaction():
    rows, truth = either_but_not_both()
    forest = fit_forest(rows[:400], truth[:400], BoostingOptions(trees=100, depth=3, rate=0.2))
    assert ((forest.log_odds(rows[400:]) > 0) == truth[400:]).mean() > 0.93


def test_the_linear_model_learns_a_direction_and_is_bounded():
    rng = np.random.default_rng(1)
    rows = rng.normal(5.0, 2.0, (500, 3))
    truth = rows[:, 0] - rows[:, 2] + rng.normal(0.0, 0.5, 500) > 0.0
    linear = fit_linear(rows, truth)
    assert ((linear.log_odds(rows) > 0) == truth).mean() > 0.9
    assert linear.weights[0] > 0 > linear.weights[2]
    far, farther = (linear.log_odds(np.array([[5.0 + x, 5.0, 5.0]])) for x in (2.5 * WITHIN, 100.0))
    np.testing.assert_array_equal(far, farther)


def test_same_seed_same_classifier_and_json_changes_nothing():
    rows, truth = either_but_not_both()
    first, again = (fit_classifier(rows, truth, NAMES, BoostingOptions(trees=20)) for _ in range(2))
    assert first.to_json() == again.to_json()
    other = fit_classifier(rows, truth, NAMES, BoostingOptions(trees=20, seed=1))
    assert other.to_json() != first.to_json()
    back = Classifier.from_json(json.loads(json.dumps(first.to_json())))
    np.testing.assert_array_equal(back.probability(rows), first.probability(rows))
    assert back.names == NAMES


def test_a_tree_and_a_sum_by_hand():
    forest = Forest(0.5, np.array([[0]]), np.array([[2.0]]), np.array([[-1.0, 1.0]]))
    rows = np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(forest.log_odds(rows), [-0.5, -0.5, 1.5])
    linear = Linear(np.array([2.0]), np.array([0.5]), np.array([1.5]), 0.5)
    np.testing.assert_allclose(linear.log_odds(rows), [-2.5, 0.5, 3.5])
    chance = Classifier(("a",), forest, linear).probability(rows)
    np.testing.assert_allclose(np.log(chance / (1 - chance)), [-1.5, 0.0, 2.5])


def test_without_information_the_share_is_the_answer():
    rows, truth = np.zeros((40, 2)), np.arange(40) < 10
    fitted = fit_classifier(rows, truth, NAMES[:2], BoostingOptions(trees=30, share=1.0))
    np.testing.assert_allclose(fitted.probability(rows), 0.25, atol=1e-3)


@pytest.mark.parametrize("truth", [np.zeros(5, bool), np.ones(5, bool), np.zeros(0, bool)])
def test_rows_of_one_kind_teach_nothing(truth):
    with pytest.raises(ValueError, match="both kinds"):
        fit_classifier(np.zeros((len(truth), 1)), truth, ("a",), BoostingOptions())


def test_models_of_other_shapes_are_refused():
    forest = Forest(0.0, np.array([[0]]), np.array([[2.0]]), np.array([[0.0, 1.0]])).to_json()
    with pytest.raises(ValueError, match="shapes"):
        Forest.from_json({**forest, "leaves": [[1.0]]})
    linear = Linear(np.zeros(2), np.ones(2), np.zeros(2), 0.0).to_json()
    with pytest.raises(ValueError, match="differ"):
        Linear.from_json({**linear, "weights": [1.0]})
