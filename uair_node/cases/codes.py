"""Codes for the reason why a case waits or ended without results, and whether a retry can help."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class CaseCode(StrEnum):
    """Codes of `Case.code` that the node sets by itself. Other values are codes of refused input."""

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
    """Return whether a retry can continue the work of a case with this code.

    A code outside the table comes from work that failed, so a retry can continue it, too.
    """
    return _IS_RETRIABLE.get(code, True)
