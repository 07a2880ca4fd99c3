"""Shared parts of commands: options, context, JSON output for scripts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from dicom_config.model import load_settings
from uair_node.context import Context, open_context
from uair_node.logs import set_up_logging

console = Console()

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
CaseArgument = Annotated[int, typer.Argument(help="Number of the case, see `uair cases`.")]


def context_of(config: Path | None) -> Context:
    """Open the context of a configuration. The log shows only warnings and errors."""
    set_up_logging(quiet=True)
    return open_context(load_settings(config))


def print_json(value: Any) -> None:
    """Print a value as JSON to standard output, for scripts."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
