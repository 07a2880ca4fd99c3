"""A day's traffic: an archive forwards every measurement of the department. Nothing starts, nothing fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_config.model import Verb
from tests.support.intake import received
from tests.support.marked import Drawn, marked_report
from tests.support.missed import MISSED, ON_LESION, MissedCase
from tests.support.presentation import weasis_state
from tests.support.selections import instance_header, key_object, new_uid
from uair_node.cases.clock import database_now
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, Selection, SelectionOutcome, WorkItem, WorkKind
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.network.store_status import StoreStatus
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.results.notices import pending_notices

SPLEEN = Code("78961009", "SCT", "Spleen")


def _elsewhere(missed: MissedCase, *, study: bool = False) -> Dataset:
    """An image of another series, in another frame of reference; of an older study."""
    image = missed.image(9)
    image.SOPInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = new_uid(), new_uid(), new_uid()
    if study:
        image.StudyInstanceUID = new_uid()
    return image


def _documents(missed: MissedCase) -> dict[str, Dataset]:
    """Measurements by readers beside liver lesions: code of the refusal -> a document."""
    other_series = Drawn("POLYLINE", MISSED, _elsewhere(missed))
    old_study = Drawn("POLYLINE", MISSED, _elsewhere(missed, study=True))
    return {
        "mark-other-structure": marked_report([missed.line(*MISSED, finding=SPLEEN)]),
        "mark-outside-organ": weasis_state(missed.image(0), [("POLYLINE", MISSED)]),
        "mark-slice-unknown": marked_report([other_series], evidence=[missed.image(3)]),
        "mark-case-unknown": marked_report([old_study]),
        "unknown-reference": key_object([instance_header()]),
    }


def _traffic(missed: MissedCase, count: int, folder: Path) -> Iterator[tuple[str, Path]]:
    documents = _documents(missed)
    codes = list(documents)
    for n in range(count):
        document = deepcopy(documents[codes[n % len(codes)]])
        document.SOPInstanceUID, document.SeriesInstanceUID = new_uid(), new_uid()
        document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
        path = folder / f"{n}.dcm"
        document.save_as(path, enforce_file_format=True)
        yield codes[n % len(codes)], path


def _standing(missed: MissedCase) -> tuple[object, ...]:
    """Counts that must not grow: files and their sizes, cases, states and rounds, work beside notices."""
    root = missed.context.store.root
    files = {path.relative_to(root): path.stat().st_size for path in root.rglob("*.dcm")}
    with missed.context.database.transaction() as session:
        cases = [(case.state, len(case.rounds)) for case in session.query(Case)]
        work = session.query(WorkItem).filter(WorkItem.kind != WorkKind.NOTICES).count()
        return files, cases, work, session.query(Instance).count()


@pytest.fixture
def sent(missed: MissedCase, tmp_path: Path) -> Path:
    folder = tmp_path / "sent"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("verb", "count"), [(Verb.STORE, 100), (Verb.PICK, 100)])
def test_a_day_of_forwarded_measurements_starts_nothing_and_fills_nothing(
    missed: MissedCase, sent: Path, verb: Verb, count: int
) -> None:
    before, inbox, expected = _standing(missed), Inbox(missed.context), Counter()
    for code, path in _traffic(missed, count, sent):
        assert inbox.receive(received(path, verb, "PACS")) == StoreStatus.ELEMENTS_DISCARDED
        expected[code] += 1
    assemble(missed.context)
    assert _standing(missed) == before
    rows = missed.selections()
    assert {row.outcome for row in rows} <= {SelectionOutcome.REFUSED}
    assert Counter(row.code for row in rows) == (Counter() if verb == Verb.STORE else expected)
    with missed.context.database.transaction() as session:
        notices = pending_notices(session, session.query(Case).one(), missed.context.settings)
    # Each reason is told once in a round: the three that belong to the study.
    assert len(notices) == (0 if verb == Verb.STORE else 3)


def test_measurements_of_an_accepted_case_are_told_once(missed: MissedCase, sent: Path) -> None:
    with missed.context.database.transaction() as session:
        session.query(Case).one().state = CaseState.ACCEPTED
    before = _standing(missed)
    for n in range(5):
        path = sent / f"{n}.dcm"
        marked_report([missed.line(*ON_LESION, k=7)]).save_as(path, enforce_file_format=True)
        row = missed.send_file(path)
        assert row is not None
        assert row.code == "case-closed"
    assert _standing(missed) == before
    with missed.context.database.transaction() as session:
        assert len(pending_notices(session, session.query(Case).one(), missed.context.settings)) == 1


def test_refusals_that_belong_to_no_case_go_with_time(missed: MissedCase, sent: Path) -> None:
    report = _documents(missed)["mark-case-unknown"]
    row = missed.send(report)
    assert row is not None
    assert row.case_id is None
    with missed.context.database.reading() as session:
        later = database_now(session) + timedelta(days=31)
    assert "1 refused answers" in [
        removal.what for removal in apply_retention(missed.context, dry_run=False, now=later)
    ]
    with missed.context.database.transaction() as session:
        assert session.query(Selection).count() == 0
