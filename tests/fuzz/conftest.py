"""Options of the fuzzing tests. ``make fuzz`` sets large numbers; ``make test`` uses these small defaults."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options for the number of inputs and for the seed."""
    group = parser.getgroup("fuzz")
    group.addoption("--inputs", type=int, default=500, help="hostile inputs over all kinds")
    group.addoption("--fuzz-seed", type=int, default=1, help="of the inputs")
