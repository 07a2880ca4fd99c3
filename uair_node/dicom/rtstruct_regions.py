"""Describe the regions of an RT Structure Set in the form of items of a Segment Sequence.

This file reads the DICOM modules that describe a region (PS3.3 C.8.8.5, C.8.8.6, C.8.8.8). So the same code
recognises regions and segments. The positions of contours are not read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code

from dicom_config import codes
from dicom_config.modalities.profile import Organ
from uair_node.dicom.segment_kind import kind_of
from uair_node.dicom.segment_words import SegmentKind

XOR = "CLOSEDPLANAR_XOR"
CLOSED_TYPES = ("CLOSED_PLANAR", XOR)
_LESION_TYPES = ("GTV",)
_ORGAN_TYPES = ("ORGAN", "AVOIDANCE", "CONTROL", "")
"""Interpreted types (PS3.3 C.8.8.8.1) that do not identify the structure.

Planning systems write these types for any region. In a plan, the liver is an organ to be spared. All other
types are margins, devices and marks, and never liver or lesion.
"""


@dataclass(frozen=True)
class Region:
    """One region of interest.

    Attributes
    ----------
    segment
        Its name and codes, in the form of an item of the Segment Sequence.
    contours
        Items of its Contour Sequence.
    images
        SOP Instance UIDs that the region's contours name. If they name none, then the UIDs that the whole
        structure set names.
    frames_of_reference
        The region's own Frame of Reference UID. If it has none, then the UIDs of the whole set.
    made_from
        SOP Instance UIDs of the objects that the region was made from.
    """

    segment: Dataset
    contours: Sequence[Dataset]
    images: frozenset[str]
    frames_of_reference: frozenset[str]
    made_from: frozenset[str]


def read_regions(dataset: Dataset) -> dict[int, Region]:
    """Return ROI Number -> region of a structure set, in the set's order."""
    contours = {
        int(item.ReferencedROINumber): item.get("ContourSequence") or ()
        for item in dataset.get("ROIContourSequence") or ()
    }
    observed = {
        int(item.ReferencedROINumber): item for item in dataset.get("RTROIObservationsSequence") or ()
    }
    images, spaces = frozenset(images_of_set(dataset)), frozenset(_frames_of_reference(dataset))
    regions = {}
    for item in dataset.get("StructureSetROISequence") or ():
        number = int(item.ROINumber)
        drawn = contours.get(number, ())
        observation = observed.get(number, Dataset())
        own = str(item.get("ReferencedFrameOfReferenceUID") or "")
        regions[number] = Region(
            segment=_as_segment(item, observation),
            contours=drawn,
            images=frozenset(_images_of_contours(drawn)) or images,
            frames_of_reference=frozenset({own}) if own else spaces,
            made_from=frozenset(_instances(item, "DefinitionSourceSequence")),
        )
    return regions


def shows_other(region: Region, organ: Organ) -> bool:
    """Return whether a region's type, code or name shows that it is neither liver nor lesion.

    A region without any such information counts as another structure if it has an open contour, such as a
    point.
    """
    kind = kind_of(region.segment, organ)
    return kind is SegmentKind.OTHER or (
        kind is SegmentKind.UNSPECIFIED and any(not is_closed(contour) for contour in region.contours)
    )


def is_closed(contour: Dataset) -> bool:
    """Return whether a contour is of a type that encloses an area (PS3.3 C.8.8.6.3)."""
    return str(contour.get("ContourGeometricType") or "").strip() in CLOSED_TYPES


def images_of_set(dataset: Dataset) -> Iterator[str]:
    """Yield the SOP Instance UIDs that the whole set names in its referenced series."""
    for series in series_of_set(dataset):
        yield from _instances(series, "ContourImageSequence")


def series_of_set(dataset: Dataset) -> Iterator[Dataset]:
    """Yield the items of the RT Referenced Series Sequences (PS3.3 C.8.8.5)."""
    for space in dataset.get("ReferencedFrameOfReferenceSequence") or ():
        for study in space.get("RTReferencedStudySequence") or ():
            yield from study.get("RTReferencedSeriesSequence") or ()


def images_of_contours(dataset: Dataset) -> Iterator[str]:
    """Yield the SOP Instance UIDs that the contours of all regions name."""
    for item in dataset.get("ROIContourSequence") or ():
        yield from _images_of_contours(item.get("ContourSequence") or ())


def _images_of_contours(contours: Sequence[Dataset]) -> Iterator[str]:
    for contour in contours:
        yield from _instances(contour, "ContourImageSequence")


def _instances(item: Dataset, keyword: str) -> Iterator[str]:
    for reference in item.get(keyword) or ():
        yield str(reference.ReferencedSOPInstanceUID)


def _frames_of_reference(dataset: Dataset) -> Iterator[str]:
    for item in (dataset, *(dataset.get("ReferencedFrameOfReferenceSequence") or ())):
        if item.get("FrameOfReferenceUID"):
            yield str(item.FrameOfReferenceUID)


def _as_segment(item: Dataset, observation: Dataset) -> Dataset:
    """Return the description of a region in the form of a segment description (PS3.3 C.8.20.2).

    The identification code is the property type. A gross tumour volume is a lesion. A type such as a margin
    or a device gets the category of a physical object.
    """
    segment = Dataset()
    segment.SegmentLabel = str(item.get("ROIName") or observation.get("ROIObservationLabel") or "")
    kinds = list(observation.get("RTROIIdentificationCodeSequence") or ())
    interpreted = str(observation.get("RTROIInterpretedType") or "").strip().upper()
    if interpreted in _LESION_TYPES:
        kinds.append(_coded(codes.LESION))
    elif interpreted not in _ORGAN_TYPES:
        kinds = []
        segment.SegmentedPropertyCategoryCodeSequence = Items([_coded(codes.PHYSICAL_OBJECT)])
    segment.SegmentedPropertyTypeCodeSequence = Items(kinds)
    return segment


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme_designator
    item.CodeMeaning = code.meaning
    return item
