"""Viewer profiles: changes to our objects that some viewers need, each with its reason.

The profile `strict` has no changes. Its objects follow the standard. Current OHIF, 3D Slicer and dcmqi read
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Profile(StrEnum):
    """The kind of viewer at a destination."""

    STRICT = "strict"
    OHIF = "ohif"
    WEASIS = "weasis"
    NO_SEG = "no-seg"
    RTSTRUCT = "rtstruct"


@dataclass(frozen=True)
class Needs:
    """The objects, and the changes to objects, that a viewer needs.

    Parameters
    ----------
    segmentations
        Whether the viewer can draw SEG. If false, then the destination gets no segmentations.
    pictures
        Whether readers look at pages and notices in this viewer.
    structures
        Whether the viewer is a planning system. It gets the accepted segmentation as an RT Structure Set.
    gap_frames
        Whether empty frames are written between a segment's first and last frame. After a gap, older OHIF
        draws on the wrong slices (OHIF #2833). Empty frames before and after the segment are always left
        out.
    short_label
        Whether the Content Label is written without ``UAIR``. Weasis lists a SEG as ``[1]``, label and
        description, and cuts the line at 16 characters (Weasis #681). So ``[1] UAIR FINAL R`` would not
        show round and candidate.
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
