"""The table of writers in the README: each cell is what the node made of an object of that writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_config import codes
from dicom_config.codes import SelectionClass
from dicom_config.model import Verb
from tests.support.edited import returned, segment
from tests.support.matrix import COLUMNS, MATRIX, NOT_OFFERED, as_markdown, recognised
from tests.support.offered import OfferedCase, candidate_labels, copied_case, offered_case
from tests.support.selections import (
    bare_document,
    container_item,
    key_object,
    measurement_report,
    new_uid,
    reference_item,
    segments_report,
)
from tests.support.series import good_series
from tests.support.writers import dcmqi_segmentation, dcmtk_key_object, slicer_segmentation
from uair_node.cases.states import CaseState
from uair_node.dicom.volume import read_series
from uair_node.results.uids import lesion_uid
from uair_node.storage.artifacts import load_candidates

pytestmark = pytest.mark.integration

LESION_1 = 2
_VIEWER = "OHIF 3 (label map, RLE)"  # its cells are asserted in tests/viewer/test_ohif_loop.py


def _drawn() -> np.ndarray:
    """Candidate 3 as a reader corrects it: a piece of liver more, half of lesion 2 gone."""
    labels = candidate_labels(3)
    labels[10][labels[10] == 3] = 1
    labels[6, 16:20, 5:12] = 1
    return labels


def _mixed() -> np.ndarray:
    """Candidate 3 with lesion 1 of candidate 1."""
    labels = candidate_labels(3)
    labels[labels == LESION_1] = 1
    labels[candidate_labels(1) == LESION_1] = LESION_1
    return labels


@dataclass(frozen=True)
class Writer:
    """Functions that write a reader's answers as a program does."""

    whole: Callable[[OfferedCase, Path], Dataset]
    per_lesion: Callable[[OfferedCase, Path], Dataset]
    refused: Callable[[OfferedCase, Path], Dataset]
    edit: Callable[[OfferedCase, Path], Dataset] | None = None


def _tracking(offered: OfferedCase) -> dict[int, str]:
    return {n: lesion_uid(offered.case().digest, n) for n in (1, 2)}


def _dcmqi(labels: Callable[[], np.ndarray]) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        return dcmqi_segmentation(offered.paths, offered.volume, labels(), _tracking(offered), folder)

    return write


def _slicer(labels: Callable[[], np.ndarray]) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        return slicer_segmentation(offered.paths, offered.volume, labels(), folder)

    return write


def _highdicom(kind: str, labels: Callable[[], np.ndarray]) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        drawn, tracking = labels(), _tracking(offered)
        lesions = [int(value) - 1 for value in np.unique(drawn) if value > 1]
        described = [segment(1, "Liver", codes.LIVER)]
        described += [
            segment(number, f"Tumour {lesion}", codes.LESION, tracking[lesion])
            for number, lesion in enumerate(lesions, 2)
        ]
        numbers = np.zeros(4, np.uint8)
        numbers[[0, 1, *(lesion + 1 for lesion in lesions)]] = range(len(lesions) + 2)
        sources = [dcmread(path) for path in offered.paths]
        pixels = numbers[drawn]
        if kind == "FRACTIONAL":
            channels = [pixels == segment.SegmentNumber for segment in described]
            return returned(sources, np.stack(channels, -1).astype(np.float32), described, kind)
        return returned(sources, pixels, described, kind)

    return write


def _empty(kind: str) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        seg = _highdicom(kind, _candidate)(offered, folder)
        seg.PixelData = bytes(len(seg.PixelData))
        return seg

    return write


def _candidate() -> np.ndarray:
    return candidate_labels(3)


def _dcmqi_elsewhere(offered: OfferedCase, folder: Path) -> Dataset:
    """Drawn on another series of the study, in a frame of reference of its own."""
    study = str(offered.candidate(1).StudyInstanceUID)
    paths = good_series(folder / "other", study_instance_uid=study, frame_of_reference_uid=new_uid())
    return dcmqi_segmentation(paths, read_series(paths), _candidate(), _tracking(offered), folder)


def _slicer_elsewhere_in_the_body(offered: OfferedCase, folder: Path) -> Dataset:
    """A segment without a name that touches nothing of ours, beside those that do."""
    labels = candidate_labels(3)
    labels[14:, :4, :4] = 4
    return slicer_segmentation(offered.paths, offered.volume, labels, folder)


def _dcmtk(*named: tuple[int, int | None]) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        return dcmtk_key_object([(offered.candidate(k), number) for k, number in named], folder)

    return write


def _report(*named: tuple[int, int]) -> Callable[[OfferedCase, Path], Dataset]:
    def write(offered: OfferedCase, folder: Path) -> Dataset:
        parts = [(offered.candidate(k), number) for k, number in named]
        return segments_report(parts, dcmread(offered.paths[0]))

    return write


def _report_of_nothing(offered: OfferedCase, folder: Path) -> Dataset:
    report = measurement_report(offered.candidate(3), dcmread(offered.paths[0]))
    report.ContentSequence = [container_item()]
    return report


def _plain(*named: tuple[int, int | None]) -> Callable[[OfferedCase, Path], Dataset]:
    """A tree as no template has it: a reference somewhere deep down."""

    def write(offered: OfferedCase, folder: Path) -> Dataset:
        items = []
        for k, number in named:
            item = reference_item(str(offered.candidate(k).SOPInstanceUID) if k else new_uid(), "IMAGE")
            if number:
                item.ReferencedSOPSequence[0].ReferencedSegmentNumber = number
            items.append(item)
        tree = container_item(container_item(container_item(*items)))
        document = bare_document(SelectionClass.ENHANCED_SR, [tree])
        like = key_object([offered.candidate(3)])
        document.file_meta = like.file_meta
        document.file_meta.MediaStorageSOPClassUID = document.SOPClassUID
        document.file_meta.MediaStorageSOPInstanceUID = document.SOPInstanceUID
        document.StudyInstanceUID, document.SeriesInstanceUID = like.StudyInstanceUID, new_uid()
        return document

    return write


WRITERS: Mapping[str, Writer] = {
    "dcmqi": Writer(_dcmqi(_candidate), _dcmqi(_mixed), _dcmqi_elsewhere, _dcmqi(_drawn)),
    **{
        f"highdicom {kind}": Writer(
            _highdicom(kind, _candidate), _highdicom(kind, _mixed), _empty(kind), _highdicom(kind, _drawn)
        )
        for kind in ("BINARY", "FRACTIONAL", "LABELMAP")
    },
    "3D Slicer (dcmqi, relabelled)": Writer(
        _slicer(_candidate), _slicer(_mixed), _slicer_elsewhere_in_the_body, _slicer(_drawn)
    ),
    "DCMTK Key Object": Writer(
        _dcmtk((3, None)), _dcmtk((3, 1), (1, LESION_1)), _dcmtk((2, None), (3, None))
    ),
    "TID 1500 SR": Writer(_report((3, 1)), _report((3, 1), (1, LESION_1)), _report_of_nothing),
    "plain SR": Writer(_plain((3, None)), _plain((3, None), (1, LESION_1)), _plain((0, None))),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published case, copied for each cell."""
    folder = tmp_path_factory.mktemp("original")
    with offered_case(folder):
        return folder


@pytest.fixture
def offered(original: Path, tmp_path: Path) -> Iterator[OfferedCase]:
    with copied_case(original, tmp_path / "case") as made:
        yield made


def _make(writer: str, column: str) -> Callable[[OfferedCase, Path], Dataset]:
    makers = WRITERS[writer]
    made = {"edit": makers.edit, "per lesion": makers.per_lesion, "refused": makers.refused}
    make = made.get(column, makers.whole)
    assert make is not None
    return make


CELLS = [
    (writer, column)
    for writer, cells in MATRIX.items()
    for column in COLUMNS
    if writer != _VIEWER and cells[column] != NOT_OFFERED
]


@pytest.mark.parametrize(("writer", "column"), CELLS, ids=[" ".join(cell) for cell in CELLS])
def test_what_a_writer_s_object_is_recognised_as(
    offered: OfferedCase, tmp_path: Path, writer: str, column: str
) -> None:
    document = _make(writer, column)(offered, tmp_path)
    verb = Verb.ACCEPT if column == "accept" else Verb.PICK
    row = offered.send(document, verb)
    assert recognised(row) == MATRIX[writer][column], f"{row.sentence} {row.remedy}"
    if column == "edit":
        (kept,) = load_candidates(offered.context.store.absolute(row.artifact))
        assert (kept.labels == _drawn()).all(), "voxel for voxel what was drawn"
    expected = {"accept": CaseState.ACCEPTED, "refused": CaseState.AWAITING_SELECTION}
    assert offered.case().state == expected.get(column, CaseState.REFINING)


def test_every_row_has_its_writer() -> None:
    assert set(WRITERS) == MATRIX.keys() - {_VIEWER}
    assert all(set(cells) == set(COLUMNS) for cells in MATRIX.values())


def test_the_readme_has_this_table() -> None:
    assert as_markdown() in (Path(__file__).parents[2] / "README.md").read_text("utf-8")
