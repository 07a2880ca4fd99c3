"""Warn if a stack may lack slices at an end, where a missing slice leaves no gap.

The functions take header records. The number of slices does not prove a fault. So the case gets a warning and
is not refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from uair_node.dicom.headers import SliceHeader


def warnings_of(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """Compare Images in Acquisition with the slices of each acquisition (PS3.3 C.7.6.1).

    Frames of a multi-frame image are left out: the attribute counts instances there.

    Returns
    -------
    tuple of str
        At most one sentence, about the acquisition that lacks the most slices; empty if no slice is missing.
    """
    parts: dict[int | None, list[int]] = defaultdict(list)
    for header in headers:
        if header.frame is None:
            parts[header.acquisition_number].append(header.images_in_acquisition or 0)
    lacking = [
        (max(stated) - len(stated), max(stated), len(stated))
        for stated in parts.values()
        # Some scanners number each slice as an acquisition of its own. Then all slices of the series count.
        if max(stated) > (len(stated) if len(stated) > 1 else len(headers))
    ]
    if not lacking:
        return ()
    _, made, held = max(lacking)
    held = held if held > 1 else len(headers)
    return (
        f"The scanner made {made} images in this acquisition. The series holds {held}: "
        "slices may be missing at an end, or the other images belong to another reconstruction.",
    )
