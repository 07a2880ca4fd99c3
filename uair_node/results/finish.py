"""Write the final objects of an accepted case: SEG, report, pages, and a rejection note for other results.

`uair_node.results.withdrawal` writes the note. The workers pass the function that measures a segmentation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from sqlalchemy.orm import Session

from uair_node.cases import lifecycle, work_items
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import Case, ResultKind, Round, WorkItem
from uair_node.context import Context, SegVariant
from uair_node.dicom.intensity import on_training_scale
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.record import Findings, save_findings
from uair_node.findings.volumes import describe
from uair_node.rendering.change_images import ChangeScene
from uair_node.rendering.plane_names import plane_names
from uair_node.results.measurement_report import ReportRequest, write_report
from uair_node.results.pages import (
    PageCandidate,
    ResultPageRequest,
    write_change_page,
    write_result_page,
)
from uair_node.results.priors import keep_accepted
from uair_node.results.reader_preference import differences, remember
from uair_node.results.reader_words import CHANGE_SINCE
from uair_node.results.result_writer import keep_result
from uair_node.results.round_inputs import FINDINGS_FILE, RoundInputs, read_round_inputs
from uair_node.results.seg import Tracking
from uair_node.results.segments import write_segmentation
from uair_node.results.structure_set import StructuresRequest, write_structure_set
from uair_node.results.withdrawal import SUPERSEDED_BY_FINAL, write_withdrawals
from uair_node.storage.artifacts import StoredCandidate
from uair_node.work.performer import Claim, Commit


@dataclass(frozen=True, eq=False)
class Compared:
    """An earlier study, resampled to the canonical grid of the present study for pictures.

    Parameters
    ----------
    day
        The day on which the earlier study was acquired.
    hu, labels
        Image ``(Z, Y, X)`` int16 on the networks' scale, and labels ``(Z, Y, X)`` uint8.
    uids
        Tracking UID of each lesion number of `labels`.
    """

    day: date
    hu: NDArray[np.int16]
    labels: NDArray[np.uint8]
    uids: Mapping[int, str]


@dataclass(frozen=True)
class Measured:
    """The measurements of an accepted segmentation.

    Parameters
    ----------
    findings
        The measurements, and the changes since earlier studies.
    tracking
        Lesion number -> tracking. If an earlier study had the lesion, then the lesion keeps the tracking of
        that study.
    compared
        The earlier study; None if there is no earlier study.
    """

    findings: Findings
    tracking: Mapping[int, Tracking]
    compared: Compared | None = None


Measurer = Callable[[Context, Claim, RoundInputs, Volume, StoredCandidate], Measured]


def finish(context: Context, claim: Claim, measurer: Measurer) -> Commit:
    """Write all final objects of an accepted case. `measurer` measures the accepted segmentation.

    The returned commit adds the objects' rows and records the reader's preference.
    """
    inputs = read_round_inputs(context, claim)
    volume = read_series(inputs.series_paths, context.settings.intake.known)
    accepted = inputs.accepted()
    measured = measurer(context, claim, inputs, volume, accepted)
    save_findings(inputs.own_folder / FINDINGS_FILE, measured.findings)
    context.store.share(keep_accepted(inputs.own_folder, accepted), inputs.own_folder / FINDINGS_FILE)
    results: list[NewResult] = []
    for variant in context.segmentation_variants:
        final = write_segmentation(
            context, inputs, volume, accepted, ResultKind.FINAL, variant, tracking=measured.tracking
        )
        results += [final, _write_report(context, inputs, volume, measured.findings, final, variant)]
    if context.planning_destinations:
        results.append(_write_structures(context, inputs, volume, accepted, results[0]))
    if context.settings.results.pages:
        results.append(_write_page(context, inputs, volume, accepted, measured.findings, results[0]))
        if measured.compared is not None:
            results.append(_write_change(context, inputs, volume, accepted, measured, results[0]))
    results += write_withdrawals(context, claim, inputs, volume, accepted.k, SUPERSEDED_BY_FINAL)

    told = differences(describe(accepted.labels, volume.spacing_mm), inputs.base_mm)

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, inputs.round_id), results)
        case = session.get_one(Case, item.case_id)
        answer = lifecycle.effective_selection(session, case, inputs.number)
        if answer is not None:
            remember(session, context.settings.engine.preference, case, answer, told)
        work_items.close(item)

    return commit


def _write_report(
    context: Context,
    inputs: RoundInputs,
    volume: Volume,
    findings: Findings,
    final: NewResult,
    variant: SegVariant,
) -> NewResult:
    instance_uid, series_uid = inputs.uids(ResultKind.REPORT, final.k, variant.suffix)
    segmentation = dcmread(context.store.absolute(final.path), stop_before_pixels=True)
    request = ReportRequest(instance_uid, series_uid, final.k, inputs.provenance, inputs.warnings)
    report = write_report(volume, findings, segmentation, request)
    path = inputs.own_folder / f"UAIR-REPORT{'-' + variant.suffix if variant.suffix else ''}.dcm"
    return keep_result(
        context, report, path, ResultKind.REPORT, final.k, final.character, variant.destinations
    )


def _write_structures(
    context: Context,
    inputs: RoundInputs,
    volume: Volume,
    accepted: StoredCandidate,
    final: NewResult,
) -> NewResult:
    """Write the accepted segmentation as contours (RTSTRUCT) for planning systems."""
    instance_uid, series_uid = inputs.uids(ResultKind.STRUCTURES, accepted.k)
    request = StructuresRequest(instance_uid, series_uid, accepted.k, accepted.character, inputs.provenance)
    made = write_structure_set(volume, accepted.labels, request)
    path = inputs.own_folder / "UAIR-RTSTRUCT.dcm"
    kind, where = ResultKind.STRUCTURES, context.planning_destinations
    return keep_result(context, made, path, kind, final.k, final.character, where)


def _write_page(
    context: Context,
    inputs: RoundInputs,
    volume: Volume,
    accepted: StoredCandidate,
    findings: Findings,
    final: NewResult,
) -> NewResult:
    instance_uid, series_uid = inputs.uids(ResultKind.FINAL_PAGE, accepted.k)
    candidate = PageCandidate(accepted.k, accepted.character, accepted.labels, final.sop_instance_uid)
    request = ResultPageRequest(instance_uid, series_uid, inputs.provenance, inputs.warnings)
    page = write_result_page(volume, candidate, findings, request)
    path = inputs.own_folder / "UAIR-FINAL-PAGE.dcm"
    kind, where = ResultKind.FINAL_PAGE, context.picture_destinations
    return keep_result(context, page, path, kind, final.k, final.character, where)


def _write_change(
    context: Context,
    inputs: RoundInputs,
    volume: Volume,
    accepted: StoredCandidate,
    measured: Measured,
    final: NewResult,
) -> NewResult:
    """Write the page of the changes since an earlier study. It joins the accepted candidate's page series."""
    compared = measured.compared
    assert compared is not None
    canonical = volume.canonical()
    follow_up = measured.findings.follow_up
    assert follow_up is not None
    scene = ChangeScene(
        hu=on_training_scale(canonical.array, canonical.profile),
        labels=canonical.from_source(accepted.labels),
        earlier_hu=compared.hu,
        earlier_labels=compared.labels,
        earlier_uids=compared.uids,
        spacing_mm=canonical.spacing_mm,
        planes=plane_names(volume),
        days=(compared.day, compared.day + timedelta(days=follow_up.days)),
        findings=measured.findings,
    )
    instance_uid, _ = inputs.uids(ResultKind.FINAL_PAGE, accepted.k, "change")
    _, series_uid = inputs.uids(ResultKind.FINAL_PAGE, accepted.k)
    request = ResultPageRequest(instance_uid, series_uid, inputs.provenance)
    page = write_change_page(volume, scene, final.sop_instance_uid, accepted.k, request)
    path = inputs.own_folder / "UAIR-CHANGE-PAGE.dcm"
    kind, where = ResultKind.FINAL_PAGE, context.picture_destinations
    return keep_result(context, page, path, kind, final.k, f"{CHANGE_SINCE} {compared.day:%Y-%m-%d}", where)
