"""Every kind of object that we write: no error by validators, read by two libraries, the same bytes again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import pytest
from highdicom.ko import KeyObjectSelectionDocument
from highdicom.seg import Segmentation
from highdicom.sr import Comprehensive3DSR
from pydicom import Dataset, dcmread

from dicom_config.contexts import SENT_SOP_CLASSES
from dicom_config.model import Verb
from dicom_config.profiles import Profile
from tests.support.iods import ACCESSION_NUMBER_ELSEWHERE, iod_errors, study_disagreements
from tests.support.offered import OfferedCase, offered_case
from tests.support.pixelmed import validate_reports
from tests.support.selections import key_object
from tests.support.series import edit_all, good_series
from tests.support.writers import dcmtk_key_object
from uair_node.cases import lifecycle
from uair_node.cases.tables import Case, ResultKind, WorkKind, utc_now

pytestmark = pytest.mark.integration

PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "withdraw": True}
WARNING = "The scanner made 40 images in this acquisition, and the series holds 16."
_READ: Mapping[str, Callable[[Dataset], Any]] = {
    "Segmentation": Segmentation.from_dataset,
    "SCImage": highdicom.Image.from_dataset,
    "Comprehensive3DSR": Comprehensive3DSR.from_dataset,
    "KeyObjectSelectionDocument": KeyObjectSelectionDocument.from_dataset,
}
OF_THE_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyDate", "StudyTime", "StudyID", "StudyDescription", "ReferringPhysicianName"),
)
IOD: Mapping[ResultKind, str] = {
    ResultKind.CANDIDATE: "Segmentation",
    ResultKind.PAGE: "SCImage",
    ResultKind.FINDING: "SCImage",
    ResultKind.NOTICE: "SCImage",
    ResultKind.FINAL: "Segmentation",
    ResultKind.FINAL_PAGE: "SCImage",
    ResultKind.STRUCTURES: "RTStructureSet",
    ResultKind.REPORT: "Comprehensive3DSR",
    ResultKind.WITHDRAWAL: "KeyObjectSelectionDocument",
}
PLANNING = {**PACS, "name": "planning", "profile": Profile.RTSTRUCT.value}


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfferedCase]:
    """A case that went through a refusal, two rounds and its end: every kind of object is there."""
    folder = tmp_path_factory.mktemp("case")
    paths = edit_all(good_series(folder / "ct"), TimezoneOffsetFromUTC="-0330")
    with offered_case(folder, paths, destinations=[PACS, PLANNING]) as made:
        with made.context.database.transaction() as session:
            lifecycle.warn(session.query(Case).one(), WARNING)
        made.work(WorkKind.PAGES)
        made.send(key_object([made.candidate(1), made.candidate(2)]), Verb.PICK)
        made.send(made.candidate(3), Verb.PICK)
        made.compute()
        made.work(WorkKind.PUBLISH, WorkKind.PAGES, WorkKind.NOTICES)
        made.send(made.candidate(2, 2), Verb.ACCEPT)
        made.work(WorkKind.FINISH)
        yield made


def _paths(offered: OfferedCase, kind: ResultKind) -> list[Path]:
    return [offered.path(result) for result in offered.results(kind)]


def test_every_kind_is_here(offered: OfferedCase) -> None:
    assert set(IOD) == set(ResultKind)
    counts = {kind: len(_paths(offered, kind)) for kind in IOD}
    assert (counts[ResultKind.CANDIDATE], counts[ResultKind.PAGE], counts[ResultKind.NOTICE]) == (8, 10, 3)
    assert counts[ResultKind.FINDING] == 4, "two lesions in two rounds"
    assert min(counts.values()) >= 1


def test_what_we_say_to_send_is_what_we_write(offered: OfferedCase) -> None:
    paths = [path for kind in IOD for path in _paths(offered, kind)]
    written = {str(dcmread(path, specific_tags=["SOPClassUID"]).SOPClassUID) for path in paths}
    assert written == set(SENT_SOP_CLASSES)


@pytest.mark.parametrize("kind", IOD)
def test_dciodvfy_finds_no_error(offered: OfferedCase, kind: ResultKind) -> None:
    for path in _paths(offered, kind):
        assert iod_errors(path, IOD[kind]) == []


def test_dcentvfy_finds_one_study_of_one_patient(offered: OfferedCase) -> None:
    """The series and all that we wrote agree in every attribute of patient, study and series."""
    written = [path for kind in IOD for path in _paths(offered, kind)]
    assert study_disagreements([*offered.paths, *written]) == [ACCESSION_NUMBER_ELSEWHERE]


def test_dcentvfy_says_of_a_foreign_report_what_it_says_of_ours(offered: OfferedCase, tmp_path: Path) -> None:
    image = dcmread(offered.paths[0], stop_before_pixels=True)
    note = dcmtk_key_object([(image, None)], tmp_path)
    for keyword in OF_THE_STUDY:
        note[keyword] = image[keyword]
    note.save_as(tmp_path / "foreign.dcm")
    assert study_disagreements([offered.paths[0], tmp_path / "foreign.dcm"]) == [ACCESSION_NUMBER_ELSEWHERE]


def test_pixelmed_finds_no_error_in_reports_and_key_objects(offered: OfferedCase) -> None:
    """The validator of IHE AI Results, with the templates of PS3.16."""
    reports, notes = _paths(offered, ResultKind.REPORT), _paths(offered, ResultKind.WITHDRAWAL)
    said = validate_reports([*reports, *notes])
    for paths, iod, template in (
        (reports, "Comprehensive3DSR", "TID_1500 (MeasurementReport)"),
        (notes, "KeyObjectSelectionDocument", "TID_2010 (KeyObjectSelection)"),
    ):
        for path in paths:
            assert f"Found {iod} IOD" in said[path]
            assert f"Found Root Template {template}" in said[path]
            assert "Root Template Validation Complete" in said[path]
            assert [line for line in said[path] if line.startswith("Error")] == []


def test_report_and_notice_say_what_may_be_wrong_with_the_series(offered: OfferedCase) -> None:
    (path,) = _paths(offered, ResultKind.REPORT)
    (container,) = (
        item
        for item in dcmread(path).ContentSequence
        if item.ConceptNameCodeSequence[0].CodeMeaning == "Qualitative Evaluations"
    )
    (comment,) = container.ContentSequence
    assert (comment.ValueType, comment.ConceptNameCodeSequence[0].CodeValue) == ("TEXT", "121106")
    assert comment.TextValue == WARNING
    told = [str(dcmread(path).ImageComments) for path in _paths(offered, ResultKind.NOTICE)]
    assert [text.endswith(f" Warning: {WARNING}") for text in told] == [False, False, True]


@pytest.mark.parametrize("kind", IOD)
def test_dates_and_times_are_in_the_zone_that_the_object_states(
    offered: OfferedCase, kind: ResultKind
) -> None:
    with offered.context.database.reading() as session:
        begun = session.query(Case).one().created_at.replace(microsecond=0)
    for path in _paths(offered, kind):
        written = dcmread(path, stop_before_pixels=True)
        assert written.TimezoneOffsetFromUTC == "-0330"
        for event in ("InstanceCreation", "Content", "Series"):
            if f"{event}Date" not in written and event == "Content":
                continue  # a page has none
            shown = written[f"{event}Date"].value + written[f"{event}Time"].value
            moment = datetime.strptime(shown[:14], "%Y%m%d%H%M%S") + timedelta(hours=3, minutes=30)
            assert begun <= moment <= utc_now(), event


@pytest.mark.parametrize("kind", [kind for kind, iod in IOD.items() if iod in _READ])
def test_highdicom_reads_it_back(offered: OfferedCase, kind: ResultKind) -> None:
    for path in _paths(offered, kind):
        written = dcmread(path)
        read = _READ[IOD[kind]](dcmread(path))
        assert read.SOPInstanceUID == written.SOPInstanceUID
        if "PixelData" in written:
            assert (read.pixel_array == written.pixel_array).all()
        else:
            assert len(read.content) > 0


@pytest.mark.parametrize("kind", IOD)
def test_what_is_read_and_written_again_is_the_same_bytes(offered: OfferedCase, kind: ResultKind) -> None:
    for path in _paths(offered, kind):
        dataset, again = dcmread(path), BytesIO()
        for _ in dataset.iterall():  # every element decoded, so that it is encoded again
            pass
        dataset.save_as(again, enforce_file_format=True)
        assert again.getvalue() == path.read_bytes()


@pytest.mark.parametrize("kind", IOD)
def test_nothing_of_the_patient_is_in_what_people_read(offered: OfferedCase, kind: ResultKind) -> None:
    for path in _paths(offered, kind):
        dataset = dcmread(path, stop_before_pixels=True)
        for keyword in ("SeriesDescription", "ContentLabel", "ContentDescription", "ImageComments"):
            assert "PHANTOM" not in str(dataset.get(keyword, "")).upper()
