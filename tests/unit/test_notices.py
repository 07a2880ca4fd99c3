"""Notices to the reader in the study: each answer and refusal once, in one series, never a selection."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from sqlalchemy.orm import Session

from dicom_config.model import Verb
from tests.support.iods import iod_errors
from tests.support.offered import OfferedCase, offered_case
from tests.support.selections import instance_header, key_object
from uair_node.cases import lifecycle
from uair_node.cases.lifecycle import add_results
from uair_node.cases.states import CaseState
from uair_node.cases.tables import (
    MARKS,
    Case,
    Delivery,
    DeliveryState,
    ResultKind,
    Selection,
    SelectionOutcome,
    WorkItem,
    WorkKind,
)
from uair_node.dicom.readers import read_selection
from uair_node.rendering.notice_image import draw_notice
from uair_node.results.reader_words import answer_words, without_commands

_HOW = (
    "To answer, send a candidate to UAIR_PICK (four new ones), UAIR_ACCEPT (final) or "
    "UAIR_REJECT (none fits)."
)
PACS = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 1, "withdraw": True}


@pytest.fixture
def offered(tmp_path: Path) -> Iterator[OfferedCase]:
    with offered_case(tmp_path, destinations=[PACS]) as made:
        yield made


def _notices(offered: OfferedCase) -> list[Dataset]:
    offered.work(WorkKind.NOTICES)
    return [dcmread(offered.path(result)) for result in offered.results(ResultKind.NOTICE)]


def _texts(offered: OfferedCase) -> list[str]:
    return [str(notice.ImageComments) for notice in _notices(offered)]


def test_a_pick_is_told_when_it_came_and_when_its_round_is_ready(offered: OfferedCase) -> None:
    offered.send(offered.candidate(3), Verb.PICK)
    assert _texts(offered) == ["Round 1: your pick of candidate 3 received. Round 2 is computed next."]
    offered.compute()
    offered.work(WorkKind.PUBLISH)
    ready = f"Round 2 is ready. Four candidates: UAIR R2C1 to UAIR R2C4. {_HOW}"
    assert _texts(offered)[1:] == [ready]


def test_an_answer_by_a_clock_that_was_set_back_is_told(offered: OfferedCase) -> None:
    """A series may not begin after its objects (PS3.3 C.7.3.1): such an answer is dated as its case."""
    offered.send(offered.candidate(3), Verb.PICK)
    with offered.context.database.transaction() as session:
        case, selection = session.query(Case).one(), session.query(Selection).one()
        selection.received_at = case.created_at - timedelta(minutes=1)
        begun = case.created_at
    (notice,) = _notices(offered)
    assert notice.ContentTime == notice.SeriesTime == begun.strftime("%H%M%S")


def test_none_fits_is_told(offered: OfferedCase) -> None:
    offered.send(offered.candidate(1), Verb.REJECT)
    assert _texts(offered) == ['Round 1: your answer "none fits" received. Round 2 is computed next.']


def test_a_reader_without_pages_is_told_of_the_first_round(tmp_path: Path) -> None:
    with offered_case(tmp_path, destinations=[PACS], results={"pages": False}) as offered:
        assert _texts(offered) == [
            f"Round 1 is ready. Four candidates: UAIR R1C1 to UAIR R1C4. {_HOW}",
        ]


def test_a_reader_is_told_that_the_next_round_failed_and_no_command(offered: OfferedCase) -> None:
    offered.send(offered.candidate(3), Verb.PICK)
    _texts(offered)
    with offered.context.database.transaction() as session:
        case = session.query(Case).one()
        lifecycle.fail(
            session, case, code="work-failed", cause="No.", remedy=f"See `uair case show {case.id}`."
        )
    failed = "The computation failed. Ask your administrator, and name UAIR case 1. Your answer is kept."
    assert _texts(offered)[1:] == [f"Round 2 is not computed. {failed}"]
    offered.send(offered.candidate(2), Verb.PICK)
    assert _texts(offered)[2:] == [
        "Round 1: not used. This case failed; it accepts no further answer. "
        "Ask your administrator, and name UAIR case 1."
    ]


_ACCEPTED = "This case is accepted; it accepts no further answer."
_COMING = "The final segmentation of this case was still on its way to the archive when this answer came."


@pytest.mark.parametrize(
    ("state", "final"),
    [
        (None, _COMING),
        (DeliveryState.PENDING, _COMING),
        (DeliveryState.STORED, _COMING),
        (DeliveryState.CONFIRMED, "The final segmentation of this case is in the archive."),
        (DeliveryState.PARKED, "The archive refused the final segmentation of this case."),
    ],
)
def test_a_late_answer_is_told_where_the_final_segmentation_is(
    offered: OfferedCase, state: DeliveryState | None, final: str
) -> None:
    offered.send(offered.candidate(3), Verb.ACCEPT)
    if state is not None:
        offered.work(WorkKind.FINISH)
        with offered.context.database.transaction() as session:
            session.query(Delivery).update({"state": state})
    late = offered.send(offered.candidate(2), Verb.PICK)
    assert late is not None
    assert (
        f"{late.sentence} {late.remedy}"
        == f"{_ACCEPTED} {final} `uair case show 1` shows the history of the case."
    )
    assert _texts(offered)[-1].startswith(f"Round 1: not used. {_ACCEPTED} {final}")


def test_without_a_destination_no_late_answer_is_promised_an_archive(tmp_path: Path) -> None:
    with offered_case(tmp_path) as offered:
        offered.send(offered.candidate(3), Verb.ACCEPT)
        offered.work(WorkKind.FINISH)
        late = offered.send(offered.candidate(2), Verb.PICK)
        assert late is not None
        assert late.remedy.startswith(
            "The node keeps the final segmentation of this case, because no destination is configured."
        )


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"picked": 2}, "your pick of candidate 2"),
        ({"picked": 2, "per_target": {"2": 1}}, "your pick of candidate 2, lesion 1 of candidate 1"),
        ({"picked": None}, 'your answer "none fits"'),
        ({"picked": 2, "artifact": "e.npz"}, "your edit of candidate 2"),
        (
            {"picked": 2, "artifact": "e.npz", "marks": {"picked": False}},
            "your edit of candidate 2, with marks",
        ),
        ({"picked": 1, "marks": {"picked": False}, "mechanism": MARKS}, "your marks"),
        ({"picked": 1, "marks": {"picked": False}}, "your changes to the findings"),
        ({"picked": 1, "marks": {"picked": True}}, "your pick of candidate 1, changed findings"),
    ],
)
def test_an_answer_is_named_as_its_readers_own(said: dict[str, Any], words: str) -> None:
    row = Selection(
        **{"verb": "pick", "mechanism": "", "artifact": "", "marks": None, "per_target": {}, **said}
    )
    assert answer_words(row) == words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It is too late. Wait for the next four.", "It is too late. Wait for the next four."),
        (
            "It is over. `uair case show 7` shows it.",
            "It is over. Ask your administrator, and name UAIR case 7.",
        ),
        ("See `uair case show 7`. Run `uair case retry 7`.", "Ask your administrator, and name UAIR case 7."),
        ("", ""),
    ],
)
def test_sentences_that_name_a_command_are_not_for_readers(text: str, shown: str) -> None:
    assert without_commands(text, 7) == shown


def test_a_derivation_names_the_round_once(offered: OfferedCase) -> None:
    offered.send(offered.candidate(3), Verb.PICK)
    (notice,) = _notices(offered)
    assert notice.DerivationDescription.startswith("UAIR round 1, notice; model ")


def test_a_refusal_is_told_with_its_reason_and_its_mend_once(offered: OfferedCase) -> None:
    two = key_object([offered.candidate(1), offered.candidate(2)])
    for _ in range(2):
        offered.send(two, Verb.PICK)
    (text,) = _texts(offered)
    row = offered.selections()[0]
    assert text == f"Round 1: not used. {row.sentence} {row.remedy}"
    offered.send(two, Verb.ACCEPT)
    assert len(_texts(offered)) == 2, "another verb is another thing to say"


def test_they_are_one_series_that_is_due_at_every_destination(offered: OfferedCase) -> None:
    offered.send(key_object([offered.candidate(1), offered.candidate(2)]), Verb.PICK)
    offered.send(offered.candidate(3), Verb.PICK)
    notices = _notices(offered)
    assert [notice.InstanceNumber for notice in notices] == [1, 2]
    assert len({notice.SeriesInstanceUID for notice in notices}) == 1
    assert {(notice.SeriesNumber, notice.SeriesDescription[:12]) for notice in notices} == {
        (9000, "UAIR NOTICES")
    }
    assert (
        notices[1].ReferencedImageSequence[0].ReferencedSOPInstanceUID == offered.candidate(3).SOPInstanceUID
    )
    with offered.context.database.transaction() as session:
        due = session.query(Delivery).join(Delivery.result).all()
        told = [
            delivery.result.sop_instance_uid for delivery in due if delivery.result.kind == ResultKind.NOTICE
        ]
    assert told == [notice.SOPInstanceUID for notice in notices]


def test_a_second_run_writes_the_same_bytes(offered: OfferedCase) -> None:
    offered.send(offered.candidate(3), Verb.PICK)
    offered.work(WorkKind.NOTICES)
    (result,) = offered.results(ResultKind.NOTICE)
    first = offered.path(result).read_bytes()
    offered.path(result).unlink()
    with offered.context.database.transaction() as session:
        session.query(Delivery).filter_by(result_id=result.id).delete()
        session.delete(session.get(type(result), result.id))
        session.query(WorkItem).filter_by(kind=WorkKind.NOTICES).one().open = True
    offered.work(WorkKind.NOTICES)
    assert offered.path(offered.results(ResultKind.NOTICE)[0]).read_bytes() == first


def test_a_notice_sent_back_is_no_selection_and_gets_no_notice(offered: OfferedCase) -> None:
    offered.send(key_object([offered.candidate(1), offered.candidate(2)]), Verb.PICK)
    (notice,) = _notices(offered)
    assert offered.send(notice).code == "ambiguous-selection", "on the store AE nothing is recorded"
    assert len(offered.selections()) == 1
    for verb in (Verb.PICK, Verb.ACCEPT, Verb.REJECT):
        row = offered.send(notice, verb)
        assert (row.outcome, row.code) == (SelectionOutcome.REFUSED, "own-object")
    assert len(_notices(offered)) == 1
    assert offered.case().state == CaseState.AWAITING_SELECTION


def test_they_are_withdrawn_with_the_candidates_and_acceptance_needs_none(offered: OfferedCase) -> None:
    offered.send(key_object([offered.candidate(1), offered.candidate(2)]), Verb.PICK)
    told = {notice.SOPInstanceUID for notice in _notices(offered)}
    offered.send(offered.candidate(3), Verb.ACCEPT)
    offered.work(WorkKind.FINISH)
    assert {notice.SOPInstanceUID for notice in _notices(offered)} == told
    (note,) = offered.results(ResultKind.WITHDRAWAL)
    named = set(read_selection(dcmread(offered.path(note))).references)
    assert told < named
    offered.send(key_object([offered.candidate(4)]), Verb.PICK)
    assert "This case is accepted" in _texts(offered)[-1]


def test_a_selection_that_came_while_notices_were_drawn_is_told_next(
    offered: OfferedCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = Selection(
        case_id=offered.case().id,
        round_number=1,
        verb="pick",
        mechanism="seg",
        evidence_uid="2.25.9",
        outcome=SelectionOutcome.REFUSED,
        code="unknown-reference",
        sentence="It names none.",
    )

    def record_another_first(session: Session, *arguments: object) -> None:
        session.add(another)
        add_results(session, *arguments)

    offered.send(key_object([offered.candidate(1), offered.candidate(2)]), Verb.PICK)
    with monkeypatch.context() as patch:
        patch.setattr("uair_node.cases.lifecycle.add_results", record_another_first)
        offered.work(WorkKind.NOTICES)
    with offered.context.database.transaction() as session:
        assert session.query(WorkItem).filter_by(kind=WorkKind.NOTICES).one().open
    assert len(_texts(offered)) == 2


def test_a_site_may_do_without(tmp_path: Path) -> None:
    with offered_case(tmp_path, results={"notices": False}) as offered:
        offered.send(offered.candidate(3), Verb.PICK)
        assert _notices(offered) == []
        with offered.context.database.transaction() as session:
            assert not session.query(WorkItem).filter_by(kind=WorkKind.NOTICES).one().open


def test_a_refusal_of_no_known_case_is_recorded_only(offered: OfferedCase) -> None:
    row = offered.send(key_object([instance_header()]), Verb.PICK)
    assert (row.code, row.case_id) == ("unknown-reference", None)
    with offered.context.database.transaction() as session:
        assert session.query(WorkItem).filter_by(kind=WorkKind.NOTICES).count() == 0


def test_the_picture_grows_with_its_text_and_is_legible() -> None:
    short = draw_notice("Round 1: candidate 3 received", "Round 2 is on its way.")
    heading = "Round 1: candidate 3, lesion 2 of candidate 1, lesion 3 of candidate 4 received"
    long = draw_notice(heading, "A reason that takes more than one line of the picture. " * 8)
    assert short.shape[1] == long.shape[1] == 900
    assert long.shape[0] > short.shape[0] + 100
    for picture in (short, long):
        assert np.ptp(picture.mean(axis=2)) > 200
        margins = np.concatenate([picture[:, :20].ravel(), picture[:, -20:].ravel(), picture[-20:].ravel()])
        assert not margins.any(), "nothing runs over the edge"


@pytest.mark.integration
def test_dciodvfy_finds_no_error(offered: OfferedCase) -> None:
    offered.send(key_object([offered.candidate(1), offered.candidate(2)]), Verb.PICK)
    offered.send(offered.candidate(3), Verb.PICK)
    offered.work(WorkKind.NOTICES)
    for result in offered.results(ResultKind.NOTICE):
        assert iod_errors(offered.path(result), "SCImage") == []
