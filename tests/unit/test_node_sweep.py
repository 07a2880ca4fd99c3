"""A sweep of the node: a step that always fails stops no other; a node whose sweeps all fail is not alive."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from dicom_config.model import Verb
from tests.support.cases import publish_round, ready_case
from tests.support.intake import context_in, received
from tests.support.ports import free_port, wait_until
from tests.support.series import good_series
from uair_node import node as node_module
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome, WorkItem, utc_now
from uair_node.context import Context
from uair_node.intake.inbox import Inbox
from uair_node.node import Node
from uair_node.work.dispatch import Dispatcher

Effect = Callable[[Context], bool]


@pytest.fixture
def context(tmp_path: Path, database_url: str) -> Iterator[Context]:
    """A node with a quiet series, a held part, an unanswered case, and work: each step has work."""
    sections = {
        "node": {"port": free_port()},
        "monitoring": {"port": free_port()},
        "work": {"sweep_s": 0.05},
    }
    with context_in(tmp_path / "data", database_url, **sections) as made:
        for path in good_series(tmp_path / "ct"):
            Inbox(made).receive(received(path))
        with made.database.transaction() as session:
            for series in ("1.1", "1.2"):
                publish_round(session, ready_case(session, series))
            ready_case(session, "1.3")
            answered, unanswered = session.query(Case).filter_by(state=CaseState.AWAITING_SELECTION)
            unanswered.updated_at = utc_now() - timedelta(days=10_000)
            held = Selection(case_id=answered.id, round_number=1, verb=Verb.PICK, mechanism="edited-seg")
            held.outcome, held.artifact = SelectionOutcome.HELD, "artifacts/absent.npz"
            held.received_at = utc_now() - timedelta(days=1)
            session.add(held)
        time.sleep(0.02)  # the quiet period of these tests
        yield made


def _assembled(context: Context) -> bool:
    with context.database.reading() as session:
        return session.query(Case).filter_by(state=CaseState.RECEIVING).count() == 0


def _answered(context: Context) -> bool:
    with context.database.reading() as session:
        return session.query(Selection).one().outcome == SelectionOutcome.REFUSED


def _expired(context: Context) -> bool:
    with context.database.reading() as session:
        return session.query(Case).filter_by(state=CaseState.EXPIRED).count() == 1


def _enqueued(context: Context) -> bool:
    with context.database.reading() as session:
        return session.query(WorkItem).filter(WorkItem.enqueued_at.is_not(None)).count() > 0


STEPS: dict[str, tuple[object, str, Effect]] = {
    "assemble": (node_module, "assemble", _assembled),
    "answer": (node_module, "answer_with_parts", _answered),
    "expire": (Node, "_expire", _expired),
    "enqueue": (Dispatcher, "enqueue_due", _enqueued),
}


def _fail(*_arguments: object) -> None:
    raise KeyError("SECRET")


@pytest.mark.parametrize("broken", STEPS)
def test_a_step_that_always_fails_stops_no_other(
    context: Context, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    place, name, _ = STEPS[broken]
    node = Node(context)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, _fail)
        with caplog.at_level(logging.ERROR):
            assert not node.sweep(), "the sweep did not succeed"
        done = {step: effect(context) for step, (_, _, effect) in STEPS.items()}
    assert done == {step: step != broken for step in STEPS}
    assert "sweep failed: KeyError at test_node_sweep.py" in caplog.text
    assert "SECRET" not in caplog.text
    assert node.sweep(), "all steps succeed"
    assert STEPS[broken][2](context), "what was left is done"


@pytest.mark.parametrize("broken", STEPS)
def test_a_node_without_a_sweep_that_succeeds_is_not_alive(
    context: Context, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    place, name, _ = STEPS[broken]
    monkeypatch.setattr(node_module, "_LONGEST_SWEEP_S", 1.0)
    address = f"http://127.0.0.1:{context.settings.monitoring.port}/live"
    with monkeypatch.context() as patch:
        patch.setattr(place, name, _fail)
        node = Node(context)
        node.start()
        try:
            wait_until(lambda: _live(address) == (503, '{"sweeper": false}\n'), "the node to be stuck")
            patch.undo()
            monkeypatch.setattr(node_module, "_LONGEST_SWEEP_S", 600.0)
            wait_until(lambda: _live(address) == (200, '{"sweeper": true}\n'), "the node to go on")
            wait_until(lambda: STEPS[broken][2](context), "what was left to be done")
        finally:
            node.stop()


def _live(address: str) -> tuple[int, str]:
    try:
        with urlopen(address, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()
