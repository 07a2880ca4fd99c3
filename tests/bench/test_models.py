"""Speed of the models beside plain segment_anything: same weights, same images, same prompts, same run.

Prints a table of seconds and ratios; asserts no timing. ``make bench`` runs it, on CUDA where there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from workers.engine import Engine, EngineOptions, Feedback
from workers.models import fused_encoder
from workers.models.embedded import EmbeddedSam, ImageFeatures
from workers.models.embedded_predictor import EmbeddedPredictor
from workers.models.learned_localizer import LearnedLocalizer
from workers.models.registry import choose_device
from workers.models.segment_anything_adapter import sam_model_registry
from workers.models.weights import EMBEDDED_FILE, load_weights, packaged
from workers.models.windows import to_channels
from workers.phantoms import make_phantom
from workers.uair.grids import Float32
from workers.uair.prompts import Prompts

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

DEVICE = choose_device("auto")
RUNS = 3


class Recorder(EmbeddedPredictor):
    """The embedded model, remembering what it was asked."""

    asked: list[tuple[Float32, Float32, Prompts]]
    images: dict[int, tuple[Float32, Float32]]

    def encode(self, hu: Float32, neighbours: Float32) -> Any:
        features = super().encode(hu, neighbours)
        self.images[id(features)] = (hu, neighbours)
        return features

    def decode(self, embeddings: Any, prompts: Prompts) -> Any:
        self.asked.append((*self.images[id(embeddings)], prompts))
        return super().decode(embeddings, prompts)


def plain_model() -> EmbeddedSam:
    model = EmbeddedSam()
    load_weights(model, packaged(EMBEDDED_FILE))
    return model.to(DEVICE)


def test_encoders_beside_segment_anything() -> None:
    own, plain = EmbeddedPredictor(DEVICE), plain_model()
    hu = np.random.default_rng(0).normal(60.0, 100.0, (32, 256, 256)).astype(np.float32)

    def plain_encode() -> None:
        for plane in torch.from_numpy(to_channels(hu, hu)):  # SamPredictor.set_image takes one image
            plain.encode(plane[None].to(DEVICE))

    rows = [_row("embedded, 32 slices", lambda: own.encode(hu, hu), plain_encode)]
    torch.manual_seed(0)
    encoder = sam_model_registry["vit_b"]().image_encoder.eval().to(DEVICE)
    # A quarter of it (windows, windows, all tokens: the pattern of the rest) takes a quarter of the time.
    encoder.blocks = encoder.blocks[:3]
    image = torch.randn(1, 3, 1024, 1024, device=DEVICE)
    rows.append(_row("vit_b, 1 slice, 3 blocks", lambda: _fused(encoder, image), lambda: encoder(image)))
    _print(rows)


def _fused(encoder: Any, image: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cuda", torch.bfloat16, enabled=DEVICE.type == "cuda"):
        return fused_encoder.encode(encoder, image)


def test_a_round_beside_segment_anything() -> None:
    """Embeddings are cached in both; the plain model gets the round's prompts one by one."""
    phantom = make_phantom(3, size="small")
    predictor, plain = Recorder(DEVICE), plain_model()
    predictor.images, predictor.asked = {}, []
    engine = Engine(predictor, LearnedLocalizer(DEVICE), EngineOptions())
    first = engine.first_round(phantom.hu, phantom.spacing_mm)
    predictor.asked.clear()

    def round_two() -> None:
        engine.next_round(phantom.hu, phantom.spacing_mm, first.state, Feedback(picked=1))

    round_two()
    asked = list(predictor.asked)
    features: dict[int, ImageFeatures] = {}
    with torch.inference_mode():
        for hu, neighbours, _ in asked:
            channels = torch.from_numpy(to_channels(hu, neighbours)).to(DEVICE)
            features.setdefault(id(hu), plain.encode(channels))

    def one_by_one() -> None:
        for hu, _, prompts in asked:
            for row in range(len(prompts)):
                _ask(plain, features[id(hu)], prompts, row)

    count = sum(len(prompts) for *_, prompts in asked)
    _print([_row(f"round 2, {count} prompts", round_two, one_by_one)])


def _ask(model: EmbeddedSam, features: ImageFeatures, prompts: Prompts, row: int) -> None:
    def tensor(values: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(values[row : row + 1]).to(DEVICE)

    points = None
    if prompts.points is not None and prompts.labels is not None:
        points = (tensor(prompts.points), tensor(prompts.labels))
    masks = None if prompts.masks is None else tensor(prompts.masks)[:, None]
    logits, _ = model.decode(features, tensor(prompts.slices), tensor(prompts.boxes), points, masks)
    logits.cpu()


def _row(name: str, own: Callable[[], object], plain: Callable[[], object]) -> tuple[str, float, float]:
    """Return the medians of runs in turn, seconds."""
    times: list[list[float]] = [[], []]
    for _ in range(RUNS):
        for which, work in enumerate((own, plain)):
            started = time.monotonic()
            with torch.inference_mode():
                work()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            times[which].append(time.monotonic() - started)
    return name, float(np.median(times[0])), float(np.median(times[1]))


def _print(rows: list[tuple[str, float, float]]) -> None:
    print(f"\n{DEVICE.type:<28} {'ours, s':>9} {'plain, s':>9} {'faster':>7}")  # noqa: T201
    for name, own, plain in rows:
        print(f"{name:<28} {own:>9.2f} {plain:>9.2f} {plain / own:>6.1f}x")  # noqa: T201
        print(f"RESULT {name.split(',')[0].replace(' ', '_')}_faster={plain / own:.2f}")  # noqa: T201
