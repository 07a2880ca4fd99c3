"""Peak memory of the listener under fifty associations at a time: a table with each transfer syntax.

`make bench ARGS=tests/bench/test_memory_by_syntax.py`. The memory is bounded, the time is only printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.uid import UID

from tests.support.encoders import LOSSLESS, LOSSY
from tests.support.listening import ASSOCIATIONS
from tests.support.peak_memory import MOST_BYTES, Listening, edits_at_once, listening_in

pytestmark = [
    pytest.mark.bench,
    pytest.mark.integration,
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    with listening_in(tmp_path_factory.mktemp("listening")) as made:
        yield made


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    """The rows, printed at the end."""
    rows: list[str] = []
    yield rows
    head = f"{ASSOCIATIONS} associations: {'MiB taken':>26}{'seconds':>10}"
    sys.stdout.write("\n" + "\n".join([head, *rows]) + "\n")


@pytest.mark.parametrize("syntax", {**LOSSLESS, **LOSSY}, ids=lambda uid: uid.keyword or uid)
def test_fifty_edits_at_a_time_take_bounded_memory(
    listening: Listening, table: list[str], tmp_path: Path, syntax: UID
) -> None:
    began = time.monotonic()
    taken = edits_at_once(listening, syntax, tmp_path, ASSOCIATIONS)
    table.append(f"{syntax.name[:34]:<34}{taken / 2**20:9.0f}{time.monotonic() - began:10.1f}")
    assert taken < MOST_BYTES
