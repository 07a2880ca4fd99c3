"""Write onto a row the reason why a case or a selection stopped: code, sentence and remedy."""

from __future__ import annotations

from dicom_config.errors import UairError
from uair_node.cases.tables import Case, Selection, SelectionOutcome


def keep_reason(row: Case | Selection, error: UairError) -> None:
    """Copy an error's code, sentence and remedy onto a row."""
    row.code, row.sentence, row.remedy = error.code, error.sentence, error.remedy


def clear_reason(case: Case) -> None:
    """Remove code, sentence and remedy from a case's row."""
    case.code = case.sentence = case.remedy = ""


def refuse(selection: Selection, error: UairError) -> None:
    """Set a selection's outcome to REFUSED, with an error's code, sentence and remedy."""
    selection.outcome = SelectionOutcome.REFUSED
    keep_reason(selection, error)
