"""Draw one training sample of the promptable model from a `Subject` and a random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.models.windows import to_channels
from workers.phantoms.appearance import Scan, Textures, densities
from workers.phantoms.fields import Floats
from workers.phantoms.settings import TRAINING
from workers.research.training.geometries import Subject
from workers.research.training.sampling.prompts import draw_box, draw_points
from workers.research.training.sampling.targets import FREQUENCY, Target, TargetKind, targets_of
from workers.research.training.sampling.view_samples import View, draw_view, show

_MIN_VIEW_PIXELS = 10
_TRIALS = 20


@dataclass(frozen=True)
class SamSample:
    """An image and ``K`` prompts.

    Attributes
    ----------
    image
        ``(3, 256, 256)`` float32, channels of `to_channels`.
    masks
        ``(K, 256, 256)`` bool, the target of each prompt.
    boxes
        ``(K, 4)`` float32: x0, y0, x1, y1 in pixels.
    points, point_labels
        ``(K, 2, 2)`` float32 x, y in pixels and ``(K, 2)`` int64: 1 inside, 0 outside, -1 no point.
    kinds
        The kind of each target.
    """

    image: Floats
    masks: NDArray[np.bool_]
    boxes: Floats
    points: Floats
    point_labels: NDArray[np.int64]
    kinds: tuple[TargetKind, ...]


def draw_sam_sample(subject: Subject, rng: np.random.Generator, prompts: int) -> SamSample:
    """Draw at random: a slice, the densities of its tissues, the image section to show, and prompts."""
    scan = Scan.draw(rng, subject.geometry.lesions.count, setting=TRAINING)
    for _ in range(_TRIALS):
        z = draw_slice(subject, rng)
        targets = targets_of(subject, z, rng)
        if not targets:
            continue
        view = draw_view(subject, targets, rng)
        masks = view.masks([target.mask for target in targets])
        visible = [index for index, mask in enumerate(masks) if mask.sum() >= _MIN_VIEW_PIXELS]
        if not visible:
            continue
        seen = show(view, *noiseless(subject, z, scan, rng), scan, rng)
        chosen = _choose(targets, visible, prompts, rng)
        return _with_prompts(
            subject,
            view,
            to_channels(seen[0], seen[1]),
            masks[chosen],
            [targets[i].kind for i in chosen],
            rng,
        )
    raise RuntimeError("a geometry without any visible organ")


def draw_slice(subject: Subject, rng: np.random.Generator) -> int:
    """Return the index of a random slice. It often cuts a lesion, and nearly always cuts the liver."""
    if subject.lesion_slices and rng.random() < 0.55:
        return int(rng.choice(subject.lesion_slices[rng.integers(len(subject.lesion_slices))]))
    if rng.random() < 0.9:
        return int(rng.integers(*subject.liver_span[0]))
    return int(rng.integers(subject.liver.shape[0]))


def noiseless(subject: Subject, z: int, scan: Scan, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return two ``(Y, X)`` images in HU without noise: a slice, and the mean of its two neighbours.

    Both images have partial volume along z. The neighbours are one or two slices (3 or 6 mm) away, because
    real CTs often have thicker slices.
    """
    geometry = subject.geometry
    reach = 1 if rng.random() < 0.7 else 2
    first, stop = max(0, z - reach), min(geometry.tissue.shape[0], z + reach + 1)
    shape = (stop - first, *geometry.tissue.shape[1:])
    hu = densities(geometry, first, stop, scan, Textures.draw(rng, shape, geometry.spacing_mm))
    middle, outer = hu[z - first], hu[0] + hu[-1]
    share = scan.slice_share
    return (1 - 2 * share) * middle + share * outer, 0.5 * outer * (1 - share) + share * middle


def _choose(targets: list[Target], visible: list[int], prompts: int, rng: np.random.Generator) -> list[int]:
    weights = np.array([FREQUENCY[targets[index].kind] for index in visible])
    return [int(index) for index in rng.choice(visible, prompts, p=weights / weights.sum())]


def _with_prompts(
    subject: Subject,
    view: View,
    image: Floats,
    masks: NDArray[np.bool_],
    kinds: list[TargetKind],
    rng: np.random.Generator,
) -> SamSample:
    _, (y0, y1), (x0, x1) = subject.liver_span
    corners = view.to_view(np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], float))
    organ_box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    boxes = [draw_box(mask, kind, organ_box, rng) for mask, kind in zip(masks, kinds, strict=True)]
    clicks = [draw_points(mask, box, rng) for mask, box in zip(masks, boxes, strict=True)]
    return SamSample(
        image=image,
        masks=masks,
        boxes=np.stack(boxes).astype(np.float32),
        points=np.stack([points for points, _ in clicks]),
        point_labels=np.stack([labels for _, labels in clicks]),
        kinds=tuple(kinds),
    )
