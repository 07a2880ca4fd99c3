"""One of several simultaneous answers takes effect: two sessions, two threads, real databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.cases import publish_round, ready_case, receiving_case
from uair_node.cases import lifecycle
from uair_node.cases.database import Database
from uair_node.cases.lock import lock_case
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, Selection, SelectionOutcome, utc_now
from uair_node.dicom.readers import Mechanism, Reading
from uair_node.selection.service import Evidence, select_by_number, select_by_object

TRIALS = {"postgresql": 30, "sqlite": 3}
"""SQLite has one writer at a time, whatever we do."""
Act = Callable[[Session, int], None]


def _reading(reference: str) -> Reading:
    return Reading(
        mechanism=Mechanism.SEG,
        sop_instance_uid=reference,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
        study_instance_uid="1.2",
        patient_id_hash="",
        references=(reference,),
        source_references=(),
        segments={},
        series_references=(),
        frame_of_reference_uid="",
        title=None,
    )


def _sent(verb: Verb, k: int) -> Act:
    def act(session: Session, case_id: int) -> None:
        read = session.get_one(Case, case_id)  # as for comparing the Patient ID with the series'
        select_by_object(session, Evidence(verb, "seg", "VIEWER"), _reading(f"2.25.{read.id}.1.{k}"))

    return act


def _typed(verb: Verb, k: int) -> Act:
    def act(session: Session, case_id: int) -> None:
        select_by_number(
            session, Evidence(verb, "command-line"), session.get_one(Case, case_id), ReaderChoice(k)
        )

    return act


def _expired(session: Session, case_id: int) -> None:
    lifecycle.expire_unanswered(session, case_id, before=utc_now() + timedelta(days=1))


def _closed_by_hand(session: Session, case_id: int) -> None:
    lifecycle.expire(session, lock_case(session, case_id), actor="command line", reason="closed by hand")


def _superseded(session: Session, case_id: int) -> None:
    series = f"1.2.{case_id}"
    case = receiving_case(session, series, slices=1)
    lifecycle.make_ready(
        session,
        case,
        digest=f"more-{case_id}",
        instances=session.query(Instance).filter_by(series_instance_uid=series).all(),
        slices=3,
        accession_number="",
        assumed="",
    )


def _at_once(database: Database, case_id: int, acts: tuple[Act, Act]) -> list[str]:
    """Run two transactions at the same moment; return the errors that no reader should see."""
    gate = threading.Barrier(2)
    errors: list[str] = []

    def run(act: Act) -> None:
        gate.wait()
        try:
            with database.transaction() as session:
                act(session, case_id)
        except InputError:
            pass  # told to the person at the command line
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


PAIRS: dict[str, tuple[Act, Act]] = {
    "accept against pick": (_sent(Verb.ACCEPT, 1), _sent(Verb.PICK, 2)),
    "accept against accept": (_sent(Verb.ACCEPT, 1), _sent(Verb.ACCEPT, 2)),
    "pick against pick": (_sent(Verb.PICK, 1), _sent(Verb.PICK, 2)),
    "command line against pick": (_typed(Verb.ACCEPT, 3), _sent(Verb.PICK, 2)),
    "expiry against pick": (_expired, _sent(Verb.PICK, 2)),
    "closed by hand against accept": (_closed_by_hand, _sent(Verb.ACCEPT, 2)),
    "supersede against pick": (_superseded, _sent(Verb.PICK, 2)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_of_two_answers_at_the_same_moment_one_takes_effect(database: Database, name: str) -> None:
    faults, trials = [], TRIALS[database.engine.dialect.name]
    for trial in range(trials):
        with database.transaction() as session:
            case = ready_case(session, f"1.2.{trial + 1}")
            publish_round(session, case)
            case_id = case.id
        faults += _at_once(database, case_id, PAIRS[name])
        with database.transaction() as session:
            fault = _contradiction(session, session.get_one(Case, case_id))
            if fault:
                faults.append(fault)
    assert faults == [], f"{len(faults)} of {trials}"


def _contradiction(session: Session, case: Case) -> str:
    effective = session.query(Selection).filter_by(case_id=case.id, outcome=SelectionOutcome.EFFECTIVE).all()
    for earlier, later in zip(case.transitions, case.transitions[1:], strict=False):
        if earlier.state != later.origin:
            return f"{later.state} came from {later.origin}, but the case was {earlier.state}"
    if len(effective) > 1:
        return f"{len(effective)} effective answers"
    if not effective:
        return "" if case.state in (CaseState.EXPIRED, CaseState.SUPERSEDED) else f"no answer, {case.state}"
    wanted = CaseState.ACCEPTED if effective[0].verb == Verb.ACCEPT else CaseState.REFINING
    if case.state == CaseState.SUPERSEDED:
        return ""
    return "" if case.state == wanted else f"{effective[0].verb} is effective, the case is {case.state}"
