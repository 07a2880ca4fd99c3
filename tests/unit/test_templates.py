"""Template scans: what is kept of them, how they are searched for, added, listed and removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from dicom_config.errors import ConfigError, InputError
from uair_node.dicom.volume import read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.models.registry import build_localizer
from workers.models.template_localizer import CoordinateEncoder, make_template
from workers.models.template_store import StoredTemplate, TemplateFolder, packaged_templates, templates_in_use
from workers.phantoms import Phantom, make_phantom
from workers.phantoms.ct_series import write_ct_series
from workers.research import template_commands
from workers.research.template_commands import templates_app
from workers.uair.grids import Box
from workers.uair.localize import Localizer, Location
from workers.uair.templates import FACES, Template, atlas_of, extreme_points, in_box, weighed_by_density

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom(9003, size="small")


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return build_localizer("templates", None, CPU)


def a_template(seed: int = 0, network: str = "0" * 64) -> StoredTemplate:
    rng = np.random.default_rng(seed)
    mask = rng.random((20, 24, 30)) < 0.5
    points, features = (rng.normal(size=(6, n)).astype(np.float32) for n in (3, 24))
    return StoredTemplate(Template(points, features, mask), network, (5.0, 0.8, 0.8))


def box_of(mask: NDArray[Any]) -> NDArray[Any]:
    places = np.argwhere(mask)
    return np.stack([places.min(axis=0), places.max(axis=0) + 1])


def edges(box: Box) -> NDArray[Any]:
    return np.array([box.start, box.stop])


def overlap(a: NDArray[Any], b: NDArray[Any]) -> float:
    shared = np.prod(np.maximum(0.0, np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])))
    return shared / (np.prod(a[1] - a[0]) + np.prod(b[1] - b[0]) - shared)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def coarse_mask(location: Location, shape: tuple[int, ...]) -> NDArray[Any]:
    return location.coarse.at(*(np.arange(n) + 0.5 for n in shape)) > 0.5


# --- what is kept


def test_extreme_points_touch_the_faces_of_the_box() -> None:
    mask = np.zeros((20, 30, 40), bool)
    mask[4:10, 6:9, 20:25] = True
    mask[9:15, 8, 22] = True
    points = extreme_points(mask)
    assert points[:3].diagonal().tolist() == [4, 6, 20]
    assert points[3:].diagonal().tolist() == [15, 9, 25]
    assert points[FACES.index("superior")].tolist() == [15, 8, 22]
    with pytest.raises(ValueError, match="no extreme points"):
        extreme_points(np.zeros((3, 3, 3), bool))


def test_the_atlas_is_the_share_of_masks_and_is_cut_off_with_the_scan() -> None:
    left = np.zeros((10, 10, 10), bool)
    left[:, :, :5] = True
    atlas = atlas_of([left, np.ones((20, 8, 30), bool)])
    assert atlas[16, 16, 4] == pytest.approx(1.0)
    assert atlas[16, 16, 28] == pytest.approx(0.5)
    whole = in_box(atlas, Box((10, 5, 5), (30, 25, 25)), (40, 40, 40), 0.0)
    assert whole[20, 15, 6] == pytest.approx(1.0)
    assert whole[20, 15, 24] == pytest.approx(0.5, abs=0.02)
    assert whole[5].max() == 0
    cut = in_box(atlas, Box((10, 5, 5), (30, 25, 25)), (20, 40, 40), 0.0)
    np.testing.assert_allclose(cut, whole[:20])


def test_density_decides_where_the_prior_is_in_doubt() -> None:
    rng = np.random.default_rng(0)
    prior = np.zeros((20, 40, 40), np.float32)
    prior[4:16, 10:30, 10:30] = 0.5
    prior[4:16, 12:28, 12:20] = 0.95
    prior[2:18, 6:34, 6:34] = np.maximum(prior[2:18, 6:34, 6:34], 0.1)
    hu = rng.normal(-100, 10, prior.shape)
    hu[4:16, 10:30, 10:24] = rng.normal(110, 10, (12, 20, 14))
    liver = weighed_by_density(prior, hu.astype(np.float32)) > 0.5
    truth = np.zeros_like(liver)
    truth[4:16, 10:30, 10:24] = True
    assert dice(liver, truth) > 0.97


def test_a_template_keeps_no_density(phantom: Phantom) -> None:
    encoder = CoordinateEncoder(CPU)
    kept = make_template(encoder, phantom.hu, phantom.spacing_mm, phantom.labels > 0)
    assert kept.coordinates.shape == (6, 3)
    assert kept.features.shape == (6, 24)
    assert kept.mask.dtype == bool
    assert kept.mask.sum() * 0.027 == pytest.approx(phantom.meta.liver_ml, rel=0.03)
    assert kept.mask.any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("change", "code"),
    [(lambda liver: liver[:0], "template-without-liver"), (lambda liver: liver[8:], "template-liver-cut")],
)
def test_an_unfit_template_is_refused(phantom: Phantom, change: Callable[..., Any], code: str) -> None:
    liver = phantom.labels > 0
    first = int(np.flatnonzero(liver.any(axis=(1, 2)))[0])
    hu = phantom.hu
    if code == "template-liver-cut":
        hu, liver = hu[first + 3 :], liver[first + 3 :]
    else:
        liver = np.zeros_like(liver)
    with pytest.raises(InputError) as refused:
        make_template(CoordinateEncoder(CPU), hu, phantom.spacing_mm, liver)
    assert refused.value.code == code


# --- the folder


def test_templates_are_read_as_they_were_written(tmp_path: Path) -> None:
    folder = TemplateFolder(tmp_path / "new")
    first, two = a_template(1), a_template(2)
    folder.add(first)
    folder.add(two)
    folder.add(first)
    found = {stored.name: stored for stored in folder.stored()}
    assert set(found) == {first.name, two.name}
    np.testing.assert_array_equal(found[first.name].template.mask, first.template.mask)
    np.testing.assert_array_equal(found[first.name].template.features, first.template.features)
    assert found[first.name].digest == first.digest
    assert found[first.name].spacing_mm == (5.0, 0.8, 0.8)
    folder.remove(first.name)
    assert [stored.name for stored in folder.stored()] == [two.name]
    with pytest.raises(ConfigError) as refused:
        folder.remove(first.name)
    assert refused.value.code == "template-unknown"


def test_a_damaged_template_is_named(tmp_path: Path) -> None:
    (tmp_path / "template-0123456789ab.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError) as refused:
        TemplateFolder(tmp_path).stored()
    assert refused.value.code == "template-unreadable"


def test_templates_of_another_network_are_refused(tmp_path: Path) -> None:
    TemplateFolder(tmp_path).add(a_template())
    with pytest.raises(ConfigError) as refused:
        templates_in_use(tmp_path, "1" * 64)
    assert refused.value.code == "template-of-other-network"


def test_five_templates_are_packaged_and_a_sites_own_take_their_place(tmp_path: Path) -> None:
    network = CoordinateEncoder(CPU).digest
    assert len(templates_in_use(tmp_path, network)) == 5
    own = a_template(network=network)
    TemplateFolder(tmp_path).add(own)
    assert [template.name for template in templates_in_use(tmp_path, network)] == [own.name]


def test_the_digest_changes_with_the_templates(tmp_path: Path, localizer: Localizer) -> None:
    network = CoordinateEncoder(CPU).digest
    TemplateFolder(tmp_path).add(replace(packaged_templates().stored()[0], network=network))
    fewer = build_localizer("templates", tmp_path, CPU)
    assert len(localizer.digest) == 64
    assert len({localizer.digest, fewer.digest, build_localizer("learned", None, CPU).digest}) == 3


# --- the search


def test_the_packaged_templates_find_a_liver(phantom: Phantom, localizer: Localizer) -> None:
    truth = phantom.labels > 0
    location = localizer.locate(phantom.hu, phantom.spacing_mm)
    assert overlap(edges(location.box), box_of(truth)) > 0.4
    assert dice(coarse_mask(location, truth.shape), truth) > 0.6


def test_the_box_moves_with_the_body(phantom: Phantom, localizer: Localizer) -> None:
    framed = np.pad(phantom.hu, ((0, 0), (20, 20), (20, 20)), constant_values=-1024)
    there = localizer.locate(framed, phantom.spacing_mm)
    here = localizer.locate(np.roll(framed, (9, 15), axis=(1, 2)), phantom.spacing_mm)
    np.testing.assert_allclose(edges(here.box) - edges(there.box), [[0, 9, 15]] * 2, atol=1.0)


@pytest.mark.parametrize("cut", ["dome", "tip"])
def test_a_liver_that_the_scan_cuts_is_located_up_to_the_cut(
    phantom: Phantom, localizer: Localizer, cut: str
) -> None:
    truth = phantom.labels > 0
    low, high = box_of(truth)[:, 0]
    part = slice(None, high - 6) if cut == "dome" else slice(low + 6, None)
    hu, truth = phantom.hu[part], truth[part]
    location = localizer.locate(hu, phantom.spacing_mm)
    end = -1 if cut == "dome" else 0
    mask = coarse_mask(location, truth.shape)
    assert dice(mask[end], truth[end]) > 0.4
    assert (edges(location.box)[:, 0])[end] == (len(hu) if cut == "dome" else 0)


def test_where_no_liver_is_none_is_found(localizer: Localizer) -> None:
    """Air, and a water phantom."""
    hu = np.full((60, 128, 128), -1000, np.int16)
    assert localizer.locate(hu, (4.0, 3.0, 3.0)) is None
    hu[:, 20:108, 14:114] = 0
    assert localizer.locate(hu, (4.0, 3.0, 3.0)) is None


# --- the command line


def run(config: Path, *arguments: str, code: int = 0) -> str:
    ended = CliRunner().invoke(templates_app, [*arguments, "--config", str(config)])
    assert ended.exit_code == code, (ended.output, ended.exception)
    return ended.output


@pytest.fixture(autouse=True)
def _log_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets levels for its process, which here is that of all tests."""
    monkeypatch.setattr(template_commands, "set_up_logging", lambda **_: None)


def write_case(folder: Path, phantom: Phantom, *, flipped: bool) -> tuple[Path, Path]:
    """Write the phantom as DICOM CT and its liver as our own SEG, `flipped` from head to feet, mirrored."""
    affine = np.zeros((4, 4))
    affine[[2, 1, 0], [0, 1, 2]] = phantom.spacing_mm
    affine[3, 3] = 1.0
    hu = phantom.hu
    if flipped:
        hu = hu[::-1, ::-1, ::-1]
        for axis in range(3):
            affine[:3, 3] += affine[:3, axis] * (hu.shape[axis] - 1)
            affine[:3, axis] *= -1
    paths = write_ct_series(folder / "ct", hu, affine, patient_name="Doe^Jane", patient_id="4711")
    volume = read_series(paths)
    labels = volume.canonical().to_source(phantom.labels)
    request = SegRequest(
        sop_instance_uid=result_uid("instance"),
        series_instance_uid=result_uid("series"),
        k=1,
        character="as drawn",
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest="0" * 64,
            software_version="0.1.0",
            case_digest="c" * 64,
            content_datetime=datetime(2026, 1, 5, 10, 0, 1),
        ),
        tracking={n: Tracking(f"lesion {n}", result_uid("lesion", n)) for n in range(1, 4)},
    )
    save_durably(write_seg(volume, labels, request), folder / "seg.dcm")
    return folder / "ct", folder / "seg.dcm"


def test_templates_are_added_listed_and_removed_from_dicom(phantom: Phantom, tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("data_dir: data\n", "utf-8")
    before = json.loads(run(config, "list", "--json"))
    assert [template["from"] for template in before] == ["package"] * 5
    run(config, "add", *(str(path) for path in write_case(tmp_path / "a", phantom, flipped=False)))
    (own,) = json.loads(run(config, "list", "--json"))
    assert own["from"] == "site"
    assert own["liver_ml"] == pytest.approx(phantom.meta.liver_ml, rel=0.03)
    assert own["template"] in run(config, "list")
    flipped = write_case(tmp_path / "b", phantom, flipped=True)
    added = run(config, "add", *(str(path) for path in flipped))
    assert own["template"] in added, "order and flips do not matter"
    (file,) = (tmp_path / "data" / "templates").iterdir()
    content = file.read_bytes()
    assert not any(word in content for word in (b"Doe", b"4711", b"2.25.", b"2026"))
    assert build_localizer("templates", file.parent, CPU).digest
    run(config, "remove", own["template"])
    assert [load["from"] for load in json.loads(run(config, "list", "--json"))] == ["package"] * 5
    run(config, "remove", own["template"], code=1)


def test_an_empty_folder_is_no_series(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "seg.dcm").touch()
    ended = CliRunner().invoke(templates_app, ["add", str(tmp_path / "nothing"), str(tmp_path / "seg.dcm")])
    assert isinstance(ended.exception, InputError)
    assert ended.exception.code == "masks-for-one"
