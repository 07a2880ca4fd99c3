"""While a file is read or fetched, others can write to the database: no transaction that writes is open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest

from dicom_config.model import Verb
from tests.support.cases import ready_case
from tests.support.intake import context_in
from tests.support.offered import OfferedCase, offered_case
from tests.support.write_lock import Watch, watched_reads
from uair_node.cases import lifecycle
from uair_node.cases.lock import lock_case
from uair_node.cases.tables import ResultKind, SelectionOutcome, WorkItem, WorkKind, utc_now
from uair_node.operations.housekeeping.retention import apply_retention
from uair_node.work.performer import Claim, Commit, perform
from workers.compute import round_task


@pytest.fixture
def offered(tmp_path: Path, database_url: str) -> Iterator[OfferedCase]:
    with offered_case(tmp_path, database_url=database_url, work={"lease_s": 600}) as made:
        yield made


@pytest.fixture
def watch(offered: OfferedCase, database_url: str) -> Iterator[Watch]:
    with watched_reads(database_url, offered.context.store.root) as made:
        yield made


def _check(watch: Watch) -> None:
    assert watch.opened, "files were opened"
    assert watch.locked == []


def test_the_watch_finds_a_file_that_is_read_under_the_lock(offered: OfferedCase, watch: Watch) -> None:
    path = offered.path(offered.results(kind=ResultKind.CANDIDATE)[0])
    path.read_bytes()
    assert (watch.opened, watch.locked) == (1, [])
    with offered.context.database.transaction() as session:
        session.query(WorkItem).with_for_update().all()
        lock_case(session, 1)
        path.read_bytes()
    assert len(watch.locked) == 1


def test_an_answer_is_read_before_the_lock(offered: OfferedCase, watch: Watch) -> None:
    said = offered.send(offered.candidate(2), Verb.PICK)
    assert said is not None
    assert said.outcome == SelectionOutcome.EFFECTIVE
    _check(watch)


def test_an_edit_is_read_before_the_lock(offered: OfferedCase, watch: Watch) -> None:
    edit = offered.candidate(2)
    edit.SOPInstanceUID = edit.file_meta.MediaStorageSOPInstanceUID = "2.25.4711"
    said = offered.send(edit, Verb.PICK)
    assert said is not None
    assert said.outcome == SelectionOutcome.EFFECTIVE
    _check(watch)


def test_an_object_of_another_patient_is_refused_before_the_lock(offered: OfferedCase, watch: Watch) -> None:
    other = offered.candidate(2)
    other.PatientID = "SOMEBODY-ELSE"
    said = offered.send(other, Verb.PICK)
    assert said is not None
    assert (said.outcome, said.code) == (SelectionOutcome.REFUSED, "other-patient")
    _check(watch)


def test_jobs_read_and_fetch_outside_of_the_lock(offered: OfferedCase, watch: Watch) -> None:
    offered.work(WorkKind.PAGES)
    _check(watch)
    offered.send(offered.candidate(2), Verb.ACCEPT)
    offered.work(WorkKind.FINISH)
    _check(watch)


def test_a_round_s_files_are_fetched_outside_of_the_lock(offered: OfferedCase, database_url: str) -> None:
    offered.send(offered.candidate(2), Verb.PICK)
    offered.work(WorkKind.NOTICES)
    context = offered.context
    with watched_reads(database_url, context.store.root) as watch:
        remote = _Remote(watch)
        elsewhere = replace(
            context, store=replace(context.store, root=context.store.root / "other", remote=remote)
        )
        with context.database.transaction() as session:
            item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one().id

        def begin(claim: Claim) -> Commit:
            round_task.begin(elsewhere, claim)
            return lambda session, item: None

        assert perform(context, item_id, begin)
        assert len(remote.names) >= 3, "state, candidates, slices"
        assert watch.locked == []


def test_retention_deletes_shared_files_outside_of_the_lock(tmp_path: Path, database_url: str) -> None:
    retention = {"failed": {"files_days": 1}}
    with context_in(tmp_path / "data", database_url, retention=retention) as local:
        with local.database.transaction() as session:
            case = ready_case(session)
            lifecycle.fail(session, case, code="work-failed", cause="A cause.", remedy="A remedy.")
            case.updated_at = utc_now() - timedelta(days=2)
            names = {instance.path for instance in case.instances}
        with watched_reads(database_url, local.store.root) as watch:
            remote = _Remote(watch)
            apply_retention(
                replace(local, store=replace(local.store, remote=remote)), dry_run=False, now=utc_now()
            )
            assert names | {"artifacts/case-000001"} <= set(remote.names)
            assert watch.locked == []


@dataclass
class _Remote:
    """Stands where machines share files; each access counts as one of a file."""

    watch: Watch
    names: list[str] = field(default_factory=list)

    def put(self, files: Mapping[str, Path]) -> None:
        self._note(*files)

    def get(self, files: Mapping[str, Path]) -> None:
        self._note(*files)

    def remove(self, names: Sequence[str]) -> None:
        self._note(*names)

    def remove_folder(self, name: str) -> None:
        self._note(name)

    def probe(self) -> None:
        self._note()

    def _note(self, *names: str) -> None:
        self.names += names
        self.watch.note(str(self.watch.folder))
