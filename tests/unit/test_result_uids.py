"""UIDs of results cover what the results depend on: a repeated task repeats them, other content does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, ResultKind
from uair_node.results.round_inputs import RoundInputs
from uair_node.results.uids import result_uid
from uair_node.storage.artifacts import StoredCandidate, labels_digest

INPUTS = RoundInputs(
    case_digest="case",
    uid_root="root",
    content_digest="content",
    acquisition="",
    warnings=(),
    series_paths=(),
    round_id=1,
    number=2,
    folder=Path(),
    model_name="m",
    model_digest="model",
    computed_at=datetime(2026, 1, 1),
    case_begun=datetime(2026, 1, 1),
    derived_from="",
    answer=ReaderChoice(2),
    dropped=(),
    prior={},
    base_mm={},
    edit=None,
    answered_folder=Path(),
    own_folder=Path(),
)


def test_a_repeated_task_repeats_the_uids() -> None:
    assert replace(INPUTS).uids(ResultKind.CANDIDATE, 1) == INPUTS.uids(ResultKind.CANDIDATE, 1)


@pytest.mark.parametrize(
    "change", [{"uid_root": "other"}, {"content_digest": "other"}, {"model_digest": "other"}, {"number": 3}]
)
@pytest.mark.parametrize("kind", list(ResultKind))
def test_other_content_has_other_uids(kind: ResultKind, change: dict[str, object]) -> None:
    ours, other = INPUTS.uids(kind, 1), replace(INPUTS, **change).uids(kind, 1)
    assert not set(ours) & set(other)


@pytest.mark.parametrize("kind", [ResultKind.FINAL, ResultKind.REPORT, ResultKind.FINAL_PAGE])
@pytest.mark.parametrize("change", [{"answer": ReaderChoice(2, {2: 1})}, {"edit": Path("edit-7.npz")}])
def test_what_follows_an_answer_has_uids_of_that_answer(kind: ResultKind, change: dict[str, object]) -> None:
    assert not set(INPUTS.uids(kind, 2)) & set(replace(INPUTS, **change).uids(kind, 2))


def test_an_answer_leaves_the_uids_of_the_candidates_that_it_speaks_of() -> None:
    assert replace(INPUTS, answer=None).uids(ResultKind.CANDIDATE, 1) == INPUTS.uids(ResultKind.CANDIDATE, 1)


def test_a_withdrawal_of_other_instances_has_another_uid() -> None:
    first, second = (INPUTS.uids(ResultKind.WITHDRAWAL, 0, names=[uid]) for uid in ("2.25.1", "2.25.2"))
    assert not set(first) & set(second)


def test_a_round_of_an_older_version_keeps_its_uids() -> None:
    old = replace(INPUTS, uid_root="case", content_digest="")
    assert old.uids(ResultKind.FINAL, 2, "ohif")[0] == result_uid(
        "case", "model", 2, 2, "final", "ohif", "instance"
    )


def test_a_series_sent_again_has_other_uids_and_an_old_case_keeps_its_own() -> None:
    moments = [datetime(2026, 1, 1, 8, 0, 0, n) for n in (1, 2)]
    first, again = (Case(digest="d", created_at=moment, uid_scheme=2) for moment in moments)
    assert first.uid_root != again.uid_root
    assert Case(digest="d", created_at=moments[0], uid_scheme=1).uid_root == "d"


def test_the_digest_of_labels_covers_every_voxel_and_the_trait() -> None:
    labels = np.zeros((2, 3, 4), np.uint8)
    other = labels.copy()
    other[1, 2, 3] = 1
    digests = {
        labels_digest([StoredCandidate(k, voxels, character)])
        for k, voxels, character in [
            (1, labels, ""),
            (2, labels, ""),
            (1, other, ""),
            (1, labels, "larger"),
            (1, labels.reshape(3, 2, 4), ""),
        ]
    }
    assert len(digests) == 5


def test_the_uids_of_an_answer_to_an_older_round_do_not_depend_on_the_claim_that_computed_it() -> None:
    older = [replace(INPUTS, answered_folder=Path(name)) for name in ("round-01", "round-01.a", "round-01.b")]
    assert len({entry.uids(ResultKind.FINAL, 2) for entry in older}) == 1
    assert older[0].uids(ResultKind.FINAL, 2) != INPUTS.uids(ResultKind.FINAL, 2)
