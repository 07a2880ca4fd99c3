"""The engine's first round on the synthetic abdomen. It is computed once for all tests of a process."""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from workers.engine import Engine, EngineOptions
from workers.uair.rounds import Round


@cache
def synthetic_round() -> tuple[Engine, np.ndarray, Round]:
    """Return an engine, a volume ``(Z, Y, X)`` in HU, and its first round."""
    engine, volume = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions()), abdomen()[0]
    return engine, volume, engine.first_round(volume, SPACING)
