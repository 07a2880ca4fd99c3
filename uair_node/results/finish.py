"""What an accepted case leaves in the PACS: final SEG, report, page, and a note that withdraws the rest.

The note is `uair_node.results.withdrawal`'s.
"""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread
from sqlalchemy.orm import Session

from uair_node.artifacts import StoredCandidate
from uair_node.cases import lifecycle, work
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.performer import Claim, Commit
from uair_node.cases.tables import Case, ResultKind, Round, WorkItem
from uair_node.context import Context, Form
from uair_node.preference import differences, remember
from uair_node.results.pages import PageCandidate, ResultPageRequest, write_result_page
from uair_node.results.report import ReportRequest, write_report
from uair_node.results.segments import write_segmentation
from uair_node.results.source import Source, read_source
from uair_node.results.volumes import describe
from uair_node.results.withdrawal import SUPERSEDED_BY_FINAL, write_withdrawals
from uair_node.store import write_durably
from uair_node.volume import Volume, read_series


def finish(context: Context, claim: Claim) -> Commit:
    """Write all that an accepted case ends with."""
    source = read_source(context, claim)
    volume = read_series(source.series_paths)
    accepted = source.accepted()
    results: list[NewResult] = []
    for form in context.segmentation_forms:
        final = write_segmentation(context, source, volume, accepted, ResultKind.FINAL, form)
        results += [final, _write_report(context, source, volume, accepted, final, form)]
    if context.settings.results.pages:
        results.append(_write_page(context, source, volume, accepted, results[0]))
    results += write_withdrawals(context, claim, source, volume, accepted.k, SUPERSEDED_BY_FINAL)

    told = differences(describe(accepted.labels, volume.spacing_mm), source.base_mm)

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, source.round_id), results)
        case = session.get_one(Case, item.case_id)
        answer = lifecycle.effective_selection(session, case, source.number)
        if answer is not None:
            remember(session, context.settings.engine.preference, case, answer, told)
        work.close(item)

    return commit


def _write_report(
    context: Context,
    source: Source,
    volume: Volume,
    accepted: StoredCandidate,
    final: NewResult,
    form: Form,
) -> NewResult:
    instance_uid, series_uid = source.uids(ResultKind.REPORT, accepted.k, form.variant)
    segmentation = dcmread(context.store.absolute(final.path), stop_before_pixels=True)
    request = ReportRequest(instance_uid, series_uid, accepted.k, source.provenance)
    report = write_report(volume, accepted.labels, segmentation, request)
    path = source.folder / _file_name("REPORT", form.variant)
    return _saved(context, report, path, ResultKind.REPORT, accepted, form.destinations)


def _write_page(
    context: Context, source: Source, volume: Volume, accepted: StoredCandidate, final: NewResult
) -> NewResult:
    instance_uid, series_uid = source.uids(ResultKind.FINAL_PAGE, accepted.k)
    candidate = PageCandidate(accepted.k, accepted.trait, accepted.labels, final.sop_instance_uid)
    request = ResultPageRequest(instance_uid, series_uid, source.provenance)
    page = write_result_page(volume, candidate, request)
    path = source.folder / "UAIR-FINAL-PAGE.dcm"
    kind, destinations = ResultKind.FINAL_PAGE, context.destinations
    return _saved(context, page, path, kind, accepted, destinations)


def _file_name(what: str, variant: str) -> str:
    return f"UAIR-{what}{'-' + variant if variant else ''}.dcm"


def _saved(
    context: Context,
    document: Dataset,
    path: Path,
    kind: ResultKind,
    accepted: StoredCandidate,
    destinations: tuple[str, ...],
) -> NewResult:
    write_durably(path, lambda temporary: document.save_as(temporary, enforce_file_format=True))
    return NewResult(
        kind=kind,
        k=accepted.k,
        sop_instance_uid=str(document.SOPInstanceUID),
        series_instance_uid=str(document.SeriesInstanceUID),
        sop_class_uid=str(document.SOPClassUID),
        path=context.store.share(path),
        trait=accepted.trait,
        volumes_ml={},
        destinations=destinations,
    )
