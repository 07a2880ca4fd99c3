"""Objects of other programs, sound and damaged, sent to every AE title: answered, explained, never a case."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_config.contexts import DOCUMENT_CLASSES
from dicom_config.model import NodeSection, Verb
from tests.support.offered import OfferedCase, offered_case
from tests.support.samples import NOT_NEGOTIATED, Sample, samples, send
from tests.support.selections import key_object
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, ResultKind, SelectionOutcome, WorkKind
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.scp import DicomListener
from uair_node.network.store_status import StoreStatus

pytestmark = pytest.mark.integration

VERBS = {"UAIR_PICK": Verb.PICK, "UAIR_ACCEPT": Verb.ACCEPT, "UAIR_REJECT": Verb.REJECT}
SHORT_WAITS = {"quiet_s": 0.01, "max_wait_s": 0.02, "partial_edit_wait_s": 0.01, "min_free_bytes": 0}
# Colour palettes and the like are not of the Storage Service Class (PS3.4 annex GG).
NON_PATIENT_OBJECTS = "1.2.840.10008.5.1.4.39."
REFUSED = {StoreStatus.CANNOT_UNDERSTAND, StoreStatus.SOP_CLASS_MISMATCH}


@pytest.fixture(scope="module")
def objects() -> list[Sample]:
    return samples()


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path, intake=SHORT_WAITS) as made:
        yield made


@pytest.fixture
def listener(offered: OfferedCase) -> Iterator[DicomListener]:
    made = DicomListener(NodeSection(port=0), Inbox(offered.context).receive)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def test_there_are_objects_of_many_kinds(objects: list[Sample]) -> None:
    assert len(objects) > 200
    assert len({each.sop_class_uid for each in objects}) >= 20
    assert len({each.transfer_syntax_uid for each in objects}) >= 12


def _answered(listener: DicomListener, called: str, objects: list[Sample]) -> None:
    """Send everything; each object is kept, or refused with a code."""
    answers = send(listener.port, called, objects)
    assert len(answers) == len(objects)
    for sample, status, comment in answers:
        if status == NOT_NEGOTIATED:
            assert sample.sop_class_uid.startswith(NON_PATIENT_OBJECTS), sample.name
            continue
        if sample.sop_class_uid in DOCUMENT_CLASSES and status == StoreStatus.ELEMENTS_DISCARDED:
            continue  # a document that asks nothing, or that is refused, is not kept
        assert status == StoreStatus.SUCCESS or (status in REFUSED and comment), (sample.name, status)


def test_on_the_store_title_none_becomes_a_case_by_mistake(
    offered: OfferedCase, listener: DicomListener, objects: list[Sample], caplog: pytest.LogCaptureFixture
) -> None:
    _answered(listener, "UAIR", objects)
    time.sleep(0.05)  # longer than a series is waited for in these tests
    assemble(offered.context)
    with offered.context.database.transaction() as session:
        ours, *others = session.query(Case).order_by(Case.id)
        assert ours.state == CaseState.AWAITING_SELECTION
        assert others
        for case in others:
            assert case.state == CaseState.REJECTED, case.code
            assert case.code
            assert case.sentence
            assert case.remedy
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize("called", VERBS)
def test_on_a_verb_each_is_refused_with_its_reason(
    offered: OfferedCase,
    listener: DicomListener,
    objects: list[Sample],
    caplog: pytest.LogCaptureFixture,
    called: str,
) -> None:
    _answered(listener, called, objects)
    rows = offered.selections()
    assert rows
    for row in rows:
        assert (row.outcome, row.verb) == (SelectionOutcome.REFUSED, VERBS[called])
        assert row.code
        assert row.sentence
        assert row.remedy
    assert {row.code for row in rows} >= {"selection-not-supported", "unknown-reference"}
    assert offered.case().state == CaseState.AWAITING_SELECTION
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
    row = offered.send(offered.candidate(3), Verb.PICK)
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE


@pytest.mark.parametrize("verb", VERBS.values())
def test_a_refusal_is_told_in_the_study_whatever_the_verb(offered: OfferedCase, verb: Verb) -> None:
    row = offered.send(key_object([offered.candidate(1), offered.candidate(2)]), verb)
    assert row is not None
    if verb == Verb.REJECT:
        assert row.outcome == SelectionOutcome.EFFECTIVE
        return
    assert row.code == "ambiguous-selection"
    offered.work(WorkKind.NOTICES)
    (notice,) = offered.results(ResultKind.NOTICE)
    assert notice.character == "Round 1: not used"
