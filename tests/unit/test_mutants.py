"""The faults of `make mutants` still fit the product and the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.mutants import MUTANTS, Mutant
from scripts.variants import VARIANTS

_ROOT = Path(__file__).parents[2]


_ALL = (*MUTANTS, *VARIANTS)


@pytest.mark.parametrize("mutant", _ALL, ids=[mutant.promise for mutant in _ALL])
def test_its_line_occurs_once_and_its_tests_exist(mutant: Mutant) -> None:
    assert (_ROOT / mutant.file).read_text("utf-8").count(mutant.text) == 1
    assert mutant.fault != mutant.text
    assert all((_ROOT / test.partition("::")[0]).is_file() for test in mutant.tests)


def test_there_are_twenty_or_more() -> None:
    assert len({(mutant.file, mutant.text) for mutant in MUTANTS}) == len(MUTANTS) >= 20
