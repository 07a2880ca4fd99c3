"""Losses of two models, the promptable model and the lesion outliner.

The losses are Dice with focal cross-entropy; the best of three alternative masks counts most. The promptable
model also has a loss for its IoU head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

# Cross-entropy is divided by the target's share of the image, so that a lesion counts as much as a liver. If
# the target's share is below 1/30, then the weight is constant.
_MAX_SIZE_WEIGHT = 30.0
_SINGLE, _BEST, _ALL, _IOU = 0.3, 0.6, 0.1, 0.6


@dataclass(frozen=True)
class MaskLoss:
    """Result of `mask_loss` for ``P`` prompts.

    Attributes
    ----------
    total
        Scalar to minimise.
    best
        ``(P,)``: number of the token with the smallest loss, 1 to 3.
    iou
        ``(P, 4)``: true intersection over union of every token's mask.
    """

    total: Tensor
    best: Tensor
    iou: Tensor


def mask_loss(logits: Tensor, predicted_iou: Tensor, truth: Tensor) -> MaskLoss:
    """Compare the four masks of each prompt with the truth of the prompt.

    The best of the three alternative masks has the largest weight, so that the alternatives can specialise
    (SAM, section 3). The single-mask token always has the same weight.

    Parameters
    ----------
    logits
        ``(P, 4, h, w)``.
    predicted_iou
        ``(P, 4)``, output of the IoU head.
    truth
        ``(P, h, w)`` in [0, 1]: the part of each cell that belongs to the target.
    """
    wide = truth[:, None].expand_as(logits)
    losses = _dice_loss(logits, wide) + _focal_loss(logits, wide)
    iou = intersection_over_union(logits.detach(), wide)
    masks, best = _shared_out(losses)
    head = functional.smooth_l1_loss(predicted_iou, iou)
    return MaskLoss(masks.mean() + _IOU * head, best, iou)


def outline_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Compare alternative masks ``(B, A, n, h, w)`` of a lesion with the truth ``(B, n, h, w)``.

    The masks have the same weights as in `mask_loss`.

    Returns
    -------
    Tensor
        Scalar to minimise.
    """
    stacked = logits.flatten(2, 3)
    wide = truth.flatten(1, 2)[:, None].expand_as(stacked)
    return _shared_out(_dice_loss(stacked, wide) + _focal_loss(stacked, wide))[0].mean()


def _shared_out(losses: Tensor) -> tuple[Tensor, Tensor]:
    """Return each prompt's total loss and index of its best alternative, ``(P,)``, from losses ``(P, A)``."""
    alternatives = losses[:, 1:]
    smallest, best = alternatives.min(dim=1)
    return _BEST * smallest + _SINGLE * losses[:, 0] + _ALL * alternatives.mean(dim=1), best + 1


def _dice_loss(logits: Tensor, truth: Tensor) -> Tensor:
    probability = logits.sigmoid()
    overlap = 2 * (probability * truth).sum((2, 3)) + 2
    return 1 - overlap / ((probability + truth).sum((2, 3)) + 2)


def _focal_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the focal cross-entropy (exponent 1) with a soft truth. Small targets have larger weights."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    right = probability * truth + (1 - probability) * (1 - truth)
    weight = (1 / truth.mean((2, 3)).clamp(min=1e-2)).clamp(max=_MAX_SIZE_WEIGHT)
    return 0.5 * weight * (entropy * (1 - right)).mean((2, 3))


def intersection_over_union(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the IoU ``(…)`` of thresholded masks ``(…, h, w)``; 1 if both are empty."""
    inside, wanted = logits > 0, truth > 0.5
    shared = (inside & wanted).sum((-2, -1)) + 1
    return shared / ((inside | wanted).sum((-2, -1)) + 1)


def correction_click(
    logits: Tensor, truth: Tensor, stride: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a click in the wrong pixels of each mask, as in SAM's interactive training.

    Parameters
    ----------
    logits, truth
        ``(P, h, w)``.
    stride
        Input pixels per mask cell.
    generator
        Source of randomness, on the CPU.

    Returns
    -------
    tuple of Tensor
        ``(P, 1, 2)`` x, y in input pixels, and labels ``(P, 1)``: 1 in the target, 0 outside, -1 no error.
    """
    wanted = truth > 0.5
    wrong = (logits > 0) ^ wanted
    lottery = torch.rand(truth.shape, generator=generator).to(truth.device) * wrong
    ticket, cell = lottery.flatten(1).max(dim=1)
    row, column = cell // truth.shape[2], cell % truth.shape[2]
    points = (torch.stack([column, row], dim=1) + 0.5) * stride
    labels = wanted.flatten(1).gather(1, cell[:, None]).long()
    labels[ticket <= 0] = -1
    return points[:, None].float(), labels
