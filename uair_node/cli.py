"""The `uair` command: a table of commands. Each command's module is loaded when the command is called.

The package `workers` adds its own commands (`worker`, `train`, `evaluate`, `demo`) through the entry point
group ``uair.commands``. The node itself never imports that package.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dicom_config.errors import UairError
from uair_node import __version__
from uair_node.commands.lazy import LazyCommand, lazy_group

_PRIVATE = 0o077
"""The umask of every command. Only the user who runs a command can read the files that it writes."""

_RUN, _CASES, _SITE = "Run", "Cases", "Installation"
_OWN = {
    "up": LazyCommand(
        "uair_node.commands.start:up", "Run all services on this machine, without a broker.", _RUN
    ),
    "node": LazyCommand("uair_node.commands.start:node", "Run the DICOM node; workers run elsewhere.", _RUN),
    "init": LazyCommand("uair_node.commands.init:init", "Write an example configuration file.", _SITE),
    "console": LazyCommand(
        "uair_node.commands.serve_console:console_app",
        "Serve the administrator's console, or manage the users of the console.",
        _RUN,
    ),
    "cases": LazyCommand("uair_node.commands.list_cases:cases", "List cases, newest first.", _CASES),
    "case": LazyCommand(
        "uair_node.commands.case:case_app", "Show a case, or answer in place of its reader.", _CASES
    ),
    "report": LazyCommand(
        "uair_node.commands.cohort_report:report", "Report on all cases accepted in a period.", _CASES
    ),
    "preference": LazyCommand(
        "uair_node.commands.preference:preference_app",
        "Show and reset the remembered preferences of readers.",
        _CASES,
    ),
    "check": LazyCommand(
        "uair_node.commands.check:check", "Check the installation. Each fault has a remedy.", _SITE
    ),
    "rules": LazyCommand(
        "uair_node.commands.rules:rules_app", "Show which series of a study would be segmented.", _SITE
    ),
    "conformance": LazyCommand(
        "uair_node.commands.check:conformance", "Print the DICOM conformance statement.", _SITE
    ),
    "tidy": LazyCommand("uair_node.commands.upkeep:tidy", "Delete data whose retention time is over.", _SITE),
    "recover": LazyCommand(
        "uair_node.commands.recover:recover", "Register received files that a restored database lacks.", _SITE
    ),
    "renew-patient-keys": LazyCommand(
        "uair_node.commands.patient_keys:renew_patient_keys", "Make a new secret for the patient keys.", _SITE
    ),
    "export": LazyCommand(
        "uair_node.commands.upkeep:export_app", "Export data from the installation.", _SITE
    ),
}


def _commands() -> dict[str, LazyCommand]:
    found = dict(_OWN)
    for entry in entry_points(group="uair.commands"):
        entry.load()(found)
    return found


app = typer.Typer(
    cls=lazy_group(_commands()),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="UAIR node: four candidate segmentations per round, over plain DICOM. "
    "Research software, not a medical device.",
)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        Console().print(__version__, highlight=False)
        raise typer.Exit


def main() -> None:
    """Run the command line. For our own errors, print sentence and remedy, without a traceback."""
    os.umask(_PRIVATE)
    try:
        app()
    except UairError as error:
        _tell(error)
        sys.exit(2)


def _tell(error: UairError) -> None:
    """Print an error. If the output goes to a log, then print a single line."""
    console = Console(stderr=True)
    line = f"[red]{escape(error.code)}[/]: {escape(f'{error.sentence} {error.remedy}')}"
    console.print(line, highlight=False, soft_wrap=not console.is_terminal)


if __name__ == "__main__":
    main()
