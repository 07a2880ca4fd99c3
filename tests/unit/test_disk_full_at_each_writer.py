"""The disk is full or fails under each writer in turn: a code, nothing half-written, the rest goes on.

Once there is space, the work is done as if nothing had been.
"""

from __future__ import annotations

import ast
import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_config.errors import ResourceError
from dicom_config.model import Verb
from tests.support.cases import open_item
from tests.support.full_disk import failing_writes_of
from tests.support.intake import received
from tests.support.offered import OfferedCase, offered_case
from tests.support.series import good_series
from uair_node.cases import work_items
from uair_node.cases.database import Database
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, ResultKind, WorkKind
from uair_node.console.users import Role, UsersFile
from uair_node.intake.inbox import Inbox
from uair_node.operations.housekeeping.export import export_case
from uair_node.patient_keys import SECRET_FILE, open_patient_keys
from uair_node.storage.folder_identity import MARKER_FILE, claim_folder
from uair_node.storage.store import Store

_ROOT = Path(__file__).parents[2]
_PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, "withdraw": True}
_NUMBERS = pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO], ids=["full", "broken"])
_CODES = {errno.ENOSPC: "The disk is full.", errno.EIO: "A file cannot be written (Input/output error)."}


@pytest.fixture
def offered(tmp_path: Path, database_url: str) -> Iterator[OfferedCase]:
    with offered_case(tmp_path, database_url=database_url, destinations=[_PACS]) as made:
        yield made


def _accepted(offered: OfferedCase) -> None:
    offered.send(offered.candidate(2), Verb.ACCEPT)


def _refined(offered: OfferedCase) -> None:
    offered.send(offered.candidate(2), Verb.PICK)
    offered.compute()


# What leads to the work, the work, the module that writes, and the results that it ends in.
_JOBS: dict[str, tuple[Callable[[OfferedCase], object], WorkKind, str, ResultKind, int]] = {
    "segmentations": (_refined, WorkKind.PUBLISH, "uair_node.results.segments", ResultKind.CANDIDATE, 8),
    "pages": (lambda offered: None, WorkKind.PAGES, "uair_node.results.page_set", ResultKind.PAGE, 5),
    "notices": (_refined, WorkKind.NOTICES, "uair_node.results.notices", ResultKind.NOTICE, 1),
    "final segmentation": (_accepted, WorkKind.FINISH, "uair_node.results.segments", ResultKind.FINAL, 1),
    "report": (_accepted, WorkKind.FINISH, "uair_node.results.finish", ResultKind.REPORT, 1),
    "findings": (_accepted, WorkKind.FINISH, "uair_node.findings.record", ResultKind.REPORT, 1),
    "withdrawal": (_accepted, WorkKind.FINISH, "uair_node.results.withdrawal", ResultKind.WITHDRAWAL, 1),
}


@_NUMBERS
@pytest.mark.parametrize("name", _JOBS)
def test_a_result_that_cannot_be_written_is_written_later(
    offered: OfferedCase, tmp_path: Path, name: str, number: int
) -> None:
    prepare, kind, module, results, count = _JOBS[name]
    prepare(offered)
    before = len(offered.results(results))
    with failing_writes_of(module, number) as failed:
        offered.work(kind)
        assert failed, "it was tried"
        assert len(offered.results(results)) == before
        _take_another_series(offered, tmp_path)
    assert not list((tmp_path / "data").rglob("*.part"))
    assert not [path for path in (tmp_path / "data").rglob("*") if path.name in failed]
    with offered.context.database.transaction() as session:
        case = session.query(Case).order_by(Case.id).first()
        assert case is not None
        assert case.state not in (CaseState.FAILED, CaseState.REJECTED)
        item = open_item(session, case, kind)
        assert _CODES[number] in item.cause
        work_items.make_due_now(session, item)
    offered.work(kind)
    assert len(offered.results(results)) == count
    assert all(offered.path(result).is_file() for result in offered.results(results))


def _take_another_series(offered: OfferedCase, folder: Path) -> None:
    """Receive a series: nothing else stops."""
    inbox = Inbox(offered.context)
    for path in good_series(folder / "another"):
        inbox.receive(received(path))
    with offered.context.database.reading() as session:
        assert session.query(Instance).count() == len(offered.paths) + 16 + _returned(offered)


def _returned(offered: OfferedCase) -> int:
    return len(offered.selections())


@_NUMBERS
def test_an_export_that_cannot_be_written_leaves_no_file(
    offered: OfferedCase, tmp_path: Path, number: int
) -> None:
    target = tmp_path / "out" / "case.zip"
    with (
        failing_writes_of("uair_node.operations.housekeeping.export", number) as failed,
        pytest.raises(ResourceError),
    ):
        export_case(offered.context, 1, target, actor="test")
    assert failed == ["case.zip"]
    assert list(target.parent.iterdir()) == []
    assert export_case(offered.context, 1, target, actor="test") > 0


@_NUMBERS
def test_a_secret_that_cannot_be_written_is_made_by_the_next_start(
    database: Database, tmp_path: Path, number: int
) -> None:
    folder = tmp_path / "new"
    with failing_writes_of("uair_node.patient_keys", number) as failed, pytest.raises(ResourceError):
        open_patient_keys(database, folder, None)
    assert failed == [SECRET_FILE]
    assert list(folder.iterdir()) == []
    open_patient_keys(database, folder, None)
    assert (folder / SECRET_FILE).is_file()


@_NUMBERS
def test_a_user_that_cannot_be_written_leaves_the_others(tmp_path: Path, number: int) -> None:
    users = UsersFile(tmp_path / "users.json")
    users.add("first", Role.VIEWER, "a long enough password")
    with failing_writes_of("uair_node.console.users", number), pytest.raises(ResourceError):
        users.add("second", Role.VIEWER, "a long enough password")
    assert users.get("first") is not None
    assert users.get("second") is None
    users.add("second", Role.VIEWER, "a long enough password")
    assert users.get("second") is not None


@_NUMBERS
def test_a_marker_that_cannot_be_written_is_made_by_the_next_start(
    database: Database, tmp_path: Path, number: int
) -> None:
    store = Store(tmp_path)
    with (
        failing_writes_of("uair_node.storage.folder_identity", number) as failed,
        pytest.raises(ResourceError),
    ):
        claim_folder(database, store)
    assert failed == [MARKER_FILE]
    assert not (tmp_path / MARKER_FILE).exists()
    claim_folder(database, store)
    assert (tmp_path / MARKER_FILE).is_file()


_ELSEWHERE = {
    "uair_node/storage/artifacts.py",  # tests/unit/test_failing_disk.py: label volumes, regions, edits
    "uair_node/storage/spool.py",  # tests/unit/test_failing_disk.py: instances
    "workers/compute/computer.py",  # tests/unit/test_compute.py
}
_WRITERS = {"uair_node/storage/store.py", "uair_node/results/result_writer.py"}
"""Modules that write for others."""
_WRITING = {"write_durably", "staged", "keep_result"}
_HERE = {f"{module.replace('.', '/')}.py" for _, _, module, _, _ in _JOBS.values()}
_HERE |= {
    "uair_node/console/users.py",
    "uair_node/operations/housekeeping/export.py",
    "uair_node/patient_keys.py",
    "uair_node/storage/folder_identity.py",
}


def test_each_module_that_writes_durably_is_made_to_fail() -> None:
    found = set()
    for package in ("uair_node", "workers"):
        for path in (_ROOT / package).rglob("*.py"):
            calls = (
                node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)
            )
            if any(getattr(call.func, "id", "") in _WRITING for call in calls):
                found.add(path.relative_to(_ROOT).as_posix())
    assert found - _WRITERS == _HERE | _ELSEWHERE
