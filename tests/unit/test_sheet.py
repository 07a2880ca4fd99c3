"""The contact sheet: which slices it shows, what it says, and that it is a picture of the right things."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dicom_config.codes import LIVER_COLOUR
from uair_node.rendering.sheet import SheetCandidate, draw_sheet
from uair_node.rendering.telling_slices import telling_slices

SHAPE = (30, 64, 64)
SPACING = (3.0, 1.5, 1.5)

_NAMES = [f"image {k}" for k in range(SHAPE[0])]


def chosen_slices(labels: Sequence[np.ndarray], slice_distance_mm: float) -> list[int]:
    return [shown.k for shown in telling_slices(labels, slice_distance_mm)]


def _candidates() -> list[SheetCandidate]:
    made = []
    for k in (1, 2, 3, 4):
        labels = np.zeros(SHAPE, np.uint8)
        labels[5:25, 20:40, 10:40] = 1
        labels[12:16, 25 : 26 + k, 20:25] = 2
        made.append(SheetCandidate(k, f"character {k}", labels))
    return made


def test_slices_are_those_that_differ_the_uppermost_first() -> None:
    chosen = chosen_slices([candidate.labels for candidate in _candidates()], SPACING[0])
    assert chosen
    assert all(12 <= k < 16 for k in chosen)
    assert chosen == sorted(chosen, reverse=True)


def test_equal_candidates_show_where_the_liver_is_largest() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[5:25, 20:40, 10:40] = 1
    labels[10, 10:50, 5:60] = 1
    assert 10 in chosen_slices([labels, labels.copy()], SPACING[0])


def test_the_picture_shows_four_columns_with_the_livers_outline(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    hu = np.full(SHAPE, 60, np.int16)
    draw_sheet(hu, SPACING, _NAMES, _candidates(), "Round 1", path)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    liver = (np.abs(pixels - np.array(LIVER_COLOUR.rgb)).sum(axis=2) < 60).any(axis=0)
    quarters = np.array_split(liver, 4)
    assert all(part.any() for part in quarters), "each column has the outline"


def test_the_patients_right_is_on_the_left(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    hu = np.full(SHAPE, -200, np.int16)
    hu[:, :, :20] = 250  # bright on the patient's right: canonical axis 2 grows to the left
    draw_sheet(hu, SPACING, _NAMES, _candidates()[:1], "Round 1", path)
    with Image.open(path) as image:
        grey = np.asarray(image.convert("L")).astype(float)
    middle = grey[grey.shape[0] // 3 : grey.shape[0] // 2]
    left, right = np.array_split(middle, 2, axis=1)
    assert left.mean() > right.mean()
