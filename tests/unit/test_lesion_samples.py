"""Samples of the lesion finder: lesions lie in the liver, are seen, and never twice the same."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from workers.models.lesion_net import LESION, LIVER, STRIDE
from workers.phantoms.fields import Grid
from workers.phantoms.geometry import build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.research.training.geometries import Subject
from workers.research.training.sampling.lesion_samples import SHAPE, LesionSample, draw_lesion_sample


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject(build_geometry(4, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(0)))


@pytest.fixture(scope="module")
def samples(subject: Subject) -> list[LesionSample]:
    return [draw_lesion_sample(subject, np.random.default_rng(seed)) for seed in range(24)]


def test_a_sample_holds_channels_masks_and_weight(samples: list[LesionSample]) -> None:
    for sample in samples:
        assert sample.channels.shape == (5, *SHAPE)
        assert sample.channels.dtype == np.float32
        assert np.abs(sample.channels).max() <= 4
        assert sample.masks.shape == (2, *SHAPE)
        assert all(n % STRIDE == 0 for n in SHAPE)


def test_lesions_belong_to_the_liver_and_livers_may_have_none(samples: list[LesionSample]) -> None:
    for sample in samples:
        assert sample.masks[LIVER].sum() > 1000
        assert not (sample.masks[LESION] > sample.masks[LIVER]).any()
    assert any(not sample.masks[LESION].any() for sample in samples)
    assert sum(bool(sample.masks[LESION].any()) for sample in samples) > 15


def test_sizes_range_from_spots_to_a_tenth_of_a_metre(samples: list[LesionSample]) -> None:
    sizes = []
    for sample in samples:
        labels, _ = ndimage.label(sample.masks[LESION])
        sizes += list(np.bincount(labels.ravel())[1:] * 0.027)
    assert min(sizes) < 0.6
    assert max(sizes) > 60.0


def test_small_lesions_count_more(samples: list[LesionSample]) -> None:
    for sample in samples:
        inside = sample.masks[LESION] > 0.5
        assert (sample.weight[~inside] == 1).all()
        labels, count = ndimage.label(inside)
        for number in range(1, count + 1):
            volume = (labels == number).sum() * 0.027
            if volume > 30:
                assert np.median(sample.weight[labels == number]) < 1


def test_most_lesions_differ_from_the_liver_around(samples: list[LesionSample]) -> None:
    contrasts = []
    for sample in samples:
        density, (liver, lesion) = sample.channels[2], sample.masks > 0.5
        rest = np.median(density[liver & ~lesion])
        labels, count = ndimage.label(lesion)
        contrasts += [abs(np.median(density[labels == n]) - rest) * 150 for n in range(1, count + 1)]
    assert np.median(contrasts) > 15


def test_samples_depend_on_the_generator_alone(subject: Subject) -> None:
    first, same, other = (draw_lesion_sample(subject, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first.channels, same.channels)
    assert np.array_equal(first.masks, same.masks)
    assert not np.array_equal(first.masks, other.masks)
