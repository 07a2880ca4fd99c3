"""Read the references of a returned object: SEG, RTSTRUCT, Key Object Selection, report, presentation state.

This module covers the ways in which viewers refer to an instance. It is independent of cases and candidates:
`uair_node.selection.match` decides whether we made an instance. For every object that a peer sends, the
result is a `Reading` or an `InputError`, never another exception.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import UID

from dicom_config.codes import SelectionClass
from dicom_config.errors import InputError
from uair_node.dicom.graphics import refused
from uair_node.dicom.gsps_graphics import has_annotations, images_of
from uair_node.dicom.rtstruct_regions import images_of_contours, images_of_set, series_of_set
from uair_node.dicom.sr_graphics import has_graphics

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_UID_LENGTH = 64  # PS3.5 9.1
_PATIENT_HASH_BYTES = 16


class Mechanism(StrEnum):
    """The kind of object by which the reader answered."""

    SEG = "seg"
    KEY_OBJECT = "key-object"
    SR = "sr"
    PRESENTATION_STATE = "gsps"
    PAGE = "page"
    STRUCTURES = "rtstruct"


MECHANISMS: Mapping[str, Mechanism] = {
    SelectionClass.SEGMENTATION: Mechanism.SEG,
    SelectionClass.LABEL_MAP_SEGMENTATION: Mechanism.SEG,
    SelectionClass.KEY_OBJECT_SELECTION: Mechanism.KEY_OBJECT,
    SelectionClass.ENHANCED_SR: Mechanism.SR,
    SelectionClass.COMPREHENSIVE_SR: Mechanism.SR,
    SelectionClass.COMPREHENSIVE_3D_SR: Mechanism.SR,
    SelectionClass.PRESENTATION_STATE: Mechanism.PRESENTATION_STATE,
    SelectionClass.SECONDARY_CAPTURE: Mechanism.PAGE,
    SelectionClass.RT_STRUCTURE_SET: Mechanism.STRUCTURES,
}


DRAWN = (Mechanism.SEG, Mechanism.STRUCTURES)
"""Mechanisms whose objects show liver and lesions. Such an object may be an edit."""


@dataclass(frozen=True)
class Reading:
    """The content of one returned object.

    Parameters
    ----------
    mechanism
        Kind of the object.
    sop_instance_uid, sop_class_uid, study_instance_uid
        The object's own UIDs. The study is empty if the object names none.
    patient_id_hash
        `hash_patient_id` of its Patient ID, for comparison with a case's Patient ID; empty if it has none.
    references
        SOP Instance UIDs that the object names, each once, in its order. A SEG, an RTSTRUCT or a page counts
        as an object that names itself.
    source_references
        SOP Instance UIDs of the images that a SEG or an RTSTRUCT was drawn on, or that a document names or
        lists, each once.
    segments
        Segment numbers of the references that name single segments (PS3.3 C.17.2, Referenced Segment Number).
        A reference to an object without an entry here means the whole object.
    series_references
        Series Instance UIDs that the object names, each once.
    frame_of_reference_uid
        Empty where the object has none.
    title
        Document title of a Key Object Selection or SR, where it is readable.
    draws
        Whether the object holds graphics, see `uair_node.dicom.sr_graphics` and
        `uair_node.dicom.gsps_graphics`.
    predecessors
        SOP Instance UIDs of the documents of which the object is a new version (PS3.3 C.17.2).
    """

    mechanism: Mechanism
    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    patient_id_hash: str
    references: tuple[str, ...]
    source_references: tuple[str, ...]
    segments: Mapping[str, tuple[int, ...]]
    series_references: tuple[str, ...]
    frame_of_reference_uid: str
    title: Code | None
    draws: bool = False
    predecessors: tuple[str, ...] = ()


def hash_patient_id(patient_id: str) -> str:
    """Return a digest of a Patient ID, for comparison only, not for storage; empty for an empty ID.

    Spaces around the ID do not count (PS3.5 6.2, LO).
    """
    stripped = patient_id.strip()
    if not stripped:
        return ""
    return hashlib.blake2b(stripped.encode("utf-8"), digest_size=_PATIENT_HASH_BYTES).hexdigest()


def read_selection(dataset: Dataset) -> Reading:
    """Read which instances a returned object names.

    - SEG (also label map): the object itself. Its source images are returned as `source_references`.
    - RT Structure Set: the object itself, with the images of its contours.
    - Secondary Capture: the object itself, a candidate's page.
    - Key Object Selection: the instances in its content tree (0040,A730). If there are none, then the
      instances in its evidence (0040,A375), since some viewers write only the evidence.
    - Enhanced, Comprehensive and Comprehensive 3D SR: every image and composite object that the content
      tree names, at any depth.
    - Presentation state (GSPS) with graphics: the images to which it applies.

    Raises
    ------
    InputError
        ``selection-not-supported``: an object of another SOP Class. ``selection-unreadable``: a sequence or a
        UID is missing or violates the standard. ``selection-without-reference``: a document that names no
        instance. ``mark-empty``: a presentation state without graphics.
    """
    try:
        return _read(dataset)
    except InputError:
        raise
    except Exception as error:
        # pydicom decodes on access, so damaged bytes can raise nearly any exception here. Its text may quote
        # patient data, so the message has only the exception's type.
        raise _unreadable(f"decoding failed with {type(error).__name__}") from None


def _read(dataset: Dataset) -> Reading:
    sop_class = _required_uid(dataset, "SOPClassUID")
    try:
        mechanism = MECHANISMS[sop_class]
    except KeyError:
        raise InputError(
            "selection-not-supported",
            f"An object of this class cannot be a selection: {_class_name(sop_class)}.",
            "Send the candidate's SEG itself, a Key Object Selection or a Structured Report that names it.",
        ) from None
    own = _required_uid(dataset, "SOPInstanceUID")
    references: tuple[str, ...]
    sources: tuple[str, ...] = ()
    segments: Mapping[str, tuple[int, ...]] = {}
    series: tuple[str, ...] = ()
    draws = False
    if mechanism is Mechanism.PAGE:
        references = (own,)
    elif mechanism is Mechanism.SEG:
        references = (own,)
        sources, series = _seg_sources(dataset)
    elif mechanism is Mechanism.PRESENTATION_STATE:
        draws = has_annotations(dataset)
        if not draws:
            raise refused(
                "mark-empty",
                "is missing: the presentation state has no graphic",
                "Draw a graphic on the image, and save the graphic.",
            )
        references = sources = _unique(
            _required_uid(image, "ReferencedSOPInstanceUID") for image in images_of(dataset)
        )
        series = _unique(
            _required_uid(item, "SeriesInstanceUID") for item in _items(dataset, "ReferencedSeriesSequence")
        )
    elif mechanism is Mechanism.STRUCTURES:
        references = (own,)
        sources = _unique([*images_of_set(dataset), *images_of_contours(dataset)])
        series = _unique(_required_uid(item, "SeriesInstanceUID") for item in series_of_set(dataset))
    else:
        in_evidence, series = _listed(dataset, "CurrentRequestedProcedureEvidenceSequence")
        draws = mechanism is Mechanism.SR and has_graphics(dataset)
        named = list(_tree_references(dataset))
        references = _unique(uid for uid, _ in named)
        segments = _parts(named)
        if mechanism is Mechanism.KEY_OBJECT:
            references = references or in_evidence
        if draws or mechanism is Mechanism.KEY_OBJECT:
            sources = _unique((*references, *in_evidence))
    if not references and not draws:
        raise InputError(
            "selection-without-reference",
            "The document names no instance.",
            "Select the candidate's segmentation or its page in the viewer before you send the document.",
        )
    return Reading(
        mechanism=mechanism,
        sop_instance_uid=own,
        sop_class_uid=sop_class,
        study_instance_uid=_optional_uid(dataset, "StudyInstanceUID"),
        patient_id_hash=hash_patient_id(str(dataset.get("PatientID") or "")),
        references=references,
        source_references=sources,
        segments=segments,
        series_references=series,
        frame_of_reference_uid=_optional_uid(dataset, "FrameOfReferenceUID"),
        title=None if mechanism in DRAWN else _title(dataset),
        draws=draws,
        predecessors=_listed(dataset, "PredecessorDocumentsSequence")[0] if draws else (),
    )


def _class_name(sop_class: str) -> str:
    name = UID(sop_class).name
    return f"private class {sop_class}" if name == sop_class else name


def _seg_sources(dataset: Dataset) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the SOP Instance UIDs and Series Instance UIDs that a SEG was drawn on.

    The Referenced Series Sequence (PS3.3 C.12.1.1.3) names both. Without this sequence, the instances are
    read from the derivation of each frame (C.7.6.16.2.6).
    """
    series: list[str] = []
    instances: list[str] = []
    for item in _items(dataset, "ReferencedSeriesSequence"):
        series.append(_required_uid(item, "SeriesInstanceUID"))
        instances += _instances(item, "ReferencedInstanceSequence")
    if not instances:
        groups = (
            *_items(dataset, "SharedFunctionalGroupsSequence"),
            *_items(dataset, "PerFrameFunctionalGroupsSequence"),
        )
        for group in groups:
            for derivation in _items(group, "DerivationImageSequence"):
                instances += _instances(derivation, "SourceImageSequence")
    if not instances:
        instances += _instances(dataset, "SourceImageSequence")
    return _unique(instances), _unique(series)


def _listed(dataset: Dataset, keyword: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the instance UIDs and series UIDs of a sequence of references (PS3.3 table C.17-3b)."""
    series: list[str] = []
    instances: list[str] = []
    for study in _items(dataset, keyword):
        for item in _items(study, "ReferencedSeriesSequence"):
            series.append(_required_uid(item, "SeriesInstanceUID"))
            instances += _instances(item, "ReferencedSOPSequence")
    return _unique(instances), _unique(series)


def _tree_references(dataset: Dataset) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the references of the content tree in document order, without recursion.

    A peer chooses the depth of the tree, which could exceed the limit of recursion.

    Only items of the value types IMAGE, COMPOSITE and WAVEFORM have a Referenced SOP Sequence (PS3.3 table
    C.17-5), so the type is not checked. Each reference comes with its segment numbers. Without numbers, a
    reference means the whole object.
    """
    pending = list(reversed(_items(dataset, "ContentSequence")))
    while pending:
        item = pending.pop()
        for reference in _items(item, "ReferencedSOPSequence"):
            yield _required_uid(reference, "ReferencedSOPInstanceUID"), _segment_numbers(reference)
        pending.extend(reversed(_items(item, "ContentSequence")))


def _segment_numbers(reference: Dataset) -> tuple[int, ...]:
    """Return the Referenced Segment Numbers (0062,000B); empty if there are none."""
    value: Any = reference.get("ReferencedSegmentNumber")
    if value is None or value == "":
        return ()
    several = isinstance(value, (MultiValue, list))  # pydicom returns a list for a file
    return tuple(int(number) for number in value) if several else (int(value),)


def _parts(named: Iterable[tuple[str, tuple[int, ...]]]) -> Mapping[str, tuple[int, ...]]:
    """Return the segment numbers of the objects whose references all name segments, by SOP Instance UID."""
    found: dict[str, set[int]] = {}
    whole = set()
    for uid, numbers in named:
        found.setdefault(uid, set()).update(numbers)
        if not numbers:
            whole.add(uid)
    return {uid: tuple(sorted(numbers)) for uid, numbers in found.items() if uid not in whole}


def _title(dataset: Dataset) -> Code | None:
    for item in _items(dataset, "ConceptNameCodeSequence"):
        value, scheme = item.get("CodeValue"), item.get("CodingSchemeDesignator")
        if value and scheme:
            return Code(str(value), str(scheme), str(item.get("CodeMeaning") or ""))
    return None


def _instances(dataset: Dataset, keyword: str) -> list[str]:
    return [_required_uid(item, "ReferencedSOPInstanceUID") for item in _items(dataset, keyword)]


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; an empty list if it is missing or empty."""
    value: Any = dataset.get(keyword)
    if value is None or value == "":
        return []
    if not isinstance(value, Sequence):
        raise _unreadable(f"{keyword} is not a sequence")
    return list(value)


def _required_uid(dataset: Dataset, keyword: str) -> str:
    uid = _optional_uid(dataset, keyword)
    if not uid:
        raise _unreadable(f"{keyword} is missing")
    return uid


def _optional_uid(dataset: Dataset, keyword: str) -> str:
    value: Any = dataset.get(keyword)
    if value is None:
        return ""
    # Padding with a space instead of a null is wrong (PS3.5 9.1), but common.
    uid = value.strip(" \0") if isinstance(value, str) else None
    if uid is None or (uid and (len(uid) > _UID_LENGTH or not _UID.fullmatch(uid))):
        raise _unreadable(f"{keyword} is not a UID")
    return uid


def _unique(uids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(uids))


def _unreadable(why: str) -> InputError:
    return InputError(
        "selection-unreadable",
        f"The returned object cannot be read: {why}.",
        "Send the object again. If this error happens again, report it to the maker of the software that "
        "wrote the object.",
    )
