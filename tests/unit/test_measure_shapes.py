"""Volume, diameters and shape of solids whose exact values are known, at spacings from 0.7 to 5 mm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import SimpleITK

from tests.support.solids import Solid, ball, cylinder, ellipsoid, touching_balls, turn
from uair_node.findings.measurements import axial_diameters
from uair_node.rendering.mesh import view_mesh
from workers.measure.shape import shape_of
from workers.measure.surface import surface_of

UPRIGHT = np.eye(3)
FLAT = np.eye(3)[:, [2, 0, 1]]  # its first axis lies in the slices
GRIDS = [((0.7, 0.7, 0.7), 10.0), ((2.5, 0.8, 0.8), 20.0), ((5.0, 0.9, 0.9), 35.0), ((2.0, 1.2, 0.8), 16.0)]


def solids(radius: float) -> list[Solid]:
    # No upright cylinder: voxels do not show where between two slices its flat end lies.
    return [
        ball(radius),
        ellipsoid((1.4 * radius, radius, 0.8 * radius), UPRIGHT[:, [2, 1, 0]]),
        ellipsoid((1.4 * radius, radius, 0.8 * radius), turn(3)),
        cylinder(radius, 2 * radius, turn(4)),
        touching_balls(radius, FLAT),
        touching_balls(radius, turn(5)),
    ]


CASES = [(spacing, solid) for spacing, radius in GRIDS for solid in solids(radius)]


@pytest.mark.parametrize(("spacing", "solid"), CASES, ids=[f"{s[0]}-{o.name}" for s, o in CASES])
def test_solids_measure_what_they_are(spacing: Sequence[float], solid: Any) -> None:
    """The required accuracy: volume 1 %, diameter half a voxel, sphericity 2 %."""
    mask = solid.sampled(spacing)
    volume = np.count_nonzero(mask) * np.prod(spacing)
    assert volume == pytest.approx(solid.volume_mm3, rel=0.01)
    if solid.axial_mm is not None:
        found = axial_diameters(mask, spacing[1:]).long_mm
        assert found == pytest.approx(solid.axial_mm, abs=max(spacing[1:]) / 2)
    shape = shape_of(mask, spacing)
    assert shape is not None
    assert shape.sphericity == pytest.approx(solid.sphericity, rel=0.02)
    if solid.name in ("ball", "ellipsoid"):
        assert shape.irregularity == pytest.approx(1.0, abs=0.02)
        assert shape.solidity == pytest.approx(1.0, abs=0.015)
    if solid.name == "two touching balls":
        assert shape.solidity == pytest.approx(0.8, abs=0.01)
    assert shape.largest_mm == pytest.approx(solid.largest_mm, abs=max(spacing) / 2)


def test_principal_axes_agree_with_simpleitk() -> None:
    """Up to the thickness of the voxels, which SimpleITK and the IBSI manual leave out."""
    spacing = (2.0, 1.2, 0.8)
    mask = ellipsoid((25.0, 15.0, 9.0), turn(6)).sampled(spacing)
    image = SimpleITK.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1])
    statistics = SimpleITK.LabelShapeStatisticsImageFilter()
    statistics.Execute(image)
    least, minor, major = statistics.GetPrincipalMoments(1)
    shape = shape_of(mask, spacing)
    assert shape is not None
    assert shape.elongation == pytest.approx(np.sqrt(minor / major), rel=0.01)
    assert shape.flatness == pytest.approx(np.sqrt(least / major), rel=0.02)
    assert (shape.elongation, shape.flatness) == pytest.approx((15 / 25, 9 / 25), rel=0.02)


def test_dents_make_a_shape_less_solid_and_spikes_irregular() -> None:
    spacing = (1.0, 1.0, 1.0)
    smooth = ball(12.0).sampled(spacing, (0, 0, 0))
    middle = smooth.shape[0] // 2
    spiky, dented = smooth.copy(), smooth.copy()
    for n in range(-9, 10, 6):
        spiky[middle + n : middle + n + 2, :, middle : middle + 2] = True
    dented[middle - 3 : middle + 3, middle:, middle - 3 : middle + 3] = False
    round_, spikes, dent = (shape_of(mask, spacing) for mask in (smooth, spiky, dented))
    assert round_ is not None
    assert spikes is not None
    assert dent is not None
    assert round_.solidity > 0.99 > dent.solidity > spikes.solidity
    assert round_.irregularity == pytest.approx(1.0, abs=0.02)
    assert min(spikes.irregularity, dent.irregularity) > 1.1
    assert round_.sphericity > 0.97 > 0.9 > max(dent.sphericity, spikes.sphericity)


def test_a_speck_has_no_shape() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 2, 1:4] = True
    assert shape_of(mask, (1.0, 1.0, 1.0)) is None
    with pytest.raises(ValueError, match="empty"):
        surface_of(np.zeros((5, 5, 5), bool), (1.0, 1.0, 1.0))


@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (5.0, 0.9, 0.9), (2.5, 3.0, 3.0)])
def test_the_mesh_of_a_view_is_closed_and_lies_where_the_mask_is(spacing: tuple[float, ...]) -> None:
    solid = ellipsoid((60.0, 45.0, 40.0), turn(7))
    mask = np.pad(solid.sampled(spacing, (0, 0, 0)), ((9, 2), (0, 7), (4, 0)))
    mesh = view_mesh(mask, spacing)
    edges = np.sort(mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert set(np.unique(edges, axis=0, return_counts=True)[1]) == {2}
    assert mesh.volume_mm3 == pytest.approx(solid.volume_mm3, rel=0.02)
    centre = np.argwhere(mask).mean(axis=0) * spacing
    assert (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2 == pytest.approx(centre, abs=1.5)
    assert len(view_mesh(np.zeros((4, 4, 4), bool), spacing).faces) == 0
