"""The accepted studies of a case's patient, in order of time.

Owns the time line only: who is the same patient is `uair_node.results.priors`' rule, and what a study said is
in its findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from pydicom import Dataset
from sqlalchemy.orm import Session

from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.context import Context
from uair_node.results.findings import Findings, load_findings
from uair_node.results.priors import acquired, contradict, read_dating, same_patient
from uair_node.results.source import FINDINGS_FILE

_WIDTH, _HEIGHT, _SIDE, _TOP = 600.0, 160.0, 16.0, 32.0


@dataclass(frozen=True)
class Study:
    """One accepted study of a patient.

    Parameters
    ----------
    case_id
        Its case.
    day
        Of its acquisition.
    findings
        What was measured.
    sum_mm
        Sum of the target lesions' long axes, as the newest comparison has it; None without one.
    """

    case_id: int
    day: date
    findings: Findings
    sum_mm: float | None


def studies_of(context: Context, session: Session, case: Case) -> list[Study]:
    """Return the accepted studies of a case's patient, this one among them, the first one first.

    What another patient's may be, or is not all there any more, is left out.
    """
    own = _header(context, case)
    cases = [*same_patient(session, case), *([case] if case.state == CaseState.ACCEPTED else [])]
    found: list[tuple[date, int, Findings]] = []
    for one in cases:
        header, findings = _header(context, one), findings_at(context, one)
        day = acquired(header) if header is not None else None
        if own is None or header is None or findings is None or day is None or contradict(own, header):
            continue
        found.append((day, one.id, findings))
    found.sort(key=lambda study: study[:2])
    sums: dict[str, float] = {}
    for _, _, findings in found:
        if findings.follow_up is not None:
            sums |= {point.date: point.sum_mm for point in findings.follow_up.points}
    return [Study(case_id, day, findings, sums.get(f"{day:%Y%m%d}")) for day, case_id, findings in found]


def plot(studies: Sequence[Study]) -> list[tuple[float, float]]:
    """Place studies in a plot of 600 x 160: days across, the volume of all lesions up from zero."""
    days = [(one.day - studies[0].day).days for one in studies]
    volumes = [one.findings.liver["lesions_ml"].value for one in studies]
    across = (_WIDTH - 2 * _SIDE) / max(days[-1], 1)
    up = (_HEIGHT - _SIDE - _TOP) / max(*volumes, 1e-6)
    return [
        (round(_SIDE + across * day, 1), round(_HEIGHT - _SIDE - up * ml, 1))
        for day, ml in zip(days, volumes, strict=True)
    ]


def _header(context: Context, case: Case) -> Dataset | None:
    path = context.store.fetch_if_kept(case.instances[0].path) if case.instances else None
    return read_dating([path]) if path else None


def findings_at(context: Context, case: Case) -> Findings | None:
    """Return what was measured of a case's newest round; None if nothing was, or if it is not kept."""
    round_ = case.current_round
    if round_ is None or not round_.artifacts:
        return None
    path = context.store.fetch_if_kept(f"{round_.artifacts}/{FINDINGS_FILE}")
    return load_findings(path) if path else None
