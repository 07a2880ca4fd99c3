"""Final segmentations of a patient that an archive keeps.

Found by C-FIND or QIDO-RS, fetched by C-GET or WADO-RS. The archive is not believed: what comes back must
name the patient that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
)

from dicom_config import codes
from dicom_config.errors import TransientError
from dicom_config.model import AnyDestination, Destination, StowDestination
from uair_node.network.scu import associate
from uair_node.network.stow import open_client, translated

_FIND, _GET = StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelGet
_SEG = codes.SelectionClass.SEGMENTATION
_FINAL = f"{codes.LABEL_PREFIX}FINAL"
_PENDING = (0xFF00, 0xFF01)


def latest_final(archive: AnyDestination, patient_id: str, before: date) -> Dataset | None:
    """Return our last final segmentation in a patient's studies before a day; None without one.

    Raises
    ------
    TransientError, ConfigError
        As `uair_node.network.scu.send` and `uair_node.network.stow.send_stow`.
    """
    if not patient_id.strip():
        return None
    if isinstance(archive, Destination):
        return _by_dimse(archive, patient_id, before)
    return _by_web(archive, patient_id, before)


def _by_dimse(archive: Destination, patient_id: str, before: date) -> Dataset | None:
    received: list[Dataset] = []

    def keep(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.append(dataset)
        return 0x0000

    handlers = [(evt.EVT_C_STORE, keep)]
    association = associate(archive, [_FIND, _GET], handlers, retrieved=[_SEG])
    try:
        found = []
        studies = _query("STUDY", PatientID=patient_id, StudyInstanceUID="", StudyDate="")
        for study in list(_found(archive, association, studies)):  # one search after the other
            if _earlier(study, before):
                keys = {"StudyInstanceUID": str(study.StudyInstanceUID), "Modality": "SEG"}
                query = _query("SERIES", **keys, SeriesInstanceUID="", SeriesDescription="")
                finals = [instance for instance in _found(archive, association, query) if _is_final(instance)]
                found += [(str(study.StudyDate), str(study.StudyInstanceUID), final) for final in finals]
        if not found:
            return None
        _, study_uid, series = max(found, key=lambda found: found[0])
        wanted = _query("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=str(series.SeriesInstanceUID))
        for status, _ in association.send_c_get(wanted, _GET):
            _check(archive, status)
    finally:
        if association.is_established:
            association.release()
    return _checked(received, patient_id)


def _found(archive: Destination, association: Association, query: Dataset) -> Iterator[Dataset]:
    for status, identifier in association.send_c_find(query, _FIND):
        _check(archive, status)
        if status.Status in _PENDING and identifier is not None:
            yield identifier


def _check(archive: Destination, status: Dataset) -> None:
    """Raise unless the archive goes on or has done all (PS3.4 C.4.1.1.4 and C.4.3.1.4)."""
    if "Status" not in status:
        raise TransientError(
            "peer-aborted",
            f"{archive.name} ended the search for earlier results.",
            f"Let it answer C-FIND and C-GET of our AE title {archive.calling_ae}; see its log.",
        )
    if status.Status not in (0x0000, *_PENDING):
        raise TransientError(
            "peer-refuses-search",
            f"{archive.name} refuses the search for earlier results (status {status.Status:04X}).",
            f"Let it answer C-FIND and C-GET of our AE title {archive.calling_ae}; see its log.",
        )


def _by_web(archive: StowDestination, patient_id: str, before: date) -> Dataset | None:
    with open_client(archive) as client, translated(archive):
        found = []
        for record in client.search_for_studies(search_filters={"PatientID": patient_id}):
            study = Dataset.from_json(record)
            if _earlier(study, before):
                uid = str(study.StudyInstanceUID)
                for attributes in client.search_for_series(
                    uid, fields=["SeriesDescription"], search_filters={"Modality": "SEG"}
                ):
                    series = Dataset.from_json(attributes)
                    if _is_final(series):
                        found.append((str(study.StudyDate), uid, str(series.SeriesInstanceUID)))
        if not found:
            return None
        _, study_uid, series_uid = max(found)
        return _checked(client.retrieve_series(study_uid, series_uid), patient_id)


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _earlier(study: Dataset, before: date) -> bool:
    day = str(study.get("StudyDate") or "")
    return len(day) == 8 and day < before.strftime("%Y%m%d")


def _is_final(series: Dataset) -> bool:
    return str(series.get("SeriesDescription") or "").startswith(_FINAL)


def _checked(received: list[Dataset], patient_id: str) -> Dataset | None:
    """Return the segmentation, if it is one and the patient's: archives may match more than was asked for."""
    for dataset in received:
        same = str(dataset.get("PatientID") or "").strip() == patient_id.strip()
        if same and dataset.get("SOPClassUID") == UID(_SEG):
            return dataset
    return None
