"""The decoder for inference gives the numbers of the network that is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from tests.support.synthetic import DensityPredictor
from workers.models.batches import Batches
from workers.models.embedded import EmbeddedSam, ImageFeatures
from workers.models.embedded_decoder import EmbeddedDecoder, nested
from workers.uair import ensemble
from workers.uair.ensemble import predict
from workers.uair.prompts import Member, Prompts

CPU = torch.device("cpu")
TOLERANCE = 5e-4
"""Tolerance of logits with a standard deviation of about ten: operations in another order are rounded."""


@pytest.fixture(scope="module")
def model() -> Sam:
    """Random weights, biases and norms included: what starts at zero or one would hide mistakes."""
    torch.manual_seed(0)
    made = EmbeddedSam(depth=1, global_blocks=(0,)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made


@pytest.mark.parametrize("with_points", [False, True])
@pytest.mark.parametrize("with_masks", [False, True])
def test_answers_are_those_of_the_trained_network(model: Sam, with_points: bool, with_masks: bool) -> None:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    features = ImageFeatures(random(3, 128, 16, 16), random(3, 16, 64, 64), random(3, 32, 32, 32))
    image_of = torch.tensor([2, 0, 2, 1, 2])
    boxes = torch.sort(torch.rand(5, 2, 2, generator=generator) * 256, dim=1).values.reshape(5, 4)
    points = None
    if with_points:
        places = torch.rand(5, 3, 2, generator=generator) * 256
        points = (places, torch.tensor([[1, 0, -1]]).expand(5, -1))
    different = 8 * random(4, 1, 64, 64)
    like = torch.tensor([0, 1, 0, 2, 3])  # prompts 0 and 2 share slice and mask
    masks = different[like] if with_masks else None
    with torch.inference_mode():
        expected, expected_quality = model.decode(features, image_of, boxes, points, masks)
        decoder, own = EmbeddedDecoder(model), nested(features)
        about = decoder.situations(own, torch.tensor([2, 0, 1, 2]), different if with_masks else None)
        logits, quality = decoder.decode(own, image_of, about, like, boxes, points)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=TOLERANCE, rtol=1e-4)
    torch.testing.assert_close(quality, expected_quality, atol=TOLERANCE, rtol=1e-4)


def test_batches_come_in_order_and_leave_the_callers_threads_alone() -> None:
    before = torch.get_num_threads()
    batches = Batches(CPU)
    assert batches.map(lambda part: list(range(10))[part], 10, 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches.map(lambda part: torch.get_num_threads(), 3, 1) == [1, 1, 1]
    assert torch.get_num_threads() == before
    assert not torch.is_inference_mode_enabled()


def test_an_error_in_a_batch_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        Batches(CPU).map(lambda part: 1 // (part.start - 4), 8, 4)


@pytest.mark.parametrize("at_once", [1, 6, 1 << 20])
def test_members_asked_together_answer_as_alone(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """Boxes, masks and points mixed, a member without prompts among them, few and many at once."""
    model, rng = DensityPredictor(), np.random.default_rng(0)
    hu = rng.normal(80, 40, (4, 128, 128)).astype(np.float32)
    embeddings = model.encode(hu, hu)
    members = []
    for index, slices in enumerate(([0, 1], [1, 2, 3], [], [2], [0, 3], [1])):
        count = len(slices)
        boxes = np.sort(rng.uniform(0, 128, (count, 2, 2)), axis=1).reshape(count, 4).astype(np.float32)
        masks = rng.normal(0, 3, (count, 64, 64)).astype(np.float32) if index % 2 else None
        points = rng.uniform(0, 128, (count, 1, 2)).astype(np.float32) if index == 3 else None
        labels = np.ones((count, 1), np.int64) if index == 3 else None
        members.append(Member(Prompts(np.array(slices, np.int64), boxes, points, labels, masks), None))

    def decode(asked: Prompts) -> Any:
        return model.decode(embeddings, asked)

    alone = [predict(decode, [member], (4, 64, 64), 0.0) for member in members]
    monkeypatch.setattr(ensemble, "CELLS_AT_ONCE", at_once * 64 * 64)
    together = predict(decode, members, (4, 64, 64), 0.0)
    np.testing.assert_array_equal(together.logits, np.concatenate([answer.logits for answer in alone]))
    expected = np.concatenate([answer.quality for answer in alone])
    expected[2] = np.median(np.delete(expected, 2))  # who asks nothing is neither praised nor blamed
    np.testing.assert_array_equal(together.quality, expected)
