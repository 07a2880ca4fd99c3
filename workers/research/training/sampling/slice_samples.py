"""Draw one training sample of a network that labels whole slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.models.slice_networks import INPUT_SIZE
from workers.models.windows import to_channels
from workers.phantoms import TRAINING
from workers.phantoms.appearance import Scan
from workers.phantoms.fields import Floats
from workers.research.training.geometries import Subject
from workers.research.training.sampling.sam_samples import draw_slice, noiseless
from workers.research.training.sampling.targets import TargetKind, targets_of
from workers.research.training.sampling.view_samples import draw_view, show

LIVER, LESION = 1, 2


@dataclass(frozen=True)
class SliceSample:
    """Channels ``(3, 256, 256)`` of `to_channels` and classes ``(256, 256)``: 1 liver, 2 lesion."""

    image: Floats
    classes: NDArray[np.uint8]


def draw_slice_sample(subject: Subject, rng: np.random.Generator) -> SliceSample:
    """Draw a slice, the densities of its tissues, and an image section: the body or the liver's region."""
    scan = Scan.draw(rng, subject.geometry.lesions.count, setting=TRAINING)
    z = draw_slice(subject, rng)
    view = draw_view(subject, [], rng)
    classes = np.zeros((INPUT_SIZE, INPUT_SIZE), np.uint8)
    for target in targets_of(subject, z, rng):
        if target.kind is not TargetKind.OTHER:
            mask = view.masks([target.mask])[0]
            classes[mask] = LIVER if target.kind is TargetKind.LIVER else LESION
    seen = show(view, *noiseless(subject, z, scan, rng), scan, rng)
    return SliceSample(to_channels(seen[0], seen[1]), classes)
