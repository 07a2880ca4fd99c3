"""Read the measurements of an accepted case from its files, for the command line and the console."""

from __future__ import annotations

from dicom_config.errors import InputError
from uair_node.context import Context
from uair_node.findings.record import Findings, load_findings
from uair_node.operations.reports import get_case
from uair_node.results.round_inputs import FINDINGS_FILE


def findings_of(context: Context, case_id: int) -> Findings:
    """Return the measurements of a case.

    Raises
    ------
    InputError
        ``no-such-case``: no case has this id. ``not-measured``: the case is not accepted yet, or its files
        were deleted.
    """
    with context.database.reading() as session:
        round_ = get_case(session, case_id).current_round
        folder = round_.final_folder if round_ else ""
    path = context.store.fetch_if_kept(f"{folder}/{FINDINGS_FILE}") if folder else None
    found = load_findings(path) if path else None
    if found is None:
        raise InputError(
            "not-measured",
            f"Case {case_id} has no measurements.",
            "Measurements are made when a case is accepted; see its state with `uair case show`.",
        )
    return found
