"""`uair case measurements`: what was measured of an accepted case, for tables and scripts."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from dicom_config.errors import InputError
from dicom_config.model import load_settings
from uair_node.context import Context, open_context
from uair_node.logs import set_up_logging
from uair_node.options import ConfigOption
from uair_node.reports import get_case
from uair_node.results.findings import Findings, as_csv, load_findings
from uair_node.results.source import FINDINGS_FILE


def measurements(
    case_id: Annotated[int, typer.Argument(help="Number of the case, see `uair cases`.")],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Print what was measured of an accepted case as CSV: the numbers of its SR, with their intervals."""
    set_up_logging(quiet=True)
    found = findings_of(open_context(load_settings(config)), case_id)
    sys.stdout.write(json.dumps(found.as_json(), indent=2) + "\n" if as_json else as_csv(found))


def findings_of(context: Context, case_id: int) -> Findings:
    """Return what was measured of a case.

    Raises
    ------
    InputError
        ``no-such-case``, or ``not-measured``: it is not accepted yet, or its files are gone.
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
            "They are made when a case is accepted; see its state with `uair case show`.",
        )
    return found
