"""The organ in round 1: its outline in each slice, its first four candidates, and where lesions may lie."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.uair.compose import LIVER
from workers.uair.extent import near, tissue_of, trace_liver
from workers.uair.finder import EncodeCrop, Organ, PlanCrop, majority
from workers.uair.grids import Mask, Spacing
from workers.uair.lesion_maps import LIVER_SHARES, LesionMaps, LesionModel, led
from workers.uair.lesions import lesion_domain
from workers.uair.localize import Location
from workers.uair.prompts import outline_of
from workers.uair.state import TargetState
from workers.uair.targets import LIVER_PLAN, CandidateOptions, first_pool, open_target

AROUND_MM = (6.0, 12.0, 12.0)
"""The lesion finder searches this far beyond the liver's search box (z, y, x), in mm."""


@dataclass(frozen=True)
class OrganFinder:
    """Traces the organ and segments it with the model.

    Parameters
    ----------
    plan_crop, encode_crop
        Functions that plan a target's crop and encode it.
    options
        The options for choosing four candidates.
    rng
        The random generator of the prompts.
    lesions
        The learned lesion finder, a 3-D network that sees all slices at once. None: the promptable model
        alone draws the organ.
    """

    plan_crop: PlanCrop
    encode_crop: EncodeCrop
    options: CandidateOptions
    rng: np.random.Generator
    lesions: LesionModel | None

    def found(
        self, hu: NDArray[np.generic], spacing: Spacing, location: Location, preference_mm: float
    ) -> Organ | None:
        """Return the organ in ``(Z, Y, X)`` canonical HU with its first four candidates.

        The result is None if the liver cannot be traced.

        Parameters
        ----------
        preference_mm
            As for `open_target`.
        """
        box = location.search_box(spacing, hu.shape)
        crop = self.plan_crop(box, spacing, hu.shape, LIVER_PLAN)
        decode, cells = self.encode_crop(hu, crop)
        coarse = location.coarse.at(*crop.cell_centres())
        traced = trace_liver(decode, cells, coarse, crop.pixels)
        if traced is None:
            return None
        tissue = tissue_of(cells, (traced > 0).astype(np.float32))
        maps = None
        if self.lesions is not None:
            around = box.extended(AROUND_MM, spacing, hu.shape)
            maps = self.lesions.search(hu, spacing, around, tissue.median)
        organ = traced if maps is None else maps.organ_on(crop)
        outline = outline_of(organ, crop.pixels)
        pool = first_pool(decode, crop, outline, LIVER_PLAN, self.options, self.rng)
        # The learned finder sees all slices of the liver at once, and includes tumours in the liver.
        pool = pool.joined_by(traced) if maps is None else led(pool, organ, LIVER_SHARES)
        claimed = near(organ > 0, crop, tissue.like(cells))
        confined = pool.confined(claimed)
        liver = open_target(LIVER, crop, confined, self.options, organ=claimed, preference_mm=preference_mm)
        return Organ(liver, domain_of(liver, location, maps), tissue, maps)


def domain_of(liver: TargetState, location: Location | None = None, maps: LesionMaps | None = None) -> Mask:
    """Return the mask of possible lesion places on the liver's crop.

    The mask contains the cells in at least two of the liver's four candidates, with a margin. It also
    contains thick regions that only the localizer labels as liver, and all cells that the learned finder
    labels as liver.
    """
    crop = liver.crop
    doubtful = None if location is None else location.coarse.at(*crop.cell_centres()) > 0.5
    domain = lesion_domain(majority(liver), (crop.step_mm, crop.cell_mm, crop.cell_mm), doubtful)
    return domain if maps is None else domain | (maps.organ_on(crop) > 0)
