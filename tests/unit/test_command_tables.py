"""Tables of the command line at 80 columns and less: every word is whole."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tests.support.cases import receiving_case
from uair_node.cases import lifecycle
from uair_node.cases.database import Database
from uair_node.commands import list_cases
from uair_node.commands.tables import Row, print_rows
from uair_node.dicom.gate_codes import gate_error
from uair_node.operations import reports

HEADS = ("case", "state", "series")
ROWS = (
    Row(("7", "AWAITING_SELECTION", "…926000059864")),
    Row(
        ("12", "REJECTED", "…1"),
        "no-rescale: The values are no Hounsfield units. Send the series itself.",
        "red",
    ),
    Row(("13", "FAILED", "[bold]"), "short."),
)


def _shown(width: int, heads: tuple[str, ...] = HEADS, rows: tuple[Row, ...] = ROWS) -> str:
    file = io.StringIO()
    print_rows(Console(file=file, width=width), heads, rows, title="cases")
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_word_is_cut_and_none_is_lost(width: int) -> None:
    shown = _shown(width)
    words = " ".join([*HEADS, *(" ".join([*row.cells, row.note]) for row in ROWS)]).split()
    assert re.sub(r"^cases\n", "", shown).split() == words


def test_a_note_stands_beside_its_row_where_there_is_room() -> None:
    wide, narrow = _shown(200).splitlines(), _shown(60).splitlines()
    assert len(wide) == 2 + len(ROWS)
    assert narrow[3].strip() == "12  REJECTED            …1"
    assert narrow[4].startswith("    no-rescale: ")
    assert narrow[6].endswith("[bold]         short.")


def test_numbers_stand_on_the_right() -> None:
    assert _shown(80).splitlines()[2:4] == [
        "   7  AWAITING_SELECTION  …926000059864",
        "  12  REJECTED            …1",
    ]


def test_the_list_of_cases_fits_80_columns(database: Database) -> None:
    with database.transaction() as session:
        case = receiving_case(session, "1.2.826.0.1.3680043.8.498.12345678901234567890")
        case.accession_number = "A" * 16
        lifecycle.reject_input(session, case, gate_error("no-rescale"))
        row = list_cases._row(reports.summarize(case))
    lines = _shown(80, list_cases.HEADS, (row,)).splitlines()
    assert max(map(len, lines)) <= 80
    assert "no-rescale:" in lines[3]
