"""Print tables with aligned columns. Words are never cut, even on a narrow terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

COLUMN_GAP = "  "
_INDENT = 4
_NUMBER = re.compile(r"[-+]?\d[\d.,]*")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes
    ----------
    cells
        Short words, one for each column.
    note
        Sentences. They are beside the cells if there is space, otherwise below the cells.
    style
        The style of the first cell, in rich's notation. It only repeats the meaning of the cell.
    """

    cells: Sequence[str]
    note: str = ""
    style: str = ""


def print_rows(console: Console, heads: Sequence[str], rows: Iterable[Row], *, title: str = "") -> None:
    """Print a table. Markup in texts is printed unchanged."""
    rows = list(rows)
    columns = list(zip(heads, *(row.cells for row in rows), strict=True))
    widths = [max(Text(cell).cell_len for cell in column) for column in columns]
    right = [_is_numeric(column[1:]) for column in columns]
    if title:
        _print(console, Text(title, "bold"))
    if any(heads):
        _print(console, Text(_line(heads, widths, right).rstrip(), "bold underline"))
    for row in rows:
        line = Text(_line(row.cells, widths, right))
        line.stylize(row.style, 0, len(row.cells[0]))
        if row.note and line.cell_len + len(COLUMN_GAP) + Text(row.note).cell_len <= console.width:
            _print(console, line.append(COLUMN_GAP + row.note))
            continue
        line.rstrip()
        _print(console, line)
        if row.note:
            console.print(Padding(Text(row.note), (0, 0, 0, _INDENT), expand=False))


def _print(console: Console, line: Text) -> None:
    console.print(line, soft_wrap=True, highlight=False)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        " " * (width - Text(cell).cell_len) + cell if numeric else cell + " " * (width - Text(cell).cell_len)
        for cell, width, numeric in zip(cells, widths, right, strict=True)
    )
    return COLUMN_GAP.join(padded)


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell]
    return bool(filled) and all(_NUMBER.fullmatch(cell) for cell in filled)
