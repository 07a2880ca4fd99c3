"""A worker that lost its lease and goes on writes into a folder of its own: what counts stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from pydicom import dcmread

from dicom_config.model import Verb
from tests.support.cases import expire_lease
from tests.support.offered import JOBS, OfferedCase, final_path, offered_case
from tests.support.series import edit_all
from uair_node.cases import work_items
from uair_node.cases.tables import Result, ResultKind, WorkItem, WorkKind, utc_now
from uair_node.findings.record import load_findings
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.results.round_inputs import ACCEPTED_FILE, FINDINGS_FILE
from uair_node.storage.artifacts import load_candidates
from uair_node.storage.store import Store
from uair_node.work.performer import Claim, Commit, perform

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "withdraw": True}


@pytest.fixture
def offered(tmp_path: Path, database_url: str) -> Iterator[OfferedCase]:
    with offered_case(
        tmp_path, database_url=database_url, destinations=[PACS], work={"lease_s": 600}
    ) as made:
        yield made


def _publish_again(offered: OfferedCase) -> None:
    offered.send(offered.candidate(2), Verb.PICK)
    offered.compute()


def _nothing(offered: OfferedCase) -> None:
    """The page set is due since the candidates were published."""


def _tell(offered: OfferedCase) -> None:
    offered.send(offered.candidate(2), Verb.PICK)


def _accept(offered: OfferedCase) -> None:
    offered.send(offered.candidate(2), Verb.ACCEPT)


def _supersede(offered: OfferedCase) -> None:
    edit_all(offered.paths, PatientID="CORRECTED")
    offered.receive()


CASES = {
    WorkKind.PUBLISH: (_publish_again, [ResultKind.CANDIDATE]),
    WorkKind.PAGES: (_nothing, [ResultKind.PAGE, ResultKind.FINDING]),
    WorkKind.NOTICES: (_tell, [ResultKind.NOTICE]),
    WorkKind.FINISH: (
        _accept,
        [ResultKind.FINAL, ResultKind.REPORT, ResultKind.FINAL_PAGE, ResultKind.WITHDRAWAL],
    ),
    WorkKind.WITHDRAW: (_supersede, [ResultKind.WITHDRAWAL]),
}


@pytest.mark.parametrize("kind", CASES, ids=str)
def test_a_worker_that_lost_its_lease_and_writes_on_leaves_what_is_delivered_as_it_is(
    offered: OfferedCase, kind: WorkKind
) -> None:
    make_due, written = CASES[kind]
    make_due(offered)
    context = offered.context
    artifacts = context.store.root / "artifacts"
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=kind, open=True).one().id
    kept: dict[Path, tuple[int, bytes]] = {}
    claims: list[Claim] = []

    def take_over() -> None:
        """Let another worker do the work, after the first one wrote its first file."""
        with context.database.transaction() as session:
            expire_lease(session.get_one(WorkItem, item_id))
        assert perform(context, item_id, partial(JOBS[kind], context))
        kept.update(_files(artifacts))

    stopped = replace(context, store=_PausingStore(context.store.root, once=[take_over]))

    def job(claim: Claim) -> Commit:
        claims.append(claim)
        return JOBS[kind](stopped, claim)

    assert perform(context, item_id, job)
    own = {path for path in _files(artifacts) if path.parent.name.endswith(f".{claims[0].token}")}
    assert own, "the first worker wrote"
    kept = {path: file for path, file in kept.items() if path not in own}
    after = _files(artifacts)
    assert {path: file for path, file in after.items() if path not in own} == kept, "nowhere else"

    delivered = _delivered(offered, written)
    assert delivered
    assert set(delivered) <= kept.keys(), "the rows name the files of the worker that held the lease"
    for path, uid in delivered.items():
        assert dcmread(path).SOPInstanceUID == uid, "whole"
    if kind == WorkKind.FINISH:
        assert load_findings(final_path(context, 1, FINDINGS_FILE)) is not None
        assert len(load_candidates(final_path(context, 1, ACCEPTED_FILE))) == 1

    with context.database.transaction() as session:
        for item in session.query(WorkItem).filter_by(open=True):
            work_items.close(item)
    apply_retention(context, dry_run=False, now=utc_now() + timedelta(days=2))
    assert _files(artifacts) == kept, "and its files are removed"


@dataclass(frozen=True)
class _PausingStore(Store):
    """Calls what `once` holds when a first file was written."""

    once: list[Callable[[], None]] = field(default_factory=list)

    def share(self, *paths: Path) -> str:
        if self.once:
            self.once.pop()()
        return super().share(*paths)


def _files(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Return all files of a folder, with when each was written, and what it holds."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()
    }


def _delivered(offered: OfferedCase, kinds: Sequence[ResultKind]) -> dict[Path, str]:
    """Return path and SOP Instance UID of what the destinations get of these kinds."""
    with offered.context.database.transaction() as session:
        rows = session.query(Result).filter(Result.kind.in_(kinds)).all()
        assert {row.kind for row in rows} == set(kinds)
        return {offered.context.store.absolute(row.path): row.sop_instance_uid for row in rows}
