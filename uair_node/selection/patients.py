"""Whether a returned object belongs to the patient of the case that it speaks of.

Patient IDs are in no table: the case's is read from its series, and only digests are compared.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydicom import dcmread

from dicom_config.errors import InputError
from uair_node.cases.tables import Result
from uair_node.context import Context
from uair_node.selection.readers import Reading, hash_patient_id


def check_patient(context: Context, reading: Reading, named: Sequence[Result]) -> None:
    """Refuse an object of another patient. Without a Patient ID on either side there is nothing to compare.

    Raises
    ------
    InputError
        ``other-patient``.
    """
    if not named or not reading.patient_id_hash:
        return
    path = context.store.absolute(named[0].round.case.instances[0].path)
    header = dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True)
    ours = hash_patient_id(str(header.get("PatientID") or ""))
    if ours and ours != reading.patient_id_hash:
        raise InputError(
            "other-patient",
            "The object belongs to another patient than the candidate that it names.",
            "Pick in the study that the candidates were made for. Was the Patient ID corrected since? Send "
            "the series again under the new one.",
        )
