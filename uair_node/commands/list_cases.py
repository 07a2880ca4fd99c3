"""`uair cases`: the list of cases."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from uair_node.cases.states import CaseState
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import JsonOption, console, context_of, print_json
from uair_node.operations import reports
from uair_node.operations.case_list import CaseFilter, find_cases


def cases(
    config: ConfigOption = None,
    state: Annotated[CaseState | None, typer.Option(case_sensitive=False, help="Only this state.")] = None,
    search: Annotated[
        str, typer.Option(help="A part of an accession number, a UID, or the end of a UID.")
    ] = "",
    limit: int = 50,
    as_json: JsonOption = False,
) -> None:
    """List cases, newest first, with the reason for each that was not segmented."""
    with context_of(config).database.reading() as session:
        found = find_cases(session, CaseFilter(state or "", search), limit=limit)
        rows = [reports.summarize(case) for case in found]
    if as_json:
        print_json(rows)
        return
    table = Table("case", "state", "round", "slices", "accession", "series", "why")
    for row in rows:
        why = f"{row['code']}: {row['sentence']} {row['remedy']}" if row["code"] else ""
        table.add_row(
            str(row["case"]),
            row["state"],
            str(row["round"] or ""),
            str(row["slices"]),
            row["accession_number"],
            f"…{row['series_instance_uid'][-12:]} {row['acquisition']}".strip(),
            why,
        )
    console.print(table)
