"""The chaos suite's ledger of answers sees a dropped answer and a case that contradicts itself."""

from __future__ import annotations

from dicom_config.model import Verb
from tests.chaos.answer_audit import found_answers
from tests.chaos.auditor import found_deliveries
from tests.chaos.findings import Audit
from tests.chaos.ledger import Ledger
from tests.support.cases import publish_round, ready_case
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import SelectionOutcome
from uair_node.selection.service import Evidence, select_by_number


def _answered(database: Database) -> None:
    """Pick candidate 1, replace the pick by an ACCEPT, and repeat the ACCEPT."""
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        for verb in (Verb.PICK, Verb.ACCEPT, Verb.ACCEPT):
            select_by_number(session, Evidence(verb, "seg", "VIEWER", "2.25.1"), case, ReaderChoice(1))


def _audit(database: Database, ledger: Ledger) -> Audit:
    found = Audit()
    with database.transaction() as session:
        found_answers(session, ledger, found)
    return found


def test_every_answer_ends_as_one_outcome(database: Database) -> None:
    _answered(database)
    found = _audit(database, Ledger(answers=[("2.25.1", "pick"), ("2.25.1", "accept"), ("2.25.1", "accept")]))
    assert found.answers.line() == (
        "answers 3 = effective 1 + repeated 1 + replaced 1 + refused 0, lost 0, contradictory 0"
    )
    assert found.clean


def test_a_dropped_answer_is_lost(database: Database) -> None:
    _answered(database)
    found = _audit(database, Ledger(answers=[("2.25.1", "pick"), ("2.25.1", "pick")]))
    assert (found.answers.lost, found.clean) == (1, False)


def test_an_accepted_case_that_goes_on_is_a_contradiction(database: Database) -> None:
    _answered(database)
    with database.transaction() as session:
        case = ready_case(session, "1.2.9")
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.ACCEPT, "command-line"), case, ReaderChoice(2))
        case.state = CaseState.REFINING
    found = _audit(database, Ledger())
    assert (found.answers.contradictory, found.clean) == (1, False)


def test_an_answer_that_an_operator_was_told_of_has_a_row(database: Database) -> None:
    _answered(database)
    found = _audit(database, Ledger(told=[(1, "seg", "accept"), (1, "console", "accept")]))
    assert (found.answers.lost, found.lost) == (
        1,
        ["case 1: accept by console was said to be done and has no row"],
    )


def test_an_answer_that_nobody_sent_is_a_contradiction(database: Database) -> None:
    _answered(database)
    found = _audit(database, Ledger(attempts={("2.25.1", "pick")}))
    assert found.answers.contradictory == 2, "both ACCEPT"


def test_a_case_that_was_said_to_be_expired_is_expired(database: Database) -> None:
    _answered(database)
    found = _audit(database, Ledger(expired={1}))
    assert found.wrong == ["case 1 was said to be expired and is ACCEPTED"]


def test_a_round_that_follows_from_no_effective_answer_is_a_contradiction(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        row = select_by_number(session, Evidence(Verb.PICK, "seg", "VIEWER", "2.25.1"), case, ReaderChoice(1))
        row.outcome = SelectionOutcome.REPEATED
    assert _audit(database, Ledger()).wrong == [
        "case 1: round 2 follows from no effective answer",
        "case 1: selection 1 repeats nothing",
    ]


def test_a_parked_delivery_is_not_clean() -> None:
    delivery = {"destination": "pacs", "state": "parked", "attempts": 1, "reason": "A900"}
    result = {"kind": "candidate", "k": 1, "deliveries": [delivery]}
    found = Audit()
    found_deliveries({"case": 1, "rounds": [{"results": [result]}]}, found)
    assert (found.parked, found.clean) == (["case 1: candidate 1 parked: A900"], False)
