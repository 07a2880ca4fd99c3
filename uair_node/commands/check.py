"""`uair check` checks an installation. `uair conformance` prints its DICOM conformance statement."""

from __future__ import annotations

import sys

import typer

from dicom_config.model import load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import JsonOption, console, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.logs import set_up_logging
from uair_node.operations.checks import Finding, Level, checked
from uair_node.operations.conformance import conformance_statement


def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check configuration, database, broker, disk, model, TLS and peers. Each fault has a remedy.

    The exit status is 0 without a fault, 1 with a fault, 2 if the configuration cannot be used.
    """
    set_up_logging(quiet=True)
    findings, status = checked(config)
    if as_json:
        print_json([finding.record() for finding in findings])
    else:
        _print_findings(findings)
    raise typer.Exit(status)


def conformance(config: ConfigOption = None) -> None:
    """Print the DICOM conformance statement of this configuration, as Markdown."""
    sys.stdout.write(conformance_statement(load_settings(config)))


_MARKS = {Level.OK: ("ok", "green"), Level.WARNING: ("note", "yellow"), Level.FAULT: ("no", "red")}


def _print_findings(findings: list[Finding]) -> None:
    rows = []
    for found in findings:
        mark, style = _MARKS[found.level]
        rows.append(Row((mark, found.what), found.text, style))
    print_rows(console, ("", "what"), rows, title="uair check")
