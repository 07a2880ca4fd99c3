"""The handling of an RTSTRUCT that a reader sends: kept exactly, told in the study, found by its tag."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_config.model import Verb
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.structures import Roi, outlines, structure_set
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, SelectionOutcome
from uair_node.results.notices import pending_notices
from uair_node.storage.artifacts import load_candidates


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        yield made


def _structures(offered: OfferedCase, rois: list[Roi]) -> Dataset:
    return structure_set(offered.volume, dcmread(offered.paths[0], stop_before_pixels=True), rois)


def _edited() -> np.ndarray:
    labels = candidate_labels(2)
    labels[5, 5:7, 3:6] = 0
    return labels


def _drawn() -> list[Roi]:
    labels = _edited()
    labels[9, 5:15, 3:14] = 0  # a slice without a contour: it is interpolated
    return [Roi("Liver", outlines(labels > 0)), Roi("Lesion 1", outlines(labels == 2), "GTV")]


def _notices(offered: OfferedCase) -> list[str]:
    with offered.context.database.transaction() as session:
        case = session.query(Case).one()
        return [notice.text for notice in pending_notices(session, case, offered.context.settings)]


def test_the_case_ends_with_the_drawn_voxels_and_the_reader_learns_how_it_was_read(
    offered: OfferedCase,
) -> None:
    rois = [*_drawn(), Roi("Spleen", outlines(candidate_labels(1) == 3))]
    row = offered.send(_structures(offered, rois), Verb.ACCEPT)
    assert row is not None
    assert (row.outcome, row.mechanism) == (SelectionOutcome.EFFECTIVE, "rtstruct")
    (kept,) = load_candidates(offered.context.store.absolute(row.artifact))
    expected = _edited()
    contoured = [k for k in range(16) if k != 9]
    assert ((kept.labels > 0)[contoured] == (expected > 0)[contoured]).all()
    assert (kept.labels == 2).sum() == (expected == 2).sum()
    assert 'Left out as another structure: ROI 3 "Spleen".' in row.sentence
    assert 'ROI 1 "Liver": 1 slice without contours interpolated.' in row.sentence
    assert offered.case().state == CaseState.ACCEPTED


def test_a_refusal_is_told_in_the_study(offered: OfferedCase) -> None:
    row = offered.send(_structures(offered, [Roi("Lesion 1", [(5, [(5, 5), (6, 6)])])]), Verb.PICK)
    assert row is not None
    assert (row.outcome, row.code, row.case_id) == (
        SelectionOutcome.REFUSED,
        "contour-open",
        offered.case().id,
    )
    (text,) = _notices(offered)
    assert row.sentence in text
    assert offered.case().state == CaseState.AWAITING_SELECTION


def test_the_label_of_the_set_may_hold_the_tag(offered: OfferedCase) -> None:
    document = _structures(offered, _drawn())
    assert offered.send(document, Verb.STORE) is None, "a forwarded structure set starts nothing"
    document = _structures(offered, _drawn())
    document.StructureSetLabel = "UAIR pick"
    row = offered.send(document, Verb.STORE)
    assert row is not None
    assert (row.verb, row.outcome) == (Verb.PICK, SelectionOutcome.EFFECTIVE)
