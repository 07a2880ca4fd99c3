"""The node's interpretation of each writer's objects: tables of README and docs/readers.md, for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uair_node.cases.marks import marks_of
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
    """Return the recognised meaning of a selection, in the words of the table."""
    if selection.outcome == SelectionOutcome.REFUSED:
        return f"`{selection.code}`"
    return f"edit of candidate {selection.picked}" if selection.artifact else selection.answer.words


def as_markdown() -> str:
    """Return the table of the README."""
    lines = ["| writer | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for writer, cells in MATRIX.items():
        lines.append("| " + " | ".join([writer, *(cells[column] for column in COLUMNS)]) + " |")
    return "\n".join(lines)


_SENT = {
    "pick": "candidate 3",
    "accept": "candidate 3, to `UAIR_ACCEPT`",
    "edit": "candidate 3 with changes",
    "per lesion": "candidate 3 with lesion 1 of candidate 1",
}
_NO_VOXEL = "a segmentation without a voxel"
_SENT_AND_REFUSED = {
    "dcmqi": "a segmentation on another series",
    "highdicom BINARY": _NO_VOXEL,
    "highdicom FRACTIONAL": _NO_VOXEL,
    "highdicom LABELMAP": _NO_VOXEL,
    "3D Slicer (dcmqi, relabelled)": "candidate 3, and a segment without a name outside the liver",
    "DCMTK Key Object": "candidates 2 and 3",
    "TID 1500 SR": "a report that refers to nothing",
    "plain SR": "an unknown UID",
}

OTHER_CLASSES = ("Basic Text SR",)
STRUCTURES = "RTSTRUCT"
SAME_UID = "a viewer that saves under the same UID"
ADDED = "highdicom BINARY, a segment added to candidate 3"
UNRELATED = "highdicom BINARY, a segment alone, no edit of ours"

ANSWERS: Mapping[tuple[str, str], str] = {
    **{
        (kind, f"one that marks candidate 3, to `{called}`"): "`selection-not-supported`"
        for kind in OTHER_CLASSES
        for called in ("UAIR_PICK", "UAIR_ACCEPT", "UAIR_REJECT")
    },
    (STRUCTURES, "liver and lesions of candidate 3"): "candidate 3",
    (STRUCTURES, "candidate 3, to `UAIR_ACCEPT`"): "candidate 3",
    (STRUCTURES, "candidate 3 with changes"): "edit of candidate 3",
    (STRUCTURES, "candidate 3, and a GTV in the liver"): "edit of candidate 3, new lesion 3",
    (STRUCTURES, "candidate 3, and a GTV outside the liver"): "`edited-outside-organ`",
    (STRUCTURES, "candidate 3, and an open contour"): "`contour-open`",
    (STRUCTURES, "regions without contours"): "`edited-empty`",
    (SAME_UID, "candidate 3, unchanged, with other words"): "candidate 3",
    (SAME_UID, "candidate 3, changed"): "edit of candidate 3",
    (SAME_UID, "the same file again"): "repeated",
    (SAME_UID, "a second save with other pixels"): "edit of candidate 3, which replaces the first",
    (ADDED, '"Tumor", coded as Neoplasm'): "edit of candidate 3, new lesion 3",
    (ADDED, '"Lesion 5", coded as Lesion'): "edit of candidate 3, new lesion 3",
    (ADDED, '"HCC", coded as Tissue'): "edit of candidate 3, new lesion 3",
    (ADDED, '"Zyste", coded as Tissue'): "edit of candidate 3, new lesion 3",
    (ADDED, '"Segment 7", coded as Liver cell carcinoma'): "edit of candidate 3, new lesion 3",
    (ADDED, '"Segment 6", coded as Tissue, in the liver'): "edit of candidate 3, new lesion 3",
    (ADDED, '"Segment 6", coded as Tissue, outside the liver'): "`edited-unrecognised`",
    (ADDED, '"Right kidney", coded as Kidney'): "candidate 3, the segment is left out",
    (ADDED, '"Liver vessels", coded as Blood vessel'): "candidate 3, the segment is left out",
    (UNRELATED, '"Segment 6", coded as Tissue, in the liver'): "`edited-unrecognised`",
}
"""Writer and its object -> the node's answer, on `UAIR_PICK` unless another title is named."""


def outcome(selection: Selection, replaced: bool = False) -> str:
    """Return the result of a selection, in the words of `ANSWERS`; `replaced`: it replaced a selection."""
    if selection.outcome == SelectionOutcome.REPEATED:
        return "repeated"
    words = recognised(selection)
    if selection.sentence.startswith("New lesion 3: "):
        return f"{words}, new lesion 3"
    if selection.sentence.startswith("Left out as another structure: "):
        return f"{words}, the segment is left out"
    return f"{words}, which replaces the first" if replaced else words


def answers_as_markdown() -> str:
    """Return the table of docs/readers.md: writer, its object, the node's answer."""
    rows = [
        (writer, _SENT.get(column) or _SENT_AND_REFUSED[writer], cell)
        for writer, cells in MATRIX.items()
        for column, cell in cells.items()
        if cell != NOT_OFFERED
    ]
    rows += [(writer, sent, answer) for (writer, sent), answer in ANSWERS.items()]
    lines = ["| writer | sends | the node makes of it |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {writer} | {sent} | {answer} |" for writer, sent, answer in rows)])


MARK_COLUMNS = (
    "a length on a missed lesion",
    'a point "no lesion" on lesion 1',
    'a length "Spleen"',
    "a length outside the liver",
)
_MARKS = ("new lesion", "lesion 1 dropped", "`mark-other-structure`", "`mark-outside-organ`")
MARK_WRITERS: Mapping[str, Sequence[str]] = {
    "OHIF 3 (cornerstone adapters)": _MARKS,
    "dcmjs": _MARKS,
    "highdicom SR, SCOORD": _MARKS,
    "highdicom SR, SCOORD3D": _MARKS,
    "highdicom SR, SCOORD on enhanced CT by frame": _MARKS,
    "Weasis GSPS": _MARKS,
    "highdicom GSPS, display units": _MARKS,
}
"""Writer -> the node's interpretation of its marks, in the order of `MARK_COLUMNS`."""


def marked(selection: Selection) -> Sequence[str]:
    """Return the interpretation of marks, in the words of the table."""
    marks = marks_of(selection.marks)
    if selection.outcome == SelectionOutcome.REFUSED or marks is None:
        return [f"`{selection.code}`"]
    kept = ["new lesion" if lesion.new else f"lesion {lesion.value - 1} kept" for lesion in marks.lesions]
    return [*kept, *(f"lesion {value - 1} dropped" for value in marks.dropped)]


def marks_as_markdown() -> str:
    """Return the table of marks of docs/readers.md."""
    lines = ["| writer | " + " | ".join(MARK_COLUMNS) + " |", "|---|" + "---|" * len(MARK_COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join([w, *cells]) + " |" for w, cells in MARK_WRITERS.items())])
