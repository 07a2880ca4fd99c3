"""Scores of localizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.support.synthetic import SPACING, DensityLocalizer, abdomen
from workers.research.evaluation.localization import score_localizer, table_of
from workers.uair.grids import Box
from workers.uair.localize import CoarseMap, Location


class Fixed:
    """Answers with one location."""

    digest = "0" * 64

    def __init__(self, location: Location | None) -> None:
        self.location = location

    def locate(self, hu: NDArray[Any], spacing: Sequence[float]) -> Location | None:
        return self.location


def test_faces_are_signed_and_in_mm() -> None:
    """A coarse mask of 8 voxels a side that lies one voxel (2 mm) too high and 3 voxels too far left."""
    liver = np.zeros((20, 20, 20), bool)
    liver[4:12, 4:12, 4:12] = True
    coarse = np.zeros((20, 20, 20), np.float32)
    coarse[5:13, 4:12, 7:15] = 1.0
    spacing = (2.0, 2.0, 2.0)
    found = Location(Box((5, 4, 7), (13, 12, 15)), CoarseMap(coarse, 2.0, spacing))
    score = score_localizer("fixed", Fixed(found), "cube", np.zeros(liver.shape, np.int16), spacing, liver)
    assert score.faces_mm == pytest.approx((-2.0, 0.0, -6.0, 2.0, 0.0, 6.0))
    shared = 7 * 8 * 5
    assert score.iou == pytest.approx(shared / (2 * 512 - shared))
    assert score.inside == pytest.approx(shared / 512)
    assert score.dice == pytest.approx(shared / 512)


def test_the_table_has_a_line_for_each_case_and_the_means_of_each_localizer() -> None:
    hu, truth = abdomen(lesions=())
    scores = [score_localizer("density", DensityLocalizer(), name, hu, SPACING, truth > 0) for name in "ab"]
    scores.append(score_localizer("blind", Fixed(None), "a", hu, SPACING, truth > 0))
    lines = table_of(scores).splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["a", "density"],
        ["b", "density"],
        ["a", "blind"],
        ["mean", "of"],
    ]
    assert "no liver found" in lines[3]
    assert scores[0].dice > 0.9
    assert scores[0].inside == 1.0
