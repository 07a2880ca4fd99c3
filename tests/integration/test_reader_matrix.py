"""The table of docs/readers.md beyond the writers of the README: each row is asserted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from dicom_config import codes
from dicom_config.model import Verb
from tests.support.edited import TISSUE, returned, segment
from tests.support.matrix import (
    ADDED,
    ANSWERS,
    OTHER_CLASSES,
    SAME_UID,
    STRUCTURES,
    UNRELATED,
    answers_as_markdown,
    outcome,
)
from tests.support.offered import OfferedCase, candidate_labels, copied_case, offered_case
from tests.support.selections import bare_document, container_item, new_uid
from tests.support.structures import Roi, outlines, structure_set
from uair_node.cases.tables import SelectionOutcome
from uair_node.results.uids import lesion_uid

pytestmark = pytest.mark.integration

KINDS = {
    "Neoplasm": Code("108369006", "SCT", "Neoplasm"),
    "Lesion": codes.LESION,
    "Tissue": TISSUE,
    "Liver cell carcinoma": Code("109841003", "SCT", "Liver cell carcinoma"),
    "Kidney": Code("64033007", "SCT", "Kidney"),
    "Blood vessel": Code("59820001", "SCT", "Blood vessel"),
}
VERBS = {"UAIR_PICK": Verb.PICK, "UAIR_ACCEPT": Verb.ACCEPT, "UAIR_REJECT": Verb.REJECT}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published case, copied for each row."""
    folder = tmp_path_factory.mktemp("original")
    with offered_case(folder):
        return folder


@pytest.fixture
def offered(original: Path, tmp_path: Path) -> Iterator[OfferedCase]:
    with copied_case(original, tmp_path / "case") as made:
        yield made


def _of_class(offered: OfferedCase, sop_class: str, document: Dataset) -> Dataset:
    """Put an object into the case's study and patient."""
    image = dcmread(offered.paths[0], stop_before_pixels=True)
    document.SOPClassUID, document.SOPInstanceUID = sop_class, new_uid()
    document.StudyInstanceUID, document.SeriesInstanceUID = image.StudyInstanceUID, new_uid()
    document.PatientID, document.PatientName = image.PatientID, image.PatientName
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return document


def _text_report(offered: OfferedCase) -> Dataset:
    text = Dataset()
    text.RelationshipType, text.ValueType = "CONTAINS", "TEXT"
    text.TextValue = f"Candidate 3 fits: {offered.candidate(3).SOPInstanceUID}"
    return _of_class(offered, BasicTextSRStorage, bare_document(BasicTextSRStorage, [container_item(text)]))


_OTHER: Mapping[str, Callable[[OfferedCase], Dataset]] = dict(
    zip(OTHER_CLASSES, (_text_report,), strict=True)
)


def _rows(*writers: str) -> list[tuple[str, str]]:
    return [row for row in ANSWERS if row[0] in writers]


@pytest.mark.parametrize(("writer", "sent"), _rows(*OTHER_CLASSES))
def test_an_object_of_a_class_that_can_be_no_answer(offered: OfferedCase, writer: str, sent: str) -> None:
    called = sent.split("`")[1]
    row = offered.send(_OTHER[writer](offered), VERBS[called])
    assert row is not None
    assert outcome(row) == ANSWERS[writer, sent]


def _structures() -> Mapping[str, list[Roi]]:
    labels, changed = candidate_labels(3), candidate_labels(3)
    changed[labels > 0] = np.where(labels[labels > 0] == 2, 1, labels[labels > 0])
    changed[5:8, 8:10, 5:9] = 2
    lesions = [Roi(f"Lesion {n}", outlines(labels == n + 1)) for n in (1, 2)]
    whole = [Roi("Liver", outlines(labels > 0), "ORGAN"), *lesions]
    inside, outside = _places()["in the liver"], _places()["outside the liver"]
    return {
        "liver and lesions of candidate 3": whole,
        "candidate 3, to `UAIR_ACCEPT`": whole,
        "candidate 3 with changes": [whole[0], Roi("Lesion 1", outlines(changed == 2)), whole[2]],
        "candidate 3, and a GTV in the liver": [*whole, Roi("GTV", outlines(inside), "GTV")],
        "candidate 3, and a GTV outside the liver": [*whole, Roi("GTV", outlines(outside), "GTV")],
        "candidate 3, and an open contour": [*whole, Roi("Tumour", outlines(inside), kind="OPEN_PLANAR")],
        "regions without contours": [Roi("Liver", []), Roi("Lesion 1", [])],
    }


@pytest.mark.parametrize(("writer", "sent"), _rows(STRUCTURES))
def test_a_structure_set(offered: OfferedCase, writer: str, sent: str) -> None:
    header = dcmread(offered.paths[0], stop_before_pixels=True)
    document = structure_set(offered.volume, header, _structures()[sent])
    row = offered.send(document, Verb.ACCEPT if "UAIR_ACCEPT" in sent else Verb.PICK)
    assert row is not None
    assert row.mechanism == "rtstruct"
    assert outcome(row) == ANSWERS[writer, sent], f"{row.sentence} {row.remedy}"


def _changed(candidate: Dataset, slices: int) -> Dataset:
    """Return the candidate with the first frames of its liver empty, under its own UID."""
    changed = deepcopy(candidate)
    size = changed.Rows * changed.Columns // 8
    assert changed.Rows * changed.Columns % 8 == 0, "frames begin with a byte"
    changed.PixelData = bytes(slices * size) + changed.PixelData[slices * size :]
    return changed


def test_what_is_saved_under_a_known_uid(offered: OfferedCase) -> None:
    candidate = offered.candidate(3)
    renamed = deepcopy(candidate)
    renamed.SeriesDescription = "Renamed by the archive"
    found = {}
    for sent, document in (
        ("candidate 3, changed", _changed(candidate, 1)),
        ("the same file again", _changed(candidate, 1)),
        ("a second save with other pixels", _changed(candidate, 2)),
    ):
        row = offered.send(document, Verb.PICK)
        assert row is not None
        earlier = [each for each in offered.selections() if each.outcome == SelectionOutcome.REPLACED]
        found[SAME_UID, sent] = outcome(row, replaced=bool(earlier))
    assert found == {row: ANSWERS[row] for row in _rows(SAME_UID) if row in found}
    assert len(found) == 3


def test_a_candidate_whose_words_were_changed_is_that_candidate(offered: OfferedCase) -> None:
    renamed = offered.candidate(3)
    renamed.SeriesDescription = "Renamed by the archive"
    row = offered.send(renamed, Verb.PICK)
    assert row is not None
    assert outcome(row) == ANSWERS[SAME_UID, "candidate 3, unchanged, with other words"]


def _places() -> Mapping[str, np.ndarray]:
    """Masks ``(Z, Y, X)``: in the liver of all candidates, outside, beside it like a kidney, all over it."""
    labels = candidate_labels(3)
    masks = {name: np.zeros(labels.shape, bool) for name in ("in the liver", "outside the liver", "Kidney")}
    masks["in the liver"][11:13, 6:9, 4:7] = True
    masks["outside the liver"][14:, :4, 16:] = True
    masks["Kidney"][6:9, 15:20, 8:12] = True
    masks["Blood vessel"] = labels == 1
    masks["Blood vessel"][:, ::2] = False
    return masks


@pytest.mark.parametrize(("writer", "sent"), _rows(ADDED, UNRELATED))
def test_a_segment_that_is_added(offered: OfferedCase, writer: str, sent: str) -> None:
    name, kind, *place = sent.replace('"', "").replace("coded as ", "").split(", ")
    masks, described = [], []
    labels = candidate_labels(3)
    for value in (1, 2, 3) if writer == ADDED else ():
        tracking = lesion_uid(offered.case().digest, value - 1) if value > 1 else None
        words = ("Tumour", codes.LESION) if value > 1 else ("Liver", codes.LIVER)
        masks.append(labels == value)
        described.append(segment(len(masks), *words, tracking))
    masks.append(_places()[place[0] if place else kind if kind in _places() else "in the liver"])
    described.append(segment(len(masks), name, KINDS[kind]))
    sources = [dcmread(path) for path in offered.paths]
    row = offered.send(returned(sources, np.stack(masks, -1).astype(np.uint8), described), Verb.PICK)
    assert row is not None
    assert outcome(row) == ANSWERS[writer, sent], f"{row.sentence} {row.remedy}"


def test_the_page_of_readers_has_this_table() -> None:
    page = (Path(__file__).parents[2] / "docs" / "readers.md").read_text("utf-8")
    assert f"\n{answers_as_markdown()}\n" in page
