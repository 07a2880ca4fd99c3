"""The path of published SAM checkpoints, compared number by number with segment_anything.SamPredictor."""

from functools import partial

import numpy as np
import pytest
import torch

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
from workers.models.windows import to_medsam_bytes
from workers.uair.prompts import Prompts

CPU = torch.device("cpu")
SIZE = 128
GRID = SIZE // 16


@pytest.fixture(scope="module")
def sam():
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
def hu():
    rng = np.random.default_rng(0)
    return (rng.normal(60.0, 200.0, (3, SIZE, SIZE))).astype(np.float32)


def reference(sam, plane, box, points=None, labels=None, mask=None):
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


def test_answers_equal_those_of_the_package(sam, hu):
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


def test_medsam_gets_values_in_the_unit_range_without_normalisation(sam, hu):
    predictor = SamCheckpointPredictor(sam, "medsam", "0" * 64, CPU, unit_range=True)
    with torch.inference_mode():
        unit = torch.from_numpy(to_medsam_bytes(hu[0]) / 255.0).expand(1, 3, -1, -1)
        expected = sam.image_encoder(unit)
    assert torch.allclose(predictor.encode(hu[:1], hu[:1]), expected, atol=1e-5)


def test_checkpoints_are_read_by_path_and_medsam_by_its_name(sam, tmp_path, monkeypatch):
    monkeypatch.setitem(sam_model_registry, "vit_b", lambda: sam)
    for name, expected in (("sam_vit_b_01ec64.pth", "vit_b"), ("medsam_vit_b.pth", "medsam")):
        path = tmp_path / name
        torch.save(sam.state_dict(), path)
        predictor = SamCheckpointPredictor.from_checkpoint("vit_b", path, CPU)
        assert predictor.name == expected
        assert len(predictor.digest) == 64
        assert predictor.whole_slice
