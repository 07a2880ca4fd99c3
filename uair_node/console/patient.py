"""What the series' own header says of the patient: on a page of its own, because few questions need it.

Read from the file each time; the database holds none of it (DESIGN invariant 7).
"""

from __future__ import annotations

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description, tag_for_keyword
from starlette.responses import Response

from dicom_config.errors import InputError, TransientError
from uair_node.console.desk import Ask, Desk
from uair_node.operations import reports

_SHOWN = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ReferringPhysicianName",
    "SeriesNumber",
    "SeriesDescription",
    "BodyPartExamined",
    "ProtocolName",
    "Manufacturer",
    "ManufacturerModelName",
    "ConvolutionKernel",
    "SliceThickness",
    "StudyInstanceUID",
    "SeriesInstanceUID",
)
_LONGEST_VALUE = 256


def show_patient(desk: Desk, ask: Ask) -> Response:
    """Answer with what the first slice's header says."""
    with desk.context.database.reading() as session:
        case = reports.get_case(session, ask.path["case_id"])
        paths = [instance.path for instance in case.instances[:1]]
    desk.note(ask, "view patient data", f"case {case.id}")
    return desk.page(
        "patient.html",
        ask,
        title=f"Case {case.id}: patient and series",
        case=case,
        rows=_rows(_header(desk, paths)),
    )


def _header(desk: Desk, paths: list[str]) -> Dataset:
    if not paths:
        mend = "They are linked once the series is complete."
        raise InputError("no-slices", "This case has no slices yet.", mend)
    try:
        return dcmread(
            desk.context.store.fetch(paths[0]), stop_before_pixels=True, specific_tags=list(_SHOWN)
        )
    except TransientError:
        raise
    except Exception:  # a foreign exception's text may quote the header
        mend = "Housekeeping may have removed it; the archive still has the series."
        raise InputError("slice-unreadable", "The series' first slice cannot be read here.", mend) from None


def _rows(header: Dataset) -> list[tuple[str, str]]:
    rows = []
    for keyword in _SHOWN:
        tag = tag_for_keyword(keyword)
        assert tag is not None
        rows.append((dictionary_description(tag), str(header.get(keyword, ""))[:_LONGEST_VALUE]))
    return rows
