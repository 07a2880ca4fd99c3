"""Text and picture of the demonstration about its picks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workers.demo.cli import summary_lines
from workers.demo.improvement import draw_improvement, surface_errors
from workers.demo.reader import Offer, Score
from workers.demo.run import gain_of

SPACING = (2.0, 1.0, 1.0)


def offer(k: int, liver: float, lesions: float | None) -> Offer:
    return Offer(k, f"1.2.{k}", Path(), "", np.zeros((1, 1, 1), np.uint8), Score(liver, lesions))


def round_of(number: int, liver: float, lesions: float, gain: dict[str, float]) -> dict[str, object]:
    candidate = {"k": 2, "dice": {"liver": liver, "lesions": lesions}}
    return {"round": number, "selected": 2, "candidates": [candidate], "gain": gain}


def test_a_pick_gains_over_the_pick_before_it_and_the_first_over_the_mean_of_its_four() -> None:
    four = [offer(k, 0.9, dice) for k, dice in enumerate((0.5, 0.6, 0.7, 0.8), start=1)]
    assert gain_of(four, [four[3]]) == {"liver": 0.0, "lesions": pytest.approx(0.15)}
    better = offer(2, 0.92, 0.85)
    assert gain_of([better], [four[3], better]) == {"liver": 0.02, "lesions": 0.05}


def test_without_lesions_the_liver_alone_gains() -> None:
    assert gain_of([], [offer(1, 0.9, None), offer(2, 0.95, None)]) == {"liver": 0.05}


def test_the_last_lines_say_what_the_picks_brought() -> None:
    rounds = [
        round_of(1, 0.95, 0.80, {"liver": 0.0, "lesions": 0.05}),
        round_of(2, 0.96, 0.84, {"liver": 0.01, "lesions": 0.04}),
    ]
    final = {"volumes_ml": {"liver": 1500.0, "lesions": [10.0, 2.5]}}
    start = "(mean of the first four)"
    assert summary_lines(rounds, final) == [
        f"2 picks brought the Dice of the lesions from 0.750 {start} to 0.840: +0.050, +0.040.",
        f"2 picks brought the Dice of the liver from 0.950 {start} to 0.960: +0.000, +0.010.",
    ]
    for round_ in rounds:
        del round_["gain"]
    assert summary_lines(rounds[:1], final) == [
        "After 1 pick the liver has 1500 ml, with 2 lesions of 12.5 ml."
    ]


def ball(radius: float) -> np.ndarray:
    z, y, x = (np.arange(n) * mm for n, mm in zip((24, 48, 48), SPACING, strict=True))
    return np.hypot(np.hypot(z[:, None, None] - 23, y[:, None] - 23.5), x - 23.5) < radius


def test_the_surface_s_error_is_in_mm_and_signed() -> None:
    for radius, error in ((15.0, 3.0), (12.0, 0.0), (9.0, -3.0)):
        _, found = surface_errors(ball(radius), ball(12.0), SPACING)
        assert found.mean() == pytest.approx(error, abs=0.5)


def test_the_picture_has_a_column_for_each_round(tmp_path: Path) -> None:
    truth = np.where(ball(12.0), 2, 1).astype(np.uint8)
    picked = [np.where(ball(radius), 5, 1).astype(np.uint8) for radius in (16.0, 13.0)]
    assert draw_improvement(picked, truth, SPACING, tmp_path / "two.png")
    assert (tmp_path / "two.png").stat().st_size > 10_000
    assert not draw_improvement([np.ones_like(truth)], truth, SPACING, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
