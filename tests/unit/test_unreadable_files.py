"""A file that is missing, cut off or damaged: a code for this case at each reader, and nothing else stops."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from dicom_config.errors import ConfigError, InputError, TransientError
from tests.support.cases import open_item, ready_case
from tests.support.intake import context_in, received
from tests.support.series import good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, WorkKind
from uair_node.console.users import Role, UsersFile
from uair_node.context import Context
from uair_node.dicom.volume import read_geometry, read_series, read_slice
from uair_node.findings.record import load_findings
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.storage.artifacts import (
    StoredCandidate,
    load_candidates,
    load_region,
    reading_artifact,
    save_candidates,
    save_region,
)
from uair_node.work.performer import Claim, Commit, perform
from workers.models.weights import load_weights, save_weights
from workers.uair.state import RoundState

HARMS = ("missing", "empty", "truncated", "garbage", "folder")


def _harm(path: Path, harm: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if harm == "truncated":
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif harm == "garbage":
        path.write_bytes(b"PK no archive" * 50)
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "folder":
        path.mkdir()


def _read_state(path: Path) -> object:
    with reading_artifact():
        return RoundState.load(path)


def _labels() -> np.ndarray:
    labels = np.zeros((4, 30, 30), np.uint8)
    labels[1:3, 5:20, 5:25] = np.random.default_rng(0).integers(1, 3, (2, 15, 20))
    return labels


_ARTIFACTS: dict[str, tuple[Callable[[Path], object], Callable[[Path], object]]] = {
    "label volumes": (
        lambda path: save_candidates(path, [StoredCandidate(1, _labels(), "")]),
        load_candidates,
    ),
    "region": (lambda path: save_region(path, _labels() > 0), load_region),
    "state": (lambda path: save_candidates(path, [StoredCandidate(1, _labels(), "")]), _read_state),
    "findings": (lambda path: path.write_text('{"findings": []}'), load_findings),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("name", _ARTIFACTS)
def test_an_artifact_that_cannot_be_read_has_a_code(tmp_path: Path, name: str, harm: str) -> None:
    write, read = _ARTIFACTS[name]
    path = tmp_path / "artifact.npz"
    write(path)
    _harm(path, harm)
    if (name, harm) == ("findings", "missing"):
        assert read(path) is None  # of cases that an older version accepted
        return
    with pytest.raises(TransientError) as caught:
        read(path)
    assert caught.value.code == "artifact-unreadable"
    assert "Restore" in caught.value.remedy


def test_a_case_whose_artifact_is_damaged_fails_with_its_code_and_the_next_goes_on(
    tmp_path: Path, database_url: str
) -> None:
    with context_in(tmp_path, database_url, work={"max_attempts": 1}) as context:
        with context.database.transaction() as session:
            cases = [ready_case(session, uid) for uid in ("1.2.3", "1.2.4")]
            ids = [case.id for case in cases]
            items = [open_item(session, case, WorkKind.COMPUTE).id for case in cases]

        def compute(claim: Claim) -> Commit:
            path = tmp_path / f"{claim.case_id}.npz"
            save_candidates(path, [StoredCandidate(1, _labels(), "")])
            if claim.case_id == ids[0]:
                _harm(path, "truncated")
            load_candidates(path)
            return lambda _session, item: setattr(item, "open", False)

        for item in items:
            assert perform(context, item, compute)
        with context.database.transaction() as session:
            first, second = (session.get_one(Case, case_id) for case_id in ids)
            assert (first.state, first.code) == (CaseState.FAILED, "artifact-unreadable")
            assert first.remedy
            assert second.state == CaseState.READY


_SERIES_READERS: dict[str, Callable[[list[Path]], object]] = {
    "geometry": read_geometry,
    "pixels": read_series,
}


@pytest.mark.parametrize("name", _SERIES_READERS)
@pytest.mark.parametrize("harm", ["missing", "empty", "truncated", "garbage"])
def test_a_received_file_that_cannot_be_read_has_a_code(tmp_path: Path, name: str, harm: str) -> None:
    paths = good_series(tmp_path)
    _harm(paths[3], harm)
    if (name, harm) == ("geometry", "truncated"):
        assert read_geometry(paths).shape[0] == len(paths)  # its header is whole
        return
    with pytest.raises((InputError, TransientError)) as caught:
        _SERIES_READERS[name](paths)
    expected = {"missing": "instance-missing", "truncated": "undecodable-pixels"}
    assert caught.value.code == expected.get(harm, "not-dicom")


def test_a_slice_that_is_gone_has_a_code(tmp_path: Path) -> None:
    paths = good_series(tmp_path)
    grid = read_geometry(paths)
    for path in paths:
        path.unlink()
    with pytest.raises(TransientError) as caught:
        read_slice(grid, 3)
    assert caught.value.code == "instance-missing"


@pytest.fixture
def context(tmp_path: Path, database_url: str) -> Iterator[Context]:
    impatient = {"quiet_s": 0.01, "max_wait_s": 0.01, "partial_edit_wait_s": 0.01, "min_free_bytes": 0}
    with context_in(tmp_path / "data", database_url, intake=impatient) as made:
        yield made


@pytest.mark.parametrize("harm", ["missing", "empty", "garbage"])
def test_a_series_that_lost_a_file_is_told_and_comes_back_when_it_is_sent_again(
    context: Context, tmp_path: Path, harm: str
) -> None:
    series = [good_series(tmp_path / name) for name in ("lost", "whole")]
    inbox = Inbox(context)
    for path in (path for paths in series for path in paths):
        inbox.receive(received(path))
    with context.database.transaction() as session:
        first = session.query(Instance).order_by(Instance.id).first()
        assert first is not None
        place = context.store.absolute(first.path)
    _harm(place, harm)
    time.sleep(0.02)
    assemble(context)
    code = "instance-missing" if harm == "missing" else "not-dicom"
    assert _cases(context) == [(CaseState.REJECTED, code), (CaseState.READY, "")]
    for path in series[0]:  # what the remedy says
        inbox.receive(received(path))
    time.sleep(0.02)
    assemble(context)
    assert _cases(context)[2:] == [(CaseState.READY, "")]


def _cases(context: Context) -> list[tuple[CaseState, str]]:
    with context.database.transaction() as session:
        return [(case.state, case.code) for case in session.query(Case).order_by(Case.id)]


@pytest.mark.parametrize("harm", ["empty", "truncated", "garbage", "folder"])
def test_a_users_file_that_cannot_be_read_has_a_code(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "users.json"
    UsersFile(path).add("reader", Role.VIEWER, "a long enough password")
    _harm(path, harm)
    with pytest.raises(ConfigError) as caught:
        UsersFile(path).get("reader")
    assert caught.value.code == "users-file"


@pytest.mark.parametrize("harm", HARMS)
def test_weights_that_cannot_be_read_have_a_code(tmp_path: Path, harm: str) -> None:
    path, model = tmp_path / "model.safetensors", nn.Linear(200, 200)
    save_weights(model, path)
    load_weights(model, path)
    _harm(path, harm)
    with pytest.raises(ConfigError) as caught:
        load_weights(model, path)
    assert caught.value.code == ("weights-missing" if harm in ("missing", "folder") else "weights-damaged")
