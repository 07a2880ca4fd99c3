"""Finding lesions: proposals in the liver, the model's answers about each, and how far to believe them.

Which model answers is the caller's affair.
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
"""Returns the model bound to a crop of a volume, and the mean HU of the crop's mask cells."""
BEYOND_MM = 3.0
"""A lesion's crop reaches this far above and below its proposal, so that later rounds can follow it."""
PlanCrop = Callable[[Box, Spacing, tuple[int, ...], Plan], Crop]


@dataclass(frozen=True)
class Organ:
    """The liver that lesions are looked for in.

    Parameters
    ----------
    liver
        Its first four.
    domain
        ``(n, h, w)`` on its crop: where lesions may be.
    tissue
        Its density.
    maps
        What the learned finder sees in it; None: density alone proposes lesions.
    """

    liver: TargetState
    domain: Mask
    tissue: Tissue
    maps: LesionMaps | None

    @property
    def majority(self) -> Mask:
        """``(n, h, w)``: in at least two of the four."""
        return majority(self.liver)


@dataclass(frozen=True)
class LesionFinder:
    """Proposes lesions and asks the model about them.

    Parameters
    ----------
    plan_crop, encode_crop
        How the model sees a target.
    options
        How four are chosen.
    seed
        Seed of the prompts.
    outliner
        Draws a lesion in 3-D; None: the promptable model alone does.
    """

    plan_crop: PlanCrop
    encode_crop: EncodeCrop
    options: CandidateOptions
    seed: int
    outliner: Outliner | None = None

    def proposals(
        self, hu: NDArray[np.generic], spacing: Spacing, organ: Organ, limit: int
    ) -> list[Proposal]:
        """Return up to `limit` places that may be lesions, the most likely first.

        The learned finder proposes them. Without a finder, outliers of density are proposed. With a finder
        they are not used: nine of ten were wrong.
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
        """Return up to `limit` outliers of density; see `propose`."""
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
        """Return a lesion's first four candidates, or None if it is probably no lesion.

        The caller gives its label value. `preference_mm` is as for `open_target`.
        """
        around = proposal.box.extended((BEYOND_MM, 0.0, 0.0), spacing, hu.shape)
        crop = self.plan_crop(around, spacing, hu.shape, LESION_PLAN)
        decode, cells = self.encode_crop(hu, crop)
        # The proposal's place in the list is not known to be stable, its place in the body is.
        # A box may begin outside the volume.
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
    """Return where at least two of a target's four candidates are, ``(n, h, w)`` on its crop."""
    return np.asarray((target.offered > 0).mean(axis=0) >= 0.5)


def same_lesion(a: TargetState, b: TargetState) -> bool:
    """Return whether two proposals turned out to be one lesion: half of the smaller lies in the other."""
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
