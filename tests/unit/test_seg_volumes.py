"""Volumes in millilitres."""

import numpy as np
import pytest

from uair_node.findings.volumes import describe


def test_liver_includes_its_lesions() -> None:
    labels = np.zeros((10, 20, 20), np.uint8)
    labels[2:8, 4:14, 4:14] = 1  # 600 voxels
    labels[3, 5:10, 5:10] = 2  # 25 of them
    labels[5, 5:7, 5:7] = 4  # 4 of them
    volumes = describe(labels, (2.0, 0.5, 0.5))
    assert volumes.liver_ml == pytest.approx(0.3)
    assert [number for number, _ in volumes.lesions_ml] == [1, 3]
    assert [ml for _, ml in volumes.lesions_ml] == pytest.approx([0.0125, 0.002])


def test_empty_labels_measure_nothing() -> None:
    volumes = describe(np.zeros((2, 3, 4), np.uint8), (1.0, 1.0, 1.0))
    assert volumes.liver_ml == 0.0
    assert volumes.lesions_ml == ()
