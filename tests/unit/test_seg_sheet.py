"""The contact sheet: which slices, which way round, how large, and that it can be drawn in odd cases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from dicom_config import codes
from uair_node.rendering.sheet import SheetCandidate, _is_covered, draw_sheet
from uair_node.rendering.telling_slices import telling_slices

SHAPE = (40, 60, 80)
SPACING = (2.0, 1.0, 1.0)


def chosen_slices(labels: Sequence[np.ndarray], slice_distance_mm: float) -> list[int]:
    return [shown.k for shown in telling_slices(labels, slice_distance_mm)]


def liver(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[5:35, 20:50, 10:50] = 1
    return labels


def sheet(
    folder: Path,
    labels: list[np.ndarray],
    spacing: tuple[float, float, float] = SPACING,
    character: str = "character",
    title: str = "Round 1",
) -> np.ndarray:
    path = folder / "sheet.png"
    hu = np.full(labels[0].shape, -1000, np.int16)
    names = [f"image {k}" for k in range(len(hu))]
    shown = [SheetCandidate(k, character, volume) for k, volume in enumerate(labels, 1)]
    draw_sheet(hu, spacing, names, shown, title, path)
    return imread(path)[..., :3]


def coloured(picture: np.ndarray, colour: codes.Colour) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and columns of the pixels of `colour` above the legend."""
    hit = (np.abs(picture * 255 - colour.rgb) < 12).all(axis=2)
    hit[-45:] = False
    return np.nonzero(hit)


def test_slices_are_those_that_differ_most_uppermost_first() -> None:
    other = liver()
    other[30, 20:50, 50:60] = 1
    other[12, 20:50, 50:55] = 1
    assert chosen_slices([liver(), other, liver(), liver()], 2.0) == [30, 12]


def test_small_lesions_count_as_much_as_the_outline() -> None:
    other = liver()
    other[20:35, 20:50, 50:60] = 1
    other[8, 30:32, 30:32] = 2
    assert chosen_slices([liver(), other], 2.0)[-1] == 8


def test_another_number_for_the_same_lesion_is_a_difference() -> None:
    first, other = liver(), liver()
    first[10, 30:32, 30:32] = 2
    other[10, 30:32, 30:32] = 3
    assert chosen_slices([first, other], 2.0) == [10]


def test_neighbours_are_not_shown_twice() -> None:
    other = liver()
    other[5:35, 20:50, 50:60] = 1
    chosen = chosen_slices([liver(), other], 2.0)
    assert len(chosen) == 4
    assert min(np.diff(chosen[::-1])) > 2.5


def test_equal_candidates_are_shown_where_they_are_largest() -> None:
    labels = liver()
    labels[20, 20:50, 50:70] = 1
    assert 20 in chosen_slices([labels, labels], 2.0)


def test_the_patient_s_right_is_on_the_left_and_anterior_is_up(tmp_path: Path) -> None:
    """A lesion at low index of axis 2 (right) and of axis 1 (anterior) stands in the upper left corner."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[20] = liver()[20]
    labels[20, 22:26, 12:18] = 2
    picture = sheet(tmp_path, [labels])
    liver_rows, liver_columns = coloured(picture, codes.LIVER_COLOUR)
    rows, columns = coloured(picture, codes.lesion_colour(1))
    assert rows.max() < (liver_rows.min() + liver_rows.max()) / 2
    assert columns.max() < (liver_columns.min() + liver_columns.max()) / 2


@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (2.0, 0.5, 1.0), (5.0, 1.5, 0.75)])
def test_millimetres_are_the_same_length_both_ways(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[20, 20:50, 10:50] = 1  # one slice, so that its outline is the only one
    rows, columns = coloured(sheet(tmp_path, [labels], spacing), codes.LIVER_COLOUR)
    drawn = (rows.max() - rows.min()) / (columns.max() - columns.min())
    assert drawn == pytest.approx(30 * spacing[1] / (40 * spacing[2]), rel=0.03)


def test_four_candidates_stand_side_by_side(tmp_path: Path) -> None:
    single = sheet(tmp_path, [liver()])
    four = sheet(tmp_path, [liver()] * 4)
    assert four.shape[1] > 3.5 * single.shape[1]
    _, columns = coloured(four, codes.LIVER_COLOUR)
    quarters = np.bincount(columns * 4 // four.shape[1], minlength=4)
    assert (quarters > 0.5 * quarters.max()).all()


def test_the_same_round_gives_the_same_bytes(tmp_path: Path) -> None:
    labels = liver()
    labels[20, 22:26, 12:18] = 2
    sheet(tmp_path, [labels, liver()])
    first = (tmp_path / "sheet.png").read_bytes()
    sheet(tmp_path, [labels, liver()])
    assert (tmp_path / "sheet.png").read_bytes() == first


def test_odd_candidates_are_drawn(tmp_path: Path) -> None:
    many = liver()
    for n in range(12):
        many[20, 22:28, 11 + 3 * n : 13 + 3 * n] = 2 + n
    edge = np.zeros(SHAPE, np.uint8)
    edge[:, :5, :] = 1
    empty = np.zeros(SHAPE, np.uint8)
    picture = sheet(
        tmp_path, [many, edge, empty, liver()], character="a character that is much longer than a column"
    )
    assert picture.max() > 0.9
    assert sheet(tmp_path, [empty, empty]).max() > 0.9


def test_outlines_are_closed_at_the_edge_of_the_volume(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[20] = 1
    rows, columns = coloured(sheet(tmp_path, [labels]), codes.LIVER_COLOUR)
    # Four sides: pixels of the outline near each of the extremes of the panel.
    for axis in (rows, columns):
        assert np.count_nonzero(axis - axis.min() < 5) > 50
        assert np.count_nonzero(axis.max() - axis < 5) > 50


@pytest.mark.parametrize(("row", "low"), [(2, True), (30, False)])
def test_words_on_a_slice_cover_no_lesion(row: int, low: bool) -> None:
    labels = np.zeros((40, 50), np.uint8)
    labels[:, 5:45] = 1
    labels[row : row + 4, 8:12] = 2
    assert _is_covered(labels) == low


def test_each_row_shows_another_difference_and_says_which() -> None:
    first, second, third, fourth = liver(), liver(), liver(), liver()
    second[25:35, 20:50, 50:60] = 1  # larger on one side, over many slices
    third[14:16, 25:28, 25:28] = 2  # one lesion alone here
    for n, volume in enumerate((first, second, third, fourth)):
        volume[8:10, 40:44, 25 : 27 + n] = 3  # and one of four sizes
    shown = telling_slices([first, second, third, fourth], 2.0)
    words = {slice_.words: slice_.k for slice_ in shown}
    assert words.keys() >= {"lesion 1: only in candidate 3", "lesion 2: its outline"}
    assert words["lesion 1: only in candidate 3"] in (14, 15)
    assert words["lesion 2: its outline"] in (8, 9)
    assert any(said.startswith("candidate 2 wider: ") for said in words)
    assert shown == sorted(shown, key=lambda slice_: -slice_.k)
