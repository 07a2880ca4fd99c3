"""Compare a returned SEG with our object of the same UID: the same UID may come with other content.

An archive may rewrite headers and encode pixels anew. A viewer may save an edit under the UID of the object
that it opened. Only segments and pixels distinguish these two situations.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_config.errors import ResourceError
from uair_node.dicom.codestreams import require_matching_codestreams
from uair_node.dicom.decoding_apart import decode_apart
from uair_node.dicom.segment_kind import property_types


def draws_the_same(sent: Dataset, ours: Path) -> bool:
    """Return whether two SEGs have the same segments with the same pixels at the same places.

    The order of frames, frames without pixels, private elements and the transfer syntax do not matter. A SEG
    that cannot be read counts as different. `uair_node.dicom.seg_reader` then gives the reason.

    Raises
    ------
    ResourceError
        ``decoder-not-started``, see `uair_node.dicom.decoding_apart.decode_apart`.
    """
    written: Dataset = dcmread(ours)
    try:
        require_matching_codestreams(sent)
        return _segments(sent) == _segments(written) and _frames(sent) == _frames(written)
    except ResourceError:
        raise
    except Exception:  # a damaged object can raise nearly any exception
        return False


def _segments(dataset: Dataset) -> dict[int, Any]:
    """Return segment number -> the properties that must be equal in both SEGs."""
    return {
        int(segment.SegmentNumber): (
            str(segment.get("TrackingUID") or ""),
            str(segment.get("SegmentLabel") or "").strip(),
            tuple((code.value, code.scheme_designator) for code in property_types(segment)),
        )
        for segment in dataset.SegmentSequence
    }


def _frames(dataset: Dataset) -> Counter[str]:
    """Return digests of all frames that have pixels: segment, position and pixels.

    Equal frames are counted.
    """
    found: Counter[str] = Counter()
    groups = dataset.PerFrameFunctionalGroupsSequence
    with decode_apart(dataset) as frames:
        for group, pixels in zip(groups, frames, strict=True):
            if not pixels.any():
                continue
            position = group.PlanePositionSequence[0].ImagePositionPatient
            place = " ".join(f"{float(value):.3f}" for value in position)
            segments = group.get("SegmentIdentificationSequence")
            number = int(segments[0].ReferencedSegmentNumber) if segments else 0
            digest = hashlib.sha256(f"{number} {place} {pixels.shape}\n".encode())
            digest.update(np.ascontiguousarray(pixels).data)
            found[digest.hexdigest()] += 1
    return found
