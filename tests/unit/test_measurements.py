"""Measurements against shapes whose volume, diameters and density are known in closed form."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from uair_node.findings.measurements import Diameters, axial_diameters, measure


def ellipsoid(
    shape: tuple[int, ...],
    spacing: Sequence[float],
    centre: Sequence[float],
    half_mm: Sequence[float],
    degrees: float = 0.0,
) -> np.ndarray:
    """Voxels whose centre lies in an ellipsoid (centre in voxels, half axes z, y, x), turned in the slice."""
    z, y, x = (
        (np.arange(n) - c) * s for n, s, c in zip(shape, spacing, centre, strict=True)
    )  # mm from the centre
    y, x = y[None, :, None], x[None, None, :]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned_y, turned_x = c * y - s * x, s * y + c * x
    terms = (z[:, None, None] / half_mm[0]) ** 2 + (turned_y / half_mm[1]) ** 2 + (turned_x / half_mm[2]) ** 2
    return terms <= 1.0


def ends(diameters: Diameters, pixel_mm: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return the two axes as vectors in mm."""
    axes = (np.array(diameters.long_axis), np.array(diameters.short_axis))
    long, short = ((axis[1] - axis[0]) * pixel_mm for axis in axes)
    return long, short


@pytest.mark.parametrize("spacing", [(1.0, 0.5, 0.5), (2.5, 0.7, 0.7), (1.0, 0.8, 0.5)])
def test_a_ball_measures_its_volume_and_diameter(spacing: tuple[float, ...]) -> None:
    shape = tuple(int(60 / s) for s in spacing)
    centre = [n / 2 + 0.3 for n in shape]
    mask = ellipsoid(shape, spacing, centre, (20.0, 20.0, 20.0))
    found = measure(np.zeros(shape), np.where(mask, 2, 0).astype(np.uint8), spacing).lesions[0]
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.01)
    assert found.diameters.long_mm == pytest.approx(40.0, rel=0.02)
    assert found.diameters.short_mm == pytest.approx(40.0, rel=0.02)
    assert abs(found.diameters.slice_index - centre[0]) * spacing[0] < 4.0


@pytest.mark.parametrize("degrees", [0.0, 30.0, 57.0, 90.0])
def test_a_turned_ellipsoid_measures_its_two_axes(degrees: float) -> None:
    spacing, shape = (3.0, 0.6, 0.6), (12, 120, 120)
    mask = ellipsoid(shape, spacing, (6, 60.2, 59.7), (12.0, 12.0, 25.0), degrees)
    found = axial_diameters(mask, spacing[1:])
    assert found.slice_index == 6
    assert found.long_mm == pytest.approx(50.0, rel=0.02)
    assert found.short_mm == pytest.approx(24.0, rel=0.03)
    long, short = ends(found, spacing[1:])
    assert abs(long @ short) < 1e-6 * found.long_mm * found.short_mm
    assert np.hypot(*long) == pytest.approx(found.long_mm)
    assert np.hypot(*short) == pytest.approx(found.short_mm)


def test_a_box_measures_exactly() -> None:
    """The outline cuts corners: it runs midway between the outermost centres and their outer sides."""
    mask = np.zeros((3, 20, 20), bool)
    mask[1, 5:9, 6:16] = True
    found = axial_diameters(mask, (1.0, 1.0))
    # Farthest vertices: (4.75, 6) to (8.25, 15) and (5, 5.75) to (8, 15.25).
    assert found.long_mm == pytest.approx(max(np.hypot(3.5, 9), np.hypot(3, 9.5)))
    assert found.slice_index == 1


def test_one_voxel_has_half_the_size_of_its_pixel() -> None:
    mask = np.zeros((2, 3, 3), bool)
    mask[1, 1, 1] = True
    found = axial_diameters(mask, (0.8, 0.5), origin=(10, 20, 30))
    assert found.long_mm == pytest.approx(0.4)
    assert found.short_mm == pytest.approx(0.25)
    assert found.slice_index == 11
    assert np.mean(found.long_axis, axis=0) == pytest.approx([21, 31])
    assert np.mean(found.short_axis, axis=0) == pytest.approx([21, 31])


def test_the_hull_agrees_with_every_pair_and_every_chord() -> None:
    """Brute force over all outline points and over dense chords, on random blobs."""
    generator = np.random.default_rng(3)
    for _ in range(10):
        mask = np.zeros((1, 24, 24), bool)
        for y, x, r in zip(*generator.uniform(7, 16, (2, 4)), generator.uniform(2, 6, 4), strict=True):
            mask |= ellipsoid((1, 24, 24), (1, 0.9, 0.7), (0, y, x), (1, r * 0.9, r * 0.7))
        pixels = np.argwhere(mask[0])
        if not len(pixels):
            continue
        midway = [(0.25, 0), (-0.25, 0), (0, 0.25), (0, -0.25)]
        points = np.concatenate([pixels + s for s in midway]) * (0.9, 0.7)
        distances = np.linalg.norm(points[:, None] - points[None], axis=2)
        found = axial_diameters(mask, (0.9, 0.7))
        assert found.long_mm <= distances.max() + 1e-9
        long, _ = ends(found, (0.9, 0.7))
        assert np.hypot(*long) == pytest.approx(found.long_mm)
        across = np.array([-long[1], long[0]]) / found.long_mm
        extent = np.ptp(points @ across)
        assert extent / 2 <= found.short_mm <= extent + 1e-9


def test_parts_that_do_not_touch_are_not_bridged() -> None:
    mask = np.zeros((2, 40, 40), bool)
    mask[0, 5:15, 5:15] = True
    mask[0, 38, 38] = True
    assert axial_diameters(mask, (1.0, 1.0)).long_mm < 15


def test_the_longest_slice_is_taken_not_the_largest() -> None:
    mask = np.zeros((2, 40, 40), bool)
    mask[0, 10:24, 10:24] = True
    mask[1, 20:22, 3:35] = True
    found = axial_diameters(mask, (1.0, 1.0))
    assert found.slice_index == 1
    assert found.long_mm == pytest.approx(np.hypot(1, 31.5), abs=0.1)


def test_liver_counts_its_lesions_and_burden_is_their_share() -> None:
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[:, :10] = 1
    labels[2:4, :5, :10] = 2
    labels[6, :5, :10] = 4
    hu = np.select([labels == 1, labels == 2, labels == 4], [100, 40, -10], -500).astype(np.int16)
    hu[2, 0, 0] = 140
    found = measure(hu, labels, (5.0, 1.0, 2.0))
    assert found.liver_ml == pytest.approx(20.0)
    assert found.parenchyma_ml == pytest.approx(18.5)
    assert found.parenchyma_mean == pytest.approx(100.0)
    assert [lesion.number for lesion in found.lesions] == [1, 3]
    assert [lesion.volume_ml for lesion in found.lesions] == pytest.approx([1.0, 0.5])
    assert [lesion.density.mean for lesion in found.lesions] == pytest.approx([41.0, -10.0])
    assert found.burden_percent == pytest.approx(7.5)


def test_nothing_measures_nothing() -> None:
    found = measure(np.zeros((2, 3, 3)), np.zeros((2, 3, 3), np.uint8), (1.0, 1.0, 1.0))
    assert (found.liver_ml, found.lesions, found.parenchyma_mean, found.burden_percent) == (
        0.0,
        (),
        None,
        0.0,
    )
    with pytest.raises(ValueError, match="no diameter"):
        axial_diameters(np.zeros((1, 3, 3), bool), (1.0, 1.0))


def test_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        measure(np.zeros((2, 3, 3)), np.zeros((2, 3, 4), np.uint8), (1.0, 1.0, 1.0))
