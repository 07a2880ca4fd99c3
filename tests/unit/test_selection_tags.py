"""Words in Series Description or Content Label on the plain store AE, for sites that cannot add AE titles."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from pydantic import ValidationError

from dicom_config.model import Tags, Verb
from tests.support.offered import CHARACTERS, OfferedCase, candidate_labels, offered_case
from tests.support.selections import key_object, new_uid
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Instance, InstanceStatus, ResultKind, SelectionOutcome, WorkKind


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path) as made:
        yield made


@pytest.mark.parametrize(
    ("text", "verb"),
    [
        ("PICK", Verb.PICK),
        ("my pick of four", Verb.PICK),
        ("R1C3_PICK", Verb.PICK),
        ("Accept!", Verb.ACCEPT),
        ("accept, not pick", Verb.PICK),
        ("REJECT", Verb.REJECT),
        ("picked", None),
        ("candidate 3 accepted", None),
        ("TOOTHPICK", None),
        ("", None),
    ],
)
def test_a_tag_is_a_word_of_its_own(text: str, verb: Verb | None) -> None:
    assert Tags().verb_in(text) == verb


def test_words_are_the_site_s() -> None:
    tags = Tags(pick="nehmen (1)", accept="", reject="keine")
    assert tags.verb_in("Bitte NEHMEN (1)") == Verb.PICK
    assert tags.verb_in("ACCEPT PICK") is None
    for accept in ("OK", "ok"):
        with pytest.raises(ValidationError, match="differ"):
            Tags(pick="ok", accept=accept)


@pytest.mark.parametrize(
    ("keyword", "text", "state"),
    [
        ("SeriesDescription", "PICK", CaseState.REFINING),
        ("ContentLabel", "PICK", CaseState.REFINING),
        ("SeriesDescription", "UAIR R1C3 tightest ACCEPT", CaseState.ACCEPTED),
        ("SeriesDescription", "REJECT", CaseState.REFINING),
    ],
)
def test_our_candidate_with_changed_words_counts(
    offered: OfferedCase, keyword: str, text: str, state: CaseState
) -> None:
    seg = offered.candidate(3)
    setattr(seg, keyword, text)
    row = offered.send(seg, calling_ae="PACS")
    assert (row.outcome, row.calling_ae) == (SelectionOutcome.EFFECTIVE, "PACS")
    assert row.picked == (None if text == "REJECT" else 3)
    assert offered.case().state == state


def test_a_tagged_key_object_counts(offered: OfferedCase) -> None:
    document = key_object([offered.candidate(2)])
    document.SeriesDescription = "Pick"
    assert offered.send(document).picked == 2


def test_a_tagged_edit_starts_the_next_round(offered: OfferedCase) -> None:
    edited = deepcopy(offered.candidate(2))
    edited.SOPInstanceUID = edited.file_meta.MediaStorageSOPInstanceUID = new_uid()
    edited.SeriesInstanceUID, edited.SeriesDescription = new_uid(), "pick"
    row = offered.send(edited)
    assert (row.mechanism, row.picked) == ("edited-seg", 2)


def test_our_own_objects_sent_back_unchanged_start_nothing(offered: OfferedCase) -> None:
    offered.work(WorkKind.PAGES)
    for kind in (ResultKind.CANDIDATE, ResultKind.PAGE):
        for result in offered.results(kind):
            assert offered.send_file(offered.path(result)) is None
    assert offered.case().state == CaseState.AWAITING_SELECTION


def test_whatever_words_a_site_chooses_our_own_objects_start_nothing(tmp_path: Path) -> None:
    with offered_case(
        tmp_path, node={"tags": {"pick": "UAIR", "accept": "most", "reject": "R1C1"}}
    ) as offered:
        assert offered.send(offered.candidate(1)) is None
        with offered.context.database.transaction() as session:
            assert session.query(Instance).order_by(Instance.id.desc()).first().status == InstanceStatus.OWN
        changed = offered.candidate(1)
        changed.SeriesDescription = "UAIR"
        assert offered.send(changed).picked == 1


def test_without_a_tag_a_changed_object_is_still_our_own(offered: OfferedCase) -> None:
    seg = offered.candidate(1)
    seg.SeriesDescription = "copy of a candidate"
    assert offered.send(seg) is None


def test_a_tag_gives_a_sender_no_more_than_the_allow_rules(tmp_path: Path) -> None:
    rules = [
        {"verbs": ["store"], "calling_ae": ["ROUTER"]},
        {"verbs": ["store", "pick"], "calling_ae": ["PACS"]},
    ]
    with offered_case(tmp_path, node={"allow": rules}) as offered:
        seg = offered.candidate(1)
        seg.SeriesDescription = "PICK"
        row = offered.send(seg, calling_ae="ROUTER")
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "tag-not-allowed")
        assert row.case_id == offered.case().id
        assert offered.send(seg, calling_ae="PACS").outcome == SelectionOutcome.EFFECTIVE


def test_the_fixture_s_candidates_differ() -> None:
    assert len({candidate_labels(k).tobytes() for k in range(1, 5)}) == len(CHARACTERS)
