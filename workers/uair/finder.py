"""Finding lesions: proposals in the liver, the model's answers about each, and how far to believe them.

What ranks and weighs is a `LesionFilter` that the caller brings; which model answers is its affair, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from workers.uair.compose import LIVER
from workers.uair.ensemble import Decoder, Ensemble
from workers.uair.extent import Tissue
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing
from workers.uair.lesions import GRID_MM, Proposal, propose
from workers.uair.localize import to_isotropic
from workers.uair.prompts import Outline, boxes_of
from workers.uair.state import TargetState
from workers.uair.surroundings import Features, pool_features
from workers.uair.targets import LESION_PLAN, Choice, Plan, first_pool, open_target

BEYOND_MM = 3.0
"""A lesion's crop reaches this far above and below its proposal, so that later rounds can follow it."""
HOPELESS = 0.01
"""The model is not asked about blobs that rank below this."""

Look = Callable[[NDArray[np.generic], Crop], tuple[Decoder, Float32]]
"""Returns the model bound to a crop of a volume, and the mean HU of the crop's mask cells."""
PlanCrop = Callable[[Box, Spacing, tuple[int, ...], Plan], Crop]


class LesionFilter(Protocol):
    """Tells lesions from what looks like them."""

    @property
    def digest(self) -> str:
        """SHA-256 of whatever decides the answers."""
        ...

    def rank(self, blob: Features) -> float:
        """Return 0 … 1 for the numbers named by `BLOB_NAMES`."""
        ...

    def confidence(self, blob: Features, answers: Features) -> float:
        """Return 0 … 1 for the numbers named by `BLOB_NAMES` and by `POOL_NAMES`."""
        ...


@dataclass(frozen=True)
class Organ:
    """The liver that lesions are looked for in.

    Parameters
    ----------
    liver
        Its first four.
    pool
        The members that they were chosen from.
    domain
        ``(n, h, w)`` on its crop: where lesions may be.
    tissue
        Its density.
    """

    liver: TargetState
    pool: Ensemble
    domain: Mask
    tissue: Tissue

    @property
    def majority(self) -> Mask:
        """``(n, h, w)``: in at least two of the four."""
        return np.asarray((self.liver.offered > 0).mean(axis=0) >= 0.5)


@dataclass(frozen=True)
class Answer:
    """What the model says about a proposal.

    Parameters
    ----------
    proposal
        What was asked about.
    crop
        Where the model looked.
    pool
        Its members' answers.
    allowed
        ``(n, h, w)`` where lesions may be.
    features
        The numbers named by `POOL_NAMES`.
    """

    proposal: Proposal
    crop: Crop
    pool: Ensemble
    allowed: Mask
    features: Features


@dataclass(frozen=True)
class LesionFinder:
    """Proposes lesions and asks the model about them.

    Parameters
    ----------
    plan_crop, look
        How the model sees a target.
    choice
        How four are chosen.
    seed
        Of the prompts.
    """

    plan_crop: PlanCrop
    look: Look
    choice: Choice
    seed: int

    def proposals(
        self,
        hu: NDArray[np.generic],
        spacing: Spacing,
        organ: Organ,
        limit: int,
        rank: Callable[[Features], float] | None,
    ) -> list[Proposal]:
        """Return up to `limit` places worth asking about, best first; see `propose`."""
        if limit == 0:
            return []
        crop = organ.liver.crop
        region = crop.region()
        iso = to_isotropic(hu[region], spacing, GRID_MM)
        origin = (float(region[0].start), float(region[1].start), float(region[2].start))
        places = zip(origin, iso.shape, spacing, strict=True)
        z, y, x = (start + (np.arange(n) + 0.5) * GRID_MM / s for start, n, s in places)
        inside, liver = (
            crop.sampled(np.where(mask, 1.0, -1.0), z, y, x, outside=-1.0) > 0
            for mask in (organ.domain, organ.majority)
        )
        return propose(iso, inside, liver, origin, spacing, limit, rank)

    def ask(
        self, hu: NDArray[np.generic], spacing: Spacing, organ: Organ, proposal: Proposal
    ) -> Answer | None:
        """Return the model's answers about a proposal, or None if they have no majority."""
        around = proposal.box.extended((BEYOND_MM, 0.0, 0.0), spacing, hu.shape)
        crop = self.plan_crop(around, spacing, hu.shape, LESION_PLAN)
        decode, cells = self.look(hu, crop)
        # The proposal's place in the list is not known to be stable, its place in the body is.
        # A box may begin outside the volume.
        place = abs(int(proposal.box.start[0] * 1e4 + proposal.box.start[2]))
        rng = np.random.default_rng([self.seed, 1, place])
        blob = proposal.outline.at(*crop.cell_centres())
        pool = first_pool(decode, crop, _outline(proposal, blob, crop), LESION_PLAN, self.choice, rng)
        mine = organ.liver.crop
        liver, allowed = mine.mask_on(organ.majority, crop), mine.mask_on(organ.domain, crop)
        features = pool_features(pool, cells, liver, allowed, blob > 0.5, organ.tissue, crop)
        return None if features is None else Answer(proposal, crop, pool, allowed, features)

    def opened(self, answer: Answer, confidence: float) -> TargetState:
        """Return the first four of a lesion; its number is the caller's to give."""
        return open_target(
            LIVER + 1, answer.crop, answer.pool, self.choice, organ=answer.allowed, confidence=confidence
        )


def _outline(proposal: Proposal, blob: Float32, crop: Crop) -> Outline:
    tight = boxes_of(blob, 0.5, crop.pixels)
    y0, x0 = crop.to_pixels(*proposal.box.start[1:])
    y1, x1 = crop.to_pixels(*proposal.box.stop[1:])
    slices = np.asarray(crop.slices) + 0.5
    shown = np.flatnonzero((slices > proposal.box.start[0] - 0.5) & (slices < proposal.box.stop[0] + 0.5))
    first, last = (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, len(slices))
    return Outline((x0, y0, x1, y1), first, last, tight)


def same_lesion(a: TargetState, b: TargetState) -> bool:
    """Tell whether two proposals turned out to be one lesion: half of the smaller lies in the other."""
    mine = a.offered[1] > 0
    theirs = b.crop.mask_on(b.offered[1] > 0, a.crop)
    smaller = min(mine.sum() * a.crop.cell_volume_ml, (b.offered[1] > 0).sum() * b.crop.cell_volume_ml)
    return bool((mine & theirs).sum() * a.crop.cell_volume_ml > 0.5 * smaller)
