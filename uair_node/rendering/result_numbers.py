"""The numbers of a result page in columns, with the report's intervals in brackets."""

from __future__ import annotations

from collections.abc import Sequence

from uair_node.findings.record import NOMINAL, Findings, LesionFindings, Value

MOST_LESIONS = 12
_HEAD = f"lesion   ml ({NOMINAL:.0%})    long × short, mm"


def result_lines(findings: Findings, organ: str) -> list[str]:
    """Return lines with the organ's numbers, then with the numbers of the largest lesions.

    The lines have columns of equal width. Lesions are in the order of their numbers. Densities are only in
    the report and the table.
    """
    liver = findings.liver
    lines = [f"{organ} {_bracketed(liver['liver_ml'], 0)} ml with lesions"]
    if "lesions" in liver and not findings.lesions:
        return [*lines, "no lesion"]
    lines += [
        f"{_bracketed(liver['lesions'], 0)} lesions, {liver['lesions_ml'].value:.1f} ml, "
        f"{liver['burden_percent'].value:.1f} %",
        _HEAD,
    ]
    largest = sorted(findings.lesions, key=lambda lesion: -lesion.values["volume_ml"].value)[:MOST_LESIONS]
    lines += _columns(sorted(largest, key=lambda lesion: lesion.number))
    left = len(findings.lesions) - len(largest)
    return [*lines, f"and {left} smaller"] if left else lines


def _columns(lesions: Sequence[LesionFindings]) -> list[str]:
    return [
        f"{lesion.number:3d} {_bracketed(lesion.values['volume_ml'], 1):>17}"
        f" {_bracketed(lesion.values['long_mm'], 0):>11} × {lesion.values['short_mm'].value:.0f}"
        for lesion in lesions
    ]


def _bracketed(found: Value, decimals: int) -> str:
    """Return a text such as ``12.4 (10.1–15.2)``. The brackets are omitted if there is no interval."""
    if found.low is None or found.high is None:
        return f"{found.value:.{decimals}f}"
    return f"{found.value:.{decimals}f} ({found.low:.{decimals}f}–{found.high:.{decimals}f})"
