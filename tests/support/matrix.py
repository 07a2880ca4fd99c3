"""What each writer's objects are recognised as: the table of the README, each cell asserted by a test."""

from __future__ import annotations

from collections.abc import Mapping

from uair_node.cases.tables import Selection, SelectionOutcome

COLUMNS = ("pick", "accept", "edit", "per lesion", "refused")
NOT_OFFERED = "–"

_SEG_WRITER = {
    "pick": "candidate 3",
    "accept": "candidate 3",
    "edit": "edit of candidate 3",
    "per lesion": "candidate 3, lesion 1 of candidate 1",
    "refused": "`edited-empty`",
}
_DOCUMENT_WRITER = {
    "pick": "candidate 3",
    "accept": "candidate 3",
    "edit": NOT_OFFERED,
    "per lesion": "candidate 3, lesion 1 of candidate 1",
    "refused": "`ambiguous-selection`",
}
MATRIX: Mapping[str, Mapping[str, str]] = {
    "OHIF 3 (label map, RLE)": {
        "pick": "candidate 3",
        "accept": "candidate 3",
        "edit": "edit",
        "per lesion": NOT_OFFERED,
        "refused": NOT_OFFERED,
    },
    "dcmqi": {**_SEG_WRITER, "refused": "`edited-other-frame-of-reference`"},
    "highdicom BINARY": _SEG_WRITER,
    "highdicom FRACTIONAL": _SEG_WRITER,
    "highdicom LABELMAP": _SEG_WRITER,
    "3D Slicer (dcmqi, relabelled)": {**_SEG_WRITER, "refused": "`edited-unrecognised`"},
    "DCMTK Key Object": _DOCUMENT_WRITER,
    "TID 1500 SR": {**_DOCUMENT_WRITER, "refused": "`selection-without-reference`"},
    "plain SR": {**_DOCUMENT_WRITER, "refused": "`unknown-reference`"},
}


def recognised(selection: Selection) -> str:
    """Say what a selection was recognised as, in the words of the table."""
    if selection.outcome == SelectionOutcome.REFUSED:
        return f"`{selection.code}`"
    return f"edit of candidate {selection.picked}" if selection.artifact else selection.answer.words


def as_markdown() -> str:
    """Return the table as the README has it."""
    lines = ["| writer | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for writer, cells in MATRIX.items():
        lines.append("| " + " | ".join([writer, *(cells[column] for column in COLUMNS)]) + " |")
    return "\n".join(lines)
