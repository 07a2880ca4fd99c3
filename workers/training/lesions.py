"""Training the false-positive filter of lesion proposals on phantoms whose truth is known.

The engine itself proposes on phantoms of the training generator; what it proposed and what the model answered
become rows, truth tells which are lesions, and two small classifiers are fitted. Seeds are far from those of
`workers.training.held_out` and of the evaluation.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dicom_config.errors import InputError
from workers.engine import Engine
from workers.models.lesion_filter import save_lesion_filter
from workers.training.classifier import BoostingOptions, fit_classifier
from workers.training.phantoms import Phantom
from workers.training.phantoms.appearance import Scan
from workers.training.phantoms.fields import Grid
from workers.training.phantoms.geometry import (
    TRAINING_SPACING_MM,
    Geometry,
    build_geometry,
    training_geometry,
)
from workers.training.phantoms.lesions import LesionPlan
from workers.training.phantoms.phantom import phantom_of
from workers.uair.finder import Answer
from workers.uair.lesions import LOOKED_AT, Proposal
from workers.uair.surroundings import BLOB_NAMES, POOL_NAMES
from workers.uair.targets import Choice

FIRST_SEED, PHANTOMS = 800_200, 41
FIRST_LARGE_SEED, LARGE_PHANTOMS = 810_000, 27
_LOG = logging.getLogger(__name__)

_BEST, _OTHERS, _TRUE = 5, 3, 6
"""Asked about: the best by contrast, some drawn from the rest, and some that lie on lesions."""
_ON_LESION = 0.4
_INSIDE = 0.5
_FOUND_IOU = 0.2


@dataclass(frozen=True)
class LesionRows:
    """What the filter learns from.

    Parameters
    ----------
    blobs, on_lesion
        ``(n, B)`` blob features, and whether most of the outline lies in one lesion.
    answers, found
        ``(m, B + P)`` blob and pool features, and whether the members' majority is a lesion (IoU above 0.2).
    """

    blobs: NDArray[np.float32]
    on_lesion: NDArray[np.bool_]
    answers: NDArray[np.float32]
    found: NDArray[np.bool_]

    @classmethod
    def joined(cls, parts: Iterable[LesionRows]) -> LesionRows:
        """Return the rows of several phantoms as one."""
        kept = list(parts)
        return cls(
            np.concatenate([part.blobs for part in kept]),
            np.concatenate([part.on_lesion for part in kept]),
            np.concatenate([part.answers for part in kept]),
            np.concatenate([part.found for part in kept]),
        )


def lesion_phantom(seed: int) -> Phantom:
    """Make a training phantom of any phase, up to eight lesions of all sizes, or one to three large ones.

    Seeds from `FIRST_LARGE_SEED` on give the latter: 10 to 45 mm radius, where the general distribution has
    few; without them a tumour that fills a segment and touches the surface is taken for a neighbouring organ.
    """
    geometry = _with_large_lesions(seed) if seed >= FIRST_LARGE_SEED else training_geometry(seed)
    rng = np.random.default_rng([seed, 2])
    return phantom_of(geometry, Scan.draw(rng, geometry.lesions.count, None), rng, seed)


def _with_large_lesions(seed: int) -> Geometry:
    rng = np.random.default_rng([seed, 0])
    height = int(rng.uniform(210, 300) / TRAINING_SPACING_MM[0])
    plan = LesionPlan(int(rng.integers(1, 4)), min_radius=10.0, median_radius=24.0, spread=0.4)
    return build_geometry(seed, Grid((height, 220, 272), TRAINING_SPACING_MM), plan)


def rows_of(phantom: Phantom, engine: Engine, members: int = 16) -> LesionRows:
    """Let the engine propose on a phantom and compare with its truth.

    Parameters
    ----------
    engine
        Segments the liver and answers; its own filter is not asked.
    members
        Of each lesion's ensemble.

    Raises
    ------
    InputError
        ``liver-not-found``.
    """
    organ = engine.organ(phantom.hu, phantom.spacing_mm)
    finder = replace(engine.finder, choice=Choice(members, engine.finder.choice.rule))
    proposals = finder.proposals(phantom.hu, phantom.spacing_mm, organ, LOOKED_AT, None)
    inside = np.array([_part_inside(proposal, phantom.labels) for proposal in proposals])
    blobs = np.array([proposal.features for proposal in proposals], np.float32).reshape(-1, len(BLOB_NAMES))
    answers, found = [], []
    for index in _asked_about(inside, phantom.meta.seed):
        answer = finder.ask(phantom.hu, phantom.spacing_mm, organ, proposals[index])
        if answer is not None:
            answers.append(np.concatenate([proposals[index].features, answer.features]))
            found.append(_iou(answer, phantom.labels) > _FOUND_IOU)
    width = len(BLOB_NAMES) + len(POOL_NAMES)
    rows = np.array(answers, np.float32).reshape(-1, width)
    return LesionRows(blobs, inside > _INSIDE, rows, np.array(found, bool))


def _asked_about(inside: NDArray[np.float64], seed: int) -> list[int]:
    count = len(inside)
    drawn = np.random.default_rng([seed, 9]).permutation(np.arange(_BEST, max(_BEST + 1, count)))[:_OTHERS]
    true = np.flatnonzero(inside > _ON_LESION)[:_TRUE]
    return [n for n in range(count) if n < _BEST or n in drawn or n in true]


def _part_inside(proposal: Proposal, labels: NDArray[np.uint8]) -> float:
    """Return which part of a proposal's outline lies in the one lesion that it covers most of."""
    region = proposal.box.outer(labels.shape)
    mask = proposal.outline.at(*(np.arange(part.start, part.stop) + 0.5 for part in region)) > 0.5
    shared = np.bincount(labels[region][mask], minlength=3)[2:]
    return float(shared.max() / max(1, int(mask.sum())))


def _iou(answer: Answer, labels: NDArray[np.uint8]) -> float:
    """Return the Jaccard index of the members' majority with the lesion that it covers most of."""
    majority = answer.pool.masks.mean(axis=0) >= 0.5
    region, values = answer.crop.to_volume(np.where(majority, 1.0, -1.0))
    mask = values > 0
    shared = np.bincount(labels[region][mask], minlength=3)[2:]
    best = int(shared.argmax())
    whole = int((labels == best + 2).sum())
    return float(shared[best] / max(1, int(mask.sum()) + whole - int(shared[best])))


def packaged_seeds() -> list[int]:
    """Return the seeds of the phantoms that the packaged filter was made from."""
    return [
        *range(FIRST_SEED, FIRST_SEED + PHANTOMS),
        *range(FIRST_LARGE_SEED, FIRST_LARGE_SEED + LARGE_PHANTOMS),
    ]


def train_lesion_filter(
    output: Path,
    engine: Engine,
    phantoms: Sequence[int],
    *,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LesionRows:
    """Collect rows from phantoms and write the filter fitted to them.

    About 15 s of one core for a phantom. The packaged filter is what `packaged_seeds` give with an engine of
    6 members (they shape the liver only; each lesion has 16).

    Parameters
    ----------
    phantoms
        Seeds for `lesion_phantom`.
    seed
        Of the fit.
    progress
        Called with (done, phantoms).

    Raises
    ------
    ValueError
        The phantoms hold no lesions, or nothing else.
    """
    parts = []
    for done, number in enumerate(phantoms, start=1):
        try:
            parts.append(rows_of(lesion_phantom(number), engine))
        except InputError:
            _LOG.info("no liver found in phantom %d", number)
        if progress:
            progress(done, len(phantoms))
    rows = LesionRows.joined(parts)
    write_filter(output, rows, {"phantoms": len(phantoms), "seed": seed})
    return rows


def write_filter(output: Path, rows: LesionRows, note: dict[str, int]) -> None:
    """Fit both classifiers and write them; `note` is kept in the file and holds the ``seed`` of the fit."""
    options = BoostingOptions(seed=note["seed"])
    blobs = fit_classifier(rows.blobs, rows.on_lesion, BLOB_NAMES, options)
    answers = fit_classifier(rows.answers, rows.found, BLOB_NAMES + POOL_NAMES, options)
    save_lesion_filter(output, blobs, answers, note)
