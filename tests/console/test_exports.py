"""Files that the console exports, read back by programs that are not ours: nibabel, trimesh, highdicom."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import trimesh
from highdicom.seg import segread
from pydicom import dcmread
from starlette.testclient import TestClient

from dicom_config import codes
from tests.support.console import Site
from tests.support.offered import final_path
from tests.support.studies import AFFINE
from uair_node.cases.installation_tables import AccessRecord
from uair_node.findings.record import Findings, as_csv, load_findings
from uair_node.rendering.export_formats import as_glb, as_nifti, as_stl
from uair_node.rendering.solids import solids_of
from uair_node.results.round_inputs import ACCEPTED_FILE, FINDINGS_FILE
from uair_node.storage.artifacts import load_candidates

EXPORT = "/cases/2/rounds/2/0/export"


@pytest.fixture
def labels(studies: Site) -> np.ndarray:
    """The accepted labels of case 2, on the source grid."""
    return load_candidates(final_path(studies.context, 2, ACCEPTED_FILE))[0].labels


@pytest.fixture
def findings(studies: Site) -> Findings:
    """The measurements of these labels."""
    found = load_findings(final_path(studies.context, 2, FINDINGS_FILE))
    assert found is not None
    return found


def _files(client: TestClient, address: str) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(client.get(address).content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _meshes(client: TestClient) -> dict[str, trimesh.Trimesh]:
    return {
        name: trimesh.load(io.BytesIO(data), file_type="stl", process=True)
        for name, data in _files(client, f"{EXPORT}/stl").items()
    }


def test_csv_and_json_are_what_was_measured(reader: TestClient, findings: Findings) -> None:
    answer = reader.get("/cases/2/export/csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="uair-case2-measurements.csv"'
    assert answer.text == as_csv(findings)
    assert Findings.from_json(reader.get("/cases/2/export/json").json()) == findings


def test_nifti_lies_where_the_series_does(reader: TestClient, labels: np.ndarray, tmp_path: Path) -> None:
    """RAS, so that x and y change their sign against DICOM's LPS."""
    path = tmp_path / "labels.nii.gz"
    path.write_bytes(reader.get(f"{EXPORT}/nifti").content)
    image = nibabel.load(path)
    assert np.array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), labels)
    k, j, i = np.argwhere(labels == 3)[5]
    right, anterior, superior, _ = image.affine @ [i, j, k, 1]
    assert (-right, -anterior, superior) == pytest.approx((AFFINE @ [k, j, i, 1])[:3], abs=1e-4)
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert image.header.get_xyzt_units()[0] == "mm"


def test_stl_encloses_what_was_measured_where_it_lies(
    reader: TestClient, labels: np.ndarray, findings: Findings
) -> None:
    measured = {"liver.stl": (labels > 0, findings.liver["liver_ml"].value)}
    for lesion in findings.lesions:
        measured[f"lesion-{lesion.number}.stl"] = (
            labels == lesion.number + 1,
            lesion.values["volume_ml"].value,
        )
    meshes = _meshes(reader)
    assert set(meshes) == set(measured)
    for name, mesh in meshes.items():
        mask, ml = measured[name]
        assert mesh.is_watertight, name
        assert mesh.volume / 1000.0 == pytest.approx(ml, rel=0.002), "positive: facets face outwards"
        lps = np.argwhere(mask) @ AFFINE[:3, :3].T + AFFINE[:3, 3]
        assert mesh.bounds.mean(axis=0) == pytest.approx((lps.min(0) + lps.max(0)) / 2, abs=2.5), name
    assert all(b"SPACE=LPS" in data[:80] for data in _files(reader, f"{EXPORT}/stl").values())


def test_gltf_stands_upright_in_metres_in_the_colours_of_the_seg(reader: TestClient) -> None:
    data = io.BytesIO(reader.get(f"{EXPORT}/glb").content)
    scene = trimesh.load(data, file_type="glb", process=True)
    solids = _meshes(reader)
    colours = {
        "liver": codes.LIVER_COLOUR,
        "lesion 1": codes.lesion_colour(1),
        "lesion 2": codes.lesion_colour(2),
    }
    assert set(scene.graph.nodes_geometry) == set(colours)
    for name, colour in colours.items():
        transform, geometry = scene.graph[name]
        mesh = scene.geometry[geometry]
        # Positions are those of the STL (LPS, mm); +Y is up, +Z forward, the patient's left +X, in metres.
        (x, y, z) = (mesh.copy().apply_transform(transform)).bounds.mean(axis=0) * 1000.0
        left, posterior, superior = solids[f"{name.replace(' ', '-')}.stl"].bounds.mean(axis=0)
        assert (x, y, z) == pytest.approx((left, superior, -posterior), abs=1e-3)
        linear = np.array(mesh.visual.material.baseColorFactor[:3]) / 255.0
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        assert srgb * 255 == pytest.approx(colour.rgb, abs=4.0)


def test_dicom_is_what_went_to_the_archive(reader: TestClient, labels: np.ndarray, tmp_path: Path) -> None:
    modalities = {}
    for name, data in _files(reader, f"{EXPORT}/dicom").items():
        (tmp_path / name).write_bytes(data)
        modalities[dcmread(tmp_path / name).Modality] = tmp_path / name
    assert set(modalities) == {"SEG", "SR"}
    pixels = segread(modalities["SEG"]).get_volume(combine_segments=True).array
    assert [np.count_nonzero(pixels == value) for value in (1, 2, 3)] == [
        np.count_nonzero(labels == value) for value in (1, 2, 3)
    ]
    (candidate,) = _files(reader, "/cases/2/rounds/1/3/export/dicom").values()
    assert dcmread(io.BytesIO(candidate)).ContentLabel == "UAIR R1C3"


def test_each_download_is_recorded_and_views_once(studies: Site, reader: TestClient) -> None:
    for _ in range(2):
        reader.get("/cases/2/rounds/1/4/export/nifti")
        reader.get("/cases/2/rounds/1/4/thumbnail.jpg")
        reader.get("/cases/2/rounds/2/0/solid.jpg")
    reader.get("/cases/2/export/json")
    with studies.context.database.transaction() as session:
        rows = [(record.actor, record.action, record.subject) for record in session.query(AccessRecord)]
    assert rows == [
        ("viktor", "export nifti", "case 2, round 1, candidate 4"),
        ("viktor", "view segmentation", "case 2"),
        ("viktor", "export nifti", "case 2, round 1, candidate 4"),
        ("viktor", "export json", "case 2"),
    ]


def test_what_cannot_be_exported_is_said_and_not_recorded(studies: Site, reader: TestClient) -> None:
    for address, status in {
        f"{EXPORT}/exe": 404,
        "/cases/2/export/exe": 404,
        "/cases/4/export/csv": 409,
        "/cases/4/rounds/1/0/export/dicom": 404,
        "/cases/4/rounds/1/0/export/nifti": 404,
        "/cases/9/export/csv": 404,
    }.items():
        assert reader.get(address).status_code == status, address
    with studies.context.database.transaction() as session:
        assert session.query(AccessRecord).count() == 0


@pytest.mark.parametrize("axis", [None, 0, 1, 2])
def test_surfaces_face_outwards_on_any_grid(axis: int | None) -> None:
    """Right-handed ones and mirrored ones."""
    labels = np.zeros((12, 14, 16), np.uint8)
    labels[3:9, 4:10, 3:12] = 1
    labels[4:7, 5:8, 5:8] = 2
    affine = AFFINE.copy()
    if axis is not None:
        affine[:3, axis] *= -1
    for solid, voxels in zip(solids_of(labels, affine), (6 * 6 * 9, 27), strict=True):
        mesh = trimesh.Trimesh(solid.vertices, solid.faces)
        assert mesh.is_watertight
        assert mesh.volume == pytest.approx(voxels * 45.0, rel=1e-3)


def test_nothing_and_a_speck_have_files_too() -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    assert solids_of(labels, AFFINE) == ()
    data = as_glb(())
    assert json.loads(data[20:])["asset"]["version"] == "2.0"
    assert zipfile.ZipFile(io.BytesIO(as_stl(()))).namelist() == []
    assert as_nifti(labels, AFFINE)[:2] == b"\x1f\x8b"
    labels[2, 2, 2] = 2
    liver, lesion = solids_of(labels, AFFINE)
    assert (liver.name, lesion.name) == ("liver", "lesion 1")
    assert len(lesion.faces) > 0
    assert lesion.volume_ml == pytest.approx(0.045)
