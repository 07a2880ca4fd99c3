"""Find the configuration keys that the environment sets, and the file's other values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dicom_config.model import Settings, read_values

_PREFIX, _BETWEEN = "UAIR_", "__"


@dataclass(frozen=True)
class Override:
    """One variable of the environment that sets a key.

    Attributes
    ----------
    variable
        Its name, ``UAIR_DATA_DIR``.
    key
        The key as the file would write it, ``node.port``.
    contradicts
        Whether the file sets the key to another value, which does not count.
    file
        The configuration file; None for the packaged one.
    """

    variable: str
    key: str
    contradicts: bool
    file: Path | None

    @property
    def sentence(self) -> str:
        """The warning where the two contradict. It shows no value, which may be a secret."""
        return f"{self.variable} overrides `{self.key}` of {self.file or 'the packaged embedded.yaml'}."


def find_overrides(path: Path | None, environment: Mapping[str, str] = os.environ) -> list[Override]:
    """Return the environment variables that override keys, by key; raises as `load_settings`."""
    values = read_values(path)
    found = []
    for variable, text in environment.items():
        parts = variable.upper().removeprefix(_PREFIX).lower().split(_BETWEEN)
        if not variable.upper().startswith(_PREFIX) or parts[0] not in Settings.model_fields:
            continue
        said = _said(values, parts)
        found.append(Override(variable, ".".join(parts), said is not None and str(said) != text, path))
    return sorted(found, key=lambda override: override.key)


def _said(values: dict[str, Any], parts: list[str]) -> Any:
    """Return what the file says of a key, None where it says nothing."""
    said: Any = values
    for part in parts:
        if not isinstance(said, dict):
            return None
        said = said.get(part)
    return said
