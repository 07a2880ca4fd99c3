"""Code, sentence and remedy on a row: why a case or a selection did not go on."""

from __future__ import annotations

from dicom_config.errors import UairError
from uair_node.cases.tables import Case, Selection, SelectionOutcome


def keep_reason(row: Case | Selection, error: UairError) -> None:
    """Copy an error's code, sentence and remedy onto a row."""
    row.code, row.sentence, row.remedy = error.code, error.sentence, error.remedy


def clear_reason(case: Case) -> None:
    """Remove the code, sentence and remedy from a row."""
    case.code = case.sentence = case.remedy = ""


def refuse(selection: Selection, error: UairError) -> None:
    """Give a selection the outcome REFUSED, with its reason."""
    selection.outcome = SelectionOutcome.REFUSED
    keep_reason(selection, error)
