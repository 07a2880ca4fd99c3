"""Codes that tell why a case stands still or ended without its results, and whether a retry can help."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class CaseCode(StrEnum):
    """A code of `Case.code` that the node gives by itself; other codes are those of the refused input."""

    WORK_FAILED = "work-failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    SOURCE_REJECTED = "source-rejected"
    NOT_WITHDRAWN = "not-withdrawn"


OWN_OBJECT = "own-object"
"""Code of a selection that was refused because the object is ours: an archive forwarded it back."""

_IS_RETRIABLE: Mapping[str, bool] = {
    "": False,
    CaseCode.WORK_FAILED: True,
    CaseCode.CANCELLED: True,
    CaseCode.SUPERSEDED: False,
    CaseCode.SOURCE_REJECTED: False,
    CaseCode.NOT_WITHDRAWN: False,
}


def is_retriable(code: str) -> bool:
    """Return whether a case with this code has work left that a retry takes up.

    Work stopped at a code that is not in the table, so a retry takes it up, too.
    """
    return _IS_RETRIABLE.get(code, True)
