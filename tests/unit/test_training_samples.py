"""Training samples: prompts fit their targets, views map points exactly, samples are reproducible."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workers.models.localizer_net import STRIDE
from workers.models.windows import AIR_HU
from workers.phantoms.fields import Grid
from workers.phantoms.geometry import build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.research.training.geometries import GeometryCache, Subject
from workers.research.training.sampling.coordinate_samples import (
    BLOCK,
    BLOCKS,
    PATCHES,
    draw_body,
    draw_coordinate_sample,
)
from workers.research.training.sampling.localizer_samples import HEIGHTS, PLANE, draw_localizer_sample
from workers.research.training.sampling.outline_samples import SHAPE as OUTLINE_SHAPE
from workers.research.training.sampling.outline_samples import draw_outline_sample
from workers.research.training.sampling.prompts import NO_POINT, draw_box, draw_points, ordered
from workers.research.training.sampling.sam_samples import draw_sam_sample
from workers.research.training.sampling.targets import TargetKind, targets_of
from workers.research.training.sampling.view_samples import View, draw_view


@pytest.fixture(scope="module")
def subject() -> Subject:
    grid = Grid((40, 128, 128), (5.0, 3.0, 3.0))
    return Subject(build_geometry(4, grid, LesionPlan(3, min_radius=12, min_inside=0.75)))


def test_a_sample_holds_channels_masks_and_prompts(subject: Subject) -> None:
    sample = draw_sam_sample(subject, np.random.default_rng(0), 3)
    assert sample.image.shape == (3, 256, 256)
    assert sample.image.dtype == np.float32
    assert np.abs(sample.image).max() <= 1
    assert sample.masks.shape == (3, 256, 256)
    assert sample.boxes.shape == (3, 4)
    assert sample.points.shape == (3, 2, 2)
    assert sample.point_labels.shape == (3, 2)


def test_samples_depend_on_the_generator_alone(subject: Subject) -> None:
    first, same, other = (draw_sam_sample(subject, np.random.default_rng(seed), 2) for seed in (5, 5, 6))
    assert np.array_equal(first.image, same.image)
    assert np.array_equal(first.boxes, same.boxes)
    assert not np.array_equal(first.image, other.image)


def test_most_boxes_meet_their_targets(subject: Subject) -> None:
    rng = np.random.default_rng(1)
    covered, count = 0, 0
    for _ in range(15):
        sample = draw_sam_sample(subject, rng, 3)
        for mask, (x0, y0, x1, y1) in zip(sample.masks, sample.boxes, strict=True):
            rows, columns = np.nonzero(mask)
            inside = (columns >= x0 - 1) & (columns < x1 + 1) & (rows >= y0 - 1) & (rows < y1 + 1)
            covered += inside.mean() > 0.7
            count += 1
    assert covered > 0.85 * count


def test_liver_and_lesions_are_asked_for_most(subject: Subject) -> None:
    rng = np.random.default_rng(2)
    kinds = [kind for _ in range(40) for kind in draw_sam_sample(subject, rng, 3).kinds]
    assert kinds.count(TargetKind.LIVER) > kinds.count(TargetKind.OTHER)
    assert kinds.count(TargetKind.LESION) > 24


def test_targets_contain_the_liver_with_its_lesions(subject: Subject) -> None:
    z = int(subject.lesion_slices[0][len(subject.lesion_slices[0]) // 2])
    targets = targets_of(subject, z, np.random.default_rng(0))
    liver = next(target.mask for target in targets if target.kind is TargetKind.LIVER)
    lesions = [target.mask for target in targets if target.kind is TargetKind.LESION]
    assert lesions
    assert all((mask <= liver).all() for mask in lesions)


def test_a_view_shows_points_where_it_maps_them(subject: Subject) -> None:
    plane = np.zeros((1, 128, 128), np.float32)
    plane[0, 60:64, 40:44] = 1000.0
    centre = np.array([[42.0, 62.0]])  # x, y in pixel edges
    z = int(subject.lesion_slices[0][0])
    targets = targets_of(subject, z, np.random.default_rng(0))
    checked = 0
    for seed in range(20):
        view = draw_view(subject, targets, np.random.default_rng(seed))
        seen = view.resample(plane, 0.0, crisp=False)[0] > 500
        if not seen.any() or seen[[0, -1]].any() or seen[:, [0, -1]].any():
            continue  # the block is outside, or cut
        x, y = view.to_view(centre)[0]
        rows, columns = np.nonzero(seen)
        assert columns.mean() + 0.5 == pytest.approx(x, abs=0.6)
        assert rows.mean() + 0.5 == pytest.approx(y, abs=0.6)
        checked += 1
    assert checked > 3


def test_outside_the_source_a_view_is_air() -> None:
    far_away = View(np.array([[1.0, 0, -1000.0], [0, 1.0, 0.0]]), 1.0)
    assert (far_away.resample(np.zeros((1, 128, 128), np.float32), AIR_HU) == AIR_HU).all()


def test_boxes_are_ordered_and_not_degenerate() -> None:
    box = ordered(np.array([50.0, 60.0, 40.0, 60.0]))
    assert box[2] - box[0] >= 3
    assert box[3] - box[1] >= 3
    assert ordered(np.array([-500.0, -500.0, 900.0, 900.0])).tolist() == [-20, -20, 276, 276]


def test_some_lesion_boxes_are_exact() -> None:
    mask = np.zeros((256, 256), bool)
    mask[100:120, 80:110] = True
    rng = np.random.default_rng(0)
    boxes = [draw_box(mask, TargetKind.LESION, np.zeros(4), rng) for _ in range(100)]
    exact = sum(box.tolist() == [80, 100, 110, 120] for box in boxes)
    assert 30 < exact < 70


def test_points_lie_where_their_labels_say() -> None:
    mask = np.zeros((256, 256), bool)
    mask[100:120, 80:110] = True
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(60):
        points, labels = draw_points(mask, np.array([70.0, 90.0, 120.0, 130.0]), rng)
        for (x, y), label in zip(points, labels, strict=True):
            seen.add(int(label))
            if label != NO_POINT:
                assert mask[int(y), int(x)] == bool(label)
    assert seen == {-1, 0, 1}


def test_localizer_samples_have_the_shape_that_the_network_takes(subject: Subject) -> None:
    for height in HEIGHTS:
        sample = draw_localizer_sample(subject, np.random.default_rng(0), height)
        assert sample.channels.shape == (2, height, *PLANE)
        assert sample.liver.shape == (height, *PLANE)
        assert all(n % STRIDE == 0 for n in (height, *PLANE))


def test_localizer_samples_lose_tip_or_dome_and_are_padded_above_only(subject: Subject) -> None:
    rng = np.random.default_rng(7)
    samples = [draw_localizer_sample(subject, rng, HEIGHTS[0]) for _ in range(24)]
    assert any(sample.liver[0].any() for sample in samples), "the tip is cut off"
    assert any(sample.liver[-STRIDE:].any() for sample in samples), "the dome is cut off"
    for sample in samples:
        empty = (sample.channels[0] <= -1).all(axis=(1, 2))
        assert not empty[:-STRIDE].any()
        assert not sample.liver[empty].any()


def test_localizer_samples_show_a_liver_of_the_right_density(subject: Subject) -> None:
    rng = np.random.default_rng(3)
    samples = [draw_localizer_sample(subject, rng, 32) for _ in range(6)]
    assert sum(sample.liver.sum() * 0.216 > 300 for sample in samples) >= 4  # ml
    for sample in samples:
        if sample.liver.any():
            inside = sample.channels[0][sample.liver > 0.5].mean()
            assert inside > sample.channels[0][sample.liver < 0.5].mean()


def test_geometries_are_built_once_and_read_back(tmp_path: Path) -> None:
    cache = GeometryCache(tmp_path, 1)
    reports: list[tuple[int, int]] = []
    cache.fill(progress=lambda done, total: reports.append((done, total)))
    stamp = cache.path(0).stat().st_mtime_ns
    cache.fill(progress=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 1)]
    assert cache.path(0).stat().st_mtime_ns == stamp
    assert cache.subject(0).geometry.spacing_mm == (3.0, 1.5, 1.5)


def test_a_coordinate_sample_shows_its_places_twice(subject: Subject) -> None:
    """The same anatomy in two examinations: alike, but not the same."""
    sample = draw_coordinate_sample(draw_body(subject, np.random.default_rng(2)), np.random.default_rng(0))
    assert sample.patches.shape == (PATCHES, 2, 32, 32, 32)
    assert sample.first.shape == sample.second.shape == (BLOCKS, 2, BLOCK, BLOCK, BLOCK)
    assert np.isfinite(sample.patches).all()
    assert not np.array_equal(sample.first, sample.second)
    assert np.corrcoef(sample.first[:, 0].ravel(), sample.second[:, 0].ravel())[0, 1] > 0.6


def test_patches_of_a_coordinate_sample_lie_at_their_centres(subject: Subject) -> None:
    """Two patches show the same where they overlap, moved by the offset that the network has to tell."""
    sample = draw_coordinate_sample(draw_body(subject, np.random.default_rng(2)), np.random.default_rng(1))
    offset = np.rint((sample.centres[1] - sample.centres[0]) / 6.0).astype(int)
    shared = [slice(max(0, o), min(32, 32 + o)) for o in offset]
    moved = [slice(max(0, -o), min(32, 32 - o)) for o in offset]
    np.testing.assert_array_equal(sample.patches[0, 0][tuple(shared)], sample.patches[1, 0][tuple(moved)])


@pytest.mark.parametrize("seed", range(6))
def test_an_outline_sample_shows_one_lesion_in_or_near_its_box(subject: Subject, seed: int) -> None:
    sample = draw_outline_sample(subject, np.random.default_rng(seed))
    assert sample.channels.shape == (8, *OUTLINE_SHAPE)
    assert np.abs(sample.channels).max() <= 4.0
    box, known, counts = sample.channels[4] > 0, sample.channels[5], sample.counts > 0
    truth = sample.truth > 0
    assert truth.any()
    assert box.any()
    assert (truth & box).any()
    assert not truth[~counts].any(), "slices that fill up hold nothing"
    if known.any():
        assert (known[box] > 0).any(), "an earlier outline lies in its box"


def test_outline_samples_are_a_function_of_the_generator(subject: Subject) -> None:
    first, same = (draw_outline_sample(subject, np.random.default_rng(4)) for _ in range(2))
    np.testing.assert_array_equal(first.channels, same.channels)
    np.testing.assert_array_equal(first.truth, same.truth)


def test_some_outline_samples_start_from_an_earlier_outline_and_some_from_a_box(subject: Subject) -> None:
    drawn = [draw_outline_sample(subject, np.random.default_rng(seed)) for seed in range(12)]
    told = {bool(sample.channels[5].any()) for sample in drawn}
    assert told == {True, False}
