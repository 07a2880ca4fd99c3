"""What is written when: a computed round becomes four SEGs, an accepted case its final SEG and its report."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
from pydicom import dcmread
from sqlalchemy.orm import Session

from uair_node import __version__
from uair_node.artifacts import Labels, StoredCandidate, load_candidates
from uair_node.cases import lifecycle, work
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.performer import Claim, Commit
from uair_node.cases.tables import Case, ResultKind, Round, Selection, WorkItem
from uair_node.context import Context
from uair_node.results.provenance import Provenance
from uair_node.results.report import ReportRequest, write_report
from uair_node.results.seg import SegRequest, Tracking, save_seg, write_seg
from uair_node.results.uids import result_uid
from uair_node.results.volumes import describe
from uair_node.store import write_durably
from uair_node.volume import Volume, read_geometry, read_series

CANDIDATES_FILE = "candidates.npz"


@dataclass(frozen=True)
class Source:
    """What a round's objects are made from, read in one transaction."""

    case_digest: str
    series_paths: tuple[Path, ...]
    round_id: int
    number: int
    folder: Path
    model_name: str
    model_digest: str
    computed_at: datetime
    derived_from: str
    accepted_k: int | None


def publish(context: Context, claim: Claim) -> Commit:
    """Write the four SEG objects of a computed round."""
    source = _read_source(context, claim)
    volume = read_geometry(source.series_paths)
    candidates = load_candidates(source.folder / CANDIDATES_FILE)
    results = [_write(context, source, volume, candidate, ResultKind.CANDIDATE) for candidate in candidates]

    def commit(session: Session, item: WorkItem) -> None:
        case, round_ = _rows(session, item, source)
        lifecycle.finish_publishing(session, case, round_, results, context.destinations)
        work.close(item)

    return commit


def finish(context: Context, claim: Claim) -> Commit:
    """Write the final SEG of an accepted case and the report of its measurements."""
    source = _read_source(context, claim)
    volume = read_series(source.series_paths)
    (accepted,) = (
        candidate
        for candidate in load_candidates(source.folder / CANDIDATES_FILE)
        if candidate.k == source.accepted_k
    )
    final = _write(context, source, volume, accepted, ResultKind.FINAL)
    report = _write_report(context, source, volume, accepted, final)

    def commit(session: Session, item: WorkItem) -> None:
        _, round_ = _rows(session, item, source)
        lifecycle.finish_case(session, round_, [final, report], context.destinations)
        work.close(item)

    return commit


def _rows(session: Session, item: WorkItem, source: Source) -> tuple[Case, Round]:
    return session.get_one(Case, item.case_id), session.get_one(Round, source.round_id)


def _read_source(context: Context, claim: Claim) -> Source:
    with context.database.transaction() as session:
        case = session.get_one(Case, claim.case_id)
        round_ = next(r for r in case.rounds if r.number == claim.round_number)
        assert round_.computed_at is not None, "publication becomes due when a round is computed"
        started_by = session.get(Selection, round_.selection_id) if round_.selection_id else None
        answer = lifecycle.effective_selection(session, case, round_.number)
        return Source(
            case_digest=case.digest,
            series_paths=tuple(context.store.absolute(one.path) for one in case.instances),
            round_id=round_.id,
            number=round_.number,
            folder=context.store.absolute(round_.artifacts),
            model_name=round_.model_name,
            model_digest=round_.model_digest,
            computed_at=round_.computed_at,
            derived_from=started_by.evidence_uid if started_by else "",
            accepted_k=answer.picked if answer else None,
        )


def _write(
    context: Context, source: Source, volume: Volume, candidate: StoredCandidate, kind: ResultKind
) -> NewResult:
    instance_uid, series_uid = _uids(source, candidate, kind)
    request = SegRequest(
        sop_instance_uid=instance_uid,
        series_instance_uid=series_uid,
        round=source.number,
        k=candidate.k,
        trait=candidate.trait,
        model_name=source.model_name,
        model_digest=source.model_digest,
        software_version=__version__,
        case_digest=source.case_digest,
        content_datetime=source.computed_at,
        tracking=_tracking(source, candidate.labels),
        derived_from=source.derived_from,
        final=kind == ResultKind.FINAL,
    )
    seg = write_seg(volume, candidate.labels, request)
    path = source.folder / f"{request.label.replace(' ', '-')}.dcm"
    save_seg(seg, path)
    volumes = describe(candidate.labels, volume.spacing_mm)
    return NewResult(
        kind=kind,
        k=candidate.k,
        sop_instance_uid=request.sop_instance_uid,
        series_instance_uid=request.series_instance_uid,
        sop_class_uid=str(seg.SOPClassUID),
        path=context.store.relative(path),
        trait=candidate.trait,
        volumes_ml={
            "liver": round(volumes.liver_ml, 3),
            "lesions": [round(ml, 3) for _, ml in volumes.lesions_ml],
        },
    )


def _write_report(
    context: Context, source: Source, volume: Volume, accepted: StoredCandidate, final: NewResult
) -> NewResult:
    instance_uid, series_uid = _uids(source, accepted, ResultKind.REPORT)
    provenance = Provenance(
        round=source.number,
        model_name=source.model_name,
        model_digest=source.model_digest,
        software_version=__version__,
        case_digest=source.case_digest,
        content_datetime=source.computed_at,
    )
    segmentation = dcmread(context.store.absolute(final.path), stop_before_pixels=True)
    request = ReportRequest(instance_uid, series_uid, accepted.k, provenance)
    report = write_report(volume, accepted.labels, segmentation, request)
    path = source.folder / "UAIR-REPORT.dcm"
    write_durably(path, lambda temporary: report.save_as(temporary, enforce_file_format=True))
    return NewResult(
        kind=ResultKind.REPORT,
        k=accepted.k,
        sop_instance_uid=instance_uid,
        series_instance_uid=series_uid,
        sop_class_uid=str(report.SOPClassUID),
        path=context.store.relative(path),
        trait=accepted.trait,
        volumes_ml=final.volumes_ml,
    )


def _uids(source: Source, candidate: StoredCandidate, kind: ResultKind) -> tuple[str, str]:
    """Return the SOP Instance and Series Instance UID of an object of this kind."""
    identity = (source.case_digest, source.model_digest, source.number, candidate.k, kind.value)
    return result_uid(*identity, "instance"), result_uid(*identity, "series")


def _tracking(source: Source, labels: Labels) -> dict[int, Tracking]:
    """Give each lesion number its Tracking UID, the same in every candidate and round of a case."""
    lesions = [int(value) - 1 for value in np.unique(labels) if value > 1]
    return {n: Tracking(f"UAIR lesion {n}", result_uid(source.case_digest, "lesion", n)) for n in lesions}
