"""No byte of an export holds text that other parties wrote into series or rows: canaries in every place."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from highdicom.seg import segread
from pydicom import Dataset, config, dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import RLELossless, SecondaryCaptureImageStorage

from dicom_config.errors import InputError
from tests.support.cases import publish_round, ready_case
from tests.support.intake import context_in
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.series import good_series
from uair_node.cases.installation_tables import AccessRecord
from uair_node.cases.tables import (
    Case,
    Delivery,
    Result,
    Round,
    Selection,
    SelectionOutcome,
    Transition,
    WorkItem,
)
from uair_node.context import Context
from uair_node.operations.housekeeping.anonymous import Pseudonyms
from uair_node.operations.housekeeping.export import export_case
from uair_node.operations.housekeeping.kept_elements import CHECKS, CODE_SEQUENCES, SEQUENCES, UIDS
from uair_node.storage.artifacts import load_candidates, load_region

_TEXT, _DIGITS, _DATE = b"CANARY", b"73918284", b"19501231"
_CANARIES = (_TEXT, _DIGITS, _DATE, b"canary")
_NUMBERS = {"DS": _DIGITS, "IS": _DIGITS, "DA": _DATE, "DT": _DATE, "UI": b"1.2.840.10008.73918284"}
_VRS = sorted(
    {vr for vr, *_ in DicomDictionary.values() if len(vr) == 2 and vr != "SQ"} | {"UN", "OV", "SV", "UV"}
)


def _canary(vr: str) -> bytes:
    """A canary as the bytes of a value, of even length, and of whole words for binary VRs."""
    return _NUMBERS.get(vr, _TEXT + b"!!")


def _put(dataset: Dataset, tag: BaseTag | int, vr: str, value: bytes) -> None:
    tag = Tag(tag)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def _polluted(depth: int, tags: list[int]) -> Dataset:
    """A data set with a canary in `tags`, private elements of every VR, and sequences in sequences."""
    dataset = Dataset()
    for tag in tags:
        vr = dictionary_VR(tag)[:2]
        if vr != "SQ":
            _put(dataset, tag, vr, _canary(vr))
        elif depth:
            dataset.add_new(tag, "SQ", [_polluted(depth - 1, _LISTED + _ENTERED)])
    _put(dataset, 0x00290010, "LO", _TEXT)
    for number, vr in enumerate(_VRS):
        _put(dataset, 0x00291000 + number, vr, _canary(vr))
    return dataset


_LISTED_SEQUENCES = [Tag(keyword) for keyword in (*SEQUENCES, *CODE_SEQUENCES)]
_ENTERED = [Tag("SourceImageSequence"), Tag("SegmentSequence")]
_LISTED = [Tag(keyword) for keyword in (*CHECKS, *UIDS, "CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
_EVERY_TAG = [tag for tag, (vr, *_) in DicomDictionary.items() if tag >> 16 > 2 and vr != "NONE"]


def _kept(source: Dataset) -> tuple[Dataset, bytes]:
    buffer = BytesIO()
    with config.disable_value_validation():
        kept = Pseudonyms().dataset(source)
    kept.save_as(buffer, implicit_vr=False, little_endian=True)
    return kept, buffer.getvalue()


def _canaries_in(content: bytes) -> list[bytes]:
    return [canary for canary in _CANARIES if canary in content]


def test_no_element_of_the_dictionary_lets_a_canary_pass_at_any_depth() -> None:
    source = _polluted(1, _EVERY_TAG)
    source.update(_polluted(3, _LISTED_SEQUENCES))
    assert len(source) > 4500
    kept, content = _kept(source)
    assert _canaries_in(content) == []
    (item,) = kept.SourceImageSequence
    assert item.SegmentSequence[0].ReferencedSOPClassUID.startswith("2.25."), "sequences were entered"


@pytest.mark.parametrize("vr", _VRS)
def test_no_listed_element_lets_a_canary_of_another_vr_pass(vr: str) -> None:
    source = Dataset()
    for tag in (*_LISTED, *_LISTED_SEQUENCES, Tag("SegmentLabel"), Tag("TrackingID")):
        _put(source, tag, vr, _canary(vr))
    assert _canaries_in(_kept(source)[1]) == []


@pytest.mark.parametrize("keyword", sorted(CHECKS))
def test_no_listed_value_is_a_long_number_or_a_text(keyword: str) -> None:
    vr = dictionary_VR(keyword)[:2]
    source = Dataset()
    _put(source, Tag(keyword), vr, _canary(vr))
    _, content = _kept(source)
    assert _canaries_in(content) == []


def _image(folder: Path) -> Dataset:
    return dcmread(good_series(folder)[3])


def _saved(dataset: Dataset) -> Dataset:
    buffer = BytesIO()
    Pseudonyms().file(dataset).save_as(buffer, enforce_file_format=True)
    return dcmread(BytesIO(buffer.getvalue()))


def test_numbers_of_geometry_and_intensity_stay_exactly(tmp_path: Path) -> None:
    source = _image(tmp_path)
    source.ImagePositionPatient = ["-80.123456789012", "0", "1e-05"]
    source.ImageOrientationPatient = ["0.9998476951563", "0", "-0.017452406437", "0", "1", "0"]
    source.PixelSpacing, source.SliceThickness = ["0.7421875", "0.7421875"], "2.50"
    source.RescaleIntercept, source.RescaleSlope, source.RescaleType = "-1024.5", "0.4884004884005", "HU"
    found = _saved(source)
    for keyword in (
        "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing",
        "SliceThickness", "RescaleIntercept", "RescaleSlope", "RescaleType", "Rows", "Columns",
        "InstanceNumber", "ImageType", "Modality",
        "PhotometricInterpretation", "WindowCenter",
    ):  # fmt: skip
        assert found[keyword].value == source[keyword].value, keyword
    assert np.array_equal(found.pixel_array, source.pixel_array)


def test_file_meta_preamble_and_bytes_behind_and_beside_samples_are_not_kept(tmp_path: Path) -> None:
    source = _image(tmp_path)
    expected = source.pixel_array.copy()
    assert (source.BitsStored, source.HighBit) == (12, 11)
    hidden = expected | (np.frombuffer(b"CANARY  " * 60, np.uint8).reshape(24, 20) & np.uint16(15)) << 12
    source.PixelData = hidden.astype("<u2").tobytes() + _TEXT
    source.preamble = _TEXT.ljust(128)
    source.file_meta.SourceApplicationEntityTitle = _TEXT.decode()
    source.file_meta.PrivateInformationCreatorUID = "1.2.73918284"
    source.file_meta.PrivateInformation = _TEXT
    buffer = BytesIO()
    Pseudonyms().file(source).save_as(buffer, enforce_file_format=True)
    assert _canaries_in(buffer.getvalue()) == []
    found = dcmread(BytesIO(buffer.getvalue()))
    assert np.array_equal(found.pixel_array, expected)
    assert len(found.PixelData) == expected.nbytes


def test_signed_samples_keep_their_sign(tmp_path: Path) -> None:
    source = _image(tmp_path)
    signed = source.pixel_array.astype(np.int16) // 2 - 1024
    source.PixelRepresentation, source.PixelData = 1, (signed & 0x0FFF).astype("<u2").tobytes()
    found = _saved(source)
    assert signed.min() < 0
    assert np.array_equal(found.pixel_array, signed)


def test_padding_value_stays_where_the_vr_is_implicit(tmp_path: Path) -> None:
    source = _image(tmp_path)
    source.PixelRepresentation = 1
    _put(source, Tag("PixelPaddingValue"), "SS", b"\x30\xf8")
    buffer = BytesIO()
    source.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    source.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
    assert _saved(dcmread(BytesIO(buffer.getvalue()))).PixelPaddingValue == -2000


def test_pixels_that_cannot_be_decoded_are_left_out(tmp_path: Path) -> None:
    source = _image(tmp_path)
    source.compress(RLELossless)
    source.PixelData = source.PixelData[:40] + _TEXT
    found = _saved(source)
    assert "PixelData" not in found
    assert found.Rows == 24


@pytest.mark.parametrize(
    "changes",
    [
        {"BurnedInAnnotation": "YES"},
        {"BurnedInAnnotation": "yes "},
        {"BurnedInAnnotation": "UNKNOWN"},
        {"RecognizableVisualFeatures": "YES"},
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]},
        {"SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": "1.2.3.4"},
    ],
)
def test_pixels_that_may_show_a_name_are_refused_until_they_are_cleared(
    tmp_path: Path, changes: dict
) -> None:
    source = _image(tmp_path)
    with config.disable_value_validation():
        for keyword, value in changes.items():
            setattr(source, keyword, value)
        with pytest.raises(InputError, match="set Burned In Annotation to NO") as refused:
            Pseudonyms().file(source)
    assert refused.value.code == "burned-in-annotation"
    source.BurnedInAnnotation, source.RecognizableVisualFeatures = "NO", ""
    assert _saved(source).BurnedInAnnotation == "NO"


@pytest.fixture(scope="module")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfferedCase]:
    """A case whose slices and rows hold canaries wherever another party writes."""
    folder = tmp_path_factory.mktemp("offered")
    paths = good_series(folder / "ct", patient_name="CANARY^A", study_description="CANARY")
    for path in paths:
        image = dcmread(path)
        image.preamble, image.StationName, image.AccessionNumber = _TEXT.ljust(128), "CANARY", "CANARY"
        image.SourceImageSequence = [_polluted(1, _LISTED_SEQUENCES)]
        image.save_as(path, enforce_file_format=True)
    with offered_case(folder, paths, destinations=[_DESTINATION]) as case:
        _pollute_rows(case.context)
        yield case


_DESTINATION = {"name": "canary", "ae_title": "CANARY", "host": "canary", "port": 104}


def _pollute_rows(context: Context) -> None:
    """Write canaries into the columns that take text from people, peers and exceptions."""
    columns = {
        Case: ("calling_ae", "accession_number", "sentence", "remedy", "assumed", "code"),
        Round: ("model_name",),
        Result: ("character",),
        Delivery: ("reason", "destination"),
        Transition: ("actor", "reason"),
        WorkItem: ("cause",),
    }
    with context.database.transaction() as session:
        said = Selection(case_id=1, round_number=1, verb="pick", picked=2, mechanism="CANARY", code="CANARY")
        said.outcome, said.per_target = SelectionOutcome.REFUSED, {"CANARY": 1}
        said.calling_ae = said.sentence = said.remedy = "CANARY"
        session.add(said)
        for table, names in columns.items():
            for row in session.query(table):
                for name in names:
                    setattr(row, name, "CANARY")
        for result in session.query(Result):
            result.volumes_ml = {**result.volumes_ml, "CANARY": "CANARY"}


def _members(path: Path) -> dict[str, bytes]:
    """Every file of a zip, those of its ``.npz`` files too."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            found[name] = archive.read(name)
            if name.endswith(".npz"):
                with zipfile.ZipFile(BytesIO(found[name])) as inner:
                    found |= {f"{name}/{part}": inner.read(part) for part in inner.namelist()}
    return found


@pytest.fixture(scope="module")
def exported(offered: OfferedCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("export") / "case.zip"
    export_case(offered.context, 1, target, actor="command line")
    return target


def test_no_byte_of_an_exported_case_holds_a_canary(exported: Path) -> None:
    members = _members(exported)
    assert len([name for name in members if name.startswith("series/")]) == 16
    assert len([name for name in members if "candidate-" in name]) == 4
    assert {name for name, content in members.items() if _canaries_in(content)} == set()
    assert _canaries_in(exported.read_bytes()) == []


def test_exported_segmentations_are_still_read_with_codes_labels_and_voxels(
    exported: Path, tmp_path: Path
) -> None:
    (content,) = (found for name, found in _members(exported).items() if "candidate-2-" in name)
    (tmp_path / "seg.dcm").write_bytes(content)
    seg = segread(tmp_path / "seg.dcm")
    assert [segment.segment_label for segment in map(seg.get_segment_description, (1, 2, 3))] == [
        "Liver",
        "Lesion 1",
        "Lesion 2",
    ]
    assert seg.get_segment_description(1).segmented_property_type.meaning == "Liver"
    assert seg.get_segment_description(2).tracking_id == "Lesion 1"
    voxels = seg.get_volume(combine_segments=True).array
    for value in (1, 2, 3):
        assert np.count_nonzero(voxels == value) == np.count_nonzero(candidate_labels(2) == value)


def test_exported_arrays_keep_their_numbers(exported: Path, tmp_path: Path) -> None:
    members = _members(exported)
    for name in ("candidates", "uncertain"):
        (tmp_path / f"{name}.npz").write_bytes(members[f"round-1/{name}.npz"])
    found = load_candidates(tmp_path / "candidates.npz")
    assert [np.array_equal(entry.labels, candidate_labels(entry.k)) for entry in found] == [True] * 4
    changed = candidate_labels(1) != candidate_labels(4)
    assert np.array_equal(load_region(tmp_path / "uncertain.npz"), changed)


def test_case_json_keeps_states_numbers_and_seconds(exported: Path) -> None:
    record = json.loads(_members(exported)["case.json"])
    assert record["state"] == "AWAITING_SELECTION"
    assert [step["to"] for step in record["history"]][-1] == "AWAITING_SELECTION"
    assert set(record["history"][0]) == {"at", "from", "to"}
    assert record["history"][0]["at"] >= 0.0
    (round_,) = record["rounds"]
    assert round_["model_digest"] == "0123456789abcdef" * 4
    assert round_["results"][0]["volumes_ml"]["liver"] > 0
    assert round_["results"][0]["deliveries"] == [{"state": "pending", "attempts": 0}]
    (selection,) = record["selections"]
    assert (selection["verb"], selection["picked"], selection["outcome"]) == ("pick", 2, "refused")
    assert (selection["mechanism"], selection["code"], selection["per_target"]) == (None, None, None)
    assert record["left_out"] == ["round-1/state.npz"], "no engine wrote one here"


def test_an_export_is_private_and_recorded(tmp_path: Path, database_url: str) -> None:
    with context_in(tmp_path / "data", database_url) as context:
        with context.database.transaction() as session:
            publish_round(session, ready_case(session))
        target = tmp_path / "new" / "folder" / "case.zip"
        target.parent.parent.mkdir(mode=0o755)
        assert export_case(context, 1, target, actor="command line") == 1
        assert [path.stat().st_mode & 0o777 for path in (target, target.parent)] == [0o600, 0o700]
        target.chmod(0o644)
        export_case(context, 1, target, actor="command line")
        assert target.stat().st_mode & 0o777 == 0o600, "an older file gives its mode to no other"
        with zipfile.ZipFile(target) as archive:
            assert [entry.external_attr >> 16 & 0o777 for entry in archive.infolist()] == [0o600]
        with pytest.raises(InputError) as refused:
            export_case(context, 9, tmp_path / "none.zip", actor="command line")
        assert refused.value.code == "no-such-case"
        with context.database.reading() as session:
            rows = [
                (record.actor, record.action, record.subject, record.outcome)
                for record in session.query(AccessRecord)
            ]
    done = ("command line", "export case", "case 1", "done")
    assert rows == [done, done, ("command line", "export case", "case 9", "no-such-case")]


def test_a_refused_export_leaves_no_file_and_is_recorded(tmp_path: Path) -> None:
    paths = good_series(tmp_path / "ct")
    last = dcmread(paths[-1])
    last.BurnedInAnnotation = "YES"
    last.save_as(paths[-1])
    with offered_case(tmp_path, paths) as case:
        target = tmp_path / "export" / "case.zip"
        with pytest.raises(InputError, match="Burned In Annotation"):
            export_case(case.context, 1, target, actor="command line")
        assert list(target.parent.iterdir()) == []
        with case.context.database.reading() as session:
            assert session.query(AccessRecord).one().outcome == "burned-in-annotation"
