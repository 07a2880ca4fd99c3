"""A case's code decides whether a retry takes it up."""

from __future__ import annotations

import pytest

from tests.support.cases import ready_case
from uair_node.cases import lifecycle
from uair_node.cases.codes import CaseCode, is_retriable
from uair_node.cases.database import Database
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case

RETRIABLE = {CaseCode.WORK_FAILED, CaseCode.CANCELLED}


@pytest.mark.parametrize("code", CaseCode)
@pytest.mark.parametrize("state", [CaseState.ACCEPTED, CaseState.SUPERSEDED])
def test_an_ended_case_is_retried_if_its_code_says_that_work_is_left(
    database: Database, code: CaseCode, state: CaseState
) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        case.code, case.state = code, state
        case_id = case.id
    with database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert case.code == code.value, "the database keeps its words"
        assert lifecycle.can_be_retried(case) == is_retriable(case.code) == (code in RETRIABLE)


def test_a_case_without_a_code_has_nothing_to_retry_and_an_input_that_was_refused_has() -> None:
    assert not is_retriable("")
    assert is_retriable("undecodable")
