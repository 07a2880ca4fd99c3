"""What an accepted case leaves in the PACS: final SEG, report, page, and a note that withdraws the rest.

The note goes only to destinations that want it (`withdraw`): an archive that does not honour IHE IOCM would
show it as one more document.
"""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from uair_node.artifacts import StoredCandidate
from uair_node.cases import lifecycle, work
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.performer import Claim, Commit
from uair_node.cases.tables import Result, ResultKind, Round, WorkItem
from uair_node.context import Context
from uair_node.results.pages import PageCandidate, ResultPageRequest, write_result_page
from uair_node.results.rejection import RejectionRequest, Withdrawn, write_rejection
from uair_node.results.report import ReportRequest, write_report
from uair_node.results.segments import write_segmentation
from uair_node.results.source import Source, read_source
from uair_node.store import write_durably
from uair_node.volume import Volume, read_series

_WITHDRAWN = (ResultKind.CANDIDATE, ResultKind.PAGE, ResultKind.NOTICE)


def finish(context: Context, claim: Claim) -> Commit:
    """Write all that an accepted case ends with."""
    source = read_source(context, claim)
    volume = read_series(source.series_paths)
    accepted = source.accepted()
    final = write_segmentation(context, source, volume, accepted, ResultKind.FINAL)
    results = [final, _write_report(context, source, volume, accepted, final)]
    if context.settings.results.pages:
        results.append(_write_page(context, source, volume, accepted, final))
    if context.withdrawing:
        results.append(_write_withdrawal(context, source, volume, accepted, _candidates(context, claim)))

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, source.round_id), results)
        work.close(item)

    return commit


def _write_report(
    context: Context, source: Source, volume: Volume, accepted: StoredCandidate, final: NewResult
) -> NewResult:
    instance_uid, series_uid = source.uids(ResultKind.REPORT, accepted.k)
    segmentation = dcmread(context.store.absolute(final.path), stop_before_pixels=True)
    request = ReportRequest(instance_uid, series_uid, accepted.k, source.provenance)
    report = write_report(volume, accepted.labels, segmentation, request)
    path = source.folder / "UAIR-REPORT.dcm"
    kind, destinations = ResultKind.REPORT, context.destinations
    return _saved(context, report, path, kind, accepted, destinations)


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


def _write_withdrawal(
    context: Context,
    source: Source,
    volume: Volume,
    accepted: StoredCandidate,
    candidates: list[Withdrawn],
) -> NewResult:
    instance_uid, series_uid = source.uids(ResultKind.WITHDRAWAL, accepted.k)
    request = RejectionRequest(instance_uid, series_uid, "the final one replaces them", source.provenance)
    note = write_rejection(volume, candidates, request)
    path = source.folder / "UAIR-WITHDRAWAL.dcm"
    kind, destinations = ResultKind.WITHDRAWAL, context.withdrawing
    return _saved(context, note, path, kind, accepted, destinations)


def _candidates(context: Context, claim: Claim) -> list[Withdrawn]:
    """Return what the final object replaces, of all rounds: it holds what the accepted candidate held."""
    with context.database.transaction() as session:
        rows = session.scalars(
            select(Result)
            .join(Result.round)
            .where(Round.case_id == claim.case_id, Result.kind.in_(_WITHDRAWN))
            .order_by(Result.id)
        )
        return [Withdrawn(one.sop_class_uid, one.sop_instance_uid, one.series_instance_uid) for one in rows]


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
        path=context.store.relative(path),
        trait=accepted.trait,
        volumes_ml={},
        destinations=destinations,
    )
