"""`uair rules`: show which series of a study would be segmented."""

from __future__ import annotations

from pathlib import Path

import typer

from dicom_config.model import load_settings
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import JsonOption, console, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.intake.rules_dry_run import dry_run

rules_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show which series of a study would be segmented."
)


@rules_app.callback()
def _group() -> None:
    """Keep `try` a separate command. Otherwise Typer would merge a single command into its group."""


@rules_app.command("try")
def try_rules(folder: Path, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show which series of the studies in a folder would be segmented, and why. Nothing is sent or stored."""
    results = dry_run(folder, load_settings(config))
    if as_json:
        print_json([vars(result) for result in results])
        return
    rows = []
    for series in results:
        run, style = ("run", "green") if series.runs else ("no", "red")
        code = f"{series.code}: " if series.code else ""
        number = "" if series.series_number is None else str(series.series_number)
        number = f"{number} {series.acquisition}".strip()
        note = f"{series.description}: {code}{series.why}".removeprefix(": ")
        rows.append(Row((run, number, str(series.slices), f"{series.score:g}"), note, style))
    heads = ("", "series", "slices", "score")
    print_rows(console, heads, rows, title="uair rules try")
