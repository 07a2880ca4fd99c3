"""Find another system's segmentation in an archive before round 1, and receive it as a start.

The received object is handled as if a peer had sent it to `UAIR_START`.
"""

from __future__ import annotations

import logging
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from dicom_config.errors import InputError, TransientError
from dicom_config.model import AnyDestination, Destination, Verb
from uair_node.cases.tables import Case, Selection
from uair_node.context import Context
from uair_node.dicom.readers import read_selection
from uair_node.intake.inbox import Inbox
from uair_node.network.retrieve import segmentations
from uair_node.network.scp import ReceivedInstance
from uair_node.work.performer import Claim

log = logging.getLogger(__name__)


def take_found_start(context: Context, claim: Claim) -> None:
    """Receive the segmentation that the rule `start` finds for a case whose first round is due.

    A segmentation that was sent to `UAIR_START` has priority. If the archive cannot be reached, then the next
    attempt searches again. The last attempt continues without the segmentation.

    Raises
    ------
    TransientError
        The archive cannot be reached.
    """
    archive = context.settings.destination(context.settings.start.found_in)
    if archive is None or (claim.round_number or 1) != 1:
        return
    assert claim.case_id is not None, "a computation belongs to a case"
    try:
        found = _newest(context, archive, claim.case_id)
    except TransientError as error:
        if claim.attempt < context.settings.work.max_attempts:
            raise
        log.warning("case %d starts without another system's segmentation: %s", claim.case_id, error)
        return
    if found is not None:
        _receive(context, archive, found)


def _newest(context: Context, archive: AnyDestination, case_id: int) -> Dataset | None:
    """Return the newest segmentation of the system on the case's series; None if there is none.

    The result is also None if a peer has sent a start for the case.
    """
    with context.database.reading() as session:
        case = session.get_one(Case, case_id)
        sent = session.scalars(
            select(Selection.id).where(Selection.case_id == case_id, Selection.verb == Verb.START.value)
        ).first()
        series_uid, study_uid = case.series_instance_uid, case.study_instance_uid
        images = {instance.sop_instance_uid for instance in case.instances}
        path = case.instances[0].path
    if sent is not None:
        return None
    header = dcmread(context.store.fetch(path), specific_tags=["PatientID"], stop_before_pixels=True)
    patient_id = str(header.get("PatientID") or "")
    found = segmentations(archive, study_uid, patient_id, context.settings.start.system)
    own = [dataset for dataset in found if _drawn_on(dataset, series_uid, images)]
    return max(own, key=_written_at, default=None)


def _drawn_on(dataset: Dataset, series_uid: str, images: set[str]) -> bool:
    try:
        reading = read_selection(dataset)
    except InputError:
        return False
    return series_uid in reading.series_references or bool(images.intersection(reading.source_references))


def _written_at(dataset: Dataset) -> str:
    """Return a sort key: the time at which an object was written, then its UID."""
    keywords = ("ContentDate", "ContentTime", "StructureSetDate", "StructureSetTime", "SOPInstanceUID")
    return " ".join(str(dataset.get(keyword) or "") for keyword in keywords)


def _receive(context: Context, archive: AnyDestination, found: Dataset) -> None:
    """Receive an object of the archive as if a peer had sent it to `UAIR_START`."""
    data = BytesIO()
    found.save_as(data, enforce_file_format=True)
    Inbox(context).receive(
        ReceivedInstance(
            verb=Verb.START,
            calling_ae=archive.ae_title if isinstance(archive, Destination) else archive.name,
            address="",
            sop_class_uid=str(found.SOPClassUID),
            sop_instance_uid=str(found.SOPInstanceUID),
            transfer_syntax_uid=str(found.file_meta.TransferSyntaxUID),
            data=data.getvalue(),
        )
    )
