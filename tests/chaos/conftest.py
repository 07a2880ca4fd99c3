"""Options of the chaos suite. ``make chaos`` sets large numbers; ``make test`` uses these small defaults."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Length and seed of a run."""
    group = parser.getgroup("chaos")
    group.addoption("--faults", type=int, default=8, help="how many faults are injected")
    group.addoption("--cases", type=int, default=5, help="how many series are pushed")
    group.addoption("--seed", type=int, default=1, help="of faults and traffic")
