"""Names of planes on pictures: the numbers that viewers show, and z in mm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from tests.support.enhanced import write_enhanced_ct
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.rendering.plane_names import plane_names
from workers.phantoms.ct_series import write_ct_series

_AXIAL = np.array([[0, 0, 0.8, -100], [0, 0.8, 0, -100], [5.0, 0, 0, -42.5], [0, 0, 0, 1]])


def _volume(folder: Path, affine: np.ndarray, numbers: list[int | None]) -> Volume:
    paths = write_ct_series(folder, np.zeros((len(numbers), 16, 16), np.int16), affine)
    for path, number in zip(paths, numbers, strict=True):
        dataset = dcmread(path)
        dataset.InstanceNumber = number
        dataset.save_as(path)
    return read_geometry(paths)


def test_images_counted_from_the_head_keep_their_numbers(tmp_path: Path) -> None:
    names = plane_names(_volume(tmp_path, _AXIAL, [14, 13, 12, 11]))
    assert names == (
        "image 14, z -42.5 mm",
        "image 13, z -37.5 mm",
        "image 12, z -32.5 mm",
        "image 11, z -27.5 mm",
    )


def test_a_series_without_numbers_is_named_by_place(tmp_path: Path) -> None:
    assert plane_names(_volume(tmp_path, _AXIAL, [None] * 4))[0] == "z -42.5 mm"


def test_planes_of_a_coronal_stack_are_no_images(tmp_path: Path) -> None:
    coronal = np.array([[0, 0, 0.8, -100], [5.0, 0, 0, -100], [0, -0.8, 0, 50], [0, 0, 0, 1.0]])
    names = plane_names(_volume(tmp_path, coronal, [1, 2, 3, 4]))
    assert len(names) == 16
    assert names[0] == "z 38.0 mm"
    assert names[-1] == "z 50.0 mm"


@pytest.mark.parametrize("backwards", [False, True])
def test_frames_have_their_number(tmp_path: Path, backwards: bool) -> None:
    """A multi-frame image has one Instance Number: its frames are what a viewer counts."""
    slices = write_ct_series(tmp_path / "ct", np.zeros((5, 16, 16), np.int16), _AXIAL)
    paths = write_enhanced_ct(tmp_path / "enhanced", slices[::-1] if backwards else slices)
    numbers = [5, 4, 3, 2, 1] if backwards else [1, 2, 3, 4, 5]
    expected = [f"frame {number}" for number in numbers]
    assert [name.partition(",")[0] for name in plane_names(read_geometry(paths))] == expected
