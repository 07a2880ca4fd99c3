"""Another system's segmentation, sent to `UAIR_START`: the reference of round 1, or of the next round."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.model import Verb
from tests.support.edited import returned, segment
from tests.support.intake import context_in, received
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.selections import key_object
from tests.support.series import good_series
from tests.support.structures import Roi, outlines, structure_set
from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Selection, SelectionOutcome, WorkItem, WorkKind
from uair_node.context import Context
from uair_node.dicom.volume import read_geometry
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.results.notices import pending_notices
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.partial_edits import answer_with_parts
from uair_node.selection.start import answer_with_starts
from uair_node.storage.artifacts import load_candidates
from uair_node.work.performer import perform
from workers.compute.computer import Computer
from workers.engine import Engine, EngineOptions
from workers.phantoms.ct_series import write_ct_series

SPLEEN = Code("78961009", "SCT", "Spleen")
NEOPLASM = Code("108369006", "SCT", "Neoplasm")


@pytest.fixture
def offered(tmp_path: Path, database_url: str) -> Iterator[OfferedCase]:
    with offered_case(tmp_path, database_url=database_url) as made:
        yield made


def _liver() -> np.ndarray:
    """A liver unlike that of any candidate."""
    mask = candidate_labels(4) > 0
    mask[3] = False
    return mask


def _tumour() -> np.ndarray:
    mask = np.zeros(_liver().shape, bool)
    mask[9:12, 6:9, 5:9] = True
    return mask


def _masks(offered: OfferedCase, masks: list[np.ndarray], described: list) -> Dataset:
    images = [dcmread(path) for path in offered.paths]
    return returned(images, np.stack(masks, -1).astype(np.uint8), described)


def _organs_alone(offered: OfferedCase) -> Dataset:
    """As TotalSegmentator's result by highdicom: organs, each by its code."""
    spleen = np.zeros(_liver().shape, bool)
    spleen[4:8, 18:22, 14:18] = True
    described = [segment(1, "liver", codes.LIVER), segment(2, "spleen", SPLEEN)]
    return _masks(offered, [_liver(), spleen], described)


def _with_a_tumour(offered: OfferedCase) -> Dataset:
    """As dcmqi writes a vendor's result: categories and SNOMED codes, labels of its own."""
    described = [segment(1, "a", codes.LIVER), segment(2, "b", NEOPLASM)]
    return _masks(offered, [_liver(), _tumour()], described)


def _kept(offered: OfferedCase, row: Selection) -> np.ndarray:
    (kept,) = load_candidates(offered.context.store.absolute(row.artifact))
    return kept.labels


def test_organs_of_another_system_start_the_case_again_with_our_lesions(offered: OfferedCase) -> None:
    row = offered.send(_organs_alone(offered), Verb.START)
    assert row is not None
    assert (row.outcome, row.verb) == (SelectionOutcome.EFFECTIVE, Verb.START)
    labels, ours = _kept(offered, row), candidate_labels(1)
    assert (labels[ours > 1] == ours[ours > 1]).all()
    assert ((labels > 0) == (_liver() | (ours > 1))).all()
    assert row.sentence == (
        "Started from another system's segmentation: liver. That segmentation has no lesion, so our "
        "lesions stay. "
        'Left out as another structure: segment 2 "spleen".'
    )
    case = offered.case()
    assert case.state == CaseState.REFINING
    with offered.context.database.transaction() as session:
        (notice,) = pending_notices(session, session.query(Case).one(), offered.context.settings)
    assert notice.heading == "Round 2: another system's segmentation received"
    assert row.sentence in notice.text


def test_lesions_of_another_system_replace_ours(offered: OfferedCase) -> None:
    row = offered.send(_with_a_tumour(offered), Verb.START)
    assert row is not None
    labels = _kept(offered, row)
    assert ((labels > 1) == _tumour()).all()
    assert ((labels > 0) == (_liver() | _tumour())).all()


def test_a_structure_set_of_lesions_alone_keeps_our_liver(offered: OfferedCase) -> None:
    header = dcmread(offered.paths[0], stop_before_pixels=True)
    document = structure_set(offered.volume, header, [Roi("GTV", outlines(_tumour()), "GTV")])
    row = offered.send(document, Verb.START)
    assert row is not None
    labels, ours = _kept(offered, row), candidate_labels(1)
    assert ((labels > 1) == _tumour()).all()
    assert ((labels > 0) == ((ours > 0) | _tumour())).all()
    assert "That segmentation has no liver, so our liver stays." in row.sentence


def test_a_label_map_starts_the_case_as_a_binary_segmentation_does(offered: OfferedCase) -> None:
    labels = np.where(_tumour(), 2, _liver()).astype(np.uint8)
    described = [segment(1, "liver", codes.LIVER), segment(2, "tumour", NEOPLASM)]
    images = [dcmread(path) for path in offered.paths]
    document = returned(images, labels, described, kind="LABELMAP")
    assert document.SOPClassUID == codes.SelectionClass.LABEL_MAP_SEGMENTATION
    row = offered.send(document, Verb.START)
    assert row is not None
    assert row.outcome == SelectionOutcome.EFFECTIVE
    kept = _kept(offered, row)
    assert ((kept > 1) == _tumour()).all()
    assert ((kept > 0) == (_liver() | _tumour())).all()


def test_a_case_that_has_ended_is_not_started_again(offered: OfferedCase) -> None:
    assert offered.send(offered.candidate(1), Verb.ACCEPT) is not None
    assert offered.case().state == CaseState.ACCEPTED
    row = offered.send(_with_a_tumour(offered), Verb.START)
    assert row is not None
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "case-closed")
    case = offered.case()
    assert (case.state, len(offered.selections())) == (CaseState.ACCEPTED, 2)


def test_a_segmentation_that_comes_before_its_series_is_refused_and_counts_when_it_is_sent_again(
    tmp_path: Path, database_url: str
) -> None:
    paths = good_series(tmp_path / "ct")
    with context_in(tmp_path / "data", database_url) as context:
        case = OfferedCase(context, paths)
        first = case.send(_with_a_tumour(case), Verb.START)
        assert first is not None
        assert (first.outcome, first.code) == (SelectionOutcome.REFUSED, "start-series-unknown")
        case.receive()
        again = case.send(_with_a_tumour(case), Verb.START)
        assert again is not None
        assert again.outcome == SelectionOutcome.HELD, "the remedy works"


def test_the_same_object_again_changes_nothing(offered: OfferedCase) -> None:
    document = _with_a_tumour(offered)
    offered.send(document, Verb.START)
    again = offered.send(document, Verb.START)
    assert again is not None
    assert again.outcome == SelectionOutcome.REPEATED


def test_what_cannot_start_a_case_is_refused_with_its_code(offered: OfferedCase, tmp_path: Path) -> None:
    stranger = OfferedCase(offered.context, good_series(tmp_path / "other"))
    spleen = _masks(offered, [_liver()], [segment(1, "spleen", SPLEEN)])
    refused = {
        "own-object": offered.candidate(2),
        "start-not-a-segmentation": key_object([offered.candidate(2)]),
        "start-series-unknown": _organs_alone(stranger),
        "edited-unrecognised": spleen,
    }
    for code, document in refused.items():
        row = offered.send(document, Verb.START)
        assert row is not None
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, code)
    other = _organs_alone(offered)
    other.PatientID = "SOMEBODY-ELSE"
    row = offered.send(other, Verb.START)
    assert row is not None
    assert row.code == "other-patient"
    assert offered.case().state == CaseState.AWAITING_SELECTION
    offered.send(offered.candidate(1), Verb.ACCEPT)
    row = offered.send(_organs_alone(offered), Verb.START)
    assert row is not None
    assert row.code == "case-closed"


@pytest.fixture
def arriving(tmp_path: Path, database_url: str) -> Iterator[tuple[Context, list[Path]]]:
    """A series that the node holds, and no candidate yet."""
    z, y, x = SPACING
    affine = np.array([[0, 0, x, -150], [0, y, 0, -120], [z, 0, 0, 40], [0, 0, 0, 1]], float)
    paths = write_ct_series(tmp_path / "ct", abdomen()[0], affine)
    with context_in(tmp_path / "data", database_url) as made:
        for path in paths:
            Inbox(made).receive(received(path))
        time.sleep(0.02)
        yield made, list(paths)


def _send(context: Context, document: Dataset, folder: Path) -> None:
    path = folder / "start.dcm"
    document.save_as(path, enforce_file_format=True)
    Inbox(context).receive(received(path, Verb.START, "VENDOR"))


def _compute(context: Context) -> None:
    computer = Computer(context)
    computer.__dict__["engine"] = Engine(DensityPredictor(), DensityLocalizer(), EngineOptions())
    with context.database.transaction() as session:
        item_id = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE).one().id
    assert perform(context, item_id, computer.compute)


def test_a_segmentation_that_comes_before_the_first_round_is_its_first_candidate(
    arriving: tuple[Context, list[Path]], tmp_path: Path
) -> None:
    context, paths = arriving
    volume = read_geometry(paths)
    z, y, x = np.indices(volume.shape)
    centre = np.array(volume.shape) / 2
    liver = ((z - centre[0]) / 6) ** 2 + ((y - centre[1]) / 20) ** 2 + ((x - centre[2]) / 22) ** 2 < 1
    tumour = liver & ((y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 25) & (abs(z - centre[0]) < 3)
    images = [dcmread(source.path) for source in volume.slices]
    described = [segment(1, "Liver", codes.LIVER), segment(2, "Tumor", NEOPLASM)]
    document = returned(images, np.stack([liver, tumour], -1).astype(np.uint8), described)
    _send(context, document, tmp_path)
    assemble(context)
    assert answer_with_parts(context) == answer_with_starts(context) == 0
    _compute(context)
    with context.database.transaction() as session:
        row = session.query(Selection).one()
        (round_,) = session.query(Case).one().rounds
        assert (row.outcome, row.round_number) == (SelectionOutcome.EFFECTIVE, 0)
        assert round_.selection_id == row.id
        assert "liver, 1 lesion" in row.sentence
        folder = context.store.absolute(round_.artifacts)
    candidates = load_candidates(folder / CANDIDATES_FILE)
    assert ((candidates[0].labels > 1) == tumour).all()
    assert ((candidates[0].labels > 0) == liver).all()
    others = [candidate.labels for candidate in candidates[1:]]
    assert any((labels != candidates[0].labels).any() for labels in others)


def test_a_kept_segmentation_that_cannot_be_used_is_refused_and_the_round_is_ours(
    arriving: tuple[Context, list[Path]], tmp_path: Path
) -> None:
    context, paths = arriving
    volume = read_geometry(paths)
    header = dcmread(paths[0], stop_before_pixels=True)
    opened = Roi("Liver", [(4, [(5, 5), (5, 9), (9, 9)])], kind="OPEN_PLANAR")
    _send(context, structure_set(volume, header, [opened]), tmp_path)
    assemble(context)
    _compute(context)
    with context.database.transaction() as session:
        row = session.query(Selection).one()
        (round_,) = session.query(Case).one().rounds
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "contour-open")
        assert round_.selection_id is None
        assert round_.computed_at is not None


def test_a_segmentation_that_came_while_the_first_round_was_published_starts_the_next(
    offered: OfferedCase,
) -> None:
    with offered.context.database.transaction() as session:
        session.query(Case).one().state = CaseState.SEGMENTING
    row = offered.send(_with_a_tumour(offered), Verb.START)
    assert row is not None
    assert row.outcome == SelectionOutcome.HELD
    assert answer_with_starts(offered.context) == 0
    with offered.context.database.transaction() as session:
        session.query(Case).one().state = CaseState.AWAITING_SELECTION
    assert answer_with_starts(offered.context) == 1
    (row,) = offered.selections()
    assert (row.outcome, row.round_number) == (SelectionOutcome.EFFECTIVE, 1)
    assert ((_kept(offered, row) > 1) == _tumour()).all()
