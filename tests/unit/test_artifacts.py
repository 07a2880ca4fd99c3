"""What lies between computing and writing, read back as it was."""

from pathlib import Path

import numpy as np
import pytest

from uair_node.artifacts import load_region, save_region


@pytest.mark.parametrize(
    "box", [(slice(2, 5), slice(1, 9), slice(3, 4)), (slice(0, 0),) * 3, (slice(None),) * 3]
)
def test_a_region_is_read_back(tmp_path: Path, box: tuple[slice, ...]) -> None:
    region = np.zeros((6, 11, 7), bool)
    region[box] = np.random.default_rng(1).random(region[box].shape) > 0.4
    save_region(tmp_path / "region.npz", region)
    np.testing.assert_array_equal(load_region(tmp_path / "region.npz"), region)
