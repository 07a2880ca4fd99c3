"""Options of the soak test: ``make soak MINUTES=…``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option for the length of a run."""
    parser.getgroup("soak").addoption("--minutes", type=float, default=30.0, help="for how long to push")
