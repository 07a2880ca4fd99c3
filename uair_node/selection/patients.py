"""Check that a returned object belongs to the patient of the case to which it refers.

The database contains no Patient ID. The case's Patient ID is read from its series, and only digests are
compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import dcmread

from dicom_config.errors import InputError
from uair_node.context import Context
from uair_node.dicom.readers import Reading, hash_patient_id
from uair_node.selection.match import results_named


def check_patient(context: Context, reading: Reading, named: Sequence[str]) -> None:
    """Refuse an object of another patient. If object or case has no Patient ID, then the object passes.

    Call this function outside of any writing transaction, because it reads a file.

    Parameters
    ----------
    named
        SOP Instance UIDs that the object names. The first candidate or page of ours among them gives the
        case.

    Raises
    ------
    InputError
        ``other-patient``: the Patient IDs of object and case differ.
    """
    if not named or not reading.patient_id_hash:
        return
    with context.database.reading() as session:
        results = results_named(session, named)
        slices = results[0].round.case.instances if results else []
        name = slices[0].path if slices else ""
    check_patient_of(context, reading, name)


def check_patient_of(context: Context, reading: Reading, name: str) -> None:
    """Refuse an object if a slice belongs to another patient. `name` is the slice's path in the store.

    Raises
    ------
    InputError
        ``other-patient``: the Patient IDs of object and slice differ.
    """
    if not reading.patient_id_hash:
        return
    path = context.store.fetch_if_kept(name) if name else None
    if path is None:  # retention deleted the series, so the case has ended and its selections are refused
        return
    header = dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True)
    ours = hash_patient_id(str(header.get("PatientID") or ""))
    if ours and ours != reading.patient_id_hash:
        raise InputError(
            "other-patient",
            "The object belongs to another patient than the candidate that it names.",
            "Pick in the study that the candidates were made for. If the Patient ID was corrected "
            "since then, send the series again under the new Patient ID.",
        )
