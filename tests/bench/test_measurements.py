"""Accuracy of matching lesions over time, and coverage of the truth by intervals (docs/measurements.md).

Everything is a function of the seeds. Phantoms are small, since a pair takes half a minute on one core.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from dicom_config.errors import InputError
from dicom_config.model import EngineSection
from dicom_config.quantities import QUANTITIES
from uair_node.findings.follow_up import Fate, FollowUp
from uair_node.findings.measurements import measure
from uair_node.findings.record import NOMINAL, Findings, tabulate
from uair_node.results.priors import Prior
from workers.engine import Engine, Feedback
from workers.measure.change import Identity, follow_up_of, identities
from workers.measure.intervals import LOGARITHMIC, ensemble_bounds, sample_numbers, spread
from workers.measure.matching import Group, match
from workers.measure.numbers import numbers_of
from workers.measure.registration import Scan, align
from workers.phantoms import TEST, Phantom, make_phantom
from workers.phantoms.pairs import make_pair
from workers.research.evaluation.reader import combined, pick_targets
from workers.site_engine import build_engine

pytestmark = pytest.mark.bench

PAIRS = range(100, 120)
CASES = range(610, 641)
LEAST_MM = 10.0
LEAST_DICE = 0.5
ROUNDS = 3


def test_matching_over_time() -> None:
    right, asked, categories = 0, 0, 0
    for seed in PAIRS:
        pair = make_pair(seed)
        then, now = (_scan(entry) for entry in (pair.before, pair.now))
        box = (slice(0, now.labels.shape[0]), slice(0, now.labels.shape[1]), slice(0, now.labels.shape[2]))
        brought = align(now, then).brought(then.labels, then.spacing_mm, now, box)
        groups = match(now.labels, brought, now.spacing_mm)
        lost = set(np.unique(then.labels)) - set(np.unique(brought)) - {0, 1}
        groups = (*groups, *(Group(Fate.VANISHED, (), (int(value) - 1,)) for value in sorted(lost)))
        truth = _true_groups(then, now)
        before, present = _findings(pair.before, "A"), _findings(pair.now, "B")
        lengths = [
            {lesion.number: lesion.values["long_mm"].value for lesion in found.lesions}
            for found in (before, present)
        ]
        for group in truth:
            number = (group.now or group.before)[0]
            if max(length_mm.get(number, 0.0) for length_mm in lengths) >= LEAST_MM:
                asked += 1
                right += group in groups
        categories += _response(present, groups, before) == _response(present, truth, before)
    print(f"\n{right} of {asked} lesions of {LEAST_MM:.0f} mm matched rightly, {len(PAIRS)} pairs; ")  # noqa: T201
    print(f"response categories right in {categories} of {len(PAIRS)}")  # noqa: T201


@pytest.mark.timeout(3600)
def test_coverage_of_intervals() -> None:
    scores: dict[str, list[tuple[int, float]]] = defaultdict(list)
    spreads: dict[str, list[float]] = defaultdict(list)
    engine = build_engine(EngineSection(threads=1))
    for seed in CASES:
        phantom = make_phantom(seed, size="small", setting=replace(TEST, slice_mm=()), phase=None)
        try:
            found = list(_scores(engine, phantom))
        except InputError:  # no liver found
            continue
        for key, error, doubt in found:
            scores[key].append((seed, error / doubt))
            spreads[key].append(doubt)
    title = f"{'quantity':<16} {'n':>4} {'factor':>7} {'held':>6}  median interval"
    print(f"\n{title} (nominal {NOMINAL:.0%})")  # noqa: T201
    kind = QUANTITIES["ct"]
    for key in (entry.key for entry in (*kind.liver, *kind.parenchyma, *kind.lesion)):
        if key in scores:
            factor, held = _factor([score for _, score in scores[key]]), _held_out(scores[key])
            width = _width(key, factor * float(np.median(spreads[key])))
            print(f"{key:<16} {len(scores[key]):>4} {factor:>7.2f} {held:>6.0%}  {width}")  # noqa: T201


def _scan(phantom: Phantom) -> Scan:
    return Scan(phantom.hu, phantom.labels, phantom.spacing_mm)


def _true_groups(then: Scan, now: Scan) -> tuple[Group, ...]:
    """The true fates of the lesions: a lesion has the same number in both scans."""
    old, new = ({int(v) - 1 for v in np.unique(entry.labels) if v > 1} for entry in (then, now))
    return (
        *(Group(Fate.MATCHED, (n,), (n,)) for n in sorted(old & new)),
        *(Group(Fate.NEW, (n,), ()) for n in sorted(new - old)),
        *(Group(Fate.VANISHED, (), (n,)) for n in sorted(old - new)),
    )


def _findings(phantom: Phantom, name: str) -> Findings:
    measured = measure(phantom.hu, phantom.labels, phantom.spacing_mm)
    return tabulate(measured, {lesion.number: (f"{name}{lesion.number}", "") for lesion in measured.lesions})


def _response(present: Findings, groups: tuple[Group, ...], before: Findings) -> tuple[str, str]:
    own = {lesion.number: Identity(lesion.tracking_uid, "") for lesion in present.lesions}
    named = identities(own, groups, before)
    lesions = tuple(replace(lesion, tracking_uid=named[lesion.number].uid) for lesion in present.lesions)
    prior = Prior(1, date(2026, 1, 1), "1", "", before)
    found: FollowUp = follow_up_of(replace(present, lesions=lesions), groups, [prior], date(2026, 3, 1))
    return found.response, found.volume_response


def _width(key: str, half: float) -> str:
    """The text of an interval with this half width; an interval of a logarithm is in per cent."""
    return f"{np.expm1(-half):+.0%} to {np.expm1(half):+.0%}" if key in LOGARITHMIC else f"+-{half:.3g}"


def _scores(engine: Engine, phantom: Phantom) -> Iterator[tuple[str, float, float]]:
    """Yield |accepted - true| and the spread of each number, after three rounds with the best picks."""
    made = engine.first_round(phantom.hu, phantom.spacing_mm)
    for number in range(1, ROUNDS + 1):
        candidates = [candidate.labels for candidate in made.candidates]
        picks = pick_targets(candidates, phantom.labels, made.targets)
        accepted = combined(candidates, picks)
        if number < ROUNDS:
            said = Feedback(picked=picks[1], per_target=picks)
            made = engine.next_round(phantom.hu, phantom.spacing_mm, made.state, said)
    samples = [*candidates, *ensemble_bounds(made.state, phantom.labels.shape)]
    ours = numbers_of(phantom.hu, accepted, phantom.spacing_mm)
    others = sample_numbers(phantom.hu, samples, accepted, phantom.spacing_mm)
    true = numbers_of(phantom.hu, phantom.labels, phantom.spacing_mm)
    same = _same_lesions(accepted, phantom.labels)
    for (lesion, key), value in ours.items():
        wanted = true.get((same.get(lesion, -1), key))
        known = [other[lesion, key] for other in others if (lesion, key) in other]
        if wanted is None or key == "lesions" or len(known) < 2:
            continue
        if key in LOGARITHMIC and min(value, wanted) <= 0:
            continue
        error = abs(np.log(value / wanted)) if key in LOGARITHMIC else abs(value - wanted)
        yield key, float(error), float(spread(key, value, known))


def _same_lesions(accepted: np.ndarray, truth: np.ndarray) -> Mapping[int, int]:
    """Lesion number -> true number, where the two share most of both; the organ is 0 in both."""
    found = {0: 0}
    for value in np.unique(accepted[accepted > 1]):
        mask = accepted == value
        counts = np.bincount(truth[mask], minlength=256)
        counts[:2] = 0
        other = int(counts.argmax())
        if 2 * counts[other] >= LEAST_DICE * (mask.sum() + (truth == other).sum()) and counts[other]:
            found[int(value) - 1] = other - 1
    return found


def _factor(scores: list[float]) -> float:
    """The (n + 1) * 90 % smallest score: what split conformal prediction takes."""
    place = int(np.ceil(NOMINAL * (len(scores) + 1)))
    return sorted(scores)[min(place, len(scores)) - 1]


def _held_out(scores: list[tuple[int, float]]) -> float:
    """Share of scores below the factor that all other phantoms give."""
    held = []
    for seed, score in scores:
        others = [score for other, score in scores if other != seed]
        held.append(bool(others) and score <= _factor(others))
    return float(np.mean(held))
