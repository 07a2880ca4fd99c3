"""Update the belief over shapes after a reader's answer, and find the next four candidates.

After each answer, Bayes' rule gives the particles weights. They are resampled by weight and moved a little
(Liu and West 2001). The result depends only on the inputs and the random generator. No network is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from workers.uair.belief import (
    LEAST_AMPLITUDE_MM,
    LENGTH_RADII,
    LEVEL,
    MARGIN_MM,
    MARGIN_RADII,
    NEAR_MM,
    Belief,
    Float64,
    dices,
    distance_mm,
    prior_belief,
    smooth_fields,
    window_around,
)
from workers.uair.candidates import SHOWN
from workers.uair.grids import Float32, Mask

SHORTENING, LEAST_LENGTH_MM = 0.75, 1.2
"""The factor by which each answer shortens the smooth fields' length scale, and its least length in mm."""
TEMPERATURE = 0.015
"""If a candidate's Dice is larger by this value, then a reader picks it e (2.7) times as often."""
CARELESS = 0.02
"""The fraction of a reader's picks that is random."""
JITTER = 0.3
"""The factor h of the noise that moves particles after resampling (Liu and West 2001).

A particle keeps ``sqrt(1 - h^2)`` of its distance from the mean. Then noise, multiplied by h, is added.
"""
REWIDENED = 1.3
"""The factor by which the belief's spread grows after a rejection, because the belief was too narrow."""
DRAWN_SPREAD = 0.35
"""The fraction of the belief's spread that remains around a segmentation that the reader drew."""
ITERATIONS = 4


def after_pick(belief: Belief, offered: Mask, picked: int, answers: int, rng: np.random.Generator) -> Belief:
    """Return the belief after a pick. `likelihood_of_pick` weights the particles for resampling.

    Parameters
    ----------
    offered
        ``(4, n, h, w)`` candidates that the reader saw. The pick compares all of them.
    picked
        Index 0 … 3 of the picked candidate.
    answers
        Number of the reader's answers, including this answer.
    """
    among = np.concatenate([offered[picked : picked + 1], np.delete(offered, picked, axis=0)])
    own = _own_agreement(among)
    weights = likelihood_of_pick(belief.agreement(among), own)
    return _drawn_again(belief, weights / weights.sum(), answers, rng)


def after_parts(
    belief: Belief,
    offered: Mask,
    numbers: NDArray[np.uint8],
    chosen: Sequence[int],
    answers: int,
    rng: np.random.Generator,
) -> Belief:
    """Return the belief after the reader chose a candidate for each part.

    The choices for the parts count as independent: the values of `likelihood_of_pick` are multiplied. In a
    part R, the agreement of a shape with a candidate is ``1 - |shape xor candidate in R| / (2 E|shape|)``. It
    is 1 minus the Dice that the differences inside R cost.

    Parameters
    ----------
    offered
        ``(4, n, h, w)`` candidates that the reader saw.
    numbers
        ``(n, h, w)`` index of each cell's part.
    chosen
        The chosen candidate 0 … 3 of each part.
    answers
        As in `after_pick`.
    """
    of_sample = numbers[belief.part][belief.sampled].ravel()
    drawn = np.stack([belief.samples_of(mask) for mask in offered])
    cost = 0.5 / max(1.0, float(belief.shapes.sum(axis=1).mean()))
    weights = np.ones(len(belief.shapes))
    for number, picked in enumerate(chosen):
        among = np.concatenate([drawn[picked : picked + 1], np.delete(drawn, picked, axis=0)])
        among, shapes = among[:, of_sample == number], belief.shapes[:, of_sample == number]
        own = 1.0 - cost * _differences(among[:1], among)[0]
        weights *= likelihood_of_pick(1.0 - cost * _differences(shapes, among), own)
    return _drawn_again(belief, weights / weights.sum(), answers, rng)


def likelihood_of_pick(agreement: Float64, own: Float64) -> Float64:
    """Return the probability that a reader who wants a shape picks the first of some candidates.

    ``P(pick | shape) = (1 - e) min(q(shape), q(picked)) / q(picked) + e`` with ``q = softmax_k(Dice(shape,
    candidate_k) / t)[picked]``. Here e is `CARELESS`, and t is `TEMPERATURE`. Because of ``min``, a shape
    beyond the pick is not more likely than the pick itself.

    Parameters
    ----------
    agreement
        ``(P, K)`` Dice of shapes with the candidates, the picked candidate first.
    own
        ``(K,)`` Dice of the picked candidate with all candidates.
    """
    best = float(_softmax(own[None] / TEMPERATURE)[0, 0])
    share = np.minimum(_softmax(agreement / TEMPERATURE)[:, 0], best) / best
    return np.asarray((1.0 - CARELESS) * share + CARELESS)


def after_rejection(belief: Belief, rejected: Mask, answers: int, rng: np.random.Generator) -> Belief:
    """Return the belief after the reader rejected all offered candidates ``(K, n, h, w)``.

    ``P(none | shape) = 1 / (1 + sum_k exp((Dice(shape, candidate_k) - d) / t))``. Here t is `TEMPERATURE`,
    and d is the median of each shape's best Dice. Then the spread grows by the factor `REWIDENED`.
    """
    agreement = belief.agreement(rejected)
    middle = float(np.median(agreement.max(axis=1)))
    likely = 1.0 / (1.0 + np.exp(np.clip((agreement - middle) / TEMPERATURE, -30.0, 30.0)).sum(axis=1))
    weights = (1.0 - CARELESS) * likely + CARELESS
    again = _drawn_again(belief, weights / weights.sum(), answers, rng)
    centre = again.particles.astype(np.float32).mean(axis=0)
    wider = centre + REWIDENED * (again.particles.astype(np.float32) - centre)
    return replace(again, particles=wider.astype(np.float16))


def after_drawing(belief: Belief, drawn: Mask, answers: int, rng: np.random.Generator) -> Belief:
    """Return the belief about a target after the reader drew it, ``(n, h, w)`` on the crop's cells.

    The drawing replaces the mean, and the spread is multiplied by `DRAWN_SPREAD`. If the drawing reaches
    beyond the belief's window, then a new first belief around the drawing is returned.
    """
    cells = belief.cell_mm
    part = window_around(drawn, cells, max(MARGIN_MM, MARGIN_RADII * belief.radius_mm))
    centre = belief.particles.astype(np.float32).mean(axis=0)
    window = belief.part
    inside = all(a.start >= b.start and a.stop <= b.stop for a, b in zip(part, window, strict=True))
    if not inside:
        allowed = np.ones(drawn.shape, bool)
        allowed[window] = belief.allowed
        return prior_belief(drawn[None], allowed | drawn, cells, rng)
    mean = distance_mm(drawn[window], cells)
    spread = DRAWN_SPREAD * (belief.particles.astype(np.float32) - centre)
    return replace(
        belief,
        mean=mean.astype(np.float16),
        allowed=belief.allowed | drawn[window],
        particles=spread.astype(np.float16),
    )


def expected_gain(belief: Belief, offered: Mask) -> float:
    """Return the expected increase in Dice if the reader picks again, compared with candidate 1.

    ``E[max_k Dice(shape, candidate_k) - Dice(shape, candidate_1)]`` over the belief's shapes.

    Parameters
    ----------
    offered
        ``(4, n, h, w)`` candidates. The first is the candidate that the reader already has.
    """
    agreement = belief.agreement(offered)
    return float((agreement.max(axis=1) - agreement[:, 0]).mean())


def clusters(belief: Belief, rng: np.random.Generator, kept: Mask | None = None) -> list[NDArray[np.intp]]:
    """Return the particles that each new candidate represents. Lloyd's algorithm with Dice finds them.

    Candidates maximise ``E[max_k Dice(shape, candidate_k)]``. Each shape belongs to its nearest candidate. A
    candidate contains the cells that more than the fraction `LEVEL` of its shapes contain.

    Parameters
    ----------
    kept
        ``(n, h, w)`` the reader's present selection. It is candidate 1, and three new candidates are found.
    """
    shapes = belief.shapes
    count = len(shapes)
    sizes = shapes.sum(axis=1)
    found = [belief.samples_of(kept)] if kept is not None else [_majority(shapes)]
    fixed = 1 if kept is not None else 0
    while len(found) < SHOWN:
        far = 1.0 - dices(shapes, np.stack(found)).max(axis=1)
        far = np.where(sizes > 0, far, 0.0) + 1e-9
        found.append(shapes[rng.choice(count, p=far / far.sum())])
    centres = np.stack(found)
    for _ in range(ITERATIONS):
        nearest = dices(shapes, centres).argmax(axis=1)
        for k in range(fixed, SHOWN):
            own = shapes[nearest == k]
            candidate = _majority(own) if len(own) else shapes[rng.integers(count)]
            if candidate.any():
                centres[k] = candidate
    nearest = dices(shapes, centres).argmax(axis=1)
    return [
        own if len(own) else np.array([dices(shapes, centres[k][None])[:, 0].argmax()])
        for k in range(fixed, SHOWN)
        for own in (np.flatnonzero(nearest == k),)
    ]


def _drawn_again(belief: Belief, weights: Float64, answers: int, rng: np.random.Generator) -> Belief:
    """Resample the particles by weight, and move them (Liu and West 2001).

    ``c' = m + sqrt(1 - h^2) (c - m) + h e``: mean and covariance stay, and all particles differ. The noise e
    is a smooth field. Its amplitude is the belief's deviation near the surface. Its length scale becomes
    shorter after each answer.
    """
    particles = belief.particles.astype(np.float64)
    fields = belief.fields
    middle = weights.astype(np.float32) @ fields
    variance = weights.astype(np.float32) @ (fields - middle) ** 2
    near = np.abs(middle) < NEAR_MM
    amplitude = float(np.sqrt(np.median(variance[near]))) if near.any() else LEAST_AMPLITUDE_MM
    mean = weights @ particles
    chosen = _systematic(weights, rng)
    length = max(LEAST_LENGTH_MM, LENGTH_RADII * belief.radius_mm * SHORTENING**answers)
    fresh = smooth_fields(belief, rng, len(particles), length, amplitude)
    moved = mean + np.sqrt(1.0 - JITTER**2) * (particles[chosen] - mean) + JITTER * fresh
    return replace(belief, particles=moved.astype(np.float16))


def _systematic(weights: Float64, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return indices drawn by weight with systematic resampling."""
    places = (np.arange(len(weights)) + rng.random()) / len(weights)
    return np.minimum(np.searchsorted(np.cumsum(weights), places), len(weights) - 1)


def _majority(shapes: Float32) -> Float32:
    return (shapes.mean(axis=0) > LEVEL).astype(np.float32)


def _own_agreement(masks: Mask) -> Float64:
    """Return the Dice ``(K,)`` of the first mask with each mask."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    return np.asarray(dices(flat[:1], flat)[0])


def _differences(shapes: Float32, candidates: Float32) -> Float64:
    """Return the number ``(P, K)`` of samples in which a shape and a candidate differ (rows of 0 and 1)."""
    shared = shapes @ candidates.T
    return np.asarray(shapes.sum(axis=1)[:, None] + candidates.sum(axis=1)[None] - 2.0 * shared, np.float64)


def _softmax(values: Float64) -> Float64:
    shifted = np.exp(values - values.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))
