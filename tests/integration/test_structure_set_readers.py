"""Our RT Structure Set, read by programs that share no code with us."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dicom_config import codes
from tests.support.foreign_readers import python_program
from tests.support.iods import iod_errors
from tests.support.offered import candidate_labels
from tests.support.series import good_series
from tests.support.server import need
from tests.unit.test_structure_set import REQUEST, riddled
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.structure_set import write_structure_set

pytestmark = pytest.mark.integration

LABELS = {"plain": candidate_labels(3), "riddled": riddled()}
NAMES = ("Liver", "Lesion 1", "Lesion 2")
COLOURS = [codes.LIVER_COLOUR.rgb, codes.lesion_colour(1).rgb, codes.lesion_colour(2).rgb]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ct")
    good_series(folder)
    return folder


@pytest.fixture(scope="module")
def volume(series: Path) -> Volume:
    return read_geometry(sorted(series.iterdir()))


def _written(volume: Volume, kind: str, folder: Path) -> Path:
    path = folder / "structures.dcm"
    write_structure_set(volume, LABELS[kind], REQUEST).save_as(path, enforce_file_format=True)
    return path


def _expected(kind: str) -> list[np.ndarray]:
    labels = LABELS[kind]
    return [labels > 0, labels == 2, labels == 3]


@pytest.mark.parametrize("kind", LABELS)
def test_plastimatch_reads_the_same_voxels(series: Path, volume: Volume, kind: str, tmp_path: Path) -> None:
    (program,) = need("plastimatch")
    path = _written(volume, kind, tmp_path)
    command = [program, "convert", "--input", path, "--referenced-ct", series]
    command += ["--output-prefix", tmp_path / "masks", "--prefix-format", "nrrd"]
    done = subprocess.run(map(str, command), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for name, expected in zip(NAMES, _expected(kind), strict=True):
        mask = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "masks" / f"{name}.nrrd"))) > 0
        assert (mask == expected).all(), name


@pytest.mark.parametrize("kind", LABELS)
def test_dicompyler_reads_the_same_voxels_names_and_colours(
    volume: Volume, kind: str, tmp_path: Path
) -> None:
    job, answer = tmp_path / "job.json", tmp_path / "answer.json"
    z, y, x = ((volume.affine[:3, axis] * np.arange(n)[:, None]) for axis, n in enumerate(volume.shape))
    origin = volume.affine[:3, 3]
    grid = {"x": origin[0] + x[:, 0], "y": origin[1] + y[:, 1], "z": origin[2] + z[:, 2]}
    job.write_text(
        json.dumps(
            {
                "structures": str(_written(volume, kind, tmp_path)),
                "masks": str(tmp_path / "mask"),
                **{axis: places.tolist() for axis, places in grid.items()},
            }
        )
    )
    command = [*python_program("read_structures.py"), str(job), str(answer)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(answer.read_text())
    assert [region["name"] for region in found] == list(NAMES)
    assert [region["type"] for region in found] == ["ORGAN", "", ""]
    assert [tuple(region["colour"]) for region in found] == COLOURS
    for region, expected in zip(found, _expected(kind), strict=True):
        mask = np.fromfile(region["mask"], np.uint8).reshape(volume.shape) > 0
        assert (mask == expected).all(), region["name"]


def test_dciodvfy_finds_no_error(volume: Volume, tmp_path: Path) -> None:
    assert iod_errors(_written(volume, "plain", tmp_path), "RTStructureSet") == []
