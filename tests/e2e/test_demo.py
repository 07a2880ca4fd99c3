"""`uair demo` as a newcomer runs it: rounds of four different candidates, every object kept."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import dcmread

from workers.truth.metrics import dice

pytestmark = pytest.mark.integration


def _run(output: Path, *arguments: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("uair")), "demo", "--output", str(output), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=540, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    summary: dict[str, Any] = json.loads((output / "summary.json").read_text("utf-8"))
    return summary


def test_a_phantom_goes_through_three_rounds(tmp_path: Path) -> None:
    summary = _run(tmp_path)
    _check(summary, tmp_path, rounds=3)
    assert summary["final"]["dice"]["liver"] > 0.8


def test_a_real_series_with_imperfect_headers_goes_through_the_loop(ct_dir: Path, tmp_path: Path) -> None:
    series = ct_dir / "ircadb01_p17"
    truth = ("--masks", str(series / "MASKS_DICOM.zip"))
    summary = _run(tmp_path, "--ct", str(series / "PATIENT_DICOM"), *truth, "--rounds", "2")
    _check(summary, tmp_path, rounds=2)
    assert summary["case"]["slices"] == 119
    assert summary["final"]["dice"]["liver"] > 0.8


def _check(summary: dict[str, Any], output: Path, rounds: int) -> None:
    assert [round_["round"] for round_ in summary["rounds"]] == list(range(1, rounds + 1))
    uids = {summary["final"]["sop_instance_uid"]}
    for round_ in summary["rounds"]:
        assert [candidate["k"] for candidate in round_["candidates"]] == [1, 2, 3, 4]
        assert round_["selected"] in (1, 2, 3, 4)
        assert (output / f"round-{round_['round']}.png").stat().st_size > 10_000
        uids |= {candidate["sop_instance_uid"] for candidate in round_["candidates"]}
        _check_different([output / candidate["file"] for candidate in round_["candidates"]])
        assert set(round_["gain"]) == {"liver", "lesions"}
    assert (output / "improvement.png").stat().st_size > 10_000
    assert len(uids) == 4 * rounds + 1
    assert (output / summary["final"]["file"]).is_file()
    archived = [dcmread(path, stop_before_pixels=True) for path in (output / "archive").glob("*.dcm")]
    assert Counter(dataset.Modality for dataset in archived) == {"SEG": 4 * rounds + 1, "SR": 1}


def _check_different(paths: list[Path]) -> None:
    """No candidate is empty; the Dice of each pair is below 0.995 for at least one target."""
    masks = [_masks(path) for path in paths]
    assert all(liver.any() for liver, _ in masks)
    for combination, other in combinations(masks, 2):
        assert min(dice(a, b) for a, b in zip(combination, other, strict=True)) < 0.995


def _masks(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Liver and union of lesions, each `(slices, rows, columns)` over all source slices."""
    seg = segread(path)
    sources = [
        item.ReferencedSOPInstanceUID for item in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    ]
    planes = seg.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True) > 0
    return planes[..., 0], planes[..., 1:].any(axis=-1)
