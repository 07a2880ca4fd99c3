"""Read SEG by itkwasm-dicom: dcmqi and DCMTK compiled to WebAssembly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import answer_job
from itkwasm_dicom_wasi import read_segmentation


def _read(path: Path) -> tuple[Any, ...]:
    image, meta = read_segmentation(path)
    (group,) = meta["segmentAttributes"]
    segments = [
        (segment["labelID"], segment["SegmentLabel"], segment.get("TrackingUniqueIdentifier", ""))
        for segment in group
    ]
    return image.data, image.origin, image.spacing, image.direction, segments


answer_job(_read)
