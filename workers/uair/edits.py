"""Replace candidate 1 of a round by a segmentation that the reader drew or corrected.

The next round then starts from this segmentation, as from any pick (equation 4). The segmentation is the
reference of the new prompts, and evidence of the reader's preference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.compose import LIVER, Labels
from workers.uair.ensemble import LIMIT, Decoder
from workers.uair.grids import Crop, Float32
from workers.uair.lesion_maps import LESION_SHARES, led
from workers.uair.prompts import outline_of
from workers.uair.state import RoundState, TargetState
from workers.uair.targets import LESION_PLAN, CandidateOptions, first_pool, open_target


def adopt_edit(state: RoundState, labels: Labels) -> RoundState:
    """Return `state` with candidate 1 of each of its targets replaced by an edited segmentation.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8 on the canonical grid: 0 background, 1 liver, 1 + n lesion n. Lesions without a
        target are left out. `unknown_lesions` returns their label values, `opened` adds their targets.
    """
    return replace(state, targets=tuple(_edited(target, labels) for target in state.targets))


def unknown_lesions(state: RoundState, labels: Labels) -> list[int]:
    """Return the label values of drawn lesions for which the state has no target, ascending."""
    known = {target.value for target in state.targets}
    present = np.flatnonzero(np.sum([np.bincount(plane.ravel(), minlength=256) for plane in labels], axis=0))
    return [int(value) for value in present if value > LIVER and value not in known]


@dataclass(frozen=True)
class DrawnLesion:
    """A lesion that the reader added, with the crop that the model sees.

    Parameters
    ----------
    value
        Label value of the lesion.
    mask
        ``(Z, Y, X)`` on the canonical grid, as the reader drew the lesion.
    crop
        The crop around the lesion.
    decode
        The model bound to the crop.
    cells
        ``(n, h, w)`` mean HU of the crop's cells.
    """

    value: int
    mask: NDArray[np.bool_]
    crop: Crop
    decode: Decoder
    cells: Float32


def opened(
    state: RoundState, drawn: DrawnLesion, options: CandidateOptions, rng: np.random.Generator
) -> RoundState:
    """Return `state` with a target for a lesion that the reader added, as if candidate 1 had contained it.

    The lesion's candidates 2 to 4 come from the model, with prompts around the lesion. A lesion smaller than
    half of a cell gets no target; `keep_selected` keeps its voxels.
    """
    known = _logits(drawn.crop, drawn.mask)
    if not (known > 0).any():
        return state
    liver = state.targets[0]
    domain = state.domain | (_logits(liver.crop, drawn.mask) > 0)
    outline = outline_of(known, drawn.crop.pixels)
    pool = first_pool(drawn.decode, drawn.crop, outline, LESION_PLAN, options, rng)
    target = open_target(
        drawn.value,
        drawn.crop,
        led(pool, known, LESION_SHARES),
        options,
        organ=liver.crop.mask_on(domain, drawn.crop) | (known > 0),
        preference_mm=state.preference.lesion_mm,
        hu=drawn.cells,
    )
    offered = target.offered.copy()
    offered[0] = known.astype(np.float16)
    added = replace(target, offered=offered, drawn=True)
    return replace(state, targets=(*state.targets, added), domain=domain)


def keep_selected(candidates: Sequence[Labels], selected: Labels, known: Sequence[int]) -> list[Labels]:
    """Return the candidates of a round. Candidate 1 becomes the earlier selection, equal in every voxel.

    Logits on a crop's cells cannot represent every voxel that a reader drew, so candidate 1 is replaced. A
    selected lesion without a target is copied to all four candidates.

    Parameters
    ----------
    candidates
        ``(Z, Y, X)`` label volumes, candidate 1 first.
    selected
        The earlier selection, a label volume of the same shape.
    known
        Label values that have a target in the state.
    """
    drawn = np.isin(selected, [value for value in np.unique(selected) if value and value not in known])
    others = [np.where(drawn, selected, labels) for labels in candidates[1:]]
    return [selected, *others]


def _edited(target: TargetState, labels: Labels) -> TargetState:
    mask = labels >= LIVER if target.value == LIVER else labels == target.value
    offered = target.offered.copy()
    offered[0] = _logits(target.crop, mask).astype(np.float16)
    present = (bool((offered[0] > 0).any()), *target.present[1:])
    return replace(target, offered=offered, present=present, drawn=True)


def _logits(crop: Crop, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return logits ``(n, cells, cells)`` of a mask. A logit is 0 where the mask covers half of a cell."""
    region = crop.region()
    centres = crop.cell_centres()
    part = mask[region].astype(np.float32)
    cell = [max(1, round(float(c[1] - c[0]))) for c in centres[1:]]
    covered = ndimage.uniform_filter(part, size=(1, *cell), mode="constant")
    # `cell_centres` counts from voxel edges, `map_coordinates` from voxel centres.
    places = [c - 0.5 - span.start for c, span in zip(centres, region, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    share = ndimage.map_coordinates(covered, grid, order=1, mode="constant")
    return np.asarray((2.0 * share - 1.0) * LIMIT, np.float32)
