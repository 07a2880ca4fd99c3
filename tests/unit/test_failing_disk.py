"""A full or failing disk at every write: an answer with a code, nothing half-written, and then it goes on."""

from __future__ import annotations

import ast
import errno
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event

from dicom_config.errors import ResourceError, TransientError
from dicom_config.model import Verb
from tests.support.cases import open_item, ready_case
from tests.support.intake import context_in, received
from tests.support.series import good_series
from tests.support.waiting import VIEWER, waiting_case
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, Selection, SelectionOutcome, WorkItem, WorkKind
from uair_node.cases.work_items import make_due_now
from uair_node.console.users import Role, UsersFile
from uair_node.context import Context
from uair_node.dicom.volume import read_series
from uair_node.intake.inbox import Inbox
from uair_node.network.store_status import StoreStatus, store_status
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import write_seg
from uair_node.storage.artifacts import StoredCandidate, load_candidates, save_candidates, save_region
from uair_node.storage.store import make_folder_durably, write_durably
from uair_node.work.performer import Claim, Commit, perform

_CODES = {errno.ENOSPC: "disk-full", errno.EDQUOT: "disk-full", errno.EIO: "disk-broken"}
_ROOT = Path(__file__).parents[2]
SHAPE = (16, 24, 20)


@contextmanager
def _failing(stage: str, number: int) -> Iterator[None]:
    """Let one stage of each durable write fail; many file systems report a full disk at the sync only."""

    def fail(*_arguments: object, **_keywords: object) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        if stage == "name":
            patch.setattr(tempfile, "mkstemp", fail)
        elif stage == "sync":
            patch.setattr(os, "fsync", fail)
        elif stage == "rename":
            patch.setattr(Path, "replace", fail)
        yield


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("number", _CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("stage", ["name", "write", "sync", "rename"])
def test_a_write_that_fails_has_a_code_and_leaves_what_was_there(
    tmp_path: Path, stage: str, number: int
) -> None:
    target = tmp_path / "file"
    write_durably(target, lambda temporary: temporary.write_bytes(b"old"))

    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        if stage == "write":
            raise OSError(number, os.strerror(number))

    with _failing(stage, number), pytest.raises(ResourceError) as caught:
        write_durably(target, write)
    assert caught.value.code == _CODES[number]
    assert store_status(caught.value) == StoreStatus.OUT_OF_RESOURCES
    assert _files(tmp_path) == {"file": b"old"}
    write_durably(target, lambda temporary: temporary.write_bytes(b"new"))
    assert _files(tmp_path) == {"file": b"new"}


def test_a_device_that_is_full_in_the_middle_of_a_write_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        write_durably(tmp_path / "file", lambda _: Path("/dev/full").write_bytes(b"x"))
    assert caught.value.code == "disk-full"
    assert _files(tmp_path) == {}


def test_a_folder_that_cannot_be_made_has_a_code(tmp_path: Path) -> None:
    with _failing("sync", errno.EIO), pytest.raises(ResourceError, match="Input/output error"):
        make_folder_durably(tmp_path / "one" / "two")
    make_folder_durably(tmp_path / "one" / "two")


def _labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:12, 5:14, 4:14] = 1
    return labels


_WRITERS: dict[str, Callable[[Path], object]] = {
    "label volumes": lambda folder: save_candidates(folder / "a", [StoredCandidate(1, _labels(), "")]),
    "region": lambda folder: save_region(folder / "a", _labels() > 0),
    "segmentation": lambda folder: save_durably(
        write_seg(read_series(good_series(folder.parent / "ct")), _labels(), VIEWER), folder / "a"
    ),
    "users": lambda folder: UsersFile(folder / "a").add("reader", Role.VIEWER, "a long enough password"),
}


@pytest.mark.parametrize("name", _WRITERS)
def test_each_writer_fails_whole(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    with _failing("sync", errno.ENOSPC), pytest.raises(ResourceError):
        _WRITERS[name](folder)
    assert _files(folder) == {}
    _WRITERS[name](folder)
    assert list(_files(folder)) == ["a"]


# What writes, by module, beside `write_durably` with a function that fills its temporary file.
_BY_WRITE_DURABLY = {
    "uair_node/storage/store.py": 2,
    "uair_node/storage/artifacts.py": 4,
    "uair_node/console/users.py": 1,
    "uair_node/operations/housekeeping/export.py": 3,  # two of these are in memory
    "uair_node/storage/folder_identity.py": 1,
    "uair_node/storage/spool.py": 1,
    "uair_node/patient_keys.py": 1,
    "uair_node/findings/record.py": 1,
    "uair_node/results/result_writer.py": 1,
    "workers/uair/state.py": 2,
}
_BY_THEMSELVES = {
    "uair_node/operations/checks/machine.py": 1,  # a probe: `data-folder-unusable`
    "uair_node/commands/cohort_report.py": 1,  # a person's command, into a folder of theirs
    "uair_node/commands/init.py": 1,  # a person's command: it writes a new configuration
    "uair_node/dicom/decoding_apart.py": 2,  # in memory
    "uair_node/rendering/export_formats.py": 2,  # a download, through the system's temporary folder
    "workers/models/cache.py": 2,  # a cache: a full disk costs a warning (tests/unit/test_embedding_cache.py)
    "workers/models/template_store.py": 1,  # a person's command, renamed when whole
    "workers/models/weights.py": 1,  # training
    "workers/search/archived_start.py": 1,  # in memory; `Inbox` writes the spool
    "workers/truth/masks.py": 2,  # opens archives to read them
}
_WRITING = {"write_text", "write_bytes", "save_as", "mkstemp", "NamedTemporaryFile", "TemporaryDirectory"}
_OPENING = {"open", "fdopen"}
_WRITING |= {"save_file", "copyfile", "copy2", "move", "ZipFile", "savez", "savez_compressed"}


def test_every_place_that_writes_a_file_is_known() -> None:
    """A new writer goes through `write_durably`, or says here what a full disk does to it."""
    found: Counter[str] = Counter()
    for package in ("uair_node", "workers", "dicom_config"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            name = path.relative_to(_ROOT).as_posix()
            if not name.startswith(("workers/research", "workers/phantoms", "workers/demo")):
                found[name] += sum(map(_writes, ast.walk(ast.parse(path.read_text("utf-8")))))
    known = Counter({**_BY_WRITE_DURABLY, **_BY_THEMSELVES})
    assert +found == +known


def _writes(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in _OPENING:
        texts = [
            argument.value
            for argument in node.args
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
        ]
        return any(set(text) <= set("rwaxbt+") and set(text) & set("wax+") for text in texts)
    if isinstance(node, ast.Attribute):
        return node.attr in _WRITING
    return isinstance(node, ast.Name) and node.id in _WRITING


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return good_series(tmp_path / "ct")


def test_an_instance_is_taken_once_there_is_space(
    tmp_path: Path, database_url: str, paths: list[Path]
) -> None:
    with context_in(tmp_path / "data", database_url) as context:
        inbox = Inbox(context)
        with _failing("sync", errno.ENOSPC), pytest.raises(ResourceError):
            inbox.receive(received(paths[0]))
        assert _files(tmp_path / "data" / "spool") == {}
        for path in paths:
            inbox.receive(received(path))
        assert len(_files(tmp_path / "data" / "spool")) == len(paths)
        with context.database.transaction() as session:
            assert session.query(Instance).count() == len(paths)


def test_a_database_that_is_full_takes_nothing_and_then_goes_on(tmp_path: Path, paths: list[Path]) -> None:
    """SQLite says so itself: its file may not grow any more."""
    full = [False]
    with context_in(tmp_path / "data", f"sqlite:///{tmp_path / 'uair.sqlite'}") as context:

        @event.listens_for(context.database.engine, "checkout")
        def _on_checkout(connection: object, *_more: object) -> None:
            pages = 1 if full[0] else 1 << 30  # it is never made less than the file has
            connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

        inbox = Inbox(context)
        full[0] = True
        with pytest.raises(TransientError):
            _fill(context)
        with pytest.raises(TransientError) as caught:
            _receive(inbox, paths)
        assert caught.value.code == "database-unavailable"
        assert store_status(caught.value) == StoreStatus.PROCESSING_FAILURE
        full[0] = False
        _receive(inbox, paths)
        with context.database.transaction() as session:
            kept = {row.path for row in session.query(Instance)}
        assert len(kept) == len(paths)
        assert all((tmp_path / "data" / path).is_file() for path in kept)


def _fill(context: Context) -> None:
    for _ in range(5000):
        with context.database.transaction() as session:
            session.add(AccessRecord(actor="a" * 40, action="fill", subject="s" * 40, outcome="ok"))


def _receive(inbox: Inbox, paths: list[Path]) -> None:
    for path in paths:
        inbox.receive(received(path))


def test_an_edit_that_cannot_be_kept_is_answered_a700_and_then_takes_effect(
    tmp_path: Path, paths: list[Path]
) -> None:
    volume = read_series(paths)
    candidates = [StoredCandidate(k, _labels(), "") for k in (1, 2, 3, 4)]
    edited = tmp_path / "edited.dcm"
    drawn = _labels()
    drawn[3, 5:9, 4:9] = 0
    save_durably(write_seg(volume, drawn, VIEWER), edited)
    with waiting_case(tmp_path, volume, candidates) as context:
        inbox, sent = Inbox(context), received(edited, Verb.PICK, "VIEWER")
        inbox.receive(received(edited))  # as a file it is there: only the label volume is to be written
        before = _files(tmp_path / "data")
        with _failing("rename", errno.EIO), pytest.raises(ResourceError) as caught:
            inbox.receive(sent)
        assert store_status(caught.value) == StoreStatus.OUT_OF_RESOURCES
        assert _files(tmp_path / "data") == before
        with context.database.transaction() as session:
            assert session.query(Selection).count() == 0
            assert session.query(Case).first().state == CaseState.AWAITING_SELECTION
        inbox.receive(sent)
        with context.database.transaction() as session:
            assert session.query(Selection).one().outcome == SelectionOutcome.EFFECTIVE


def test_work_that_finds_no_space_is_done_once_there_is_some(tmp_path: Path, database_url: str) -> None:
    with context_in(tmp_path, database_url, work={"max_attempts": 3}) as context:
        with context.database.transaction() as session:
            case_id = ready_case(session).id
            item_id = open_item(session, session.get_one(Case, case_id), WorkKind.COMPUTE).id

        def compute(claim: Claim) -> Commit:
            folder = context.store.round_folder(case_id, 1, claim.token)
            save_candidates(folder / "candidates.npz", [StoredCandidate(1, _labels(), "")])
            return lambda _session, item: setattr(item, "open", False)

        with _failing("sync", errno.ENOSPC):
            assert perform(context, item_id, compute)
        assert _files(tmp_path / "artifacts") == {}
        with context.database.transaction() as session:
            item = session.get_one(WorkItem, item_id)
            assert item.open
            assert "The disk is full." in item.cause
            assert session.get_one(Case, case_id).state == CaseState.READY
            make_due_now(session, item)
        assert perform(context, item_id, compute)
        (kept,) = (tmp_path / "artifacts").rglob("candidates.npz")
        assert load_candidates(kept)[0].labels.any()


def test_a_disk_that_stays_full_fails_the_case_with_its_code(tmp_path: Path, database_url: str) -> None:
    with context_in(tmp_path, database_url, work={"max_attempts": 1}) as context:
        with context.database.transaction() as session:
            case = ready_case(session)
            case_id, item_id = case.id, open_item(session, case, WorkKind.COMPUTE).id

        def compute(_claim: Claim) -> Commit:
            raise ResourceError("disk-full", "The disk is full.", "Free space.")

        assert perform(context, item_id, compute)
        with context.database.transaction() as session:
            case = session.get_one(Case, case_id)
            assert (case.state, case.code) == (CaseState.FAILED, "disk-full")
