"""Work items: claimed once, taken over after a lost lease, found again after a lost message."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from dicom_config.errors import InputError, TransientError
from dicom_config.model import DeliverySection, Settings, Verb
from tests.support.cases import expire_lease, open_item, publish_round, ready_case
from uair_node.cases import work_items
from uair_node.cases.clock import database_now
from uair_node.cases.database import Database
from uair_node.cases.lifecycle import finish_computing
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Round, WorkItem, WorkKind, utc_now
from uair_node.context import Context
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.store import Store
from uair_node.work.performer import Claim, Commit, perform


@pytest.fixture
def context(database_url: str, tmp_path: Path) -> Iterator[Context]:
    database = Database(database_url)
    database.migrate()
    settings = Settings(data_dir=tmp_path, work={"max_attempts": 3, "lease_s": 30.0})
    yield Context(settings, database, Store(tmp_path))
    database.close()


def _due(context: Context) -> list[int]:
    with context.database.transaction() as session:
        return [item.id for item in work_items.due_items(session)]


def _ready(context: Context, series_uid: str = "1.2.3") -> tuple[int, int]:
    with context.database.transaction() as session:
        case = ready_case(session, series_uid)
        return case.id, open_item(session, case, WorkKind.COMPUTE).id


def _computed(claim: Claim) -> Commit:
    def commit(session: Session, item: WorkItem) -> None:
        case = session.get_one(Case, claim.case_id)
        if case.state == CaseState.READY:
            case.state = CaseState.SEGMENTING
        finish_computing(session, case, case.current_round)
        work_items.close(item)

    return commit


def test_an_item_is_done_once_however_often_its_message_comes(context: Context) -> None:
    case_id, item_id = _ready(context)
    assert perform(context, item_id, _computed)
    assert not perform(context, item_id, _computed)
    with context.database.transaction() as session:
        (round_,) = session.query(Round).filter_by(case_id=case_id)
        assert round_.computed_at is not None
        assert session.query(WorkItem).filter_by(case_id=case_id, open=True).one().kind == WorkKind.PUBLISH


def test_a_held_item_is_nobody_elses_until_its_lease_ran_out(context: Context) -> None:
    _, item_id = _ready(context)
    with context.database.transaction() as session:
        assert work_items.claim(session, item_id, "first", 30.0)
    with context.database.transaction() as session:
        assert work_items.claim(session, item_id, "second", 30.0) is None
        expire_lease(session.get_one(WorkItem, item_id))
    with context.database.transaction() as session:
        assert work_items.claim(session, item_id, "second", 30.0)
        assert work_items.hold(session, item_id, "first") is None, "the first one's effects are dropped"
        assert not work_items.renew(session, item_id, "first", 30.0)
        assert work_items.renew(session, item_id, "second", 30.0)


def test_what_a_lost_worker_did_is_dropped(context: Context) -> None:
    case_id, item_id = _ready(context)

    def slow(claim: Claim) -> Commit:
        with context.database.transaction() as session:
            item = session.get_one(WorkItem, item_id)
            item.lease_owner = "somebody else"
        return _computed(claim)

    perform(context, item_id, slow)
    with context.database.transaction() as session:
        assert session.query(Round).filter_by(case_id=case_id).one().computed_at is None


def test_a_transient_error_postpones_and_the_last_one_fails_the_case(context: Context) -> None:
    case_id, item_id = _ready(context)

    def broken(claim: Claim) -> Commit:
        raise TransientError("away", "The archive is away.", "Wait.")

    for attempt in (1, 2):
        assert perform(context, item_id, broken)
        with context.database.transaction() as session:
            item = session.get_one(WorkItem, item_id)
            assert item.open
            assert item.attempts == attempt
            assert item.not_before > utc_now()
            assert "archive is away" in item.cause
            item.not_before = database_now(session)
    perform(context, item_id, broken)
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert (case.state, case.code) == (CaseState.FAILED, "away")
        assert "failed 3 times" in case.sentence
        assert f"uair case retry {case_id}" in case.remedy


def test_a_worker_that_dies_each_time_fails_the_case(context: Context) -> None:
    case_id, item_id = _ready(context)
    for _ in range(3):
        with context.database.transaction() as session:
            assert work_items.claim(session, item_id, "dies", 30.0)
            expire_lease(session.get_one(WorkItem, item_id))
    assert not perform(context, item_id, _computed)
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert case.state == CaseState.FAILED
        assert "died" in case.sentence


def test_unusable_input_is_not_retried(context: Context) -> None:
    case_id, item_id = _ready(context)

    def unusable(claim: Claim) -> Commit:
        with context.database.transaction() as session:
            session.get_one(Case, case_id).state = CaseState.SEGMENTING
        raise InputError("undecodable-pixels", "Slice 3 cannot be decoded.", "Send it again.")

    perform(context, item_id, unusable)
    with context.database.transaction() as session:
        case = session.get_one(Case, case_id)
        assert (case.state, case.code) == (CaseState.REJECTED, "undecodable-pixels")
        assert session.query(WorkItem).filter_by(open=True).count() == 0


@pytest.mark.parametrize("error", [InputError("x", "Bad.", "Correct it."), ValueError("bad")])
@pytest.mark.parametrize("kind", [WorkKind.PAGES, WorkKind.NOTICES])
def test_a_case_goes_on_without_pictures_that_cannot_be_drawn(
    context: Context, error: Exception, kind: WorkKind
) -> None:
    with context.database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        case_id, item_id = case.id, work_items.require_work(session, kind, case=case, key="1").id

    def broken(claim: Claim) -> Commit:
        raise error

    for _ in range(4):
        perform(context, item_id, broken)
        with context.database.transaction() as session:
            session.get_one(WorkItem, item_id).not_before = database_now(session)
    with context.database.transaction() as session:
        assert session.get_one(Case, case_id).state == CaseState.AWAITING_SELECTION
        item = session.get_one(WorkItem, item_id)
        assert not item.open
        assert item.cause, "an audit sees that it was given up"


def test_a_foreign_exceptions_text_is_not_repeated(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    _, item_id = _ready(context)

    def leaking(claim: Claim) -> Commit:
        raise ValueError("cannot parse DOE^JANE")

    perform(context, item_id, leaking)
    with context.database.transaction() as session:
        assert session.get_one(WorkItem, item_id).cause.startswith("ValueError at test_work.py")
    shown = "\n".join(record.getMessage() for record in caplog.records if record.levelname != "DEBUG")
    assert "DOE" not in shown


def test_a_sent_item_is_sent_again_only_when_its_message_must_be_lost(context: Context) -> None:
    _, item_id = _ready(context)
    assert _due(context) == [item_id]
    with context.database.transaction() as session:
        session.get_one(WorkItem, item_id).enqueued_at = utc_now()
    assert _due(context) == []
    with context.database.transaction() as session:
        session.get_one(WorkItem, item_id).enqueued_at = utc_now() - 2 * work_items.REQUEUE_AFTER
    assert _due(context) == [item_id]
    with context.database.transaction() as session:
        session.get_one(WorkItem, item_id).enqueued_at = utc_now()
        work_items.forget_enqueued(session)
    assert _due(context) == [item_id], "a start takes every message for lost"


def test_a_dead_holders_item_is_sent_again_at_once(context: Context) -> None:
    _, item_id = _ready(context)
    with context.database.transaction() as session:
        session.get_one(WorkItem, item_id).enqueued_at = utc_now()
        claimed = work_items.claim(session, item_id, "dies", 30.0)
        assert claimed is not None
    assert _due(context) == []
    with context.database.transaction() as session:
        expire_lease(session.get_one(WorkItem, item_id))
    assert _due(context) == [item_id]
    with context.database.transaction() as session:
        work_items.note_enqueued(session, [session.get_one(WorkItem, item_id)])
    assert _due(context) == [], "once, not with every sweep"


def test_a_postponed_item_waits(context: Context) -> None:
    _, item_id = _ready(context)
    with context.database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        work_items.postpone(session, item, 60.0, "later")
    assert _due(context) == []
    with context.database.transaction() as session:
        assert work_items.claim(session, item_id, "eager", 30.0) is None
        session.get_one(WorkItem, item_id).not_before = utc_now() - timedelta(seconds=1)
    assert _due(context) == [item_id]


def test_a_refinement_overtakes_waiting_first_rounds(context: Context) -> None:
    with context.database.transaction() as session:
        case = ready_case(session, "1.1")
        publish_round(session, case)
        refining = case.id
    _, waiting = _ready(context, "1.9")
    with context.database.transaction() as session:
        case = session.get_one(Case, refining)
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(1))
    with context.database.transaction() as session:
        claimed = work_items.claim(session, waiting, "worker", 30.0)
        assert claimed is not None
        assert (claimed.case_id, claimed.round_number) == (refining, 2)


def test_a_message_of_another_kind_leaves_the_work_alone(context: Context) -> None:
    """A broker that keeps messages of a database which was restored since names items that are others now."""
    _, item_id = _ready(context)
    assert not perform(context, item_id, _computed, kind=WorkKind.PUBLISH)
    with context.database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        assert (item.open, item.attempts, item.lease_owner) == (True, 0, "")
    assert perform(context, item_id, _computed, kind=WorkKind.COMPUTE)


def test_a_delivery_that_is_refused_is_tried_again(context: Context) -> None:
    with context.database.transaction() as session:
        item_id = work_items.require_work(session, WorkKind.DELIVER, case=None, key="pacs").id

    def refused(claim: Claim) -> Commit:
        raise InputError("bad", "It is bad.", "Correct it.")

    assert perform(context, item_id, refused)
    with context.database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        assert (item.open, item.lease_owner) == (True, "")
        assert "It is bad." in item.cause
        work_items.make_due_now(session, item)
    assert perform(context, item_id, lambda claim: lambda session, item: work_items.close(item))
    with context.database.transaction() as session:
        assert session.get_one(WorkItem, item_id).cause == "", "it was not given up"


def test_back_off_doubles_with_jitter_and_never_exceeds_its_limit() -> None:
    section = DeliverySection(retry_first_s=2, retry_max_s=600)
    for attempt, longest in ((1, 2), (2, 4), (3, 8), (9, 512), (10, 600), (1000, 600)):
        delays = {work_items.back_off(section, attempt) for _ in range(50)}
        assert len(delays) > 1
        assert all(0.75 * longest <= delay <= longest for delay in delays)
