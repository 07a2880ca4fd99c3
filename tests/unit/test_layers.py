"""The import rules of pyproject.toml: the arrows up that are still allowed may only become fewer."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).parents[2]
_ARROWS_UP = 0


def test_arrows_up_become_fewer() -> None:
    with (_ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    layers = [contract for contract in contracts if contract["type"] == "layers"]
    assert {contract["containers"][0] for contract in layers} == {"uair_node", "workers"}
    assert all(contract["exhaustive"] for contract in layers)
    assert sum(len(contract["ignore_imports"]) for contract in layers) == _ARROWS_UP, (
        "an exception went: lower the number here; a new one may not come"
    )
