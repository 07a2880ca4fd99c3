"""Export files from the console: numbers, labels, surfaces, DICOM objects. The audit records each export."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from dicom_config.errors import InputError
from uair_node.cases.tables import Result, ResultKind, Round
from uair_node.console import audit
from uair_node.console.console_app import ConsoleApp, ConsoleRequest
from uair_node.console.views import ACCEPTED
from uair_node.findings.record import as_csv
from uair_node.operations import reports
from uair_node.operations.case_findings import findings_of
from uair_node.rendering.export_formats import as_glb, as_nifti, as_stl, zipped
from uair_node.rendering.solids import solids_of


@dataclass(frozen=True)
class Export:
    """A file format that the console offers.

    Parameters
    ----------
    name
        The name in the address.
    title, explanation
        Texts for the page.
    ending
        The ending of the file's name.
    media_type
        The media type that the browser receives.
    make
        A function that returns the file's content for a request.
    """

    name: str
    title: str
    explanation: str
    ending: str
    media_type: str
    make: Callable[[ConsoleApp, ConsoleRequest], bytes]


def export_numbers(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with the measurements of an accepted case as a file."""
    return _answer(
        console, request, NUMBERS, f"case {request.path['case_id']}", f"case{request.path['case_id']}"
    )


def export_segmentation(console: ConsoleApp, request: ConsoleRequest) -> Response:
    """Answer with a segmentation as a file."""
    case_id, number, k = (request.path[name] for name in ("case_id", "round", "k"))
    which = f"candidate {k}" if k else "accepted"
    stem = f"case{case_id}-R{number}{f'C{k}' if k else '-accepted'}"
    return _answer(console, request, SEGMENTATIONS, f"case {case_id}, round {number}, {which}", stem)


def _answer(
    console: ConsoleApp, request: ConsoleRequest, forms: tuple[Export, ...], subject: str, stem: str
) -> Response:
    form = next((offered for offered in forms if offered.name == request.path["form"]), None)
    if form is None:
        raise InputError("no-such-page", "There is no such export.", "Start from the case's page.")
    content = form.make(console, request)
    with console.context.database.transaction() as session:
        audit.record(session, request.session.name, request.address, f"export {form.name}", subject)
    named = {"Content-Disposition": f'attachment; filename="uair-{stem}{form.ending}"'}
    return Response(content, media_type=form.media_type, headers=named)


def _csv(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    return as_csv(findings_of(console.context, request.path["case_id"])).encode()


def _json(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    return json.dumps(findings_of(console.context, request.path["case_id"]).as_json(), indent=2).encode()


def _nifti(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    view = console.views.view(request.path["case_id"], request.path["round"])
    return as_nifti(view.on_source_grid(request.path["k"]), view.grid.affine)


def _stl(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    view = console.views.view(request.path["case_id"], request.path["round"])
    return as_stl(solids_of(view.of(request.path["k"]), view.affine))


def _glb(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    view = console.views.view(request.path["case_id"], request.path["round"])
    return as_glb(solids_of(view.of(request.path["k"]), view.affine))


def _dicom(console: ConsoleApp, request: ConsoleRequest) -> bytes:
    """Return a zip of the objects that went to the archive.

    A candidate has a SEG. An accepted segmentation has a SEG, a report and, if it was made, an RTSTRUCT.
    """
    number, k = request.path["round"], request.path["k"]
    with console.context.database.reading() as session:
        case = reports.get_case(session, request.path["case_id"])
        round_ = next((round_ for round_ in case.rounds if round_.number == number), None)
        paths = [result.path for result in _objects(round_, k)] if round_ else []
    files = [console.context.store.fetch_if_kept(path) for path in paths if path]
    found = {path.name: path.read_bytes() for path in files if path is not None}
    if not found:
        sentence = f"The node has none of the requested objects of round {number}."
        raise InputError(
            "no-such-page", sentence, "Retention may have deleted the objects. Look for them in the archive."
        )
    return zipped(found)


def _objects(round_: Round, k: int) -> list[Result]:
    if k == ACCEPTED:
        kinds = (ResultKind.FINAL, ResultKind.REPORT, ResultKind.STRUCTURES)
        return [result for result in round_.results if result.kind in kinds]
    return [result for result in round_.results if result.kind == ResultKind.CANDIDATE and result.k == k]


NUMBERS = (
    Export(
        "csv",
        "CSV",
        "one line for each measured value, with its interval",
        "-measurements.csv",
        "text/csv",
        _csv,
    ),
    Export(
        "json",
        "JSON",
        "the same values, and their changes since the prior study",
        "-measurements.json",
        "application/json",
        _json,
    ),
)
SEGMENTATIONS = (
    Export(
        "nifti",
        "NIfTI",
        "label volume on the grid of the series. Value 1: liver, value 1 + n: lesion n. Affine in RAS, mm",
        "-labels.nii.gz",
        "application/gzip",
        _nifti,
    ),
    Export(
        "stl",
        "STL",
        "a zip with one surface for each structure; coordinates in LPS, mm",
        "-stl.zip",
        "application/zip",
        _stl,
    ),
    Export("glb", "glTF", "all surfaces with names and colours", ".glb", "model/gltf-binary", _glb),
    Export(
        "dicom",
        "DICOM",
        "a zip of the objects that went to the archive. These objects contain the patient's name",
        "-dicom.zip",
        "application/zip",
        _dicom,
    ),
)
