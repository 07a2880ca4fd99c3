"""Write the rejection note that withdraws results (IHE Imaging Object Change Management).

If an archive gets this Key Object Selection, then it hides the named instances. The caller decides which
results are withdrawn.

The document title is (113001, DCM, "Rejected for Quality Reasons"). IHE RAD TF-2, 4.66 (Rejection Note
Stored) defines four titles, and the other three titles would be wrong. A candidate that the reader did not
choose is no hazard (113037, Patient Safety). It is not filed under a wrong order (113038, Incorrect Modality
Worklist Entry). It must stay auditable, but an archive may erase instances with the title (113039, Data
Retention Policy Expired). dcm4chee-arc marks instances of this last title for deletion, and hides instances
of the other titles.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as standard

from dicom_config import codes
from uair_node.dicom.volume import Volume
from uair_node.results.provenance import Provenance, make_reproducible, shared_arguments
from uair_node.results.source_headers import source_headers
from uair_node.results.uids import result_uid


@dataclass(frozen=True)
class Withdrawn:
    """An instance of the case's study that the archive must hide."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class RejectionRequest:
    """The content of a rejection note beyond the instances that it names.

    Parameters
    ----------
    sop_instance_uid, series_instance_uid
        Deterministic UIDs (`uids.result_uid`).
    reason
        The reason in words: "another candidate was accepted".
    provenance
        The origin of the note. Its round is the round in which the instances were withdrawn.
    number_of_case
        Instance Number of the note in a series with the notes of all rounds; None if the note is alone in its
        series.
    """

    sop_instance_uid: str
    series_instance_uid: str
    reason: str
    provenance: Provenance
    number_of_case: int | None = None


def write_rejection(volume: Volume, withdrawn: Sequence[Withdrawn], request: RejectionRequest) -> Dataset:
    """Make the rejection note of instances that lie in the study of `volume`.

    Parameters
    ----------
    volume
        The source series (`read_geometry` is enough). Patient and study come from its headers.
    withdrawn
        The instances, at least one. The note's content and evidence name each instance, as the IHE
        transaction requires.

    Raises
    ------
    ValueError
        `withdrawn` is empty.
    """
    if not withdrawn:
        raise ValueError("a rejection note rejects at least one instance")
    source = source_headers(volume)[0]
    provenance = request.provenance
    kind = codes.Companion.WITHDRAWAL
    number = codes.companion_number(kind, provenance.round)
    words = codes.companion_description(kind, provenance.round, request.reason)
    if request.number_of_case is not None:
        number = codes.case_companion_number(kind)
        words = codes.case_companion_description(kind, "withdrawn results")
    rejected = [_header(source, instance) for instance in withdrawn]
    device = ObserverContext(
        observer_type=standard.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=result_uid("device", provenance.model_digest, provenance.software_version),
            name=codes.MANUFACTURER,
        ),
    )
    note = KeyObjectSelectionDocument(
        evidence=rejected,
        content=KeyObjectSelection(
            document_title=codes.REJECTED_FOR_QUALITY,
            referenced_objects=rejected,
            observer_device_context=device,
            description=codes.long_string(request.reason),
        ),
        series_instance_uid=request.series_instance_uid,
        series_number=number,
        series_description=words,
        sop_instance_uid=request.sop_instance_uid,
        instance_number=request.number_of_case or 1,
        **shared_arguments(provenance, source),
    )
    note.copy_patient_and_study_information(source)
    for item in note.ContentSequence:
        if "ReferencedSOPSequence" in item:
            del item.ConceptNameCodeSequence  # the library sets it, but rows 8 to 10 of TID 2010 have no name
    return make_reproducible(note, provenance, source)


def _header(source: Dataset, instance: Withdrawn) -> Dataset:
    header = deepcopy(source)
    header.SOPClassUID = instance.sop_class_uid
    header.SOPInstanceUID = instance.sop_instance_uid
    header.SeriesInstanceUID = instance.series_instance_uid
    return header
