"""`uair cases`: the list of cases."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from uair_node.cases.states import CaseState
from uair_node.commands.config_option import ConfigOption
from uair_node.commands.options import JsonOption, console, context_of, print_json
from uair_node.commands.tables import Row, print_rows
from uair_node.operations import reports
from uair_node.operations.case_list import CaseFilter, find_cases

HEADS = ("case", "state", "round", "slices", "accession", "series")


def cases(
    config: ConfigOption = None,
    state: Annotated[
        CaseState | None, typer.Option(case_sensitive=False, help="List only cases in this state.")
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            help="List only cases that match: part of an accession number, a UID, or the end of a UID."
        ),
    ] = "",
    limit: int = 50,
    as_json: JsonOption = False,
) -> None:
    """List cases, newest first, with the reason for each series that was not segmented."""
    with context_of(config).database.reading() as session:
        found = find_cases(session, CaseFilter(state or "", search), limit=limit)
        rows = [reports.summarize(case) for case in found]
    if as_json:
        print_json(rows)
        return
    print_rows(console, HEADS, map(_row, rows))


def _row(found: dict[str, Any]) -> Row:
    cells = (
        str(found["case"]),
        found["state"],
        str(found["round"] or ""),
        str(found["slices"]),
        found["accession_number"],
        f"…{found['series_instance_uid'][-12:]}",
    )
    why = f"{found['code']}: {found['sentence']} {found['remedy']}" if found["code"] else ""
    part = f"{found['acquisition']}." if found["acquisition"] else ""
    return Row(cells, f"{part} {why}".strip())
