"""Measurements of an accepted case: values with intervals, and the change since the earlier study."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from functools import partial

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_config.errors import TransientError
from uair_node.context import Context
from uair_node.dicom.intensity import on_training_scale
from uair_node.dicom.volume import Volume, read_series
from uair_node.findings.follow_up import Fate
from uair_node.findings.measurements import measure
from uair_node.findings.record import tabulate
from uair_node.results.finish import Compared, Measured, finish
from uair_node.results.preference_comparison import compare_preferences
from uair_node.results.priors import Prior, acquired, find_priors
from uair_node.results.round_inputs import STATE_FILE, RoundInputs
from uair_node.results.seg import Tracking
from uair_node.results.uids import lesion_uid
from uair_node.storage.artifacts import StoredCandidate, label_values, reading_artifact
from uair_node.work.performer import Claim, Commit
from uair_node.work.stopwatch import Stopwatch
from workers.measure.archived import archived_prior
from workers.measure.change import Identity, follow_up_of, identities
from workers.measure.intervals import ensemble_bounds, intervals_of, sample_numbers
from workers.measure.matching import Group, match
from workers.measure.numbers import flattened, shapes_of
from workers.measure.registration import Alignment, Labels, Scan, align
from workers.uair.state import RoundState

log = logging.getLogger(__name__)


def finish_measured(context: Context, claim: Claim) -> Commit:
    """Write the final objects of an accepted case, measured and compared with the earlier study."""
    return finish(context, claim, measure_accepted)


def measure_accepted(
    context: Context, claim: Claim, inputs: RoundInputs, volume: Volume, accepted: StoredCandidate
) -> Measured:
    """Measure an accepted segmentation, and compare it with the patient's earlier study, if there is one.

    Parameters
    ----------
    volume
        The source series with its pixels.
    accepted
        The accepted segmentation on the source grid.
    """
    watch = Stopwatch()
    labels, spacing = accepted.labels, volume.spacing_mm
    measured, shapes = measure(volume.array, labels, spacing), shapes_of(labels, spacing)
    unit = volume.profile.unit
    known = flattened(measured, shapes, unit)
    samples = sample_numbers(volume.array, _samples(context, inputs, volume), labels, spacing, unit)
    intervals = intervals_of(known, samples)
    watch.lap("measure")
    tabulated = partial(tabulate, measured, shapes=shapes, intervals=intervals, profile=volume.profile)
    own = _own_identities(inputs, labels)
    header = dcmread(inputs.series_paths[0], stop_before_pixels=True)
    day, earlier = acquired(header), None
    if day is not None and claim.case_id is not None and context.settings.results.follow_up:
        earlier = _earlier(context, claim, header, day)
    compared = _compared(volume, labels, earlier) if earlier else None
    if earlier is None or compared is None or day is None:
        return Measured(tabulated(_named(own)), _tracking(own))
    priors, (groups, picture) = earlier[0], compared
    watch.lap("compare")
    log.info("case %s compared with the study before: %s", claim.case_id, watch)
    names = identities(own, groups, priors[-1].findings)
    findings = tabulated(_named(names))
    kinds = (priors[-1].accepted().character if priors[-1].case_id else "", accepted.character)
    with context.database.reading() as session:
        tracking = {number: name.uid for number, name in names.items()}
        preferences = compare_preferences(session, claim.case_id, priors[-1].case_id, findings, tracking)
    follow_up = follow_up_of(findings, groups, priors, day, kinds, preferences)
    return Measured(replace(findings, follow_up=follow_up), _tracking(names), picture)


def _earlier(
    context: Context, claim: Claim, header: Dataset, day: date
) -> tuple[Sequence[Prior], Scan] | None:
    """Return the patient's earlier studies, and the scan of the last of them, from database or archive.

    If the archive cannot be reached, then the job is tried again. After the last attempt, the accepted result
    is sent without the comparison.
    """
    assert claim.case_id is not None, "what is finished is a case"
    priors = find_priors(context, claim.case_id)
    if not priors:
        try:
            archived = archived_prior(context, header, day)
        except TransientError as error:
            if claim.attempt < context.settings.work.max_attempts:
                raise
            log.warning("case %d is not compared: %s", claim.case_id, error)
            return None
        return ([archived[0]], archived[1]) if archived else None
    then = read_series(priors[-1].series_paths, context.settings.intake.known).canonical()
    labels = then.from_source(priors[-1].accepted().labels)
    return priors, Scan(on_training_scale(then.array, then.profile), labels, then.spacing_mm)


def _compared(
    volume: Volume, labels: Labels, earlier: tuple[Sequence[Prior], Scan]
) -> tuple[tuple[Group, ...], Compared] | None:
    """Compare with the earlier study; None if the scans cannot be registered.

    The accepted result is then sent without the comparison.
    """
    priors, scan = earlier
    try:
        return compare(volume, labels, priors[-1], scan)
    except RuntimeError as error:  # from SimpleITK; the text of the error names source files of SimpleITK
        log.warning("not compared with the study before: registration fails (%s)", type(error).__name__)
        return None


def compare(volume: Volume, labels: Labels, prior: Prior, then: Scan) -> tuple[tuple[Group, ...], Compared]:
    """Match the lesions of a segmentation with the lesions of an earlier scan, after registration.

    If a scan has no liver, then no lesions match, and the earlier densities are -1024 HU.
    """
    canonical = volume.canonical()
    values = on_training_scale(canonical.array, canonical.profile)
    now = Scan(values, canonical.from_source(labels), canonical.spacing_mm)
    whole = (slice(0, now.labels.shape[0]), slice(0, now.labels.shape[1]), slice(0, now.labels.shape[2]))
    alignment = _aligned(now, then)
    if alignment is None:
        brought, hu = np.zeros_like(now.labels), np.full(now.labels.shape, -1024, np.int16)
    else:
        brought = alignment.brought(then.labels, then.spacing_mm, now, whole)
        hu = np.full(now.labels.shape, -1024, np.int16)
        if then.hu is not None:
            hu = np.rint(alignment.brought(then.hu, then.spacing_mm, now, whole)).astype(np.int16)
    groups = match(now.labels, brought, now.spacing_mm)
    groups = _with_unseen(groups, brought, then.labels)
    uids = {lesion.number: lesion.tracking_uid for lesion in prior.findings.lesions}
    return groups, Compared(prior.day, hu, brought, uids)


def _aligned(now: Scan, then: Scan) -> Alignment | None:
    """Register two scans; None if one of them has no liver. Then no lesions can be matched."""
    return align(now, then) if now.labels.any() and then.labels.any() else None


def _with_unseen(groups: Sequence[Group], brought: Labels, then: Labels) -> tuple[Group, ...]:
    """Add the earlier lesions that are outside this scan, or lost by resampling, as vanished lesions."""
    missing = set(label_values(then)) - set(label_values(brought)) - {1}
    return (*groups, *(Group(Fate.VANISHED, (), (value - 1,)) for value in sorted(missing)))


def _samples(context: Context, inputs: RoundInputs, volume: Volume) -> list[Labels]:
    """Return the candidates of the accepted round and the bounds of its ensemble, on the source grid."""
    found = [candidate.labels for candidate in inputs.candidates()]
    path = context.store.fetch(context.store.relative(inputs.folder / STATE_FILE))
    if path.exists():
        canonical = volume.canonical()
        with reading_artifact():
            state = RoundState.load(path)
        bounds = ensemble_bounds(state, canonical.shape)
        found += [canonical.to_source(labels) for labels in bounds]
    return found


def _own_identities(inputs: RoundInputs, labels: Labels) -> dict[int, Identity]:
    return {
        value - 1: Identity(lesion_uid(inputs.case_digest, value - 1), f"UAIR lesion {value - 1}")
        for value in label_values(labels)
        if value > 1
    }


def _named(names: dict[int, Identity]) -> dict[int, tuple[str, str]]:
    return {number: (name.uid, name.name) for number, name in names.items()}


def _tracking(names: dict[int, Identity]) -> dict[int, Tracking]:
    return {number: Tracking(name.name, name.uid) for number, name in names.items()}
