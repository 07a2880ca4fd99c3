"""Compare the preferences in two studies, and find a candidate for a fair comparison of lesion sizes.

An accepted outline may lie inside or outside of the model's own outline. If this preference differs between
two studies, then the measured sizes change even if the lesions do not change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from uair_node.cases.tables import Case, TargetKind
from uair_node.findings.follow_up import OTHER_PREFERENCE_MM, EqualPreference
from uair_node.findings.record import Findings
from uair_node.findings.volumes import Volumes
from uair_node.results.reader_preference import accepted_differences, differences, model_radii, volumes_of


@dataclass(frozen=True)
class PreferenceComparison:
    """The comparison of the preferences in two studies. `FollowUp` explains the fields."""

    beyond_mm: tuple[float | None, float | None] = (None, None)
    equal_preference: EqualPreference | None = None


NOT_COMPARED = PreferenceComparison()


def compare_preferences(
    session: Session, case_id: int | None, earlier_id: int, findings: Findings, tracking: Mapping[int, str]
) -> PreferenceComparison:
    """Compare the accepted segmentations of two cases.

    Parameters
    ----------
    case_id, earlier_id
        The case that is being finished, and the case of the study before. `earlier_id` is 0 if only an
        archive has the study before.
    findings
        The measurements of the case that is being finished.
    tracking
        Lesion number of the case that is being finished -> Tracking UID.
    """
    case = session.get(Case, case_id) if case_id else None
    earlier = session.get(Case, earlier_id) if earlier_id else None
    if case is None or earlier is None:
        return NOT_COMPARED
    accepted = Volumes(
        findings.liver["liver_ml"].value,
        tuple((lesion.number, lesion.values["volume_ml"].value) for lesion in findings.lesions),
    )
    then = accepted_differences(earlier).get(TargetKind.LESION)
    now = differences(accepted, model_radii(case)).get(TargetKind.LESION)
    equal = None
    if then is not None and now is not None and abs(now - then) >= OTHER_PREFERENCE_MM:
        equal = _most_alike(case, then, abs(now - then), accepted, tracking)
    return PreferenceComparison((_rounded(then), _rounded(now)), equal)


def _most_alike(
    case: Case, wanted_mm: float, accepted_off_mm: float, accepted: Volumes, tracking: Mapping[int, str]
) -> EqualPreference | None:
    """Return the candidate whose lesions are nearest to a preference, with its lesions' volumes in ml.

    Only candidates with exactly the accepted lesions count. Return None if the accepted segmentation is
    nearest.
    """
    numbers = {number for number, _ in accepted.lesions_ml}
    best = min(_offers(case, wanted_mm, numbers), key=lambda offer: offer[0], default=None)
    if best is None or best[0] >= accepted_off_mm:
        return None
    _, round_number, k, kind, volumes = best
    sizes = {tracking[number]: ml for number, ml in volumes.lesions_ml if number in tracking}
    return EqualPreference(round_number, k, kind, sizes)


def _offers(
    case: Case, wanted_mm: float, numbers: set[int]
) -> Iterator[tuple[float, int, int, str, Volumes]]:
    """Yield each candidate that has exactly the lesions `numbers`.

    Each item is the distance from the preference in mm, the round's number, k, the character and the volumes.
    """
    radii = model_radii(case)
    for round_ in case.rounds:
        for candidate in round_.candidates:
            volumes = volumes_of(candidate)
            found = differences(volumes, radii).get(TargetKind.LESION)
            if found is not None and {number for number, _ in volumes.lesions_ml} == numbers:
                yield abs(found - wanted_mm), round_.number, candidate.k, candidate.character, volumes


def _rounded(mm: float | None) -> float | None:
    return None if mm is None else round(mm, 3)
