"""Label volumes between the worker that computes them and the worker that writes DICOM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from uair_node.findings.volumes import describe
from uair_node.storage.artifacts import (
    StoredCandidate,
    label_values,
    load_candidates,
    load_region,
    marked_voxels,
    save_candidates,
    save_region,
)


def volume(shape: tuple[int, ...] = (5, 7, 9)) -> NDArray[Any]:
    labels = np.zeros(shape, np.uint8)
    labels[1:3, 2:5, 3:8] = 1
    labels[2, 3, 4:6] = 3
    labels[-1, -1, -1] = 200  # beyond the last whole word
    return labels


def test_candidates_come_back_as_they_were(tmp_path: Path) -> None:
    other = np.zeros((5, 7, 9), np.uint8)
    other[0, 0, 0] = 2
    stored = [StoredCandidate(1, volume(), "most inclusive"), StoredCandidate(4, other, "tightest")]
    save_candidates(tmp_path / "candidates.npz", stored)
    for before, after in zip(stored, load_candidates(tmp_path / "candidates.npz"), strict=True):
        assert (after.k, after.character) == (before.k, before.character)
        np.testing.assert_array_equal(after.labels, before.labels)


@pytest.mark.parametrize("marked", [True, False])
def test_a_region_comes_back_as_it_was(tmp_path: Path, marked: bool) -> None:
    region = (volume() > 0) & marked
    save_region(tmp_path / "region.npz", region)
    np.testing.assert_array_equal(load_region(tmp_path / "region.npz"), region)


@pytest.mark.parametrize("labels", [volume(), volume((4, 8, 8)), volume().transpose(2, 1, 0)])
def test_values_and_counts_are_those_of_the_whole_volume(labels: NDArray[Any]) -> None:
    assert label_values(labels) == (1, 3, 200)
    marked = marked_voxels(labels)
    for value in (1, 3, 200):
        assert (marked == value).sum() == (labels == value).sum()
    measured = describe(labels, (10.0, 10.0, 10.0))
    assert measured.liver_ml == pytest.approx((labels > 0).sum())
    assert measured.lesions_ml == ((2, pytest.approx(2.0)), (199, pytest.approx(1.0)))
    assert label_values(np.zeros((3, 3, 3), np.uint8)) == ()
