"""A case that ends with a candidate of an older round ends with that candidate's voxels."""

from __future__ import annotations

from pathlib import Path

from dicom_config.model import Verb
from tests.support.offered import CHARACTERS, candidate_labels, final_path, offered_case
from uair_node.cases.tables import ResultKind, Selection, WorkKind
from uair_node.results.round_inputs import ACCEPTED_FILE, CANDIDATES_FILE
from uair_node.storage.artifacts import StoredCandidate, load_candidates, save_candidates


def test_a_case_accepted_with_a_candidate_of_an_older_round_ends_with_its_voxels(tmp_path: Path) -> None:
    with offered_case(tmp_path) as offered:
        older = offered.candidate(3)
        offered.send(offered.candidate(2), Verb.PICK)
        offered.compute()
        newest = offered.context.store.case_folder(1) / "round-02.made"
        smaller = candidate_labels(3)
        smaller[:8] = 0
        save_candidates(
            newest / CANDIDATES_FILE, [StoredCandidate(k, smaller, CHARACTERS[k - 1]) for k in (1, 2, 3, 4)]
        )
        offered.work(WorkKind.PUBLISH)
        said = offered.send(older, Verb.ACCEPT)
        assert isinstance(said, Selection)
        assert (said.round_number, said.candidates_round, said.picked) == (2, 1, 3)
        offered.work(WorkKind.FINISH)
        (kept,) = load_candidates(final_path(offered.context, 1, ACCEPTED_FILE))
        assert (kept.labels == candidate_labels(3)).all()
        (final,) = offered.results(ResultKind.FINAL)
        assert final.volumes_ml == offered.results(ResultKind.CANDIDATE)[2].volumes_ml
