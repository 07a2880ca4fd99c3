"""Codes for the reason why a case waits or ended without results, and whether a retry can help."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class CaseCode(StrEnum):
    """Codes of `Case.code` that the node sets by itself. All other values are codes of errors."""

    WORK_FAILED = "work-failed"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"
    SOURCE_REJECTED = "source-rejected"
    NOT_WITHDRAWN = "not-withdrawn"


OWN_OBJECT = "own-object"
"""Code of a refused selection. Its object is a result of the node that an archive sent back."""

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

    A code that is not in the table comes from failed work. A retry can continue this work, too.
    """
    return _IS_RETRIABLE.get(code, True)
