"""Find in an archive our final segmentations of a patient, and another system's segmentations of a study.

The search uses C-FIND or QIDO-RS, and the retrieval uses C-GET or WADO-RS. An archive may return more objects
than the search requests. So each retrieved object must have the Patient ID of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

from pydicom.dataset import Dataset
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
_DRAWN = (
    _SEG,
    codes.SelectionClass.LABEL_MAP_SEGMENTATION,
    codes.SelectionClass.RT_STRUCTURE_SET,
)
_MODALITIES = ("SEG", "RTSTRUCT")
_FINAL = f"{codes.LABEL_PREFIX}FINAL"
_PENDING = (0xFF00, 0xFF01)


def latest_final(archive: AnyDestination, patient_id: str, before: date) -> Dataset | None:
    """Return our newest final segmentation in a patient's studies before a day; None if there is none.

    Raises
    ------
    TransientError, ConfigError
        The errors of `uair_node.network.scu.send` and `uair_node.network.stow.send_stow`.
    """
    if not patient_id.strip():
        return None
    if isinstance(archive, Destination):
        return _by_dimse(archive, patient_id, before)
    return _by_web(archive, patient_id, before)


def segmentations(archive: AnyDestination, study_uid: str, patient_id: str, system: str) -> list[Dataset]:
    """Return the SEGs and structure sets of a study that another system made.

    Parameters
    ----------
    patient_id
        The Patient ID of the study. Objects of another patient are left out.
    system
        Words in the system's Series Description or Manufacturer, in upper or lower case.

    Raises
    ------
    TransientError, ConfigError
        The errors of `latest_final`.
    """
    if isinstance(archive, Destination):
        received = _segmentations_by_dimse(archive, study_uid, system)
    else:
        received = _segmentations_by_web(archive, study_uid, system)
    return [dataset for dataset in received if _is(dataset, patient_id, _DRAWN)]


def _by_dimse(archive: Destination, patient_id: str, before: date) -> Dataset | None:
    with _retrieving(archive, [_SEG]) as (association, received):
        found = []
        studies = _query("STUDY", PatientID=patient_id, StudyInstanceUID="", StudyDate="")
        for study in list(_found(archive, association, studies)):  # `list` ends this search before the next
            if _earlier(study, before):
                keys = {"StudyInstanceUID": str(study.StudyInstanceUID), "Modality": "SEG"}
                query = _query("SERIES", **keys, SeriesInstanceUID="", SeriesDescription="")
                finals = [instance for instance in _found(archive, association, query) if _is_final(instance)]
                found += [(str(study.StudyDate), str(study.StudyInstanceUID), final) for final in finals]
        if not found:
            return None
        _, study_uid, series = max(found, key=lambda found: found[0])
        _get(archive, association, study_uid, str(series.SeriesInstanceUID))
    return _checked(received, patient_id)


def _segmentations_by_dimse(archive: Destination, study_uid: str, system: str) -> list[Dataset]:
    with _retrieving(archive, _DRAWN) as (association, received):
        asked = dict.fromkeys(("Modality", "SeriesInstanceUID", "SeriesDescription", "Manufacturer"), "")
        query = _query("SERIES", StudyInstanceUID=study_uid, **asked)
        for series in list(_found(archive, association, query)):
            if _is_of_system(series, system):
                _get(archive, association, study_uid, str(series.SeriesInstanceUID))
    return received


@contextmanager
def _retrieving(
    archive: Destination, retrieved: Sequence[str]
) -> Iterator[tuple[Association, list[Dataset]]]:
    """Open an association for searches, and for C-GET of the `retrieved` SOP classes.

    Yield the association and the list of received objects.
    """
    received: list[Dataset] = []

    def keep(event: Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        received.append(dataset)
        return 0x0000

    association = associate(archive, [_FIND, _GET], [(evt.EVT_C_STORE, keep)], retrieved=retrieved)
    try:
        yield association, received
    finally:
        if association.is_established:
            association.release()


def _get(archive: Destination, association: Association, study_uid: str, series_uid: str) -> None:
    wanted = _query("SERIES", StudyInstanceUID=study_uid, SeriesInstanceUID=series_uid)
    for status, _ in association.send_c_get(wanted, _GET):
        _check(archive, status)


def _found(archive: Destination, association: Association, query: Dataset) -> Iterator[Dataset]:
    for status, identifier in association.send_c_find(query, _FIND):
        _check(archive, status)
        if status.Status in _PENDING and identifier is not None:
            yield identifier


def _check(archive: Destination, status: Dataset) -> None:
    """Raise an error unless the status is pending or success (PS3.4 C.4.1.1.4 and C.4.3.1.4)."""
    if "Status" not in status:
        raise TransientError(
            "peer-aborted",
            f"{archive.name} broke off the search for segmentations.",
            f"Configure the archive to answer C-FIND and C-GET of our AE title {archive.calling_ae}. "
            "See the log of the archive.",
        )
    if status.Status not in (0x0000, *_PENDING):
        raise TransientError(
            "peer-refuses-search",
            f"{archive.name} refuses the search for segmentations (status {status.Status:04X}).",
            f"Configure the archive to answer C-FIND and C-GET of our AE title {archive.calling_ae}. "
            "See the log of the archive.",
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


def _segmentations_by_web(archive: StowDestination, study_uid: str, system: str) -> list[Dataset]:
    with open_client(archive) as client, translated(archive):
        records = client.search_for_series(study_uid, fields=["SeriesDescription", "Manufacturer"])
        named = [series for series in map(Dataset.from_json, records) if _is_of_system(series, system)]
        return [
            dataset
            for series in named
            for dataset in client.retrieve_series(study_uid, str(series.SeriesInstanceUID))
        ]


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


def _is_of_system(series: Dataset, system: str) -> bool:
    words = f"{series.get('SeriesDescription') or ''} / {series.get('Manufacturer') or ''}"
    return str(series.get("Modality") or "") in _MODALITIES and system.strip().lower() in words.lower()


def _checked(received: list[Dataset], patient_id: str) -> Dataset | None:
    """Return the first received segmentation of the patient; None if there is none."""
    return next((dataset for dataset in received if _is(dataset, patient_id, [_SEG])), None)


def _is(dataset: Dataset, patient_id: str, sop_classes: Sequence[str]) -> bool:
    same = str(dataset.get("PatientID") or "").strip() == patient_id.strip()
    return same and str(dataset.get("SOPClassUID") or "") in sop_classes
