"""The path of published SAM checkpoints, compared number by number with segment_anything.SamPredictor."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dicom_config.errors import ConfigError, ResourceError
from dicom_config.model import Settings
from uair_node.operations.checks.finding import Finding
from workers.checks import check_model
from workers.models import fused_encoder, sam_checkpoint
from workers.models.cache import EmbeddingCache, EmbeddingFolder
from workers.models.registry import build_predictor
from workers.models.sam_checkpoint import SamCheckpointPredictor
from workers.models.segment_anything_adapter import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    SamPredictor,
    TwoWayTransformer,
    sam_model_registry,
)
from workers.models.weights import file_digest
from workers.models.windows import to_medsam_bytes
from workers.uair.grids import Crop
from workers.uair.prompts import Prompts

CPU = torch.device("cpu")
SIZE = 128
GRID = SIZE // 16


@pytest.fixture(scope="module")
def sam() -> Sam:
    """A SAM of the published architecture, small, with random weights."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=SIZE,
        embed_dim=64,
        depth=2,
        num_heads=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=4,
        global_attn_indexes=(1,),
        out_chans=64,
    )
    prompts = PromptEncoder(
        embed_dim=64, image_embedding_size=(GRID, GRID), input_image_size=(SIZE, SIZE), mask_in_chans=16
    )
    transformer = TwoWayTransformer(depth=2, embedding_dim=64, mlp_dim=128, num_heads=4)
    decoder = MaskDecoder(transformer_dim=64, transformer=transformer, iou_head_hidden_dim=64)
    return Sam(encoder, prompts, decoder).eval()


@pytest.fixture(scope="module")
def hu() -> NDArray[Any]:
    rng = np.random.default_rng(0)
    return (rng.normal(60.0, 200.0, (3, SIZE, SIZE))).astype(np.float32)


def reference(
    sam: Sam, plane: NDArray[Any], box: Any, points: Any = None, labels: Any = None, mask: Any = None
) -> tuple[NDArray[Any], ...]:
    """The package's own answer: logits of all four tokens, and predicted IoU."""
    own = SamPredictor(sam)
    image = torch.from_numpy(to_medsam_bytes(plane)).expand(1, 3, -1, -1)
    own.set_torch_image(image, (SIZE, SIZE))
    answers = []
    for multimask in (False, True):
        _, quality, logits = own.predict_torch(
            None if points is None else torch.from_numpy(points)[None],
            None if labels is None else torch.from_numpy(labels)[None],
            torch.from_numpy(box)[None],
            None if mask is None else torch.from_numpy(mask)[None, None],
            multimask_output=multimask,
        )
        answers.append((logits[0].numpy(), quality[0].numpy()))
    return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))


def test_answers_equal_those_of_the_package(sam: Sam, hu: NDArray[Any]) -> None:
    predictor = SamCheckpointPredictor(sam, "vit_b", "0" * 64, CPU)
    assert (predictor.input_size, predictor.mask_size) == (SIZE, SIZE // 4)
    embeddings = predictor.encode(hu, hu)
    rng = np.random.default_rng(1)
    where = np.array([2, 0, 2, 1])
    boxes = np.array([[10, 10, 90, 80], [5, 20, 60, 100], [30, 30, 50, 60], [0, 0, 128, 128]], np.float32)
    points = rng.uniform(0, SIZE, (4, 2, 2)).astype(np.float32)
    labels = np.array([[1, 0], [1, -1], [0, 0], [-1, -1]])
    masks = rng.normal(0, 3, (4, SIZE // 4, SIZE // 4)).astype(np.float32)
    for extra in ({}, {"points": points, "labels": labels}, {"masks": masks}):
        logits, quality = predictor.decode(embeddings, Prompts(where, boxes, **extra))
        for row, z in enumerate(where):
            expected, expected_quality = reference(
                sam,
                hu[z],
                boxes[row],
                extra["points"][row] if "points" in extra else None,
                extra["labels"][row] if "labels" in extra else None,
                extra["masks"][row] if "masks" in extra else None,
            )
            np.testing.assert_allclose(logits[row], expected, atol=1e-4)
            np.testing.assert_allclose(quality[row], expected_quality, atol=1e-4)


def test_medsam_gets_values_in_the_unit_range_without_normalisation(sam: Sam, hu: NDArray[Any]) -> None:
    predictor = SamCheckpointPredictor(sam, "medsam", "0" * 64, CPU, unit_range=True)
    with torch.inference_mode():
        unit = torch.from_numpy(to_medsam_bytes(hu[0]) / 255.0).expand(1, 3, -1, -1)
        expected = sam.image_encoder(unit)
    assert torch.allclose(predictor.encode(hu[:1], hu[:1]), expected, atol=1e-5)


def saved(sam: Sam, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a checkpoint that the registry's `vit_b` can read."""
    monkeypatch.setitem(sam_model_registry, "vit_b", lambda: copy.deepcopy(sam))
    torch.save(sam.state_dict(), path)
    return path


@pytest.mark.parametrize("file_name", ["sam_vit_b_01ec64.pth", "medsam_vit_b.pth", "renamed.pth"])
@pytest.mark.parametrize(
    ("window", "name", "unit_range"), [("sam", "vit_b", False), ("medsam", "medsam", True)]
)
def test_configuration_decides_the_normalisation_and_the_files_name_does_not(
    sam: Sam,
    hu: NDArray[Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file_name: str,
    window: str,
    name: str,
    unit_range: bool,
) -> None:
    path = saved(sam, tmp_path / file_name, monkeypatch)
    predictor = build_predictor("vit_b", path, CPU, window)
    assert (predictor.name, predictor.digest) == (name, file_digest(path))
    assert predictor.whole_slice
    expected = SamCheckpointPredictor(sam, name, "0" * 64, CPU, unit_range=unit_range).encode(hu[:1], hu[:1])
    assert torch.equal(predictor.encode(hu[:1], hu[:1]), expected)


@pytest.mark.parametrize("file_name", ["sam_vit_b_01ec64.pth", "medsam_vit_b.pth"])
def test_auto_knows_a_published_sam_by_its_digest_and_refuses_others(
    sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_name: str
) -> None:
    path = saved(sam, tmp_path / file_name, monkeypatch)
    with pytest.raises(ConfigError) as refused:
        build_predictor("vit_b", path, CPU)
    assert refused.value.code == "checkpoint-window"
    assert "engine.window" in refused.value.remedy
    monkeypatch.setattr(sam_checkpoint, "PUBLISHED_SAM", frozenset({file_digest(path)}))
    assert build_predictor("vit_b", path, CPU).name == "vit_b"


def test_embeddings_of_one_file_under_two_normalisations_are_not_mixed_up(
    sam: Sam, hu: NDArray[Any], tmp_path: Path
) -> None:
    crop = Crop.__new__(Crop)
    for field in ("centre", "side_mm", "slices", "spacing", "shape", "pixels", "cells"):
        object.__setattr__(crop, field, 1)
    folder = EmbeddingFolder(tmp_path, 1 << 30)
    kept = []
    for name, unit_range in (("vit_b", False), ("medsam", True)):
        predictor = SamCheckpointPredictor(sam, name, "0" * 64, CPU, unit_range=unit_range)
        cache = EmbeddingCache(predictor, 1 << 30, folder)
        kept.append(cache.encode("f" * 64, crop, lambda: (hu[:1], hu[:1])))
        cache.keep("f" * 64, crop)
    assert not torch.equal(*kept)


def test_the_check_says_which_normalisation_is_taken(
    sam: Sam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(sam, tmp_path / "medsam_vit_b.pth", monkeypatch)

    def said(window: str) -> Finding:
        engine = {"model": "vit_b", "checkpoint": path, "window": window}
        (finding,) = check_model(Settings.model_validate({"engine": engine}))
        return finding

    assert "normalised as sam (engine.window)" in said("sam").sentence
    assert "normalised as medsam (engine.window)" in said("medsam").sentence
    assert said("auto").code == "checkpoint-window"
    monkeypatch.setattr(sam_checkpoint, "PUBLISHED_SAM", frozenset({file_digest(path)}))
    assert "normalised as sam (its SHA-256)" in said("auto").sentence


def encoder(*, windows: Any, positions: bool, pad: bool = False) -> Any:
    """An image encoder with random weights, relative positions included (they start at zero)."""
    torch.manual_seed(1)
    made = ImageEncoderViT(
        img_size=96 if pad else SIZE,
        embed_dim=64,
        depth=3,
        num_heads=4,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=positions,
        window_size=windows,
        global_attn_indexes=(1,),
        out_chans=32,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return made.eval()


@pytest.mark.parametrize("positions", [True, False])
@pytest.mark.parametrize(("windows", "pad"), [(0, False), (4, False), (4, True)])
def test_fused_attention_gives_the_numbers_of_the_package(windows: int, positions: bool, pad: bool) -> None:
    """In float32 to 2e-4 of values of some ten; padded windows (6 x 6 tokens in windows of 4) included."""
    own = encoder(windows=windows, positions=positions, pad=pad)
    images = torch.randn(2, 3, own.img_size, own.img_size, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = own(images)
        found = fused_encoder.encode(own, images)
    assert expected.std() > 0.3
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_slices_are_encoded_alike_alone_and_together(sam: Sam, hu: NDArray[Any]) -> None:
    predictor = SamCheckpointPredictor(sam, "vit_b", "0" * 64, CPU)
    together = predictor.encode(hu, hu)
    torch.testing.assert_close(together[1:2], predictor.encode(hu[1:2], hu[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_published_architectures_have_the_attention_that_is_fused(name: str) -> None:
    """Built without weights: every block is of the form that the fused encoder runs."""
    with torch.device("meta"):
        model = sam_model_registry[name]()
        images = torch.zeros(1, 3, 1024, 1024)
        assert fused_encoder.encode(model.image_encoder, images).shape == (1, 256, 64, 64)
    assert all(block.attn.use_rel_pos for block in model.image_encoder.blocks)


class Hungry(torch.nn.Module):
    """An image encoder in a device whose memory holds `limit` slices at a time."""

    def __init__(self, inner: Any, limit: int) -> None:
        super().__init__()
        self.inner, self.limit, self.asked = inner, limit, []
        self.img_size, self.pos_embed, self.blocks, self.neck = inner.img_size, None, [], torch.nn.Identity()

    def patch_embed(self, images: Tensor) -> Tensor:
        self.asked.append(len(images))
        if len(images) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return self.inner(images).permute(0, 2, 3, 1)


def hungry(sam: Sam, monkeypatch: pytest.MonkeyPatch, limit: int) -> SamCheckpointPredictor:
    monkeypatch.setattr(sam_checkpoint, "ENCODE_BATCH", 8)
    model = Sam(Hungry(sam.image_encoder, limit), sam.prompt_encoder, sam.mask_decoder)
    return SamCheckpointPredictor(model, "vit_b", "0" * 64, CPU)


def test_batches_that_do_not_fit_are_halved_until_they_do(
    sam: Sam, hu: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    many = np.concatenate([hu, hu + 5.0, hu - 5.0])[:8]
    predictor = hungry(sam, monkeypatch, limit=2)
    found = predictor.encode(many, many)
    assert predictor._model.image_encoder.asked[:2] == [8, 4]
    expected = SamCheckpointPredictor(sam, "vit_b", "0" * 64, CPU).encode(many, many)
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


def test_a_slice_that_does_not_fit_is_a_resource_error(
    sam: Sam, hu: NDArray[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResourceError) as caught:
        hungry(sam, monkeypatch, limit=0).encode(hu, hu)
    assert caught.value.code == "out-of-memory"
    assert "engine.model" in caught.value.remedy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_masks_on_cuda_are_those_of_the_cpu() -> None:
    """Encoded in bfloat16 with fused attention; IoU of the masks of vit_b with one set of random weights."""
    torch.manual_seed(0)
    model = sam_model_registry["vit_b"]()
    planes = np.random.default_rng(0).normal(60.0, 200.0, (2, 1024, 1024)).astype(np.float32)
    asked = Prompts(np.array([0, 1]), np.array([[200, 200, 700, 800], [50, 300, 900, 600]], np.float32))
    masks = []
    for device in (CPU, torch.device("cuda")):
        predictor = SamCheckpointPredictor(model, "vit_b", "0" * 64, device)
        masks.append(predictor.decode(predictor.encode(planes, planes), asked)[0] > 0)
    assert masks[0].any()
    assert (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum() >= 0.99
