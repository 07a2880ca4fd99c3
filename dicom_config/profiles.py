"""Viewer profiles: what a destination's viewer needs changed in our objects, each with its reason.

`strict` changes nothing: what the standard says, which current OHIF, 3D Slicer and dcmqi read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Profile(StrEnum):
    """The viewer with which a department looks at results."""

    STRICT = "strict"
    OHIF = "ohif"
    WEASIS = "weasis"
    NO_SEG = "no-seg"
    RTSTRUCT = "rtstruct"


@dataclass(frozen=True)
class Needs:
    """The needs of a viewer.

    Parameters
    ----------
    segmentations
        Whether it can draw SEG at all. Without, pages and notices are all that is sent.
    pictures
        Whether anybody looks at pages and notices there.
    structures
        Whether it gets the accepted segmentation as an RT Structure Set: a planning system.
    gap_frames
        Empty frames between a segment's first and last: older OHIF draws what follows a gap on the
        wrong slices (OHIF #2833). Frames before and after are still left out.
    short_label
        A Content Label without ``UAIR``: Weasis lists a SEG as ``[1]``, label and description, and cuts the
        line at 16 characters (Weasis #681). There, ``[1] UAIR FINAL R`` has lost round and candidate.
    """

    segmentations: bool = True
    pictures: bool = True
    structures: bool = False
    gap_frames: bool = False
    short_label: bool = False


NEEDS: Mapping[Profile, Needs] = {
    Profile.STRICT: Needs(),
    Profile.OHIF: Needs(gap_frames=True),
    Profile.WEASIS: Needs(short_label=True),
    Profile.NO_SEG: Needs(segmentations=False),
    Profile.RTSTRUCT: Needs(segmentations=False, pictures=False, structures=True),
}
