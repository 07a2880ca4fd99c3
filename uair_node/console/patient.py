"""Show the patient data of a series' header on a page, and find cases by patient data.

The file is read each time, since the database has no patient data.
"""

from __future__ import annotations

from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_description, tag_for_keyword
from starlette.responses import RedirectResponse, Response

from dicom_config.errors import InputError, TransientError
from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.patient_lookup import PatientLookup, look_through
from uair_node.operations import reports
from uair_node.operations.case_list import first_slices

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
_LONGEST_WORDS = 64


def show_patient(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the patient data of the first slice's header."""
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        path = first_slices(session, [case.id]).get(case.id, "")
    console.note(request, "view patient data", f"case {case.id}")
    return console.page(
        "patient.html",
        request,
        title=f"Case {case.id}: patient and series",
        case=case,
        rows=_rows(_header(console, path)),
    )


def look_up_patient(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Search cases by patient data, or continue with older cases. Show the list of found cases.

    The words come in a form. If they were in an address, then the browser's history and a proxy's log would
    keep them.
    """
    last = request.session.lookup
    if last is not None and request.form.get("older") == str(last.number):
        lookup = last
    else:
        words = request.form.get("patient", "").strip()[:_LONGEST_WORDS]
        if not words:
            nothing = "Type a Patient ID, a name or a date."
            return console.redirect_with_notice(request, "/cases", nothing, well=False)
        lookup = PatientLookup(last.number + 1 if last else 1, words)
    lookup = look_through(console.context, lookup)
    with console.context.database.transaction() as session:
        subject = f"{len(lookup.found)} cases found in {lookup.read} headers"
        audit.record(session, request.session.name, request.address, "search patient data", subject)
    request.session.lookup = lookup
    return RedirectResponse(f"/cases?found={lookup.number}", 303)


def _header(console: ConsoleApp, path: str) -> Dataset:
    if not path:
        remedy = "Retention may have deleted the slices. Look for the series in the archive."
        raise InputError("no-slices", "The node keeps no slice of this case.", remedy)
    try:
        return dcmread(console.context.store.fetch(path), stop_before_pixels=True, specific_tags=list(_SHOWN))
    except TransientError:
        raise
    except Exception:  # a foreign exception's text may quote the header
        remedy = "Retention may have deleted the slice. Look for the series in the archive."
        raise InputError(
            "slice-unreadable", "The console cannot read the first slice of the series.", remedy
        ) from None


def _rows(header: Dataset) -> list[tuple[str, str]]:
    rows = []
    for keyword in _SHOWN:
        tag = tag_for_keyword(keyword)
        assert tag is not None
        rows.append((dictionary_description(tag), _shown(header.get(keyword))[:_LONGEST_VALUE]))
    return rows


def _shown(value: object) -> str:
    """Return a value as text: empty for None, a float with six significant digits."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
