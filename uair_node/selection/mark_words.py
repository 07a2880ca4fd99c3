"""Describe marks for the reader: the marks that the node uses, and the unusable marks with the reason."""

from __future__ import annotations

from uair_node.cases.marks import MarkedLesion, Marks
from uair_node.cases.reader_choice import target_name


def words_of(marks: Marks, organ: str) -> str:
    """Return sentences about the marks that were used and about those that were left out."""
    added = [lesion for lesion in marks.lesions if lesion.new]
    parts = []
    for lesion in added:
        parts.append(f"{target_name(lesion.value)} added from your {_drawing(lesion)}")
    for lesion in marks.lesions:
        if not lesion.new:
            follows = ", its size follows your " + _drawing(lesion) if lesion.size_mm else ""
            parts.append(f"{target_name(lesion.value)} kept{follows}")
    parts += [f"{target_name(value)} dropped" for value in marks.dropped]
    said = "; ".join(parts)
    sentences = [f"{said[0].upper()}{said[1:]}."] if said else []
    for code in dict.fromkeys(marks.left_out):
        count = marks.left_out.count(code)
        sentences.append(
            f"Left out: {count} mark{'s' if count > 1 else ''} ({_WHY[code].format(organ=organ)})."
        )
    return " ".join(sentences)


_WHY = {
    "mark-empty": "nothing is drawn",
    "mark-too-large": "too many points, or as large as the {organ}",
    "mark-not-finite": "a coordinate is no number",
    "mark-open-contour": "the contour is open",
    "mark-unreadable": "it cannot be read",
    "mark-several-images": "drawn for several images",
    "mark-slice-unknown": "the case does not have the slice of the mark",
    "mark-other-frame-of-reference": "drawn on another series",
    "mark-other-structure": "it names another structure",
    "mark-outside-organ": "outside the {organ}",
    "mark-on-nothing": "no lesion is offered there",
    "mark-needs-pick": "an acceptance uses only marks that drop a lesion",
}


def _drawing(lesion: MarkedLesion) -> str:
    return f"measurement of {lesion.size_mm:.0f} mm" if lesion.size_mm else "point"
