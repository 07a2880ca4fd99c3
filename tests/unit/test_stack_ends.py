"""A stack that lacks slices at an end is a case with a warning, wherever a person looks."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_config.model import GateSection, Verb
from tests.support import offered
from tests.support.enhanced import write_enhanced_ct
from tests.support.intake import context_in, received
from tests.support.offered import candidate_labels, offered_case
from tests.support.series import edit, good_series
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, ResultKind, WorkKind
from uair_node.cli import app
from uair_node.dicom.gate import inspect_series
from uair_node.dicom.headers import read_headers
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.operations import reports
from uair_node.rendering.differences import cut_off_ends

LACKING = (
    "The scanner made 16 images in this acquisition. The series holds 13: "
    "slices may be missing at an end, or the other images belong to another reconstruction."
)


def _warnings(paths: list[Path]) -> tuple[str, ...]:
    verdict = inspect_series(read_headers(paths), GateSection(min_slices=5, min_coverage_mm=20))
    assert verdict.refusal is None
    return verdict.warnings


def _stated(folder: Path, stated: object, number: object = 1) -> list[Path]:
    paths = good_series(folder)
    for k, path in enumerate(paths):
        edit(
            path,
            ImagesInAcquisition=stated(k) if callable(stated) else stated,
            AcquisitionNumber=number(k) if callable(number) else number,
        )
    return paths


@pytest.mark.parametrize("lost", [slice(0, 3), slice(13, 16)])
def test_slices_that_lack_at_either_end_are_a_warning(tmp_path: Path, lost: slice) -> None:
    paths = _stated(tmp_path, 16)
    del paths[lost]
    assert _warnings(paths) == (LACKING,)


@pytest.mark.parametrize(
    ("stated", "number"),
    [
        (16, 1),
        (12, 1),
        ("", 1),
        (0, 1),
        (16, lambda k: k + 1),
        (8, lambda k: k // 8 + 1),
        (1, lambda k: k + 1),
    ],
)
def test_a_whole_stack_has_no_warning(tmp_path: Path, stated: object, number: object) -> None:
    assert _warnings(_stated(tmp_path, stated, number)) == ()


def test_slices_numbered_one_by_one_are_counted_together(tmp_path: Path) -> None:
    (found,) = _warnings(_stated(tmp_path, 20, lambda k: k + 1))
    assert found.startswith("The scanner made 20 images in this acquisition. The series holds 16:")


def test_the_part_that_lacks_is_named_among_several(tmp_path: Path) -> None:
    (found,) = _warnings(_stated(tmp_path, lambda k: 8 if k < 8 else 11, lambda k: k // 8 + 1))
    assert found.startswith("The scanner made 11 images in this acquisition. The series holds 8:")


def test_frames_are_not_counted_as_images(tmp_path: Path) -> None:
    paths = write_enhanced_ct(tmp_path / "multi", good_series(tmp_path / "single"))
    edit(paths[0], ImagesInAcquisition=40)
    assert _warnings(paths) == ()


def test_the_warning_is_kept_with_the_case_and_shown(database_url: str, tmp_path: Path) -> None:
    gate = {"min_slices": 5, "min_coverage_mm": 20}
    with context_in(tmp_path / "data", database_url, gate=gate) as context:
        inbox = Inbox(context)
        for path in _stated(tmp_path / "ct", 16)[:13]:
            inbox.receive(received(path))
        time.sleep(0.02)  # the quiet period
        assemble(context)
        with context.database.transaction() as session:
            case = session.query(Case).one()
            assert (case.state, case.code) == (CaseState.READY, "")
            assert reports.detail(session, case)["warnings"] == [LACKING]
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps({"data_dir": str(tmp_path / "data"), "database": {"url": database_url}}))
    shown = CliRunner().invoke(app, ["case", "show", "1", "--config", str(site)])
    assert f"warning: {LACKING}" in " ".join(shown.stdout.split())


def test_an_organ_that_touches_an_end_is_a_warning_of_the_case_and_of_the_next_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offered, "candidate_labels", lambda k: np.roll(candidate_labels(k), 3, axis=0))
    said = "The liver touches slice 16 of 16: it may be cut off there."
    with offered_case(tmp_path) as made:
        assert made.case().warnings == said
        made.send(made.candidate(3), Verb.PICK)
        made.compute()
        made.work(WorkKind.PUBLISH, WorkKind.NOTICES)
        assert made.case().warnings == said
        told = [str(dcmread(made.path(result)).ImageComments) for result in made.results(ResultKind.NOTICE)]
        assert [text.endswith(f" Warning: {said}") for text in told] == [False, True]


def _volume(*slices: int) -> np.ndarray:
    labels = np.zeros((9, 4, 4), np.uint8)
    labels[list(slices), 1, 1] = 1
    return labels


@pytest.mark.parametrize(
    ("volumes", "said"),
    [
        ([_volume(1, 7)], ""),
        ([_volume(0, 1)], "liver touches slice 1 of 9: it may be cut off there"),
        ([_volume(4, 8)], "liver touches slice 9 of 9: it may be cut off there"),
        ([_volume(0), _volume(8)], "liver touches slice 1 and 9 of 9: it may be cut off there"),
        ([_volume()], ""),
    ],
)
def test_an_organ_that_touches_an_end_may_be_cut_off(volumes: list[np.ndarray], said: str) -> None:
    assert cut_off_ends(volumes) == said


@pytest.mark.parametrize(
    ("ends", "warned"),
    [
        ([("A", False)], False),
        ([("A", True)], True),
        ([("other", True)], False),
        ([("A", True), ("B", False)], False),
        ([("A", False), ("B", True)], True),
    ],
)
def test_a_series_whose_association_was_cut_off_has_a_warning(
    database_url: str, tmp_path: Path, ends: list[tuple[str, bool]], warned: bool
) -> None:
    with context_in(tmp_path / "data", database_url) as context:
        inbox = Inbox(context)
        paths = good_series(tmp_path / "ct")
        parts = {"A": paths[:9], "B": paths[9:]} if len(ends) > 1 else {"A": paths}
        for association, aborted in ends:
            for path in parts.get(association, paths):
                inbox.receive(replace(received(path), association=association.replace("other", "A")))
            inbox.association_ended(association, aborted)
        time.sleep(0.02)  # the quiet period
        assemble(context)
        with context.database.transaction() as session:
            case = session.query(Case).one()
            assert case.state == CaseState.READY
            assert ("aborted an association" in case.warnings) == warned
