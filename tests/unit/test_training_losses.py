"""Losses of the promptable model reward what they should."""

import torch

from workers.research.training.losses import correction_click, intersection_over_union, mask_loss

TRUTH = torch.zeros(1, 16, 16)
TRUTH[:, 4:10, 4:12] = 1.0


def logits_of(*masks: torch.Tensor) -> torch.Tensor:
    return torch.stack([(mask[0] * 2 - 1) * 8 for mask in masks])[None]


def test_a_right_mask_costs_less_than_a_wrong_one() -> None:
    right = mask_loss(logits_of(*[TRUTH] * 4), torch.ones(1, 4), TRUTH)
    wrong = mask_loss(logits_of(*[1 - TRUTH] * 4), torch.zeros(1, 4), TRUTH)
    assert right.total < 0.05
    assert wrong.total > 10 * right.total


def test_the_best_of_three_alternatives_is_found_and_token_0_is_none_of_them() -> None:
    loss = mask_loss(logits_of(TRUTH, 1 - TRUTH, TRUTH, 1 - TRUTH), torch.zeros(1, 4), TRUTH)
    assert loss.best.tolist() == [2]
    assert loss.iou[0, 2] == 1.0


def test_one_good_alternative_is_enough_but_the_single_mask_token_must_learn_too() -> None:
    quality = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    single_right = mask_loss(logits_of(TRUTH, 1 - TRUTH, TRUTH, 1 - TRUTH), quality, TRUTH)
    single_wrong = mask_loss(logits_of(1 - TRUTH, 1 - TRUTH, TRUTH, 1 - TRUTH), quality, TRUTH)
    assert single_wrong.total > single_right.total + 0.2


def test_a_wrong_quality_estimate_costs() -> None:
    masks = logits_of(*[TRUTH] * 4)
    honest = mask_loss(masks, torch.ones(1, 4), TRUTH)
    modest = mask_loss(masks, torch.zeros(1, 4), TRUTH)
    assert modest.total > honest.total + 0.1


def test_small_targets_count_like_large_ones() -> None:
    small = torch.zeros(1, 16, 16)
    small[:, 8:10, 8:10] = 1.0
    missed_small = mask_loss(torch.full((1, 4, 16, 16), -2.0), torch.zeros(1, 4), small)
    missed_large = mask_loss(torch.full((1, 4, 16, 16), -2.0), torch.zeros(1, 4), TRUTH)
    assert missed_small.total > 0.7 * missed_large.total


def test_iou_of_empty_masks_is_one() -> None:
    empty = torch.zeros(3, 8, 8)
    assert intersection_over_union(empty - 1, empty).tolist() == [1.0, 1.0, 1.0]


def test_the_correction_click_lies_in_the_error_and_tells_its_kind() -> None:
    missing, excess = TRUTH.clone(), torch.zeros(1, 16, 16)
    excess[:, 12:14, 2:4] = 1.0
    generator = torch.Generator().manual_seed(0)
    points, labels = correction_click(torch.full((1, 16, 16), -1.0), missing, 4, generator)
    column, row = (points[0, 0] / 4).long().tolist()
    assert labels.tolist() == [[1]]
    assert missing[0, row, column] == 1
    points, labels = correction_click(excess * 2 - 1, torch.zeros(1, 16, 16), 4, generator)
    column, row = (points[0, 0] / 4).long().tolist()
    assert labels.tolist() == [[0]]
    assert excess[0, row, column] == 1


def test_there_is_no_click_where_there_is_no_error() -> None:
    _, labels = correction_click(TRUTH * 2 - 1, TRUTH, 4, torch.Generator().manual_seed(0))
    assert labels.tolist() == [[-1]]


def test_gradients_reach_logits_and_quality() -> None:
    logits = torch.zeros(1, 4, 16, 16, requires_grad=True)
    quality = torch.zeros(1, 4, requires_grad=True)
    mask_loss(logits, quality, TRUTH).total.backward()
    assert logits.grad is not None
    assert quality.grad is not None
    assert logits.grad.abs().sum() > 0
