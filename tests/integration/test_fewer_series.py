"""The number of series that a case adds to its study in an archive, after three rounds and after its end."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import Dataset, dcmread

from dicom_config.codes import REJECTION_TITLES
from dicom_config.model import Verb
from tests.support.offered import OfferedCase, offered_case
from tests.support.peers import Orthanc
from uair_node.cases.tables import Delivery, DeliveryState, ResultKind, WorkKind
from uair_node.dicom.readers import read_selection

pytestmark = pytest.mark.integration


def _sent(case: OfferedCase) -> None:
    """Deliver all, and what becomes due with that."""
    case.work(WorkKind.PAGES, WorkKind.NOTICES, WorkKind.DELIVER, WorkKind.CLOSE_ROUNDS, WorkKind.DELIVER)


def _three_rounds(case: OfferedCase) -> None:
    for number in (1, 2):
        _sent(case)
        case.send(case.candidate(2, number), Verb.PICK)
        case.compute()
        case.work(WorkKind.PUBLISH)
    _sent(case)


def _objects(orthanc: Orthanc) -> list[Dataset]:
    found = [dcmread(BytesIO(orthanc.dicom(name)), stop_before_pixels=True) for name in orthanc.instances()]
    return [each for each in found if str(each.get("SeriesDescription", "")).startswith("UAIR")]


def _series(objects: list[Dataset], *, hidden: set[str]) -> set[str]:
    shown = [each for each in objects if each.SOPInstanceUID not in hidden]
    return {str(each.SeriesInstanceUID) for each in shown}


def _hidden(objects: list[Dataset]) -> set[str]:
    """The instances that an archive hides if it honours rejection notes."""
    readings = [read_selection(each) for each in objects if each.Modality == "KO"]
    notes = [each for each in readings if each.title and each.title.value in REJECTION_TITLES]
    return {uid for note in notes for uid in note.references}


@pytest.mark.parametrize(
    ("withdraw", "pages", "open_case", "ended"),
    [
        (False, "round", 16, 19),  # 12 candidates, 3 series of pages, notices; final, report, result page
        (True, "round", 16, 4),
        ("each-round", "round", 7, 4),  # 4 candidates, pages, notices, the series of notes
        ("each-round", "case", 7, 4),
        (False, "case", 14, 17),
    ],
)
def test_series_after_three_rounds_and_after_the_end(
    orthanc: Orthanc, tmp_path: Path, withdraw: bool | str, pages: str, open_case: int, ended: int
) -> None:
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    results = {"page_series": pages}
    with offered_case(tmp_path, destinations=[{**pacs, "withdraw": withdraw}], results=results) as case:
        _three_rounds(case)
        objects = _objects(orthanc)
        assert len(_series(objects, hidden=_hidden(objects))) == open_case
        case.send(case.candidate(1, 3), Verb.ACCEPT)
        case.work(WorkKind.FINISH, WorkKind.DELIVER)
        objects = _objects(orthanc)
        assert len(_series(objects, hidden=_hidden(objects))) == ended
        notes = [set(read_selection(each).references) for each in objects if each.Modality == "KO"]
        assert sum(map(len, notes)) == len(set().union(*notes)), "nothing is rejected twice"
        with case.context.database.reading() as session:
            assert session.query(Delivery).filter(Delivery.state != DeliveryState.CONFIRMED).count() == 0


def test_a_withdrawn_candidate_can_be_picked_and_the_open_one_is_not_withdrawn(
    orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.delete_all()
    pacs = {"name": "pacs", "ae_title": orthanc.aet, "host": "127.0.0.1", "port": orthanc.dicom_port}
    with offered_case(tmp_path, destinations=[{**pacs, "withdraw": "each-round"}]) as case:
        case.work(WorkKind.DELIVER)
        first = case.candidate(3)
        case.send(case.candidate(2), Verb.PICK)
        case.compute()
        case.work(WorkKind.PUBLISH, WorkKind.CLOSE_ROUNDS)
        assert case.results(ResultKind.WITHDRAWAL) == [], "the next four are not there yet"
        case.work(WorkKind.DELIVER, WorkKind.CLOSE_ROUNDS)
        (note,) = case.results(ResultKind.WITHDRAWAL)
        closed = [result.sop_instance_uid for result in case.results(ResultKind.CANDIDATE)[:4]]
        assert list(read_selection(dcmread(case.path(note))).references) == closed
        row = case.send(first, Verb.PICK)
        assert row is not None
        assert (row.outcome, row.candidates_round, row.round_number) == ("effective", 1, 2)
