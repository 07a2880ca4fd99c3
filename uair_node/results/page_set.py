"""Write the page set of a published round in a separate job. So segmentations do not wait for pictures."""

from __future__ import annotations

from pathlib import Path

from pydicom import Dataset
from sqlalchemy.orm import Session

from dicom_config.model import PageSeries
from uair_node.cases import lifecycle, work_items
from uair_node.cases.lifecycle import NewResult
from uair_node.cases.tables import Case, ResultKind, Round, WorkItem
from uair_node.context import Context, SegVariant
from uair_node.dicom.volume import read_series
from uair_node.findings.volumes import describe
from uair_node.rendering.finding_images import pictured_findings
from uair_node.results.pages import PageCandidate, PagesRequest, finding_words, write_pages
from uair_node.results.reader_words import how_to_answer, how_to_drop
from uair_node.results.result_writer import keep_result
from uair_node.results.round_inputs import CANDIDATES_FILE, RoundInputs, read_round_inputs
from uair_node.storage.artifacts import Labels, StoredCandidate, load_candidates, taken
from uair_node.work.performer import Claim, Commit

OVERVIEW = 0
"""The overview's number among the pages. The page of a candidate has the number k."""


def draw_page_set(context: Context, claim: Claim) -> Commit:
    """Write the overview of a round, a page for each candidate, and the lesion pages."""
    inputs = read_round_inputs(context, claim)
    candidates = inputs.candidates()
    volume = read_series(inputs.series_paths, context.settings.intake.known)
    findings = pictured_findings([describe(candidate.labels, volume.spacing_mm) for candidate in candidates])
    pages = write_pages(
        volume,
        [_candidate(inputs, candidate, context.segmentation_variants[0]) for candidate in candidates],
        _request(context, inputs, candidates, findings),
        reference=_reference(context, claim),
        uncertain=inputs.uncertain(),
    )
    names = [
        (ResultKind.PAGE, OVERVIEW, "overview"),
        *((ResultKind.PAGE, candidate.k, candidate.character) for candidate in candidates),
        *((ResultKind.FINDING, number, finding_words(number)) for number in findings),
    ]
    results = [_save(context, inputs, page, *name) for page, name in zip(pages, names, strict=True)]

    def commit(session: Session, item: WorkItem) -> None:
        lifecycle.add_results(session, session.get_one(Round, inputs.round_id), results)
        work_items.close(item)

    return commit


def _candidate(inputs: RoundInputs, candidate: StoredCandidate, variant: SegVariant) -> PageCandidate:
    uid, _ = inputs.uids(ResultKind.CANDIDATE, candidate.k, variant.suffix)
    return PageCandidate(candidate.k, candidate.character, candidate.labels, uid)


def _request(
    context: Context, inputs: RoundInputs, candidates: list[StoredCandidate], findings: list[int]
) -> PagesRequest:
    titles = context.settings.node.ae_titles
    in_one_series = context.settings.results.page_series == PageSeries.CASE
    overview_uid, series_uid = inputs.uids(ResultKind.PAGE, OVERVIEW)
    page_uids = {candidate.k: inputs.uids(ResultKind.PAGE, candidate.k)[0] for candidate in candidates}
    return PagesRequest(
        series_instance_uid=inputs.case_series_uid(ResultKind.PAGE) if in_one_series else series_uid,
        overview_uid=overview_uid,
        page_uids=page_uids,
        provenance=inputs.case_provenance if in_one_series else inputs.provenance,
        warnings=inputs.warnings,
        how_to_answer=how_to_answer(titles),
        finding_uids={number: inputs.uids(ResultKind.FINDING, number)[0] for number in findings},
        how_to_drop={number: how_to_drop(titles, number) for number in findings},
        in_series_of_case=in_one_series,
    )


def _reference(context: Context, claim: Claim) -> Labels | None:
    """Return the labels that the reader picked in the round before; None in round 1 and after "none fits"."""
    number = (claim.round_number or 1) - 1
    with context.database.reading() as session:
        case = session.get_one(Case, claim.case_id)
        selection = lifecycle.effective_selection(session, case, number)
        folders = [round_.artifacts for round_ in case.rounds if round_.number == number]
    if selection is None or selection.picked is None:
        return None
    if selection.artifact:
        return load_candidates(context.store.fetch(selection.artifact))[0].labels
    stored = load_candidates(context.store.fetch(f"{folders[0]}/{CANDIDATES_FILE}"))
    return taken(stored, selection.answer).labels


def _save(
    context: Context, inputs: RoundInputs, page: Dataset, kind: ResultKind, k: int, character: str
) -> NewResult:
    path: Path = inputs.own_folder / f"UAIR-R{inputs.number}-{kind.value.upper()}{k}.dcm"
    return keep_result(context, page, path, kind, k, character, context.picture_destinations)
