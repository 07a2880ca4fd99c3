"""The life of a case, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest
from pydicom.sr.coding import Code

from dicom_config.errors import IllegalTransitionError, InputError
from dicom_config.model import Verb
from tests.support.cases import (
    candidate_uid,
    new_result,
    open_item,
    publish_round,
    ready_case,
    receiving_case,
)
from uair_node.cases import lifecycle, work_items
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import TRANSITIONS, CaseState, check_transition
from uair_node.cases.tables import (
    Case,
    Delivery,
    ResultKind,
    Selection,
    SelectionOutcome,
    Transition,
    WorkItem,
    WorkKind,
)
from uair_node.dicom.readers import Mechanism, Reading
from uair_node.selection.service import Evidence, select_by_number, select_by_object

TABLE = {
    None: "RECEIVING",
    "RECEIVING": "READY REJECTED",
    "READY": "SEGMENTING REJECTED FAILED SUPERSEDED",
    "SEGMENTING": "AWAITING_SELECTION REJECTED FAILED SUPERSEDED",
    "AWAITING_SELECTION": "REFINING REJECTED ACCEPTED EXPIRED SUPERSEDED",
    "REFINING": "AWAITING_SELECTION REJECTED ACCEPTED FAILED SUPERSEDED",
    "FAILED": "SEGMENTING REFINING REJECTED EXPIRED SUPERSEDED",
    "REJECTED": "SUPERSEDED",
    "ACCEPTED": "",
    "EXPIRED": "REJECTED SUPERSEDED",
    "SUPERSEDED": "",
}


@pytest.mark.parametrize("origin", [None, *CaseState])
def test_only_the_tables_transitions_are_legal(origin: CaseState | None) -> None:
    for state in CaseState:
        if state in TABLE[origin].split():
            check_transition(origin, state)
        else:
            with pytest.raises(IllegalTransitionError):
                check_transition(origin, state)
    assert set(TRANSITIONS) == {None, *CaseState}


def _reading(*references: str, study: str = "1.2") -> Reading:
    return Reading(
        mechanism=Mechanism.KEY_OBJECT,
        sop_instance_uid="9.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.59",
        study_instance_uid=study,
        patient_id_hash="",
        references=references,
        source_references=(),
        segments={},
        series_references=(),
        frame_of_reference_uid="",
        title=None,
    )


def test_a_ready_case_makes_its_first_round_due_and_writes_the_audit(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        case_id = case.id
    with database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert case.state == CaseState.READY
        assert [round_.number for round_ in case.rounds] == [1]
        assert open_item(session, case, WorkKind.COMPUTE).round_number == 1
        states = [transition.state for transition in case.transitions]
        assert states == [CaseState.RECEIVING, CaseState.READY]


def test_three_rounds_to_acceptance(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        for number in (1, 2):
            publish_round(session, case)
            assert case.state == CaseState.AWAITING_SELECTION
            row = select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(2))
            assert row.outcome == SelectionOutcome.EFFECTIVE
            assert case.state == CaseState.REFINING
            assert case.current_round.number == number + 1
            assert case.current_round.selection_id == row.id
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.ACCEPT, "command-line"), case, ReaderChoice(4))
        assert case.state == CaseState.ACCEPTED
        assert open_item(session, case, WorkKind.FINISH).round_number == 3


def test_none_fits_starts_another_round_without_a_pick(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        evidence = Evidence(Verb.REJECT, "seg")
        row = select_by_object(
            session, evidence, _reading(candidate_uid(case, 1, 1), candidate_uid(case, 1, 2))
        )
        assert (row.outcome, row.picked) == (SelectionOutcome.EFFECTIVE, None)
        assert case.state == CaseState.REFINING


@pytest.mark.parametrize(
    ("verb", "references", "study", "code"),
    [
        (Verb.PICK, [(1, 1)], "other", "other-study"),
        (Verb.PICK, [(2, 1), (2, 3)], "1.2", "ambiguous-selection"),
        (Verb.PICK, [(1, 1), (2, 1)], "1.2", "ambiguous-selection"),
    ],
)
def test_an_unusable_selection_is_recorded_with_its_reason(
    database: Database, verb: Verb, references: list[tuple[int, int]], study: str, code: str
) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
        publish_round(session, case)
        uids = [candidate_uid(case, number, k) for number, k in references]
        row = select_by_object(
            session, Evidence(verb, "key-object", "VIEWER", "9.9"), _reading(*uids, study=study)
        )
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, code)
        assert row.sentence
        assert row.remedy
        assert row.case_id == case.id
        assert case.state == CaseState.AWAITING_SELECTION, "a refusal changes nothing"


def test_an_unknown_reference_is_recorded_without_a_case(database: Database) -> None:
    with database.transaction() as session:
        row = select_by_object(session, Evidence(Verb.PICK, "seg"), _reading("1.2.3.4.5"))
        assert (row.outcome, row.code, row.case_id) == (SelectionOutcome.REFUSED, "unknown-reference", None)


@pytest.mark.parametrize("kind", [ResultKind.FINAL, ResultKind.REPORT, ResultKind.WITHDRAWAL])
def test_our_own_documents_sent_back_choose_nothing(database: Database, kind: ResultKind) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        own = replace(new_result(case, 1, 1), kind=kind, sop_instance_uid="9.9")
        lifecycle.add_results(session, case.current_round, [own])
        row = select_by_object(session, Evidence(Verb.PICK, "sr"), _reading(candidate_uid(case, 1, 2)))
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "own-object")
        assert case.state == CaseState.AWAITING_SELECTION


def test_a_page_picks_its_candidate_and_the_overview_none(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        for k in (0, 3):
            page = replace(new_result(case, 1, k), kind=ResultKind.PAGE, sop_instance_uid=f"8.{k}")
            lifecycle.add_results(session, case.current_round, [page])
        row = select_by_object(session, Evidence(Verb.PICK, "key-object"), _reading("8.0"))
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "ambiguous-selection")
        row = select_by_object(session, Evidence(Verb.PICK, "key-object"), _reading("8.3"))
        assert (row.outcome, row.picked) == (SelectionOutcome.EFFECTIVE, 3)


def test_an_answer_cancels_the_pictures_that_are_still_due(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        work_items.require_work(session, WorkKind.PAGES, case=case, key="1")
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
        due = {item.kind for item in session.query(WorkItem).filter_by(open=True)}
        assert due == {WorkKind.COMPUTE, WorkKind.NOTICES}


def test_a_rejection_note_picks_nothing_but_may_say_that_none_fits(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        note = replace(_reading(candidate_uid(case, 1, 2)), title=Code("113001", "DCM", "Rejected"))
        row = select_by_object(session, Evidence(Verb.ACCEPT, "key-object"), note)
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "rejection-note")
        row = select_by_object(session, Evidence(Verb.REJECT, "key-object"), note)
        assert row.outcome == SelectionOutcome.EFFECTIVE
        assert case.state == CaseState.REFINING


def test_the_same_pick_again_is_no_second_round(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        reading = _reading(candidate_uid(case, 1, 3))
        outcomes = [select_by_object(session, Evidence(Verb.PICK, "seg"), reading).outcome for _ in range(2)]
        assert outcomes == [SelectionOutcome.EFFECTIVE, SelectionOutcome.REPEATED]
        assert [round_.number for round_ in case.rounds] == [1, 2]


@pytest.mark.parametrize(
    ("verb", "state", "rounds"),
    [(Verb.PICK, CaseState.REFINING, [1, 2, 3]), (Verb.ACCEPT, CaseState.ACCEPTED, [1, 2])],
)
def test_a_candidate_of_an_older_round_answers_the_open_one(
    database: Database, verb: Verb, state: CaseState, rounds: list[int]
) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
        publish_round(session, case)
        row = select_by_object(session, Evidence(verb, "seg"), _reading(candidate_uid(case, 1, 3)))
        assert (row.outcome, row.round_number, row.candidates_round) == (SelectionOutcome.EFFECTIVE, 2, 1)
        assert (case.state, [turn.number for turn in case.rounds]) == (state, rounds)


def test_an_accept_replaces_a_pick_whose_round_is_not_sent(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        for verb, k in ((Verb.PICK, 3), (Verb.ACCEPT, 4)):
            select_by_object(session, Evidence(verb, "seg"), _reading(candidate_uid(case, 1, k)))
        rows = session.query(Selection).order_by(Selection.id).all()
        assert [row.outcome for row in rows] == [SelectionOutcome.REPLACED, SelectionOutcome.EFFECTIVE]
        assert (case.state, [turn.number for turn in case.rounds]) == (CaseState.ACCEPTED, [1])
        due = {(item.kind, item.round_number) for item in session.query(WorkItem).filter_by(open=True)}
        assert due == {(WorkKind.FINISH, 1)}


def test_a_second_pick_replaces_the_first_and_its_computation(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        select_by_object(session, Evidence(Verb.PICK, "seg"), _reading(candidate_uid(case, 1, 3)))
        held = work_items.claim(session, open_item(session, case, WorkKind.COMPUTE).id, "worker", 60.0)
        assert held is not None
        second = select_by_object(session, Evidence(Verb.PICK, "seg"), _reading(candidate_uid(case, 1, 4)))
        assert case.current_round.selection_id == second.id
        assert work_items.hold(session, held.id, "worker") is None, "its outcome is dropped"


def test_nothing_is_picked_in_a_closed_case(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.ACCEPT, "command-line"), case, ReaderChoice(1))
        row = select_by_object(session, Evidence(Verb.PICK, "seg"), _reading(candidate_uid(case, 1, 2)))
        assert row.code == "case-closed"


def test_the_command_line_is_told_what_it_cannot_pick(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        with pytest.raises(InputError) as early:
            select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
        publish_round(session, case)
        with pytest.raises(InputError) as unknown:
            select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(5))
    assert (early.value.code, unknown.value.code) == ("no-candidates", "no-such-candidate")


def test_late_slices_supersede_and_cancel(database: Database) -> None:
    with database.transaction() as session:
        older = ready_case(session)
        newer = ready_case(session, slices=1)
        assert older.state == CaseState.SUPERSEDED
        assert str(newer.id) in older.sentence
        due = session.query(WorkItem).filter_by(open=True).all()
        assert [item.case_id for item in due] == [newer.id]
        assert newer.instance_count == 3


def test_what_a_superseded_case_sent_is_withdrawn(database: Database) -> None:
    with database.transaction() as session:
        older = ready_case(session)
        publish_round(session, older, destinations=["pacs"])
        newer = ready_case(session, slices=1)
        due = {item.kind: item for item in session.query(WorkItem).filter_by(open=True)}
        assert set(due) == {WorkKind.COMPUTE, WorkKind.WITHDRAW, WorkKind.DELIVER}
        assert due[WorkKind.COMPUTE].case_id == newer.id
        assert (due[WorkKind.WITHDRAW].case_id, due[WorkKind.WITHDRAW].round_number) == (older.id, 1)


def test_a_withdrawal_that_failed_leaves_the_case_superseded_and_can_be_retried(database: Database) -> None:
    with database.transaction() as session:
        older = ready_case(session)
        publish_round(session, older)
        ready_case(session, slices=1)
        with pytest.raises(InputError):
            lifecycle.retry(session, older, actor="test")
        lifecycle.fail(session, older, code="work-failed", cause="x", remedy="y")
        assert older.state == CaseState.SUPERSEDED
        lifecycle.retry(session, older, actor="test")
        assert open_item(session, older, WorkKind.WITHDRAW).round_number == 1


def test_a_late_slice_leaves_an_accepted_case_alone(database: Database) -> None:
    with database.transaction() as session:
        older = ready_case(session)
        publish_round(session, older)
        select_by_number(session, Evidence(Verb.ACCEPT, "command-line"), older, ReaderChoice(1))
        ready_case(session, slices=1)
        assert older.state == CaseState.ACCEPTED


def test_a_rejected_series_says_why(database: Database) -> None:
    with database.transaction() as session:
        case = receiving_case(session)
        lifecycle.reject_input(session, case, InputError("too-few-slices", "Two slices.", "Send all."))
        assert (case.state, case.code, case.sentence, case.remedy) == (
            CaseState.REJECTED,
            "too-few-slices",
            "Two slices.",
            "Send all.",
        )


def test_a_failed_case_is_retried_where_it_stood(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
        lifecycle.fail(session, case, code="work-failed", cause="x", remedy="y")
        assert case.state == CaseState.FAILED
        # The reader is told that the next round failed; nothing else is due.
        assert [item.kind for item in session.query(WorkItem).filter_by(open=True)] == [WorkKind.NOTICES]
        lifecycle.retry(session, case, actor="test")
        assert case.state == CaseState.REFINING
        assert case.code == ""
        assert open_item(session, case, WorkKind.COMPUTE).round_number == 2


def test_only_a_failed_case_is_retried(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        with pytest.raises(InputError) as caught:
            lifecycle.retry(session, case, actor="test")
    assert caught.value.code == "nothing-to-retry"


def test_each_result_is_due_at_each_destination_once(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case, destinations=["pacs", "archive"])
        rows = session.query(Delivery).all()
        assert sorted((row.result.k, row.destination) for row in rows) == [
            (k, name) for k in (1, 2, 3, 4) for name in ("archive", "pacs")
        ]
        assert {item.subject for item in session.query(WorkItem).filter_by(kind=WorkKind.DELIVER)} == {
            "pacs",
            "archive",
        }


def test_a_rolled_back_transaction_leaves_no_trace(database: Database) -> None:
    def break_off() -> None:
        with database.transaction() as session:
            ready_case(session)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    with database.transaction() as session:
        assert session.query(Case).count() == session.query(Transition).count() == 0
