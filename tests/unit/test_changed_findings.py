"""A finding that is dropped, kept or added by its own page, its number or a place, without a drawing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from pydicom import Dataset, dcmread
from typer.testing import CliRunner

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.support.offered import OfferedCase, copied_case, offered_case
from tests.support.selections import key_object
from uair_node.cases.marks import Marks, marks_of
from uair_node.cases.states import CaseState
from uair_node.cases.tables import ResultKind, Selection, SelectionOutcome, WorkKind
from uair_node.cli import app
from uair_node.dicom.volume import read_geometry
from uair_node.results.round_inputs import read_round_inputs
from uair_node.work.performer import Claim


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A case with two findings whose pictures are drawn; each test has a copy of it."""
    folder = tmp_path_factory.mktemp("case")
    with offered_case(folder) as case:
        case.work(WorkKind.PAGES)
    return folder


@pytest.fixture
def case(original: Path, tmp_path: Path) -> Iterator[OfferedCase]:
    with copied_case(original, tmp_path / "node") as copied:
        yield copied


def _page(case: OfferedCase, number: int) -> Dataset:
    (page,) = (result for result in case.results(ResultKind.FINDING) if result.k == number)
    return dcmread(case.path(page))


def _marks(row: Selection | None) -> Marks:
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE, (row.code, row.sentence)
    marks = marks_of(row.marks)
    assert marks is not None
    return marks


def _refusal(row: Selection | None) -> str:
    assert row is not None
    assert row.outcome == SelectionOutcome.REFUSED
    return row.code


def test_each_finding_has_a_page_in_the_series_of_the_rounds_pages(case: OfferedCase) -> None:
    first, second = _page(case, 1), _page(case, 2)
    assert (first.ImageComments, second.ImageComments) == ("lesion 1: drop", "lesion 2: drop")
    assert {first.SeriesInstanceUID, second.SeriesInstanceUID} == {
        page.series_instance_uid for page in case.results(ResultKind.PAGE)
    }
    assert (first.InstanceNumber, second.InstanceNumber) == (6, 7)
    named = [item.ReferencedSOPInstanceUID for item in first.ReferencedImageSequence]
    assert named == [result.sop_instance_uid for result in case.results(ResultKind.CANDIDATE)]


@pytest.mark.parametrize("as_key_object", [True, False])
def test_the_page_of_a_finding_drops_it(case: OfferedCase, as_key_object: bool) -> None:
    page = _page(case, 2)
    row = case.send(key_object([page]) if as_key_object else page, Verb.PICK)
    marks = _marks(row)
    assert (marks.dropped, marks.lesions, marks.picked) == ((3,), (), False)
    assert row is not None
    assert (row.sentence, row.words) == ("Lesion 2 dropped.", "report of marks")
    assert case.case().state == CaseState.REFINING


def test_findings_dropped_one_after_the_other_are_one_answer(case: OfferedCase) -> None:
    case.send(case.candidate(3), Verb.PICK)
    case.send(key_object([_page(case, 1)]), Verb.PICK)
    row = case.send(key_object([_page(case, 2)]), Verb.PICK)
    marks = _marks(row)
    assert row is not None
    assert (row.picked, marks.dropped, marks.picked) == (3, (2, 3), True)
    assert [said.outcome for said in case.selections()] == ["joined", "joined", "effective"]
    assert row.sentence == "Lesion 1 dropped; lesion 2 dropped. Your earlier answer to this round stays."


def test_a_candidate_beside_it_is_picked_without_the_finding(case: OfferedCase) -> None:
    row = case.send(key_object([_page(case, 1), _page(case, 2), case.candidate(3)]), Verb.PICK)
    marks = _marks(row)
    assert row is not None
    assert (row.picked, marks.dropped, marks.picked) == (3, (2, 3), True)
    assert row.words == "candidate 3, report of marks"


def test_a_candidate_is_accepted_without_the_finding(case: OfferedCase) -> None:
    row = case.send(key_object([_page(case, 1), case.candidate(3)]), Verb.ACCEPT)
    assert _marks(row).dropped == (2,)
    assert case.case().state == CaseState.ACCEPTED
    claim = Claim(1, WorkKind.FINISH, "1/1", 1, 1, 1, "test:1")
    without = replace(read_round_inputs(case.context, claim), content_digest="1" * 64)
    whole = replace(without, dropped=())
    assert set(without.uids(ResultKind.FINAL, 3)).isdisjoint(whole.uids(ResultKind.FINAL, 3))
    case.work(WorkKind.FINISH)
    (final,) = case.results(ResultKind.FINAL)
    assert final.targets == [1, 3]
    offered = case.results(ResultKind.CANDIDATE)[2]
    assert final.volumes_ml["liver"] == offered.volumes_ml["liver"], "what is no lesion is liver"


@pytest.mark.parametrize(
    ("verb", "candidate", "code"),
    [
        (Verb.ACCEPT, None, "mark-needs-candidate"),
        (Verb.REJECT, None, "mark-needs-pick"),
        (Verb.REJECT, 3, "mark-needs-pick"),
    ],
)
def test_a_finding_alone_ends_nothing(
    case: OfferedCase, verb: Verb, candidate: int | None, code: str
) -> None:
    also = [] if candidate is None else [case.candidate(candidate)]
    assert _refusal(case.send(key_object([_page(case, 1), *also]), verb)) == code
    assert case.case().state == CaseState.AWAITING_SELECTION


def test_the_page_of_an_older_round_drops_the_finding_from_the_newest(case: OfferedCase) -> None:
    case.send(case.candidate(2), Verb.PICK)
    case.compute()
    case.work(WorkKind.PUBLISH)
    page = _page(case, 1)
    older = key_object([page, case.candidate(1)])
    assert _refusal(case.send(older, Verb.PICK)) == "mark-older-round"
    row = case.send(key_object([page]), Verb.PICK)
    assert _marks(row).dropped == (2,)
    assert row is not None
    assert (row.round_number, row.candidates_round) == (2, 2)


@pytest.fixture
def config(case: OfferedCase, tmp_path: Path) -> Path:
    """The configuration of the case's node."""
    path, settings = tmp_path / "uair.yaml", case.context.settings
    path.write_text(
        yaml.safe_dump(
            {
                "data_dir": str(settings.data_dir),
                "database": {"url": f"sqlite:///{tmp_path}/node/uair.sqlite"},
            }
        )
    )
    return path


def _run(config: Path, *arguments: object) -> str:
    ended = CliRunner().invoke(app, ["case", *map(str, arguments), "--config", str(config)])
    if ended.exception is not None:
        raise ended.exception
    return " ".join(ended.output.split())


def test_the_command_line_drops_and_keeps_by_number(case: OfferedCase, config: Path) -> None:
    said = _run(config, "mark", 1, "--drop", 2, "--keep", 1)
    assert said == ("Case 1, round 1: pick, changed findings. Lesion 1 kept; lesion 2 dropped. Now REFINING.")
    (row,) = case.selections()
    (kept,) = _marks(row).lesions
    assert (row.mechanism, kept.value, kept.new, kept.marks) == ("command-line", 2, False, ())


@pytest.mark.parametrize(("verb", "state"), [("pick", "REFINING"), ("accept", "ACCEPTED")])
def test_the_command_line_answers_without_a_finding(
    case: OfferedCase, config: Path, verb: str, state: str
) -> None:
    assert _run(config, verb, 1, 4, "--drop", 2).endswith(f"Lesion 2 dropped. Now {state}.")
    (row,) = case.selections()
    assert (row.picked, _marks(row).dropped, _marks(row).picked) == (4, (3,), True)


@pytest.mark.parametrize(("size", "words"), [("", "point"), (",3", "measurement of 3 mm")])
def test_the_command_line_adds_a_lesion_at_a_pixel(
    case: OfferedCase, config: Path, size: str, words: str
) -> None:
    volume = read_geometry(case.paths)
    image = volume.slices[6].number
    said = _run(config, "mark", 1, "--add", f"{image},12,11{size}")
    assert f"Lesion 3 added from your {words}." in said
    (lesion,) = _marks(case.selections()[0]).lesions
    assert (lesion.value, lesion.new) == (4, True)
    ((z, row, column),) = np.unique(np.mean(lesion.marks[0].points, axis=0).round(3)[None], axis=0)
    assert (z, row, column) == (6.5, 11.5, 12.5)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--drop", 7], "no-such-lesion"),
        (["--keep", 3], "no-such-lesion"),
        (["--drop", 1, "--keep", 1], "marks-contradict"),
        (["--add", "7,12"], "place-syntax"),
        (["--add", "7,12,north"], "place-syntax"),
        (["--add", "977,12,11"], "mark-slice-unknown"),
        (["--add", "1,0,0"], "mark-outside-organ"),
        ([], "nothing-changed"),
    ],
)
def test_what_cannot_be_changed_is_refused(
    case: OfferedCase, config: Path, arguments: Sequence[object], code: str
) -> None:
    with pytest.raises(InputError) as refused:
        _run(config, "mark", 1, *arguments)
    assert refused.value.code == code
    assert case.case().state == CaseState.AWAITING_SELECTION
