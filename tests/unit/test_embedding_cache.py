"""Embeddings in memory and on disk: found again by content, bounded, and never trusted blindly."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import numpy as np
import pytest
import torch

from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from workers.engine import Engine, EngineOptions, Feedback
from workers.models.cache import EmbeddingCache, EmbeddingFolder
from workers.uair.grids import Crop
from workers.uair.state import RoundState

CROP = Crop((64.0, 64.0), 100.0, (0, 1), (4.0, 1.0, 1.0), (2, 128, 128), 128, 64)
SIZE = 2 * 64 * 64 * 4
LARGE = 1 << 30


def images(value: float = 0.0) -> Callable[..., Any]:
    plane = np.full((2, 128, 128), value, np.float32)
    return lambda: (plane, plane)


def unwanted() -> Never:
    raise AssertionError("encoded again")


def test_what_was_encoded_is_remembered_and_the_oldest_is_dropped() -> None:
    model = DensityPredictor()
    cache = EmbeddingCache(model, limit_bytes=2 * SIZE)
    first = cache.encode("a", CROP, images(1.0))
    assert cache.encode("a", CROP, unwanted) is first
    cache.encode("b", CROP, images())
    cache.encode("a", CROP, unwanted)
    cache.encode("c", CROP, images())
    assert cache.held_bytes == 2 * SIZE
    cache.encode("a", CROP, unwanted)
    with pytest.raises(AssertionError, match="again"):
        cache.encode("b", CROP, unwanted)


def test_another_crop_volume_or_model_is_encoded() -> None:
    model, other = DensityPredictor(), DensityPredictor()
    other.digest = "2" * 64
    cache = EmbeddingCache(model, LARGE)
    cache.encode("a", CROP, images())
    for crop in (replace(CROP, side_mm=99.0), replace(CROP, slices=(1,)), replace(CROP, centre=(64.0, 64.5))):
        with pytest.raises(AssertionError, match="again"):
            cache.encode("a", crop, unwanted)
    with pytest.raises(AssertionError, match="again"):
        cache.encode("b", CROP, unwanted)


def test_another_process_finds_what_was_kept(tmp_path: Path) -> None:
    folder = EmbeddingFolder(tmp_path / "embeddings", LARGE)
    first = EmbeddingCache(DensityPredictor(), LARGE, folder)
    made = first.encode("a", CROP, images(7.0))
    first.keep("a", CROP)
    second = EmbeddingCache(DensityPredictor(), LARGE, folder)
    np.testing.assert_array_equal(second.encode("a", CROP, unwanted), made)
    retrained = DensityPredictor()
    retrained.digest = "2" * 64
    with pytest.raises(AssertionError, match="again"):
        EmbeddingCache(retrained, LARGE, folder).encode("a", CROP, unwanted)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_encoded_again(tmp_path: Path, damage: str) -> None:
    folder = EmbeddingFolder(tmp_path, LARGE)
    folder.write("key", (torch.arange(1000.0),))
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[-5] ^= 1
    path.write_bytes({"cut": data[:-10], "empty": b"", "flipped": data}[damage])
    assert folder.read("key") is None
    assert not path.exists()


def test_the_folder_keeps_the_latest_used_within_its_limit(tmp_path: Path) -> None:
    part = torch.zeros(10_000)
    folder = EmbeddingFolder(tmp_path, 3 * 41_000)
    for age, key in enumerate("abc"):
        folder.write(key, (part,))
        os.utime(tmp_path / f"{key}.safetensors", (1000 + age, 1000 + age))
    assert folder.read("a") is not None  # and is now the latest
    folder.write("d", (part,))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]
    stale = tmp_path / "dead.part"
    stale.write_bytes(bytes(41_000))
    os.utime(stale, (1, 1))
    folder.write("e", (part,))
    assert not stale.exists()
    folder.write("huge", (torch.zeros(40_000),))
    assert folder.read("huge") is None


def test_a_disk_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    cache = EmbeddingCache(DensityPredictor(), LARGE, EmbeddingFolder(blocked, LARGE))
    cache.encode("a", CROP, images())
    cache.keep("a", CROP)


class Unread:
    """A volume whose voxels the engine must not read."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("voxels were read")


def test_later_rounds_in_a_new_process_neither_read_voxels_nor_encode(tmp_path: Path) -> None:
    """And their candidates are the same as where everything was still in memory."""
    hu, _ = abdomen()
    folder = EmbeddingFolder(tmp_path / "embeddings", LARGE)

    def engine() -> Engine:
        return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(), folder)

    shared = engine()
    first = shared.first_round(hu, SPACING, content="case")
    first.state.save(tmp_path / "state.npz")
    expected = shared.next_round(hu, SPACING, first.state, Feedback(picked=2), content="case")
    other = engine()
    state = RoundState.load(tmp_path / "state.npz")
    found = other.next_round(Unread(hu.shape), SPACING, state, Feedback(picked=2), content="case")
    third = engine().next_round(Unread(hu.shape), SPACING, found.state, Feedback(picked=1), content="case")
    for a, b in zip(expected.candidates, found.candidates, strict=True):
        np.testing.assert_array_equal(a.labels, b.labels)
    assert third.number == 3
