"""A segmentation that the reader drew or corrected, taken up as if it had been candidate 1 of the round.

The next round then starts from it like from any pick (equation 4): it is the reference of the new prompts and
evidence of the reader's taste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from workers.uair.compose import LIVER, Labels
from workers.uair.ensemble import LIMIT
from workers.uair.grids import Crop
from workers.uair.state import RoundState, TargetState


def take_up(state: RoundState, labels: Labels) -> RoundState:
    """Return `state` with candidate 1 of each of its targets replaced by an edited segmentation.

    Parameters
    ----------
    labels
        ``(Z, Y, X)`` uint8 on the canonical grid: 0 background, 1 liver, 1 + n lesion n. Lesions that the
        state does not know are left out, it has no crop of them: `keep_selected` carries them on.
    """
    return replace(state, targets=tuple(_edited(target, labels) for target in state.targets))


def keep_selected(candidates: Sequence[Labels], selected: Labels, known: Sequence[int]) -> list[Labels]:
    """Return the candidates of a round with nothing lost of what was selected in the one before.

    Logits on a crop's cells cannot hold every voxel that a reader drew. So candidate 1 is what was selected,
    voxel for voxel, and a lesion that the method has no state of stays in all four.

    Parameters
    ----------
    candidates
        ``(Z, Y, X)`` label volumes, candidate 1 first.
    selected
        Label volume of the same shape.
    known
        Label values that the method has a state of.
    """
    drawn = np.isin(selected, [value for value in np.unique(selected) if value and value not in known])
    others = [np.where(drawn, selected, labels) for labels in candidates[1:]]
    return [selected, *others]


def _edited(target: TargetState, labels: Labels) -> TargetState:
    mask = labels >= LIVER if target.value == LIVER else labels == target.value
    offered = target.offered.copy()
    offered[0] = _logits(target.crop, mask).astype(np.float16)
    present = (bool((offered[0] > 0).any()), *target.present[1:])
    return replace(target, offered=offered, present=present)


def _logits(crop: Crop, mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return logits ``(n, cells, cells)`` of a mask: 0 where half of a cell is covered."""
    region = crop.region()
    centres = crop.cell_centres()
    part = mask[region].astype(np.float32)
    cell = [max(1, round(float(c[1] - c[0]))) for c in centres[1:]]
    covered = ndimage.uniform_filter(part, size=(1, *cell), mode="constant")
    # Cell centres count from voxel edges, samples from voxel centres.
    places = [c - 0.5 - one.start for c, one in zip(centres, region, strict=True)]
    grid = np.meshgrid(*places, indexing="ij")
    share = ndimage.map_coordinates(covered, grid, order=1, mode="constant")
    return np.asarray((2.0 * share - 1.0) * LIMIT, np.float32)
