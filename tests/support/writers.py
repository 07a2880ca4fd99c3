"""Objects of readers' software, written by the real programs: dcmqi, DCMTK, highdicom.

3D Slicer stores segmentations by dcmqi, with its own default terms. `slicer_segmentation` does the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from pydicom import Dataset, dcmread

from dicom_config import codes
from tests.support.selections import new_uid
from tests.support.server import need
from uair_node.dicom.volume import Volume

_TISSUE = codes.Code("85756007", "SCT", "Tissue")


def dcmqi_segmentation(
    paths: Sequence[Path], volume: Volume, labels: np.ndarray, tracking: Mapping[int, str], folder: Path
) -> Dataset:
    """Write labels by itkimage2segimage, as users of dcmqi would, with our terms and Tracking UIDs.

    Parameters
    ----------
    paths, volume
        The source series.
    labels
        ``(Z, Y, X)``, 1 liver, 1 + n lesion n.
    tracking
        Tracking UID of each lesion number.
    """
    segments = []
    for value in _values(labels):
        lesion = value - 1
        segment = _segment(
            value, f"Lesion {lesion}" if lesion else "Liver", codes.LESION if lesion else codes.LIVER
        )
        if lesion:
            segment |= {
                "TrackingIdentifier": f"UAIR lesion {lesion}",
                "TrackingUniqueIdentifier": tracking[lesion],
            }
        segments.append(segment)
    return _itkimage2segimage(paths, volume, labels, segments, folder)


def slicer_segmentation(paths: Sequence[Path], volume: Volume, labels: np.ndarray, folder: Path) -> Dataset:
    """Write labels as 3D Slicer does after an import: segments "Segment_n", tissue, no Tracking UID."""
    segments = [_segment(value, f"Segment_{value}", _TISSUE) for value in _values(labels)]
    return _itkimage2segimage(paths, volume, labels, segments, folder)


def _values(labels: np.ndarray) -> list[int]:
    return [int(value) for value in np.unique(labels) if value]


def _segment(value: int, label: str, kind: codes.Code) -> dict[str, Any]:
    return {
        "labelID": value,
        "SegmentLabel": label,
        "SegmentDescription": label,
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": _code(codes.MORPHOLOGICALLY_ABNORMAL),
        "SegmentedPropertyTypeCodeSequence": _code(kind),
        "recommendedDisplayRGBValue": [10 * value, 200, 255 - 10 * value],
    }


def _code(code: codes.Code) -> dict[str, str]:
    return {
        "CodeValue": code.value,
        "CodingSchemeDesignator": code.scheme_designator,
        "CodeMeaning": code.meaning,
    }


def _itkimage2segimage(
    paths: Sequence[Path],
    volume: Volume,
    labels: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    folder: Path,
) -> Dataset:
    (program,) = need("itkimage2segimage", folders=[Path(sys.executable).parent])
    image, meta, output = folder / "labels.nrrd", folder / "meta.json", folder / "written.dcm"
    write_nrrd(image, labels.astype(np.uint8), volume.affine)
    meta.write_text(
        json.dumps(
            {
                "ContentCreatorName": "Reader",
                "SeriesDescription": "Segmentation",
                "SeriesNumber": "100",
                "InstanceNumber": "1",
                "BodyPartExamined": "",
                "segmentAttributes": [list(segments)],
            }
        )
    )
    command = [
        *(str(program), "--inputImageList", str(image), "--inputMetadata", str(meta)),
        *("--inputDICOMList", ",".join(map(str, paths)), "--outputDICOM", str(output), "--skip", "1"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dcmread(output)


def write_nrrd(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    """Write ``(Z, Y, X)`` uint8 voxels with their affine (LPS) as NRRD, the fastest axis first."""
    x, y, z = (",".join(f"{value:.10g}" for value in affine[:3, axis]) for axis in (2, 1, 0))
    origin = ",".join(f"{value:.10g}" for value in affine[:3, 3])
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, voxels.shape[::-1]))}\n"
        f"space directions: ({x}) ({y}) ({z})\nspace origin: ({origin})\n"
        "kinds: domain domain domain\nencoding: raw\n\n"
    )
    path.write_bytes(header.encode() + np.ascontiguousarray(voxels).tobytes())


def dcmtk_key_object(named: Sequence[tuple[Dataset, int | None]], folder: Path) -> Dataset:
    """Write a Key Object Selection by DCMTK's xml2dsr that names objects, or one segment of each."""
    (program,) = need("xml2dsr")
    source, output = folder / "kos.xml", folder / "kos.dcm"
    source.write_text(_key_object_xml(named), "utf-8")
    done = subprocess.run(
        [str(program), str(source), str(output)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dcmread(output)


def _key_object_xml(named: Sequence[tuple[Dataset, int | None]]) -> str:
    first = named[0][0]
    evidence = "".join(
        f'<series uid="{dataset.SeriesInstanceUID}"><value><sopclass uid="{dataset.SOPClassUID}"/>'
        f'<instance uid="{dataset.SOPInstanceUID}"/></value></series>'
        for dataset in {str(dataset.SeriesInstanceUID): dataset for dataset, _ in named}.values()
    )
    items = "".join(
        "<image><relationship>CONTAINS</relationship>"
        "<concept><value>260753009</value><scheme><designator>SCT</designator></scheme>"
        "<meaning>Source</meaning></concept>"
        f'<value><sopclass uid="{dataset.SOPClassUID}"/><instance uid="{dataset.SOPInstanceUID}"/>'
        f"{f'<segments>{segment}</segments>' if segment else ''}</value></image>"
        for dataset, segment in named
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<report type="Key Object Selection Document">'
        '<sopclass uid="1.2.840.10008.5.1.4.1.1.88.59"/><charset>ISO_IR 100</charset>'
        "<modality>KO</modality><manufacturer>viewer</manufacturer>"
        f"<patient><id>{escape(str(first.PatientID))}</id></patient>"
        f'<study uid="{first.StudyInstanceUID}"/>'
        f'<series uid="{new_uid()}"><number>1</number></series>'
        f'<instance uid="{new_uid()}"><number>1</number></instance>'
        '<evidence type="Current Requested Procedure">'
        f'<study uid="{first.StudyInstanceUID}">{evidence}</study>'
        "</evidence><document><content><date>2026-01-05</date><time>10:00:00</time>"
        '<container flag="SEPARATE">'
        "<concept><value>113000</value><scheme><designator>DCM</designator></scheme>"
        f"<meaning>Of Interest</meaning></concept>{items}</container></content></document></report>"
    )
