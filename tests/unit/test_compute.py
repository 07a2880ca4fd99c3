"""A round as the worker computes it: what it leaves behind, and that it stops when it must."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.full_disk import failing_writes_of
from tests.support.intake import context_in, received
from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from uair_node.cases import work_items
from uair_node.cases.tables import Case, Observation, TargetKind, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.round_inputs import CANDIDATES_FILE, STATE_FILE, UNCERTAIN_FILE
from uair_node.storage.artifacts import load_candidates, load_region
from uair_node.work.performer import Claim, Commit, perform
from workers.compute.computer import Computer
from workers.engine import Engine, EngineOptions
from workers.phantoms.ct_series import write_ct_series
from workers.uair.state import RoundState


@pytest.fixture
def context(tmp_path: Path, database_url: str) -> Iterator[Context]:
    """A READY case of a department whose memory says 2 mm tighter."""
    z, y, x = SPACING
    affine = np.array([[0, 0, x, -150], [0, y, 0, -120], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    sections = {"engine": {"preference": "department"}, "work": {"lease_s": 0.3}}
    with context_in(tmp_path / "data", database_url, **sections) as made:
        for path in write_ct_series(tmp_path / "ct", abdomen()[0], affine):
            Inbox(made).receive(received(path))
        time.sleep(0.02)
        assemble(made)
        with made.database.transaction() as session:
            case = session.query(Case).one()
            for kind in TargetKind:
                told = {"kind": kind, "difference_mm": -2.0}
                session.add(Observation(case_id=case.id, scope="department", key="ROUTER", **told))
        yield made


def _computer(context: Context) -> Computer:
    computer = Computer(context)
    computer.__dict__["engine"] = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    return computer


def test_a_round_leaves_candidates_uncertainty_state_and_what_it_was_made_with(context: Context) -> None:
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).one().id
    assert perform(context, item_id, _computer(context).compute)
    with context.database.transaction() as session:
        (round_,) = session.query(Case).one().rounds
    folder = context.store.absolute(round_.artifacts)
    offered = load_candidates(folder / CANDIDATES_FILE)
    unsure = load_region(folder / UNCERTAIN_FILE)
    assert unsure.shape == offered[0].labels.shape
    assert unsure.any()
    state = RoundState.load(folder / STATE_FILE)
    assert round_.prior is not None
    assert state.preference.lesion_mm == round_.prior["lesion_mm"] < 0
    lesions = {int(value) for candidate in offered for value in np.unique(candidate.labels) if value > 1}
    assert {int(value) for value in round_.base_mm} == {1} | lesions
    assert 50 < round_.base_mm["1"] < 75


def test_a_round_whose_state_finds_no_space_is_computed_again(context: Context) -> None:
    computer = _computer(context)
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    with failing_writes_of("workers.compute.computer", errno.ENOSPC) as failed:
        assert perform(context, item_id, computer.compute)
    assert failed == [STATE_FILE]
    with context.database.transaction() as session:
        item = session.get_one(WorkItem, item_id)
        assert item.open
        assert "The disk is full." in item.cause
        assert session.query(Case).one().rounds[0].computed_at is None
        work_items.make_due_now(session, item)
    assert perform(context, item_id, computer.compute)
    with context.database.transaction() as session:
        (round_,) = session.query(Case).one().rounds
    assert RoundState.load(context.store.absolute(round_.artifacts) / STATE_FILE).number == 1


def test_a_superseded_round_stops_in_the_middle(context: Context, caplog: pytest.LogCaptureFixture) -> None:
    computer = _computer(context)
    claims: list[Claim] = []

    def superseded(claim: Claim) -> Commit:
        claims.append(claim)
        with context.database.transaction() as session:
            session.get_one(WorkItem, claim.item_id).open = False
        assert claim.lost.wait(10.0), "the lease's keeper notices"
        return computer.compute(claim)

    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    perform(context, item_id, superseded)
    assert "no longer due" in caplog.text
    with context.database.transaction() as session:
        case = session.query(Case).one()
        assert case.rounds[0].computed_at is None
        assert list(context.store.case_folder(case.id).rglob("*.npz")) == []


def test_a_round_that_another_answer_took_away_is_left_alone(
    context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer came between the claim and its first look at the case."""
    computer = _computer(context)

    def replaced(claim: Claim) -> Commit:
        with context.database.transaction() as session:
            session.get_one(WorkItem, claim.item_id).open = False
        return computer.compute(replace(claim, round_number=2, lost=threading.Event()))

    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    perform(context, item_id, replaced)
    assert "no longer due" in caplog.text
    assert "KeyError" not in caplog.text


def test_a_worker_that_lost_its_lease_leaves_the_files_that_count_as_they_are(context: Context) -> None:
    """It was stopped for longer than its lease, and has not noticed yet."""
    computer = _computer(context)
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    kept: dict[Path, tuple[int, bytes]] = {}

    def stopped(claim: Claim) -> Commit:
        with context.database.transaction() as session:
            work_items.note_enqueued(
                session, [session.get_one(WorkItem, item_id)]
            )  # the node: its lease ran out
        assert perform(context, item_id, computer.compute)
        kept.update(_artifacts(context))
        return computer.compute(replace(claim, lost=threading.Event()))

    assert perform(context, item_id, stopped)
    assert len(kept) == 3
    assert _artifacts(context) == kept
    with context.database.transaction() as session:
        folder = context.store.case_folder(session.query(Case).one().id)
    written = [path.parent for path in folder.rglob(CANDIDATES_FILE)]
    assert len(set(written)) == 2, "both wrote, each in a folder of its own"


def _artifacts(context: Context) -> dict[Path, tuple[int, bytes]]:
    """Return the files of the round that the database names, with when each was written."""
    with context.database.transaction() as session:
        (round_,) = session.query(Case).one().rounds
    folder = context.store.absolute(round_.artifacts)
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir()}
