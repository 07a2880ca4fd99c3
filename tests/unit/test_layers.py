"""The import rules of pyproject.toml hold without an exception, and the folders stay readable."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).parents[2]
_PRODUCT = ("dicom_config", "uair_node", "workers")
_MOST_LOOSE_MODULES = 8
_USUAL_NAMES = {"__init__.py", "cli.py", "conftest.py"}


def _layers() -> dict[str, dict[str, Any]]:
    with (_ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    return {contract["containers"][0]: contract for contract in contracts if contract["type"] == "layers"}


def test_no_import_is_exempt_from_the_layers() -> None:
    layers = _layers()
    assert set(layers) == {"uair_node", "workers"}
    assert all(contract["exhaustive"] for contract in layers.values())
    assert not any(contract.get("ignore_imports") for contract in layers.values())


@pytest.mark.parametrize("package", ["uair_node", "workers"])
def test_few_modules_lie_directly_in_a_package(package: str) -> None:
    modules = [path.name for path in (_ROOT / package).glob("*.py")]
    assert len(modules) <= _MOST_LOOSE_MODULES, f"put a new module into a folder: {sorted(modules)}"


def test_no_file_name_occurs_three_times() -> None:
    folders = [_ROOT / name for name in (*_PRODUCT, "scripts", "tests")]
    names = Counter(path.name for folder in folders for path in folder.rglob("*.py"))
    often = sorted(name for name, times in names.items() if times > 2 and name not in _USUAL_NAMES)
    assert not often, "a file's name says how it differs from the others"
