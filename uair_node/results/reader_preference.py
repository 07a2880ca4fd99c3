"""Store the preference: how far the readers' surface lies outside or inside of the model's surface.

The node does this only if `engine.preference` is set. It compares an accepted segmentation with the model's
own mean in round 1. It stores the difference of the two radii, for the liver and for its lesions. The
preference of a reader is estimated from these differences. If cases are few or contradict each other, then
the estimate is reduced towards 0. So neither chance nor a department with mixed preferences has an effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_config.model import Preference
from uair_node.cases.reader_choice import LIVER
from uair_node.cases.tables import Case, Observation, Result, ResultKind, Round, Selection, TargetKind
from uair_node.findings.volumes import Volumes

MOST_MM = 4.0
"""The limit of a difference in mm. Larger differences are corrections of errors."""
SPREAD_MM = 2.0
"""The assumed standard deviation of the cases' differences in mm. It counts as much as two cases."""


@dataclass(frozen=True)
class Remembered:
    """An estimated preference: `mm` of radius outside of the model's mean, from `cases` accepted cases."""

    mm: float
    cases: int


def estimate(differences_mm: Sequence[float]) -> Remembered:
    """Estimate the next case's difference of radius in mm from the differences in earlier cases.

    Each difference is limited to 4 mm. The estimate is the mean of the limited differences times
    ``max(0, 1 - (standard error / mean)^2)``, the positive-part estimator of James and Stein. If a reader
    draws 2 mm wider than the model, then two cases give 1.3 mm. A department with mixed preferences gives 0.
    """
    count = len(differences_mm)
    if count == 0:
        return Remembered(0.0, 0)
    cut = np.clip(differences_mm, -MOST_MM, MOST_MM)
    mean = float(cut.mean())
    variance = (2 * SPREAD_MM**2 + float(((cut - mean) ** 2).sum())) / (count + 2)
    if mean == 0.0:
        return Remembered(0.0, count)
    return Remembered(mean * max(0.0, 1.0 - variance / count / mean**2), count)


def radius_mm(volume_ml: float) -> float:
    """Return the radius in mm of the sphere with a given volume."""
    return float((volume_ml * 1000.0 * 0.75 / np.pi) ** (1.0 / 3.0))


def differences(volumes: Volumes, base_mm: Mapping[int, float]) -> dict[TargetKind, float]:
    """Return the differences of radius in mm between an accepted segmentation and the model's own mean.

    A difference is positive if the accepted segmentation is larger.

    Parameters
    ----------
    volumes
        The volumes of the accepted segmentation.
    base_mm
        Label value -> radius of the model's mean in round 1. Lesions without a radius do not count.

    Returns
    -------
    dict
        The difference for the liver, and the mean difference over the lesions.
    """
    found = {}
    if LIVER in base_mm and volumes.liver_ml > 0:
        found[TargetKind.LIVER] = radius_mm(volumes.liver_ml) - base_mm[LIVER]
    lesions = [
        radius_mm(ml) - base_mm[LIVER + number]
        for number, ml in volumes.lesions_ml
        if LIVER + number in base_mm
    ]
    if lesions:
        found[TargetKind.LESION] = float(np.mean(lesions))
    return found


def key_of(mode: Preference, case: Case, answered: Selection | None) -> str:
    """Return the key of the preference data that a round uses; "" if the mode is "off".

    The key of a department is the AE title that sends the series. The key of a reader is the AE title that
    sends the pick. Before the first pick, the key of a reader is the AE title that sends the series. If
    readers send series themselves, then this is their workstation.
    """
    if mode == "off":
        return ""
    if mode == "reader" and answered is not None and answered.calling_ae:
        return answered.calling_ae
    return case.calling_ae


def remember(
    session: Session, mode: Preference, case: Case, accepted: Selection, found: Mapping[TargetKind, float]
) -> None:
    """Record the differences `found` of an accepted case, once for each case."""
    key = key_of(mode, case, accepted)
    known = session.scalar(select(Observation.id).where(Observation.case_id == case.id).limit(1))
    if not key or known is not None:
        return
    for kind, mm in found.items():
        session.add(Observation(case_id=case.id, scope=mode, key=key, kind=kind, difference_mm=mm))


def recalled(session: Session, mode: str, key: str) -> dict[str, Any]:
    """Return the preference of a key as a record that a round stores; empty if there is none."""
    found = {kind: estimate(_differences(session, mode, key, kind)) for kind in TargetKind}
    cases = max(estimate.cases for estimate in found.values())
    if not key or not cases:
        return {}
    return {
        "scope": mode,
        "key": key,
        "cases": cases,
        **{f"{kind}_mm": round(estimate.mm, 3) for kind, estimate in found.items()},
    }


def prior_of(
    session: Session, mode: Preference, case: Case, round_: Round, *, earlier: int | None = None
) -> dict[str, Any]:
    """Return the preference with which a round is computed. It is the same in every run of the round's task.

    The first computation decides the preference and stores it on the round's row. Later cases or a reset do
    not change it.

    Parameters
    ----------
    earlier
        Id of the case of the patient's previous study; None without a previous study. The preference in this
        case has priority over the preference in other patients' cases.
    """
    if round_.prior is None:
        answered = session.get(Selection, round_.selection_id) if round_.selection_id else None
        own = patient_preference(session.get_one(Case, earlier)) if earlier is not None else {}
        round_.prior = own or recalled(session, mode, key_of(mode, case, answered))
    return round_.prior


def accepted_differences(case: Case) -> dict[TargetKind, float]:
    """Return the `differences` of the accepted segmentation of a case; empty if they are unknown."""
    finals = [result for result in case.rounds[-1].results if result.kind == ResultKind.FINAL]
    return differences(volumes_of(finals[0]), model_radii(case)) if finals and model_radii(case) else {}


def volumes_of(segmentation: Result) -> Volumes:
    """Return the measured volumes in ml of a segmentation of ours."""
    numbers = [value - LIVER for value in segmentation.targets if value > LIVER]
    volumes = segmentation.volumes_ml
    return Volumes(volumes["liver"], tuple(zip(numbers, volumes["lesions"], strict=True)))


def model_radii(case: Case) -> dict[int, float]:
    """Return label value -> radius in mm of the model's own mean in round 1.

    The result is empty for a case of an older version that did not store these radii.
    """
    return {int(value): mm for value, mm in case.rounds[0].base_mm.items()} if case.rounds else {}


def patient_preference(earlier: Case) -> dict[str, Any]:
    """Return the preference in the accepted segmentation of an earlier study, as a record; empty if unknown.

    A patient's next study uses the same preference. So a change of size comes from the lesion and not from
    the reader's habit. The preference is not reduced towards 0, because the model makes the same errors again
    in this patient's lesions.
    """
    found = accepted_differences(earlier)
    if not found:
        return {}
    sizes = {kind: float(np.clip(found.get(kind, 0.0), -MOST_MM, MOST_MM)) for kind in TargetKind}
    return {
        "scope": "patient",
        "key": "",
        "cases": 1,
        **{f"{kind}_mm": round(mm, 3) for kind, mm in sizes.items()},
    }


def in_words(prior: Mapping[str, Any]) -> str:
    """Return the preference `prior` of a round in words; empty if the round used none."""
    if not prior:
        return ""
    sizes = f"liver {prior['liver_mm']:+.1f} mm, lesions {prior['lesion_mm']:+.1f} mm"
    number = prior["cases"]
    whose = f"{prior['scope']} {prior['key']}".strip()
    return f"drawn as in {number} accepted {'case' if number == 1 else 'cases'} of {whose}: {sizes}"


def listed(session: Session) -> list[dict[str, Any]]:
    """Return the records of all stored preferences, sorted by scope and key."""
    keys = session.execute(
        select(Observation.scope, Observation.key).distinct().order_by(Observation.scope, Observation.key)
    )
    return [recalled(session, mode, key) for mode, key in keys]


def forget(session: Session, key: str | None) -> int:
    """Delete the preference data of a key, or of all keys if `key` is None. Return the number of cases."""
    chosen = [Observation.key == key] if key is not None else []
    cases = session.scalars(select(Observation.case_id).where(*chosen).distinct()).all()
    session.execute(delete(Observation).where(*chosen))
    return len(cases)


def _differences(session: Session, mode: str, key: str, kind: TargetKind) -> Sequence[float]:
    return session.scalars(
        select(Observation.difference_mm).where(
            Observation.scope == mode, Observation.key == key, Observation.kind == kind
        )
    ).all()
