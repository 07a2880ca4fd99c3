"""The CT series writer: valid objects, exact geometry, exact values."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from workers.phantoms.ct_series import write_ct_series

DCIODVFY = "/usr/bin/dciodvfy"


def affine_of(axes: NDArray[Any], spacing: Sequence[float], origin: Sequence[float]) -> NDArray[Any]:
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(axes, float) * np.asarray(spacing)
    affine[:3, 3] = origin
    return affine


def oblique(degrees: float) -> NDArray[Any]:
    """Axes (columns k, j, i) of an axial stack turned about the patient's left-right axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.column_stack([(0, -s, c), (0, c, s), (1, 0, 0)])


AXIAL = np.column_stack([(0, 0, 1), (0, 1, 0), (1, 0, 0)])
FEET_FIRST_ORDER = np.column_stack([(0, 0, -1), (0, 1, 0), (1, 0, 0)])
FLIPPED = np.column_stack([(0, 0, 1), (0, -1, 0), (-1, 0, 0)])


@pytest.mark.parametrize("axes", [AXIAL, FEET_FIRST_ORDER, FLIPPED, oblique(17.0)])
def test_positions_and_values_are_those_of_array_and_affine(tmp_path: Path, axes: NDArray[Any]) -> None:
    hu = np.random.default_rng(0).integers(-1024, 3072, (4, 6, 5)).astype(np.int16)
    affine = affine_of(axes, (2.5, 0.7, 0.8), (-12.5, 30.0, 7.25))
    paths = write_ct_series(tmp_path, hu, affine)
    assert len(paths) == 4
    for k, path in enumerate(paths):
        ct = pydicom.dcmread(path)
        along_row = np.array(ct.ImageOrientationPatient[:3], float) * float(ct.PixelSpacing[1])
        along_column = np.array(ct.ImageOrientationPatient[3:], float) * float(ct.PixelSpacing[0])
        point = np.array(ct.ImagePositionPatient, float) + 3 * along_column + 2 * along_row
        np.testing.assert_allclose(point, (affine @ (k, 3, 2, 1))[:3], atol=1e-9)
        np.testing.assert_array_equal(ct.pixel_array.astype(int) + ct.RescaleIntercept, hu[k])
        assert ct.BitsStored == 12


def test_sixteen_bits_hold_metal(tmp_path: Path) -> None:
    hu = np.full((1, 4, 4), 9000, np.int16)
    ct = pydicom.dcmread(write_ct_series(tmp_path, hu, np.diag([1.0, 1, 1, 1])[:, [2, 1, 0, 3]])[0])
    assert ct.BitsStored == 16
    assert int(ct.pixel_array[0, 0]) + ct.RescaleIntercept == 9000


def test_same_uids_write_the_same_series(tmp_path: Path) -> None:
    hu, affine = np.zeros((2, 4, 4), np.int16), affine_of(AXIAL, (1, 1, 1), (0, 0, 0))
    uids = {"study_instance_uid": "1.2.3", "series_instance_uid": "1.2.3.4"}
    first = write_ct_series(tmp_path / "a", hu, affine, **uids)
    second = write_ct_series(tmp_path / "b", hu, affine, **uids)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


def test_sheared_axes_are_refused(tmp_path: Path) -> None:
    sheared = affine_of(np.column_stack([(0, 0.3, 1), (0, 1, 0), (1, 0, 0)]), (1, 1, 1), (0, 0, 0))
    with pytest.raises(ValueError, match="not orthogonal"):
        write_ct_series(tmp_path, np.zeros((2, 4, 4), np.int16), sheared)


@pytest.mark.integration
@pytest.mark.parametrize("axes", [AXIAL, FEET_FIRST_ORDER, oblique(-23.0)])
def test_dciodvfy_finds_no_error(tmp_path: Path, axes: NDArray[Any]) -> None:
    if shutil.which(DCIODVFY) is None:
        assert "CI" not in os.environ, "dciodvfy is missing"
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    hu = np.zeros((2, 8, 8), np.int16)
    for path in write_ct_series(tmp_path, hu, affine_of(axes, (3, 0.75, 0.75), (-100, -90, 40))):
        verdict = subprocess.run([DCIODVFY, path], capture_output=True, text=True, timeout=60, check=False)
        report = verdict.stdout + verdict.stderr
        assert "CTImage" in report
        assert not [line for line in report.splitlines() if line.startswith("Error")], report
