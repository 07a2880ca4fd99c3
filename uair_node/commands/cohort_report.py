"""`uair report`: the cohort report of a period as a table and a page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import console, context_of
from uair_node.operations.cohort import as_csv, collect
from uair_node.operations.cohort_page import cohort_page

_DAYS = 30
_FORMATS = ["%Y-%m-%d"]


def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for cohort.csv and cohort.html.")],
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=_FORMATS, help="First day (UTC). Default: 30 days ago."),
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=_FORMATS, help="Last day (UTC). Default: today.")
    ] = None,
    identifying: Annotated[
        bool, typer.Option("--identifying", help="Add accession number and series UID of each case.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Report on all cases that were accepted in a period: sizes, effort, readers' choices, agreement."""
    stop = last.date() if last else datetime.now(UTC).date()
    start = first.date() if first else stop - timedelta(days=_DAYS)
    cohort = collect(context_of(config), start, stop, identifying=identifying)
    output.mkdir(parents=True, exist_ok=True)
    for name, text in (("cohort.csv", as_csv(cohort)), ("cohort.html", cohort_page(cohort))):
        (output / name).write_text(text, "utf-8")
    console.print(
        f"{len(cohort.cases)} accepted cases: {output / 'cohort.html'}, cohort.csv", highlight=False
    )
