"""The ensemble: many predictions of one target, their mean and variance (equation 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.grids import Float32, Mask
from workers.uair.prompts import Member, Prompts, joined

ABSENT = -10.0
"""Logit of slices for which a member has no prompt."""
CUT = -4.0
"""Logit of cells that a member must not cover."""
LIMIT = 8.0
"""Logits are clipped to this magnitude, so that one member does not dominate the mean."""
CELLS_AT_ONCE = 1 << 24
"""The most cells of one mask token per call of the model. The logits of four tokens then need 256 MB."""

Decoder = Callable[[Prompts], tuple[Float32, NDArray[np.float32]]]
"""A function that runs the model on ``P`` prompts.

It returns logits ``(P, M, h, w)`` and predicted IoU ``(P, M)`` of ``M`` mask tokens.
"""


@dataclass(frozen=True)
class Ensemble:
    """``N`` predictions of one target.

    Parameters
    ----------
    logits
        ``(N, n, h, w)`` float32.
    quality
        ``(N,)`` mean predicted IoU. A member without prompts gets the median of the other members.
    box_cells
        S_b of equation 2: the area of a member's boxes in cells, summed over slices, averaged over members;
        0 if unknown.
    """

    logits: Float32
    quality: NDArray[np.float32]
    box_cells: float = 0.0

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Thresholded logits ``(N, n, h, w)``."""
        return self.logits > 0

    def confined(self, organ: Mask) -> Ensemble:
        """Return the ensemble with members that cover no cell outside of a mask ``(n, h, w)``."""
        cut = np.where(organ, self.logits, np.minimum(self.logits, CUT))
        return replace(self, logits=cut.astype(np.float32))

    def joined_by(self, logits: Float32) -> Ensemble:
        """Return the ensemble with one more member ``(n, h, w)``, which gets the median quality."""
        quality = np.append(self.quality, np.median(self.quality)).astype(np.float32)
        return replace(self, logits=np.concatenate([self.logits, logits[None]]), quality=quality)


def probability(logits: Float32) -> Float32:
    """Return the logistic function of logits."""
    return (1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))).astype(np.float32)


def logit(chance: Float32) -> Float32:
    """Return the inverse of `probability`. It is finite for 0 and 1."""
    inside = np.clip(chance, 1e-6, 1.0 - 1e-6)
    return np.log(inside / (1.0 - inside)).astype(np.float32)


def in_half(values: Float32) -> NDArray[np.float16]:
    """Return logits in half precision, the form in which a state keeps them."""
    return np.clip(values, -LIMIT, LIMIT).astype(np.float16)


def statistics(predictions: Float32) -> tuple[Float32, Float32]:
    """Return mean and sample standard deviation (over N - 1) along axis 0 (equation 1)."""
    mean = predictions.mean(axis=0)
    variance = ((predictions - mean) ** 2).sum(axis=0) / max(1, len(predictions) - 1)
    return mean, np.sqrt(variance)


def predict(
    decode: Decoder, members: Sequence[Member], stack_shape: tuple[int, int, int], smooth_slices: float
) -> Ensemble:
    """Return the model's predictions for the prompts of every member.

    Parameters
    ----------
    decode
        The model, bound to the crop's embeddings.
    members
        The members with their prompts.
    stack_shape
        ``(n, h, w)`` of one member's logits.
    smooth_slices
        Standard deviation of a Gaussian across slices, in slices; 0 for no smoothing. The predictions of a
        2-D model vary randomly between neighbouring slices.
    """
    logits = np.full((len(members), *stack_shape), ABSENT, np.float32)
    quality = np.full(len(members), np.nan, np.float32)
    for index, answers, predicted in _answers(decode, members, stack_shape[1] * stack_shape[2]):
        member, rows = members[index], np.arange(len(answers))
        token = predicted[:, 1:].argmax(axis=1) + 1 if member.token is None else member.token
        logits[index, member.prompts.slices] = answers[rows, token]
        quality[index] = float(predicted[rows, token].mean())
    silent = np.isnan(quality)
    quality[silent] = 0.0 if silent.all() else np.median(quality[~silent])
    if smooth_slices > 0:
        clipped = np.clip(logits, -LIMIT, LIMIT)
        logits = ndimage.gaussian_filter1d(clipped, smooth_slices, axis=1, mode="nearest")
    return Ensemble(logits, quality)


def _answers(
    decode: Decoder, members: Sequence[Member], cells: int
) -> Iterator[tuple[int, Float32, NDArray[np.float32]]]:
    """Yield each member's index, logits and predicted IoU.

    Members with prompts of the same form share a call of the model.
    """
    for indices in _together(members, max(1, CELLS_AT_ONCE // cells)):
        answers, predicted = decode(joined([members[index].prompts for index in indices]))
        start = 0
        for index in indices:
            own = slice(start, start + len(members[index].prompts))
            yield index, answers[own], predicted[own]
            start = own.stop


def _together(members: Sequence[Member], limit: int) -> list[list[int]]:
    """Return groups of member indices. The prompts of a group have the same form.

    A group has at most `limit` prompts, or a single member.
    """
    groups: dict[tuple[bool, bool], list[list[int]]] = {}
    sizes = [len(member.prompts) for member in members]
    for index, member in enumerate(members):
        if sizes[index] == 0:
            continue
        asked = member.prompts
        open_groups = groups.setdefault((asked.points is None, asked.masks is None), [[]])
        if sum(sizes[member] for member in open_groups[-1]) + sizes[index] > limit and open_groups[-1]:
            open_groups.append([])
        open_groups[-1].append(index)
    return [group for form in groups.values() for group in form]
