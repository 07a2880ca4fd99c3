"""Viewer profiles: changes to the node's DICOM objects that some viewers need, with reasons.

The profile `strict` has no changes. Its objects follow the standard. Current versions of OHIF, 3D Slicer and
dcmqi can read these objects.
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
    """The DICOM objects that a viewer needs, and the changes to them.

    Parameters
    ----------
    segmentations
        Whether the viewer can show SEG objects. If false, then the destination gets no segmentations.
    pictures
        Whether readers look at pages and notices in this viewer.
    structures
        Whether the viewer is a radiotherapy planning system. If true, then it gets the accepted segmentation
        as an RT Structure Set.
    gap_frames
        Whether empty frames are written between a segment's first and last frame. After a gap, older OHIF
        draws on the wrong slices (OHIF #2833). Empty frames before and after the segment are always left
        out.
    short_label
        Whether the Content Label is written without ``UAIR``. Weasis lists a SEG in a line with ``[1]``,
        label and description. It cuts the line after 16 characters (Weasis #681). With ``UAIR``, the line
        would be ``[1] UAIR FINAL R``, without round and candidate.
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
