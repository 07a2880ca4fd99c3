"""The widths at which lesions were drawn in two studies, and the candidate that compares equally."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from tests.support.cases import publish_round, ready_case
from uair_node.cases.database import Database
from uair_node.cases.tables import Case, ResultKind
from uair_node.findings.record import Findings, LesionFindings, Value
from uair_node.results.preference_comparison import NOT_COMPARED, PreferenceComparison, compare_preferences

_BASE = {"1": 60.0, "2": 10.0}
_KINDS = ("most inclusive", "inclusive", "tight", "tightest")


def _ml(radius_mm: float) -> float:
    return 4.18879 * radius_mm**3 / 1000.0


def _case(session: Session, uid: str, accepted_mm: float) -> Case:
    """A case with one round whose candidates draw a lesion with 12, 11, 9 and 8 mm; one more is accepted."""
    case = ready_case(session, uid)
    publish_round(session, case)
    (round_,) = case.rounds
    round_.base_mm = _BASE
    for result, kind, radius in zip(round_.candidates, _KINDS, (12.0, 11.0, 9.0, 8.0), strict=True):
        result.character, result.targets = kind, [1, 2]
        result.volumes_ml = {"liver": 900.0, "lesions": [_ml(radius)]}
    final = round_.candidates[0]
    session.add(
        type(final)(
            round_id=round_.id, kind=ResultKind.FINAL, k=1, path="f", character="", targets=[1, 2],
            sop_instance_uid=f"{uid}.9", series_instance_uid=uid, sop_class_uid="1",
            volumes_ml={"liver": 900.0, "lesions": [_ml(accepted_mm)]},
        )
    )  # fmt: skip
    session.flush()
    session.refresh(round_)
    return case


def _findings(radius_mm: float, number: int = 1) -> Findings:
    lesion = LesionFindings(number, "2.25.7", f"lesion {number}", 0, {"volume_ml": Value(_ml(radius_mm))})
    return Findings({"liver_ml": Value(900.0)}, {}, (lesion,))


def _compared(database: Database, then_mm: float, now_mm: float, number: int = 1) -> PreferenceComparison:
    with database.transaction() as session:
        earlier, case = _case(session, "1.5", then_mm), _case(session, "1.6", now_mm)
        return compare_preferences(
            session, case.id, earlier.id, _findings(now_mm, number), {number: "2.25.7"}
        )


def test_what_was_drawn_otherwise_is_compared_with_the_candidate_that_is_drawn_alike(
    database: Database,
) -> None:
    found = _compared(database, then_mm=8.9, now_mm=11.5)
    assert found.beyond_mm == (pytest.approx(-1.1), pytest.approx(1.5))
    assert found.equal_preference is not None
    assert (found.equal_preference.k, found.equal_preference.kind) == (3, "tight")
    assert found.equal_preference.lesion_ml == {"2.25.7": pytest.approx(_ml(9.0))}


def test_what_was_drawn_alike_needs_no_other_candidate(database: Database) -> None:
    found = _compared(database, then_mm=11.0, now_mm=11.3)
    assert (found.beyond_mm, found.equal_preference) == ((pytest.approx(1.0), pytest.approx(1.3)), None)


def test_a_candidate_without_the_accepted_lesions_is_none(database: Database) -> None:
    found = _compared(database, then_mm=8.9, now_mm=11.5, number=2)
    assert (found.beyond_mm[1], found.equal_preference) == (None, None)


def test_a_study_of_an_archive_has_no_known_preference(database: Database) -> None:
    with database.transaction() as session:
        case = _case(session, "1.6", 10.0)
        assert compare_preferences(session, case.id, 0, _findings(10.0), {1: "2.25.7"}) == NOT_COMPARED
