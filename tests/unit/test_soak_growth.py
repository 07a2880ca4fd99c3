"""The soak test's judgement: a leak is seen, noise is not."""

from __future__ import annotations

import os

from tests.soak.processes import Holdings, holdings
from tests.soak.test_soak import growth


def test_a_leak_is_seen() -> None:
    leaking = [Holdings(100.0 + 5 * n, 20, 5) for n in range(20)]
    assert growth(leaking).startswith("memory")
    assert growth([Holdings(100.0, 20 + 3 * n, 5) for n in range(20)]).startswith("handles")


def test_noise_is_none() -> None:
    assert growth([Holdings(100.0 + n % 3, 20 + n % 4, 5 + n % 2) for n in range(20)]) == ""


def test_a_process_is_looked_at() -> None:
    before = holdings(os.getpid())
    with open(os.devnull), open(os.devnull):
        assert holdings(os.getpid()).handles == before.handles + 2
    assert before.memory_mib > 1
    assert before.threads >= 1
