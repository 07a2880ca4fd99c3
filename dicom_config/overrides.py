"""Find the configuration keys that environment variables set, and those whose value in the file differs."""

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
    """An environment variable that sets a key.

    Attributes
    ----------
    variable
        The variable's name, ``UAIR_DATA_DIR``.
    key
        The key in the file's notation, ``node.port``.
    contradicts
        Whether the file sets the key to another value. In this case, the node uses the variable's value.
    file
        The configuration file; None for the packaged file.
    """

    variable: str
    key: str
    contradicts: bool
    file: Path | None

    @property
    def sentence(self) -> str:
        """The warning that variable and file differ. It contains no values, because a value may be secret."""
        return f"{self.variable} overrides `{self.key}` of {self.file or 'the packaged embedded.yaml'}."


def find_overrides(path: Path | None, environment: Mapping[str, str] = os.environ) -> list[Override]:
    """Return the variables that set keys, sorted by key. The errors are those of `load_settings`."""
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
    """Return the file's value for a key; None if the file does not have the key."""
    said: Any = values
    for part in parts:
        if not isinstance(said, dict):
            return None
        said = said.get(part)
    return said
