"""The rejection note: what it names, by which title, and that a second run writes the same bytes."""

from datetime import datetime
from pathlib import Path

import pydicom
import pytest
import time_machine
from highdicom.ko import KeyObjectSelectionDocument

from dicom_config.codes import SelectionClass
from tests.support.iods import iod_errors
from tests.support.series import good_series
from uair_node.dicom.readers import read_selection
from uair_node.dicom.volume import Volume, read_geometry
from uair_node.results.provenance import Provenance
from uair_node.results.rejection import RejectionRequest, Withdrawn, write_rejection
from uair_node.results.result_writer import save_durably
from uair_node.results.uids import result_uid

PAGE_CLASS = "1.2.840.10008.5.1.4.1.1.7"
PROVENANCE = Provenance(
    2, "embedded", "0123456789abcdef" * 4, "0.1.0", "c" * 64, datetime(2026, 1, 5, 10, 0, 1)
)
REQUEST = RejectionRequest("2.25.11", "2.25.12", "candidate 3 was accepted", PROVENANCE)
WITHDRAWN = (
    Withdrawn(SelectionClass.SEGMENTATION, result_uid("c1"), result_uid("s1")),
    Withdrawn(SelectionClass.SEGMENTATION, result_uid("c2"), result_uid("s2")),
    Withdrawn(PAGE_CLASS, result_uid("p1"), result_uid("pages")),
    Withdrawn(PAGE_CLASS, result_uid("p2"), result_uid("pages")),
)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    return read_geometry(good_series(tmp_path_factory.mktemp("ct"), patient_name="Doe^Jane"))


@pytest.fixture(scope="module")
def path(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kos") / "note.dcm"
    save_durably(write_rejection(volume, WITHDRAWN, REQUEST), path)
    return path


def test_content_and_evidence_name_every_withdrawn_instance(path: Path) -> None:
    note = pydicom.dcmread(path)
    assert read_selection(note).references == tuple(result.sop_instance_uid for result in WITHDRAWN)
    (study,) = note.CurrentRequestedProcedureEvidenceSequence
    listed = {
        (item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID, series.SeriesInstanceUID)
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert listed == {
        (str(result.sop_class_uid), result.sop_instance_uid, result.series_instance_uid)
        for result in WITHDRAWN
    }


def test_the_title_is_that_of_iocm(path: Path) -> None:
    document = KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(path))
    (title,) = document.ConceptNameCodeSequence
    assert (title.CodeValue, title.CodingSchemeDesignator) == ("113001", "DCM")
    assert title.CodeMeaning == "Rejected for Quality Reasons"


def test_references_have_no_name_of_their_own(path: Path) -> None:
    """PS3.16 TID 2010, rows 8 to 10."""
    items = [item for item in pydicom.dcmread(path).ContentSequence if "ReferencedSOPSequence" in item]
    assert [item.ValueType for item in items] == ["IMAGE"] * len(WITHDRAWN)
    assert not any("ConceptNameCodeSequence" in item for item in items)


def test_it_lies_in_the_study_of_the_case_and_says_why(path: Path, volume: Volume) -> None:
    note, source = pydicom.dcmread(path), pydicom.dcmread(volume.slices[0].path)
    assert note.StudyInstanceUID == source.StudyInstanceUID
    assert (note.PatientID, note.PatientName) == (source.PatientID, source.PatientName)
    assert (note.SOPInstanceUID, note.SeriesInstanceUID) == ("2.25.11", "2.25.12")
    assert note.SeriesDescription == "UAIR WITHDRAW R2 candidate 3 was accepted"
    assert b"candidate 3 was accepted" in path.read_bytes()


def test_a_second_run_writes_the_same_bytes(path: Path, volume: Volume, tmp_path: Path) -> None:
    with time_machine.travel("2038-01-19"):  # whatever is taken from the clock has another value there
        save_durably(write_rejection(volume, WITHDRAWN, REQUEST), tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == path.read_bytes()


def test_nothing_withdrawn_is_refused(volume: Volume) -> None:
    with pytest.raises(ValueError, match="at least one"):
        write_rejection(volume, (), REQUEST)


@pytest.mark.integration
def test_dciodvfy_finds_no_error(path: Path) -> None:
    assert iod_errors(path, "KeyObjectSelectionDocument") == []
