"""Embedded model, localizer network, weights, registry and the door to segment_anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dicom_config.engine import EngineSection
from dicom_config.errors import ConfigError
from workers.models.embedded import EmbeddedSam
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.localizer_net import LocalizerNet
from workers.models.registry import build_predictor, choose_device, model_names
from workers.models.weights import (
    EMBEDDED_FILE,
    LOCALIZER_FILE,
    file_digest,
    joint_digest,
    load_weights,
    packaged,
    save_weights,
)
from workers.models.windows import to_channels, to_localizer_channels, to_medsam_bytes
from workers.uair.prompts import Prompts

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor() -> EmbeddedPredictor:
    return EmbeddedPredictor(CPU)


def slices(count: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    """A bright disk (100 HU) in fat."""
    y, x = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    disk = np.hypot(y - 120, x - 140) < 50
    hu = np.where(disk, 100.0, -80.0).astype(np.float32)
    return np.repeat(hu[None], count, axis=0), disk


BOX = np.array([[88, 68, 192, 172]], np.float32)


def test_windows_have_their_ends_where_they_say() -> None:
    hu = np.array([[-200.0, 300.0, -10.0, 190.0, 50.0]], np.float32)
    wide, narrow, beside = to_channels(hu, hu + 40.0)
    assert wide[0, 0] == -1.0
    assert wide[0, 1] == 1.0
    assert narrow[0, 2] == -1.0
    assert narrow[0, 3] == 1.0
    assert beside[0, 4] == pytest.approx(0.0)
    assert to_localizer_channels(np.array([[[60.0]]], np.float32))[1, 0, 0, 0] == 0.0


def test_medsam_scaling_maps_its_window_to_bytes() -> None:
    hu = np.array([[-2000.0, -500.0, 250.0, 1000.0, 3000.0]], np.float32)
    np.testing.assert_allclose(to_medsam_bytes(hu), [[0.0, 0.0, 127.5, 255.0, 255.0]])


def test_the_embedded_model_segments_what_a_box_holds(predictor: EmbeddedPredictor) -> None:
    hu, disk = slices()
    embeddings = predictor.encode(hu, hu)
    logits, quality = predictor.decode(embeddings, Prompts(np.array([0]), BOX))
    assert logits.shape == (1, 4, 64, 64)
    assert quality.shape == (1, 4)
    mask = np.kron(logits[0, 0] > 0, np.ones((4, 4), bool))
    assert 2 * (mask & disk).sum() / (mask.sum() + disk.sum()) > 0.85


def test_prompts_are_answered_alike_alone_and_together(predictor: EmbeddedPredictor) -> None:
    hu, _ = slices()
    embeddings = predictor.encode(hu, hu)
    boxes = np.repeat(BOX, 3, axis=0) + np.array([[0], [10], [-10]], np.float32)
    points = np.full((3, 2, 2), 120.0, np.float32)
    labels = np.array([[1, -1], [0, 1], [-1, -1]])
    masks = np.random.default_rng(0).normal(0, 3, (3, 64, 64)).astype(np.float32)
    where = np.array([0, 1, 1])
    together, _ = predictor.decode(embeddings, Prompts(where, boxes, points, labels, masks))
    for row in range(3):
        only = slice(row, row + 1)
        alone = Prompts(where[only], boxes[only], points[only], labels[only], masks[only])
        np.testing.assert_allclose(predictor.decode(embeddings, alone)[0], together[only], atol=2e-4)


def test_points_and_masks_change_the_answer(predictor: EmbeddedPredictor) -> None:
    hu, _ = slices(1)
    embeddings = predictor.encode(hu, hu)
    plain, _ = predictor.decode(embeddings, Prompts(np.array([0]), BOX))
    point = Prompts(np.array([0]), BOX, np.array([[[100.0, 100.0]]], np.float32), np.array([[0]]))
    mask = Prompts(np.array([0]), BOX, masks=np.full((1, 64, 64), -8.0, np.float32))
    for other in (point, mask):
        assert np.abs(predictor.decode(embeddings, other)[0] - plain).max() > 0.05


def test_packaged_weights_are_small_and_their_digest_is_the_files() -> None:
    for name in (EMBEDDED_FILE, LOCALIZER_FILE):
        assert packaged(name).stat().st_size < 20e6
    assert EmbeddedPredictor(CPU).digest == file_digest(packaged(EMBEDDED_FILE))
    assert LearnedLocalizer(CPU).digest == file_digest(packaged(LOCALIZER_FILE))
    assert len(joint_digest(["a", "b"])) == 64
    assert joint_digest(["a", "b"]) != joint_digest(["b", "a"])


def test_weights_survive_their_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = EmbeddedSam(depth=1, global_blocks=(0,)), EmbeddedSam(depth=1, global_blocks=(0,))
    path = tmp_path / "weights.safetensors"
    save_weights(model, path, {"edition": "test"})
    load_weights(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(LocalizerNet(), path)
    with pytest.raises(ConfigError) as caught:
        EmbeddedPredictor(CPU, path)
    assert caught.value.code == "weights-mismatch"


def test_a_missing_weight_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        build_predictor("vit_b", tmp_path / "none.pth", CPU)
    assert caught.value.code == "weights-missing"
    with pytest.raises(ConfigError) as caught:
        build_predictor("vit_b", None, CPU)
    assert caught.value.code == "checkpoint-missing"


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    """Only tensors are unpickled."""
    path = tmp_path / "evil.pth"
    torch.save({"run": subprocess.Popen}, path)
    with pytest.raises(ConfigError) as caught:
        build_predictor("vit_b", path, CPU, "sam")
    assert caught.value.code == "checkpoint-unsafe"


def test_the_registry_knows_its_models() -> None:
    assert model_names() == get_args(EngineSection.model_fields["model"].annotation)
    assert build_predictor("embedded", None, CPU).name == "embedded"
    with pytest.raises(ConfigError, match=", ".join(model_names())):
        build_predictor("sam9", None, CPU)


def test_device_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == choose_device("cpu") == CPU
    with pytest.raises(ConfigError) as caught:
        choose_device("cuda")
    assert caught.value.code == "no-cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert choose_device("cpu") == CPU


def test_the_localizer_net_takes_any_multiple_of_its_stride() -> None:
    net = LocalizerNet().eval()
    with torch.inference_mode():
        assert net(torch.zeros(1, 2, 16, 24, 32)).shape == (1, 16, 24, 32)


@pytest.mark.parametrize("broken", ["missing", "half-loaded"])
def test_segment_anything_loads_without_a_working_torchvision(broken: str, tmp_path: Path) -> None:
    """In a fresh process, with torchvision absent, or present and failing as a mismatched build does."""
    if broken == "half-loaded":
        (tmp_path / "torchvision").mkdir()
        text = "raise RuntimeError('operator torchvision::nms does not exist')"
        (tmp_path / "torchvision" / "__init__.py").write_text(text)
    else:
        (tmp_path / "torchvision.py").write_text("raise ModuleNotFoundError('torchvision')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from workers.models.segment_anything_adapter import SamPredictor, sam_model_registry\n"
        "assert 'torchvision' not in sys.modules\n"
        "print(sorted(sam_model_registry))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vit_b" in done.stdout
