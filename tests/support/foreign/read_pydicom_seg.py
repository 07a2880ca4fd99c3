"""Read SEG by pydicom-seg."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom
import pydicom_seg
from common import answer_job


def _read(path: Path) -> tuple[Any, ...]:
    read = pydicom_seg.MultiClassReader().read(pydicom.dcmread(path))
    segments = [
        (number, str(info.SegmentLabel), str(info.get("TrackingUID", "")))
        for number, info in read.segment_infos.items()
    ]
    image = read.image
    return read.data, image.GetOrigin(), image.GetSpacing(), image.GetDirection(), segments


answer_job(_read)
