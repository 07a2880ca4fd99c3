"""`uair preference`: the remembered preferences of readers."""

from __future__ import annotations

from typing import Annotated

import typer

from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import JsonOption, console, context_of, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.results import reader_preference

preference_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Show and reset the remembered preferences of readers."
)


@preference_app.command("show")
def show_preference(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show remembered preferences, in mm of radius beyond the model's own mean.

    Positive values are more inclusive.
    """
    with context_of(config).database.reading() as session:
        found = reader_preference.listed(session)
    if as_json:
        print_json(found)
        return
    rows = []
    for entry in found:
        sizes = (f"{entry['liver_mm']:+.1f}", f"{entry['lesion_mm']:+.1f}")
        rows.append(Row((entry["scope"], entry["key"], str(entry["cases"]), *sizes)))
    print_rows(console, ("of", "AE title", "cases", "liver mm", "lesions mm"), rows)


@preference_app.command()
def reset(
    ae_title: Annotated[
        str | None, typer.Argument(help="AE title whose preference is deleted. Default: all AE titles.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Delete remembered preferences. Rounds that were computed with them keep their record."""
    with context_of(config).database.transaction() as session:
        cases = reader_preference.forget(session, ae_title)
    console.print(f"Deleted the preference data of {cases} cases.")
