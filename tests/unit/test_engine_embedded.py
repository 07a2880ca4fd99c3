"""The engine with the weights that the package ships, as a site gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_config.errors import InputError
from dicom_config.model import EngineSection
from workers.engine import Feedback
from workers.research.evaluation.discover import find_cases
from workers.site_engine import build_engine
from workers.uair.compose import dice_by_label

CPU = EngineSection(device="cpu", max_lesions=3)


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_the_engine_names_its_weights() -> None:
    engine = build_engine(CPU)
    assert engine.model_name == "embedded"
    assert len(engine.model_digest) == 64
    assert engine.model_digest == build_engine(CPU).model_digest


def test_the_device_is_the_configured_one() -> None:
    threads = EngineSection(device="cpu", threads=1, members=8)
    assert build_engine(threads).model_name == "embedded"


@pytest.mark.parametrize("name", ["ircadb01_p17"])
def test_a_real_portal_venous_ct(ct_dir: Path, name: str) -> None:
    """119 slices of 512 x 512 with two tumours; floors are well below what was measured (model card)."""
    case = find_cases([ct_dir / name])[0].load()
    engine = build_engine(CPU)
    first = engine.first_round(case.hu, case.spacing_mm)
    assert max(dice(c.labels > 0, case.truth > 0) for c in first.candidates) > 0.9
    assert max(dice(c.labels > 1, case.truth > 1) for c in first.candidates) > 0.5
    second = engine.next_round(case.hu, case.spacing_mm, first.state, Feedback(picked=1))
    np.testing.assert_array_equal(second.candidates[0].labels, first.candidates[0].labels)
    for found in (first, second):
        for a in range(4):
            assert (found.candidates[a].labels > 0).any()
            for b in range(a):
                pair = dice_by_label(found.candidates[a].labels, found.candidates[b].labels)
                assert min(pair.values()) < 0.995


def test_a_volume_without_a_body_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        build_engine(CPU).first_round(np.full((40, 64, 64), -1000, np.int16), (4.0, 4.0, 4.0))
    assert caught.value.code == "liver-not-found"
