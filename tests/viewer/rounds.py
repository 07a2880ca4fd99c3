"""A round of four candidates of a phantom in the archive, for the viewer's tests."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from scipy import ndimage

from tests.support.orthanc import Orthanc
from uair_node.dicom.volume import Volume, read_series
from uair_node.results.provenance import Provenance
from uair_node.results.result_writer import save_durably
from uair_node.results.seg import SegRequest, Tracking, write_seg
from uair_node.results.uids import result_uid
from workers.phantoms import make_phantom
from workers.phantoms.ct_series import write_ct_series

GROWTH_VOXELS = {"most likely": 0, "most inclusive": 2, "tightest": -1, "alternative": 1}
"""The candidates in their order, and the growth of each candidate from the truth in voxels."""
LIVER, LESION = 1, 2
LESION_TRACKING_UID = result_uid("viewer test", "lesion")


@dataclass(frozen=True)
class RoundInArchive:
    """One round in the archive. `labels` and `names` are in the order of candidates."""

    volume: Volume
    study_uid: str
    labels: tuple[np.ndarray[Any, Any], ...]
    names: tuple[str, ...]


def put_round(orthanc: Orthanc, folder: Path) -> RoundInArchive:
    """Write series and candidates into `folder`, empty the archive, and upload them."""
    orthanc.delete_all()
    phantom = make_phantom(3, size="small")
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]]) * phantom.spacing_mm
    affine[:3, 3] = (-190.0, -185.0, 40.0)
    paths = write_ct_series(folder / "ct", phantom.hu, affine)
    volume = read_series(paths)
    truth = np.minimum(phantom.labels, LESION)
    labels = tuple(varied(truth, growth) for growth in GROWTH_VOXELS.values())
    names = []
    for k, (character, volume_labels) in enumerate(zip(GROWTH_VOXELS, labels, strict=True), 1):
        seg = write_seg(volume, volume_labels, request_for(k, character))
        save_durably(seg, folder / f"candidate_{k}.dcm")
        names.append(str(seg.SeriesDescription))
    for path in sorted(folder.rglob("*.dcm")):
        orthanc.upload(path.read_bytes())
    study_uid = str(pydicom.dcmread(paths[0]).StudyInstanceUID)
    return RoundInArchive(volume, study_uid, labels, tuple(names))


def varied(truth: np.ndarray[Any, Any], growth: int) -> np.ndarray[Any, Any]:
    """Grow (or shrink) liver and lesions by `growth` voxels; lesions only within their slices."""
    cross = ndimage.generate_binary_structure(3, 1)
    flat = cross & (np.abs(np.arange(3) - 1) == 0)[:, None, None]
    liver, lesion = truth > 0, truth == LESION
    if growth:
        change = ndimage.binary_dilation if growth > 0 else ndimage.binary_erosion
        liver = change(liver, cross, iterations=abs(growth))
        lesion = change(lesion, flat, iterations=abs(growth))
    return np.where(lesion, LESION, liver).astype(np.uint8)


def request_for(k: int, character: str) -> SegRequest:
    return SegRequest(
        sop_instance_uid=result_uid("viewer test", "instance", k),
        series_instance_uid=result_uid("viewer test", "series", k),
        k=k,
        character=character,
        provenance=Provenance(
            round=1,
            model_name="embedded",
            model_digest="0123456789abcdef" * 4,
            software_version="0.1.0",
            case_digest="f" * 64,
            content_datetime=datetime(2026, 1, 5, 10, 0),
        ),
        tracking={1: Tracking("UAIR lesion 1", LESION_TRACKING_UID)},
    )
