"""List the accepted studies of a case's patient, in order of time.

`uair_node.results.priors` decides which cases are of the same patient. The numbers of a study come from its
findings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime

from pydicom import Dataset
from sqlalchemy.orm import Session

from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.context import Context
from uair_node.findings.follow_up import TimePoint
from uair_node.findings.record import Findings, load_findings
from uair_node.results.priors import acquired, contradict, read_dating, same_patient
from uair_node.results.round_inputs import FINDINGS_FILE

_WIDTH, _HEIGHT, _SIDE, _TOP = 600.0, 160.0, 16.0, 32.0


@dataclass(frozen=True)
class Study:
    """One accepted study of a patient.

    Parameters
    ----------
    day
        The day of its acquisition.
    case_id
        The study's case; None if only a comparison with the study is kept here.
    liver_ml, lesions_ml
        Volumes of the liver with its lesions, and of all lesions.
    lesions
        Number of lesions.
    sum_mm
        Sum of the target lesions' long axes from the newest comparison; None without a comparison.
    response
        RECIST 1.1 category at that time; empty without a comparison.
    """

    day: date
    case_id: int | None
    liver_ml: float
    lesions_ml: float
    lesions: int
    sum_mm: float | None = None
    response: str = ""


def studies_of(context: Context, session: Session, case: Case) -> list[Study]:
    """Return the accepted studies of a case's patient, including the case's own study, in order of time.

    If the case was compared with studies of an archive, then these studies are included. A study that may
    belong to another patient is left out. A study without header, date or findings is left out, too.
    """
    own = _header(context, case)
    cases = [*same_patient(session, case), *([case] if case.state == CaseState.ACCEPTED else [])]
    studies: list[Study] = []
    sums: dict[date, float] = {}
    for studied in cases:
        header, findings = _header(context, studied), findings_at(context, studied)
        day = acquired(header) if header is not None else None
        if own is None or header is None or findings is None or day is None or contradict(own, header):
            continue
        studies.append(_study(day, studied, findings))
        points = [_compared(point) for point in findings.follow_up.points] if findings.follow_up else []
        sums |= {point.day: point.sum_mm for point in points if point.sum_mm is not None}
        if studied.id == case.id:
            studies += points[:-1]  # the last point is this study
    here = {shown.day for shown in studies if shown.case_id is not None}
    kept = [shown for shown in studies if shown.case_id is not None or shown.day not in here]
    kept.sort(key=lambda study: (study.day, study.case_id or 0))
    return [replace(shown, sum_mm=sums.get(shown.day)) for shown in kept]


def _study(day: date, case: Case, findings: Findings) -> Study:
    liver, follow_up = findings.liver, findings.follow_up
    return Study(
        day=day,
        case_id=case.id,
        liver_ml=liver["liver_ml"].value,
        lesions_ml=liver["lesions_ml"].value,
        lesions=len(findings.lesions),
        response=follow_up.response if follow_up else "",
    )


def _compared(point: TimePoint) -> Study:
    day = datetime.strptime(point.date, "%Y%m%d").date()
    return Study(day, None, point.liver_ml, point.lesions_ml, len(point.lesion_ml), point.sum_mm)


def plot(studies: Sequence[Study]) -> list[tuple[float, float]]:
    """Return each study's point in a plot of 600 x 160 pixels: x is the day, y the volume of all lesions."""
    days = [(study.day - studies[0].day).days for study in studies]
    across = (_WIDTH - 2 * _SIDE) / max(days[-1], 1)
    up = (_HEIGHT - _SIDE - _TOP) / max(*(study.lesions_ml for study in studies), 1e-6)
    return [
        (round(_SIDE + across * day, 1), round(_HEIGHT - _SIDE - up * shown.lesions_ml, 1))
        for day, shown in zip(days, studies, strict=True)
    ]


def _header(context: Context, case: Case) -> Dataset | None:
    path = context.store.fetch_if_kept(case.instances[0].path) if case.instances else None
    return read_dating([path]) if path else None


def findings_at(context: Context, case: Case) -> Findings | None:
    """Return the measurements of a case's newest round; None if there are none, or if they are not kept."""
    folder = case.current_round.final_folder if case.current_round else ""
    path = context.store.fetch_if_kept(f"{folder}/{FINDINGS_FILE}") if folder else None
    return load_findings(path) if path else None
