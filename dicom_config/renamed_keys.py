"""Configuration keys that were renamed. An old name is refused, and the error contains the new name."""

from __future__ import annotations

import os
from collections.abc import Mapping

from dicom_config.errors import ConfigError

RENAMED = {"signals": "monitoring", "intake.together_s": "intake.partial_edit_wait_s"}
"""Old key -> new key."""


def refuse_renamed_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables that set a renamed key. pydantic-settings would ignore such a variable.

    Raises
    ------
    ConfigError
        ``config-value``: a variable sets a renamed key.
    """
    for old, new in RENAMED.items():
        before, now = ("UAIR_" + key.upper().replace(".", "__") for key in (old, new))
        for variable in environment:
            if variable.upper() == before or variable.upper().startswith(f"{before}__"):
                raise ConfigError(
                    "config-value",
                    f"The variable {variable} sets a key that has another name now.",
                    f"Use {now}{variable[len(before) :]}.",
                )
