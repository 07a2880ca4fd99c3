"""A round that leaves nothing in doubt: one candidate, and a notice that asks to accept or to reject it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_config.model import Verb
from tests.support.offered import OfferedCase, offered_case
from tests.support.synthetic import SPACING, DensityLocalizer, DensityPredictor, abdomen
from uair_node.cases.states import CaseState
from uair_node.cases.tables import ResultKind, SelectionOutcome, WorkKind
from workers.engine import Engine, EngineOptions, Feedback, Round
from workers.uair.compose import LIVER
from workers.uair.rounds import SETTLED, SIZES_AFTER_PICK
from workers.uair.state import RoundState


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(DensityPredictor(), DensityLocalizer(), EngineOptions(max_lesions=2))


@pytest.fixture(scope="module")
def volume() -> np.ndarray:
    return abdomen()[0]


@pytest.fixture(scope="module")
def second(engine: Engine, volume: np.ndarray) -> Round:
    first = engine.first_round(volume, SPACING)
    return engine.next_round(volume, SPACING, first.state, Feedback(picked=2))


def without_doubt(state: RoundState, *, but: int = 0) -> RoundState:
    """The state as if picks had settled every target but one."""
    targets = tuple(
        target
        if target.value == but
        else replace(target, offered=np.repeat(target.offered[:1], 4, axis=0), present=(True,) * 4)
        for target in state.targets
    )
    sure = tuple(replace(target, confidence=0.99) for target in targets)
    return replace(state, targets=sure)


def test_where_nothing_is_in_doubt_one_candidate_is_offered_instead_of_four_equal_ones(
    engine: Engine, volume: np.ndarray, second: Round
) -> None:
    lesions = [target.value for target in second.state.targets if any(target.present)][1:]
    assert lesions
    state = without_doubt(second.state)
    # A liver speaks again once no lesion is in doubt; its belief is made certain, too.
    liver = state.targets[0]
    belief = liver.belief
    assert belief is not None
    mean = belief.particles.astype(np.float32).mean(axis=0)
    certain = np.repeat(mean[None], len(belief.particles), axis=0).astype(np.float16)
    liver = replace(liver, belief=replace(belief, particles=certain))
    state = replace(state, targets=(liver, *state.targets[1:]))
    third = engine.next_round(volume, SPACING, state, Feedback(picked=1))
    assert [candidate.character for candidate in third.candidates] == list(SETTLED)
    np.testing.assert_array_equal(third.candidates[0].labels > 0, second.candidates[0].labels > 0)
    fourth = engine.next_round(volume, SPACING, third.state, Feedback(rejected_all=True))
    assert len(fourth.candidates) == 4
    np.testing.assert_array_equal(fourth.candidates[0].labels, third.candidates[0].labels)


def test_a_settled_target_is_the_same_voxel_for_voxel_while_others_are_in_doubt(
    engine: Engine, volume: np.ndarray, second: Round
) -> None:
    doubtful = next(target.value for target in second.state.targets[1:] if any(target.present))
    third = engine.next_round(volume, SPACING, without_doubt(second.state, but=doubtful), Feedback(picked=1))
    assert [candidate.character.split(",")[0] for candidate in third.candidates] == list(SIZES_AFTER_PICK)
    first, *others = (candidate.labels for candidate in third.candidates)
    taken = np.logical_or.reduce([labels == doubtful for labels in (first, *others)])
    for labels in others:
        assert (labels == doubtful).any() != (labels == first).all()
        np.testing.assert_array_equal(labels[~taken], first[~taken])
    assert third.state.targets[0].value == LIVER
    assert third.state.targets[0].settled


@pytest.fixture
def settled(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as case:
        case.send(case.candidate(1), Verb.PICK)
        case.compute(ks=[1])
        case.work(WorkKind.PUBLISH, WorkKind.PAGES, WorkKind.NOTICES)
        yield case


def test_its_notice_asks_to_accept_or_to_reject(settled: OfferedCase) -> None:
    notices = [dcmread(settled.path(result)) for result in settled.results(ResultKind.NOTICE)]
    assert str(notices[-1].ImageComments) == (
        "Round 2: no uncertain region is left. UAIR R2C1 is the selected segmentation. "
        "To accept it, send it to UAIR_ACCEPT. If it does not fit, send it to UAIR_REJECT."
    )
    assert len(settled.results(ResultKind.CANDIDATE)) == 5
    pages = settled.results(ResultKind.PAGE)
    assert [page.k for page in pages][-2:] == [0, 1]


def test_its_candidate_can_be_accepted(settled: OfferedCase) -> None:
    said = settled.send(settled.candidate(1, 2), Verb.ACCEPT)
    assert said is not None
    assert said.outcome == SelectionOutcome.EFFECTIVE
    assert settled.case().state == CaseState.ACCEPTED


def test_its_candidate_can_be_rejected_and_four_others_follow(settled: OfferedCase) -> None:
    said = settled.send(settled.candidate(1, 2), Verb.REJECT)
    assert said is not None
    assert said.outcome == SelectionOutcome.EFFECTIVE
    settled.compute()
    settled.work(WorkKind.PUBLISH)
    assert len(settled.results(ResultKind.CANDIDATE)) == 9
