"""The option `--config`, which commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="UAIR_CONFIG",
        help="YAML configuration file. Default: embedded mode on this machine.",
    ),
]
"""The configuration file of a command.

If it is None, then the command uses the packaged configuration, with a data folder in the current folder.
"""
