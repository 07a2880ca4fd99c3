"""`uair tidy` and `uair export`: delete old data, and export records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import CaseArgument, JsonOption, console, context_of, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.operations.housekeeping.export import export_case
from uair_node.operations.housekeeping.retention import apply_retention

export_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Export data from the installation."
)


@export_app.callback()
def _group() -> None:
    """Keep `case` a separate command. Otherwise Typer would merge a single command into its group."""


def tidy(
    config: ConfigOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the files that would be deleted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete data whose `retention` is over. Cases that wait for a reader or for a delivery are kept."""
    removed = apply_retention(context_of(config), dry_run=dry_run)
    if as_json:
        print_json([vars(removal) for removal in removed])
        return
    rows = [
        Row((each.what, str(each.case or ""), each.state, str(each.files), f"{each.bytes / 1e6:.1f}"))
        for each in removed
    ]
    title = "would be deleted" if dry_run else "deleted"
    print_rows(console, ("what", "case", "state", "files", "MB"), rows, title=title)


@export_app.command("case")
def export_one(
    case_id: CaseArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip file to write.")],
    config: ConfigOption = None,
) -> None:
    """Write a case as a zip for support: de-identified slices, segmentations, label volumes, history."""
    files = export_case(context_of(config), case_id, output, actor="command line")
    console.print(
        f"Case {case_id}: {files} files in {output}. They contain no names, ID numbers, dates or UIDs."
    )
