"""Dry run of the rules for the series in a folder, for `uair rules try`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_config.errors import InputError
from dicom_config.model import Settings
from uair_node.dicom.headers import SliceHeader, read_slices
from uair_node.intake.choice import (
    SeriesCandidate,
    read_facts,
    refusal_by_rivals,
    refusal_by_score,
    score_series,
)
from uair_node.intake.series_parts import SeriesPart, inspect_parts


@dataclass(frozen=True)
class DryRunResult:
    """The decision about a series, or about one of its acquisitions, and its reason.

    Attributes
    ----------
    code, why
        Code and sentence of the refusal. If the series would be segmented, then `code` is empty, and `why`
        contains the matching rules.
    """

    study_instance_uid: str
    series_instance_uid: str
    acquisition: str
    series_number: int | None
    description: str
    modality: str
    slices: int
    score: float
    runs: bool
    code: str
    why: str


def dry_run(folder: Path, settings: Settings) -> list[DryRunResult]:
    """Return the decision about every series in `folder` and its subfolders, as for a received series.

    Raises
    ------
    InputError
        ``no-dicom``: there is no DICOM file.
    """
    series: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            slices = read_slices(path)
        except InputError:
            continue
        series[slices[0].study_instance_uid, slices[0].series_instance_uid] += slices
    if not series:
        raise InputError("no-dicom", f"There is no DICOM file below {folder}.", "Name a folder with a study.")
    studies: dict[str, list[list[SliceHeader]]] = defaultdict(list)
    for (study, _), headers in sorted(series.items()):
        studies[study].append(headers)
    return [result for paths in studies.values() for result in _dry_run_study(paths, settings)]


def _dry_run_study(study: Sequence[Sequence[SliceHeader]], settings: Settings) -> list[DryRunResult]:
    parts = [part for headers in study for part in inspect_parts(headers, settings)]
    candidates = [_candidate(part, settings) for part in parts]
    refusals = [
        part.verdict.refusal or refusal_by_score(candidate.score, settings.rules)
        for part, candidate in zip(parts, candidates, strict=True)
    ]
    eligible = [series for series, refusal in zip(candidates, refusals, strict=True) if refusal is None]
    results = []
    for part, own, refusal in zip(parts, candidates, refusals, strict=True):
        rivals = [rival for rival in eligible if rival is not own]
        final = refusal or refusal_by_rivals(own, rivals, 0, settings.rules)
        results.append(_result(part.headers[0], own, final))
    return results


def _candidate(part: SeriesPart, settings: Settings) -> SeriesCandidate:
    facts = read_facts(part.headers)
    score = score_series(facts, settings.rules)
    return SeriesCandidate(part.headers[0].series_instance_uid, facts, score, part.acquisition)


def _result(header: SliceHeader, own: SeriesCandidate, refusal: InputError | None) -> DryRunResult:
    return DryRunResult(
        study_instance_uid=header.study_instance_uid,
        series_instance_uid=header.series_instance_uid,
        acquisition=own.acquisition,
        series_number=header.series_number,
        description=header.series_description,
        modality=header.modality,
        slices=own.facts.slices,
        score=own.score.value,
        runs=refusal is None,
        code=refusal.code if refusal else "",
        why=refusal.sentence if refusal else own.score.reason,
    )
