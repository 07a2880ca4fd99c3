"""Reports as dcmqi and 3D Slicer write them: each measurement group names a segment, and draws nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from dicom_config import codes
from dicom_config.model import Verb
from tests.support.edited import returned, segment
from tests.support.marked import graphics_of
from tests.support.offered import OfferedCase, candidate_labels, offered_case
from tests.support.server import need
from uair_node.cases.tables import Selection, SelectionOutcome

pytestmark = pytest.mark.integration

LESION = 2  # segment number: the liver is 1


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        yield made


def _code(value: str, scheme: str, meaning: str) -> dict[str, str]:
    return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}


def _measured(seg: Dataset, number: int) -> dict[str, Any]:
    """A group of TID 1411 for a segment: its volume, as Slicer's Quantitative Reporting writes it."""
    source = seg.ReferencedSeriesSequence[0].SeriesInstanceUID
    return {
        "TrackingIdentifier": "Lesion",
        "ReferencedSegment": number,
        "SourceSeriesForImageSegmentation": str(source),
        "segmentationSOPInstanceUID": str(seg.SOPInstanceUID),
        "Finding": _code("52988006", "SCT", "Lesion"),
        "FindingSite": _code("10200004", "SCT", "Liver"),
        "measurementItems": [
            {
                "value": "1234.5",
                "quantity": _code("118565006", "SCT", "Volume"),
                "units": _code("mm3", "UCUM", "cubic millimeter"),
            }
        ],
    }


def _report(offered: OfferedCase, seg: Dataset, number: int, folder: Path) -> Path:
    """Let dcmqi's tid1500writer write a report that measures a segment."""
    (program,) = need("tid1500writer", folders=[Path(sys.executable).parent])
    folder.mkdir()
    seg.save_as(folder / "seg.dcm", enforce_file_format=True)
    described = {
        "SeriesDescription": "Measurements",
        "SeriesNumber": "1001",
        "InstanceNumber": "1",
        "compositeContext": ["seg.dcm"],
        "imageLibrary": [path.name for path in offered.paths],
        "observerContext": {"ObserverType": "PERSON", "PersonObserverName": "Reader"},
        "VerificationFlag": "UNVERIFIED",
        "CompletionFlag": "COMPLETE",
        "activitySession": "1",
        "timePoint": "1",
        "Measurements": [_measured(seg, number)],
    }
    (folder / "report.json").write_text(json.dumps(described))
    command = [
        program,
        *("--inputMetadata", folder / "report.json"),
        *("--inputImageLibraryDirectory", offered.paths[0].parent),
        *("--inputCompositeContextDirectory", folder),
        *("--outputDICOM", folder / "report.dcm"),
    ]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "report.dcm"


def _of_another_system(offered: OfferedCase) -> Dataset:
    labels = candidate_labels(1)
    masks = np.stack([labels > 0, labels == LESION], -1).astype(np.uint8)
    described = [segment(1, "liver", codes.LIVER), segment(2, "tumour", codes.LESION)]
    return returned([dcmread(path) for path in offered.paths], masks, described)


def _sent(offered: OfferedCase, path: Path) -> Selection:
    row = offered.send_file(path, Verb.PICK)
    assert row is not None
    return row


def test_a_report_of_dcmqi_names_the_segment_in_its_measurement_group(
    offered: OfferedCase, tmp_path: Path
) -> None:
    """Input of the other tests: a Comprehensive SR of TID 1500, whose group names a segment, no graphic."""
    seg = offered.candidate(3)
    report = dcmread(_report(offered, seg, LESION, tmp_path / "written"))
    assert report.SOPClassUID in ("1.2.840.10008.5.1.4.1.1.88.22", "1.2.840.10008.5.1.4.1.1.88.33")
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert graphics_of(report) == []
    (measurements,) = [
        item for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"
    ]
    (group,) = measurements.ContentSequence
    named = {item.ConceptNameCodeSequence[0].CodeValue: item for item in group.ContentSequence}
    assert named["112039"].TextValue == "Lesion"  # Tracking Identifier
    assert named["112040"].ValueType == "UIDREF"  # Tracking Unique Identifier
    (reference,) = named["121191"].ReferencedSOPSequence  # Referenced Segment
    assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert reference.ReferencedSegmentNumber == LESION


def test_a_measured_segment_of_a_candidate_is_a_pick(offered: OfferedCase, tmp_path: Path) -> None:
    row = _sent(offered, _report(offered, offered.candidate(3), LESION, tmp_path / "written"))
    assert (row.outcome, row.mechanism) == (SelectionOutcome.EFFECTIVE, "sr"), (row.code, row.sentence)
    assert row.answer.k == 3


def test_a_measured_segment_of_another_system_is_refused_and_its_segmentation_starts(
    offered: OfferedCase, tmp_path: Path
) -> None:
    seg = _of_another_system(offered)
    row = _sent(offered, _report(offered, seg, LESION, tmp_path / "written"))
    assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "segment-not-ours")
    assert "UAIR_START" in row.remedy
    started = offered.send(seg, Verb.START)
    assert started is not None
    assert started.outcome == SelectionOutcome.EFFECTIVE, "the remedy works"
