"""What leaves the console as a file: numbers, labels, surfaces, DICOM objects. Each one is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from dicom_config.errors import InputError
from uair_node.cases.tables import Result, ResultKind, Round
from uair_node.console import audit
from uair_node.console.desk import Ask, Desk
from uair_node.console.views import ACCEPTED
from uair_node.findings.record import as_csv
from uair_node.operations import reports
from uair_node.operations.case_findings import findings_of
from uair_node.rendering.interchange import as_glb, as_nifti, as_stl, zipped
from uair_node.rendering.solids import solids_of


@dataclass(frozen=True)
class Export:
    """One form.

    Parameters
    ----------
    name
        In the address.
    title, explanation
        On the page.
    ending
        The ending of the file's name.
    media_type
        The media type that the browser receives.
    make
        Makes the file of what the address names.
    """

    name: str
    title: str
    explanation: str
    ending: str
    media_type: str
    make: Callable[[Desk, Ask], bytes]


def export_numbers(desk: Desk, ask: Ask) -> Response:
    """Answer with the measurements of an accepted case as a file."""
    return _answer(desk, ask, NUMBERS, f"case {ask.path['case_id']}", f"case{ask.path['case_id']}")


def export_segmentation(desk: Desk, ask: Ask) -> Response:
    """Answer with a segmentation as a file."""
    case_id, number, k = (ask.path[name] for name in ("case_id", "round", "k"))
    which = f"candidate {k}" if k else "accepted"
    stem = f"case{case_id}-R{number}{f'C{k}' if k else '-accepted'}"
    return _answer(desk, ask, SEGMENTATIONS, f"case {case_id}, round {number}, {which}", stem)


def _answer(desk: Desk, ask: Ask, forms: tuple[Export, ...], subject: str, stem: str) -> Response:
    form = next((offered for offered in forms if offered.name == ask.path["form"]), None)
    if form is None:
        raise InputError("no-such-page", "There is no such export.", "Start from the case's page.")
    content = form.make(desk, ask)
    with desk.context.database.transaction() as session:
        audit.record(session, ask.session.name, ask.address, f"export {form.name}", subject)
    named = {"Content-Disposition": f'attachment; filename="uair-{stem}{form.ending}"'}
    return Response(content, media_type=form.media_type, headers=named)


def _csv(desk: Desk, ask: Ask) -> bytes:
    return as_csv(findings_of(desk.context, ask.path["case_id"])).encode()


def _json(desk: Desk, ask: Ask) -> bytes:
    return json.dumps(findings_of(desk.context, ask.path["case_id"]).as_json(), indent=2).encode()


def _nifti(desk: Desk, ask: Ask) -> bytes:
    view = desk.views.view(ask.path["case_id"], ask.path["round"])
    return as_nifti(view.on_source_grid(ask.path["k"]), view.grid.affine)


def _stl(desk: Desk, ask: Ask) -> bytes:
    view = desk.views.view(ask.path["case_id"], ask.path["round"])
    return as_stl(solids_of(view.of(ask.path["k"]), view.affine))


def _glb(desk: Desk, ask: Ask) -> bytes:
    view = desk.views.view(ask.path["case_id"], ask.path["round"])
    return as_glb(solids_of(view.of(ask.path["k"]), view.affine))


def _dicom(desk: Desk, ask: Ask) -> bytes:
    """Return the objects as they went to the archive: the SEG, of what was accepted with its report."""
    number, k = ask.path["round"], ask.path["k"]
    with desk.context.database.reading() as session:
        case = reports.get_case(session, ask.path["case_id"])
        round_ = next((round_ for round_ in case.rounds if round_.number == number), None)
        paths = [result.path for result in _objects(round_, k)] if round_ else []
    files = [desk.context.store.fetch_if_kept(path) for path in paths if path]
    found = {path.name: path.read_bytes() for path in files if path is not None}
    if not found:
        sentence = f"Round {number} has no such objects here."
        raise InputError("no-such-page", sentence, "Retention may have deleted them; the archive has them.")
    return zipped(found)


def _objects(round_: Round, k: int) -> list[Result]:
    if k == ACCEPTED:
        kinds = (ResultKind.FINAL, ResultKind.REPORT, ResultKind.STRUCTURES)
        return [result for result in round_.results if result.kind in kinds]
    return [result for result in round_.results if result.kind == ResultKind.CANDIDATE and result.k == k]


NUMBERS = (
    Export("csv", "CSV", "a line for each number, with its interval", "-measurements.csv", "text/csv", _csv),
    Export("json", "JSON", "the same, and what changed", "-measurements.json", "application/json", _json),
)
SEGMENTATIONS = (
    Export(
        "nifti",
        "NIfTI",
        "labels on the grid of the series: 1 liver, 1 + n lesion n; affine in RAS, mm",
        "-labels.nii.gz",
        "application/gzip",
        _nifti,
    ),
    Export("stl", "STL", "a surface for each, in LPS, mm, as a zip", "-stl.zip", "application/zip", _stl),
    Export("glb", "glTF", "all surfaces with names and colours", ".glb", "model/gltf-binary", _glb),
    Export(
        "dicom",
        "DICOM",
        "the objects that went to the archive, as a zip; they hold the patient's name",
        "-dicom.zip",
        "application/zip",
        _dicom,
    ),
)
