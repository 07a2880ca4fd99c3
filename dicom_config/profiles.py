"""Viewer profiles: changes to our objects that some viewers need, each with its reason.

`strict` changes nothing. Its objects follow the standard, and current OHIF, 3D Slicer and dcmqi read them.
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
        Whether it can draw SEG. If not, then only pages and notices are sent.
    pictures
        Whether readers look at pages and notices there.
    structures
        Whether it is a planning system, which gets the accepted segmentation as an RT Structure Set.
    gap_frames
        Whether empty frames are written between a segment's first and last frame. After a gap, older OHIF
        draws on the wrong slices (OHIF #2833). Empty frames before and after the segment are always left
        out.
    short_label
        Whether the Content Label is without ``UAIR``. Weasis lists a SEG as ``[1]``, label and description,
        and cuts the line at 16 characters (Weasis #681). So ``[1] UAIR FINAL R`` would not show round and
        candidate.
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
