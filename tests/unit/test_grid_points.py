"""Points between the canonical grid and the source grid: they follow the voxels."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from uair_node.dicom.grid_points import points_from_source, points_to_source
from uair_node.dicom.volume import CanonicalVolume

SHAPE = (3, 4, 5)


@pytest.mark.parametrize("transpose", list(permutations(range(3))))
@pytest.mark.parametrize("flipped", list(product((False, True), repeat=3)))
def test_a_points_voxel_comes_back_where_the_voxels_do(
    transpose: tuple[int, int, int], flipped: tuple[bool, ...]
) -> None:
    flips = tuple(axis for axis in range(3) if flipped[axis])
    canonical = CanonicalVolume(np.zeros(SHAPE, np.int16), np.eye(4), transpose, flips)
    marked = np.zeros(SHAPE, np.uint8)
    marked[2, 1, 3] = 1
    source = canonical.to_source(marked)
    point = np.array([[2.25, 1.5, 3.75]])
    there = points_to_source(point, canonical)
    assert np.argwhere(source).tolist() == np.floor(there).astype(int).tolist()
    np.testing.assert_allclose(points_from_source(there, canonical), point)
