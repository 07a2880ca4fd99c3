"""U-Net and TransUNet learn, label the right voxels, and their rows appear once there are weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from dicom_config.errors import ConfigError
from dicom_config.model import EngineSection
from workers.models import slice_networks
from workers.models.slice_networks import INPUT_SIZE, NAMES, SliceNetwork, build_slice_network
from workers.models.windows import LIVER
from workers.phantoms import make_phantom
from workers.phantoms.fields import Grid
from workers.phantoms.geometry import build_geometry
from workers.phantoms.lesion_shapes import LesionPlan
from workers.research.evaluation.workbench import build_workbench
from workers.research.training.geometries import GeometryCache, Subject
from workers.research.training.sampling.slice_samples import draw_slice_sample
from workers.research.training.slices import SliceBatches, SliceTask
from workers.research.training.training_run import TrainOptions
from workers.research.training.transunet import train_transunet
from workers.research.training.unet import train_unet

pytest.importorskip("monai")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> GeometryCache:
    folder = tmp_path_factory.mktemp("geometries")
    cache = GeometryCache(folder, 1)
    geometry = build_geometry(4, Grid((40, 128, 128), (5.0, 3.0, 3.0)), LesionPlan(3, 12, min_inside=0.75))
    geometry.save(cache.path(0))
    return cache


class ByDensity(nn.Module):
    """Calls liver what lies between 80 and 120 HU in the narrow window, lesion what is darker but no air."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        low, high = LIVER
        hu = (images[:, 1] + 1) / 2 * (high - low) + low
        liver = ((hu > 80) & (hu < 120)).float()
        lesion = ((hu > 30) & (hu <= 80)).float()
        return 8 * torch.stack([torch.full_like(hu, 0.5), liver, lesion], dim=1)


def test_labels_land_on_the_voxels_that_were_shown() -> None:
    hu = np.full((20, 100, 120), -1000, np.int16)
    hu[:, 10:90, 10:110] = 0
    hu[4:16, 20:60, 20:70] = 100
    hu[8:12, 30:42, 30:42] = 60
    hu[4:8, 70:80, 90:100] = 100  # another thing of the liver's density
    labels = SliceNetwork(ByDensity(), CPU).segment(hu, (3.0, 3.0, 3.0))
    liver, lesion = labels > 0, labels == 2
    truth = np.zeros(hu.shape, bool)
    truth[4:16, 20:60, 20:70] = True
    assert 2 * (liver & truth).sum() / (liver.sum() + truth.sum()) > 0.95
    assert not liver[:, 65:, 85:].any()
    inner = np.zeros(hu.shape, bool)
    inner[8:12, 30:42, 30:42] = True
    assert 2 * (lesion & inner).sum() / (lesion.sum() + inner.sum()) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_networks_are_small_and_answer_in_the_size_of_the_image(name: str) -> None:
    network = build_slice_network(name).eval()
    with torch.inference_mode():
        answer = network(torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE))
    assert answer.shape == (1, 3, INPUT_SIZE, INPUT_SIZE)
    assert sum(weight.numel() for weight in network.parameters()) * 4 < 3e6


@pytest.mark.parametrize("name", NAMES)
def test_networks_learn_a_batch(name: str, cache: GeometryCache) -> None:
    torch.manual_seed(0)
    network = build_slice_network(name)
    task = SliceTask(name, SliceBatches(cache, 0, 2), (), "cpu")
    batch = task.samples[1]
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    losses = []
    for _ in range(6):
        step = task.step(network, batch, torch.Generator())
        optimizer.zero_grad()
        step.loss.backward()
        optimizer.step()
        losses.append(float(step.loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_figures_are_those_of_whole_phantoms(cache: GeometryCache) -> None:
    phantom = make_phantom(4, size="small")
    task = SliceTask("unet", SliceBatches(cache, 0, 1), (phantom,), "cpu")
    figures = task.measure(build_slice_network("unet"))
    assert set(figures) == {"liver_dice", "tumour_dice"}
    assert all(0 <= value <= 1 for value in figures.values())


def test_a_sample_shows_liver_and_lesions_where_the_image_has_them(cache: GeometryCache) -> None:
    subject: Subject = cache.subject(0)
    samples = [draw_slice_sample(subject, np.random.default_rng(seed)) for seed in range(6)]
    assert {int(value) for sample in samples for value in np.unique(sample.classes)} == {0, 1, 2}
    again = draw_slice_sample(subject, np.random.default_rng(0))
    assert np.array_equal(again.image, samples[0].image)
    assert np.array_equal(again.classes, samples[0].classes)


def options_for(path: Path, cache: GeometryCache) -> TrainOptions:
    return TrainOptions(
        output=path, cache=cache.folder, iterations=0, batch_size=1, geometries=1, held_out=0, loaders=0
    )


def test_weights_of_a_training_make_their_rows_appear(cache: GeometryCache, tmp_path: Path) -> None:
    options = options_for(tmp_path / "unet.safetensors", cache)
    section = EngineSection(device="cpu", members=8)
    with pytest.raises(ConfigError) as refused:
        build_workbench(section, tmp_path)
    assert refused.value.code == "weights-missing"
    train_unet(options)
    assert list(build_workbench(section, tmp_path).networks) == ["unet"]
    train_transunet(replace(options, output=tmp_path / "transunet.safetensors"))
    found = build_workbench(section, tmp_path).networks
    assert list(found) == ["unet", "transunet"]
    assert len({network.digest for network in found.values()}) == 2


def test_without_monai_the_other_rows_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> nn.Module:
        raise ConfigError("evaluate-extra-missing", "U-Net and TransUNet need MONAI.", "Install it.")

    (tmp_path / "unet.safetensors").write_bytes(b"")
    monkeypatch.setattr(slice_networks, "build_slice_network", absent)
    monkeypatch.setattr(
        "workers.research.evaluation.workbench.packaged", lambda name: tmp_path / "unet.safetensors"
    )
    assert build_workbench(EngineSection(device="cpu", members=8)).networks == {}
    with pytest.raises(ConfigError):
        build_workbench(EngineSection(device="cpu", members=8), tmp_path)
