"""Find lesions: propose places in the liver, segment them with the model, and estimate their confidence.

The caller passes the model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.uair.compose import LIVER
from workers.uair.confidence import evidence_of
from workers.uair.ensemble import Decoder
from workers.uair.extent import Tissue
from workers.uair.grids import Box, Crop, Float32, Mask, Spacing
from workers.uair.lesion_maps import LESION_SHARES, OUTLINE, LesionMaps, bounded_logit, led, pieces_of
from workers.uair.lesions import GRID_MM, Proposal, propose
from workers.uair.localize import to_isotropic
from workers.uair.outlines import OutlinePrompter, Outliner, cells_in, led_by_outlines
from workers.uair.prompts import Outline, boxes_of
from workers.uair.state import TargetState
from workers.uair.targets import LESION_PLAN, CandidateOptions, Plan, first_pool, open_target

EncodeCrop = Callable[[NDArray[np.generic], Crop], tuple[Decoder, Float32]]
"""A function of a volume and a crop.

It returns the model bound to the crop, and the mean HU of the crop's mask cells.
"""
BEYOND_MM = 3.0
"""A lesion's crop reaches this many mm above and below its proposal, so that later rounds can grow it."""
PlanCrop = Callable[[Box, Spacing, tuple[int, ...], Plan], Crop]


@dataclass(frozen=True)
class Organ:
    """The liver in which lesions are searched.

    Parameters
    ----------
    liver
        The liver's target, with its first four candidates.
    domain
        ``(n, h, w)`` on the liver's crop: the possible places of lesions.
    tissue
        The liver's density.
    maps
        Probabilities of the learned finder; None if only density proposes lesions.
    """

    liver: TargetState
    domain: Mask
    tissue: Tissue
    maps: LesionMaps | None

    @property
    def majority(self) -> Mask:
        """``(n, h, w)``: cells in at least two of the four candidates."""
        return majority(self.liver)


@dataclass(frozen=True)
class LesionFinder:
    """Proposes lesions and segments them with the model.

    Parameters
    ----------
    plan_crop, encode_crop
        Functions that plan a target's crop and encode it.
    options
        The options for choosing four candidates.
    seed
        Seed of the prompts.
    outliner
        A 3-D model that outlines lesions; None: only the promptable model segments lesions.
    """

    plan_crop: PlanCrop
    encode_crop: EncodeCrop
    options: CandidateOptions
    seed: int
    outliner: Outliner | None = None

    def proposals(
        self, hu: NDArray[np.generic], spacing: Spacing, organ: Organ, limit: int
    ) -> list[Proposal]:
        """Return up to `limit` proposals, the most likely first.

        The learned finder makes the proposals. Without a finder, the proposals are places of unusual density.
        With a finder, such places are not used, because nine of ten were no lesions.
        """
        if limit == 0:
            return []
        if organ.maps is None:
            return self._outliers(hu, spacing, organ, limit)
        pieces = pieces_of(organ.maps.lesions)
        faint = [piece for piece in pieces if piece.score <= OUTLINE]
        return (pieces[: len(pieces) - len(faint)] + faint[: limit // 4])[:limit]

    def _outliers(
        self, hu: NDArray[np.generic], spacing: Spacing, organ: Organ, limit: int
    ) -> list[Proposal]:
        """Return up to `limit` places of unusual density, see `propose`."""
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
        return propose(iso, inside, liver, origin, spacing, limit)

    def opened(
        self,
        hu: NDArray[np.generic],
        spacing: Spacing,
        organ: Organ,
        proposal: Proposal,
        preference_mm: float = 0.0,
    ) -> TargetState | None:
        """Return the target of a proposal, with four candidates; None if it is probably no lesion.

        The caller sets the target's label value. `preference_mm` is as for `open_target`.
        """
        around = proposal.box.extended((BEYOND_MM, 0.0, 0.0), spacing, hu.shape)
        crop = self.plan_crop(around, spacing, hu.shape, LESION_PLAN)
        decode, cells = self.encode_crop(hu, crop)
        # The proposal's place in the body is the seed, because its place in the list may change.
        # A box may begin outside the volume. Its coordinates are then negative, but a seed must not be.
        place = abs(int(proposal.box.start[0] * 1e4 + proposal.box.start[2]))
        rng = np.random.default_rng([self.seed, 1, place])
        outline = proposal.outline.at(*crop.cell_centres())
        seen = None if organ.maps is None else organ.maps.lesions.at(*crop.cell_centres())
        pool = first_pool(decode, crop, _outline(proposal, outline, crop), LESION_PLAN, self.options, rng)
        known = bounded_logit(outline) if proposal.learned else None
        weighed = pool if known is None else led(pool, known, LESION_SHARES)
        mine = organ.liver.crop
        evidence = evidence_of(weighed, cells, mine.mask_on(organ.majority, crop), organ.tissue, crop, seen)
        if evidence is None or not evidence.shown:
            return None
        if self.outliner is not None:
            prompter = OutlinePrompter(self.outliner, crop, cells)
            drawn = prompter.first(cells_in(proposal.box, crop), None if known is None else outline, rng)
            weighed = led_by_outlines(pool, drawn, known)
        allowed = mine.mask_on(organ.domain, crop)
        return open_target(
            LIVER + 1,
            crop,
            weighed,
            self.options,
            organ=allowed,
            confidence=evidence.confidence,
            preference_mm=preference_mm,
            hu=cells,
        )


def majority(target: TargetState) -> Mask:
    """Return the cells ``(n, h, w)`` of a target's crop in at least two of its four candidates."""
    return np.asarray((target.offered > 0).mean(axis=0) >= 0.5)


def same_lesion(a: TargetState, b: TargetState) -> bool:
    """Return whether two targets are the same lesion: they share more than half of the smaller lesion."""
    mine = a.offered[1] > 0
    theirs = b.crop.mask_on(b.offered[1] > 0, a.crop)
    smaller = min(mine.sum() * a.crop.cell_volume_ml, (b.offered[1] > 0).sum() * b.crop.cell_volume_ml)
    return bool((mine & theirs).sum() * a.crop.cell_volume_ml > 0.5 * smaller)


def _outline(proposal: Proposal, shown: Float32, crop: Crop) -> Outline:
    tight = boxes_of(shown, 0.5, crop.pixels)
    slices = np.asarray(crop.slices) + 0.5
    inside = np.flatnonzero((slices > proposal.box.start[0] - 0.5) & (slices < proposal.box.stop[0] + 0.5))
    first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, len(slices))
    logits = bounded_logit(shown) if proposal.learned else None
    return Outline(crop.around(proposal.box), first, last, tight, logits)
