"""Delivery: each result reaches each destination or says why not, whatever the peer answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom import evt
from pynetdicom.events import Event

from dicom_config.errors import InputError, TransientError
from dicom_config.model import Destination
from tests.support.cases import expire_lease
from tests.support.outbox import outbox_in, reasons, run_delivery, states, work_item
from tests.support.ports import free_port
from tests.support.scripted import ABORT, HANG, answering, scripted_peer, stalling
from uair_node.cases.tables import Case, Delivery, DeliveryState, Result, WorkItem, WorkKind, utc_now
from uair_node.context import Context
from uair_node.delivery import outbox as outbox_module
from uair_node.delivery.resend import resend
from uair_node.network.scu import associate, echo
from uair_node.network.statuses import DeliveryVerdict, judge, judge_commitment


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, DeliveryVerdict.CONFIRMED),
        (0xB000, DeliveryVerdict.CONFIRMED),
        (0xB007, DeliveryVerdict.CONFIRMED),
        (0x0111, DeliveryVerdict.DUPLICATE),
        (0xA700, DeliveryVerdict.RETRY),
        (0xA7FF, DeliveryVerdict.RETRY),
        (0x0110, DeliveryVerdict.RETRY),
        (0xFFFF, DeliveryVerdict.RETRY),
        (0xA900, DeliveryVerdict.PARK),
        (0xC000, DeliveryVerdict.PARK),
        (0xC1FF, DeliveryVerdict.PARK),
        (0x0122, DeliveryVerdict.PARK),
        (0x0124, DeliveryVerdict.PARK),
    ],
)
def test_statuses_are_judged_by_class(status: int, verdict: DeliveryVerdict) -> None:
    found, reason = judge(status)
    assert found == verdict
    assert f"{status:04X}" in reason


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Context]:
    with outbox_in(tmp_path) as context:
        yield context


def test_a_batch_takes_one_association_and_closes(outbox: Context) -> None:
    with scripted_peer([0x0000]) as peer:
        run_delivery(outbox, peer.destination())
        assert peer.associations == 1
        assert len(set(peer.received)) == 4
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert not work_item(outbox).open


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([0xA700, 0x0000], "pending confirmed confirmed confirmed"),
        ([0x0000, 0xC000, 0x0000], "confirmed parked confirmed confirmed"),
        ([0xB000, 0xA900, 0x0122, 0x0000], "confirmed parked parked confirmed"),
        ([0x0000, ABORT], "confirmed pending pending pending"),
    ],
)
def test_each_instance_gets_what_the_peer_said_of_it(
    outbox: Context, answers: Sequence[int], expected: str
) -> None:
    began = utc_now()
    with scripted_peer(answers) as peer:
        run_delivery(outbox, peer.destination())
    assert " ".join(states(outbox)) == expected
    item = work_item(outbox)
    assert item.open == ("pending" in expected)
    if item.open:
        assert item.not_before > began + timedelta(seconds=1), "tried again after a delay, not at once"


def test_only_what_is_missing_is_sent_again(outbox: Context) -> None:
    with scripted_peer([0x0000, ABORT, 0x0000]) as peer:
        run_delivery(outbox, peer.destination())
        first = list(peer.received)
        run_delivery(outbox, peer.destination())
        assert peer.received[len(first) :] == sorted(set(peer.received) - {first[0]})
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4


def test_an_absent_peer_delays_and_says_so(outbox: Context) -> None:
    nobody = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=2)
    run_delivery(outbox, nobody)
    assert states(outbox) == [DeliveryState.PENDING] * 4
    assert "does not answer" in reasons(outbox)
    assert work_item(outbox).open


def test_a_peer_without_seg_parks_with_the_reason(outbox: Context) -> None:
    with scripted_peer([0x0000], sop_classes=["1.2.840.10008.5.1.4.1.1.2"]) as peer:
        run_delivery(outbox, peer.destination())
    assert states(outbox) == [DeliveryState.PARKED] * 4
    assert "presentation context" in reasons(outbox)


def test_results_for_a_destination_that_was_removed_are_parked(outbox: Context) -> None:
    run_delivery(outbox)
    assert states(outbox) == [DeliveryState.PARKED] * 4
    assert "no destination pacs" in reasons(outbox)


def test_after_too_many_attempts_a_delivery_is_parked(outbox: Context) -> None:
    settings = outbox.settings.model_copy(
        update={"delivery": outbox.settings.delivery.model_copy(update={"max_attempts": 2})}
    )
    patient = Context(settings, outbox.database, outbox.store)
    with scripted_peer([0xA700]) as peer:
        run_delivery(patient, peer.destination())
        assert states(outbox) == [DeliveryState.PENDING] * 4
        run_delivery(patient, peer.destination())
    assert states(outbox) == [DeliveryState.PARKED] * 4
    assert "out of resources" in reasons(outbox)


@pytest.mark.parametrize("late_s", [0.0, 0.3])
@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ("03 00 00000004 00 01 01 07", "peer-rejects", "called ae title not recognised"),
        ("03 00 00000004 00 02 03 02", "peer-rejects", "local limit exceeded"),
        ("07 00 00000004 00 00 02 00", "peer-aborted", "broke the association off"),
        ("", "peer-unreachable", "does not answer"),
    ],
)
def test_a_refusal_is_told_from_an_absence(answer: str, code: str, words: str, late_s: float) -> None:
    """However late our own thread looks (PS3.8 9.3.4 and 9.3.8 give the PDUs)."""

    def look_late(_event: Event) -> None:
        time.sleep(late_s)

    with answering(bytes.fromhex(answer)) as port:
        peer = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port, timeout_s=2)
        with pytest.raises(TransientError) as caught:
            associate(peer, (), [(evt.EVT_REQUESTED, look_late)])
    assert caught.value.code == code
    assert words in caught.value.sentence


def test_echo_tells_a_peer_from_nobody() -> None:
    with scripted_peer([0x0000]) as peer:
        echo(peer.destination())
    nobody = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=2)
    with pytest.raises(TransientError) as caught:
        echo(nobody)
    assert caught.value.code == "peer-unreachable"


def test_a_peer_that_hangs_at_an_instance_costs_one_time_out(outbox: Context) -> None:
    with scripted_peer([0x0000, HANG]) as peer:
        run_delivery(outbox, peer.destination(timeout_s=3.0))
        assert (peer.associations, len(peer.received)) == (1, 2), "no more is sent after the time-out"
    assert " ".join(states(outbox)) == "confirmed pending pending pending"
    assert "did not answer in time" in reasons(outbox)


@pytest.mark.parametrize("after_bytes", [3, 100, 260])
def test_a_peer_that_stops_within_a_pdu_costs_one_time_out(outbox: Context, after_bytes: int) -> None:
    """Bytes 3 and 100 are within the A-ASSOCIATE-AC, 260 is within the answer to the first C-STORE."""
    with scripted_peer([0x0000]) as peer, stalling(peer.port, after_bytes) as stalled:
        destination = peer.destination(timeout_s=3.0).model_copy(update={"port": stalled.port})
        run_delivery(outbox, destination)
        assert stalled.connections == 1
        assert bool(peer.received) == (after_bytes == 260)
    assert states(outbox) == [DeliveryState.PENDING] * 4
    assert work_item(outbox).open


def test_a_peer_that_is_away_for_days_parks_nothing(outbox: Context) -> None:
    """Only a peer's own refusals are counted: whoever is away is tried again for as long as it takes."""
    delivery = outbox.settings.delivery.model_copy(update={"max_attempts": 2})
    settings = outbox.settings.model_copy(update={"delivery": delivery})
    patient = Context(settings, outbox.database, outbox.store)
    nobody = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=2)
    for _ in range(4):
        run_delivery(patient, nobody)
    assert states(outbox) == [DeliveryState.PENDING] * 4
    delay = (work_item(outbox).not_before - utc_now()).total_seconds()
    assert 10 < delay <= 16, "2, 4, 8, 16 seconds"
    with scripted_peer([0x0000]) as peer:
        run_delivery(patient, peer.destination())
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4


def test_one_destination_that_is_away_leaves_the_other_alone(tmp_path: Path) -> None:
    away = Destination(name="away", ae_title="AWAY", host="127.0.0.1", port=free_port(), timeout_s=2)
    with outbox_in(tmp_path, ["pacs", "away"]) as context, scripted_peer([0x0000]) as peer:
        both = (away, peer.destination())
        run_delivery(context, *both, name="away")
        run_delivery(context, *both, name="pacs")
        assert states(context, "pacs") == [DeliveryState.CONFIRMED] * 4
        assert states(context, "away") == [DeliveryState.PENDING] * 4
        assert not work_item(context, name="pacs").open


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        (0x0110, DeliveryVerdict.RETRY),
        (0x0112, DeliveryVerdict.RETRY),
        (0x0213, DeliveryVerdict.RETRY),
        (0x0131, DeliveryVerdict.RETRY),
        (0x0119, DeliveryVerdict.PARK),
        (0x0122, DeliveryVerdict.PARK),
        (0x4711, DeliveryVerdict.RETRY),
    ],
)
def test_failed_commitments_are_judged_by_reason(reason: int, verdict: DeliveryVerdict) -> None:
    found, words = judge_commitment(reason)
    assert found == verdict
    assert f"{reason:04X}" in words


@pytest.fixture
def each_outbox(tmp_path: Path, database_url: str) -> Iterator[Context]:
    with outbox_in(tmp_path, database_url=database_url) as context:
        yield context


@pytest.mark.parametrize("harm", ["missing", "deleted", "truncated", "garbage", "empty", "folder"])
def test_a_result_without_a_readable_file_is_parked_by_itself_and_the_rest_goes(
    each_outbox: Context, harm: str
) -> None:
    with each_outbox.database.transaction() as session:
        row = session.query(Result).order_by(Result.id).first()
        assert row is not None
        _harm(each_outbox.store.absolute(row.path), harm)
        if harm == "deleted":
            row.path = ""
    with scripted_peer([0x0000]) as peer:
        run_delivery(each_outbox, peer.destination())
    assert " ".join(states(each_outbox)) == "parked confirmed confirmed confirmed"
    code = "result-deleted" if harm == "deleted" else "result-unreadable"
    assert reasons(each_outbox).startswith(f"{code}: ")
    assert not work_item(each_outbox).open


def _harm(path: Path, harm: str) -> None:
    whole = path.read_bytes()
    path.unlink()
    if harm == "truncated":
        path.write_bytes(whole[:-3])
    elif harm == "garbage":
        path.write_bytes(b"no DICOM" * 100)
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "folder":
        path.mkdir()


def test_a_data_folder_that_is_not_mounted_parks_nothing(outbox: Context) -> None:
    artifacts = outbox.store.root / "artifacts"
    artifacts.rename(outbox.store.root / "elsewhere")
    with scripted_peer([0x0000]) as peer:
        run_delivery(outbox, peer.destination())
        assert states(outbox) == [DeliveryState.PENDING] * 4
        assert "holds no artifacts" in work_item(outbox).cause
        (outbox.store.root / "elsewhere").rename(artifacts)
        run_delivery(outbox, peer.destination())
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4


def test_sending_again_refuses_what_retention_has_deleted(each_outbox: Context) -> None:
    with scripted_peer([0x0000]) as peer:
        run_delivery(each_outbox, peer.destination())
    with each_outbox.database.transaction() as session:
        case = session.query(Case).one()
        results = session.query(Result).order_by(Result.id).all()
        results[0].path = ""
        assert resend(session, case, "pacs", everything=True) == 3
    assert " ".join(states(each_outbox)) == "confirmed pending pending pending"
    with each_outbox.database.transaction() as session:
        for result in session.query(Result):
            result.path = ""
        with pytest.raises(InputError) as refused:
            resend(session, session.query(Case).one(), "pacs", everything=True)
    assert refused.value.code == "result-deleted"


@pytest.mark.parametrize("answers", [[0x0111], [0x0000, 0x0111]])
def test_a_duplicate_of_what_was_never_sent_is_parked_until_it_is_deleted_there(
    each_outbox: Context, answers: Sequence[int]
) -> None:
    stored = answers.count(0x0000)
    expected = [DeliveryState.CONFIRMED] * stored + [DeliveryState.PARKED] * (4 - stored)
    with scripted_peer(answers) as peer:
        run_delivery(each_outbox, peer.destination())
        assert states(each_outbox) == expected
        assert "duplicate-uid: " in reasons(each_outbox)
        assert not work_item(each_outbox).open
        for everything in (False, True):
            _resend(each_outbox, everything=everything)
            run_delivery(each_outbox, peer.destination())
            assert states(each_outbox) == expected, "sending again alone is no proof"
    _resend(each_outbox, everything=False)
    with scripted_peer([0x0000]) as peer:
        run_delivery(each_outbox, peer.destination())
    assert states(each_outbox) == [DeliveryState.CONFIRMED] * 4


def _resend(context: Context, *, everything: bool) -> None:
    with context.database.transaction() as session:
        resend(session, session.query(Case).one(), "pacs", everything=everything)


def test_a_duplicate_confirms_what_was_sent_before_a_crash(
    each_outbox: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first object reached the peer, and the worker died before it wrote the answer."""

    def die(*_: object) -> None:
        raise SystemExit

    with scripted_peer([0x0000, 0x0111, 0x0000]) as peer:
        with monkeypatch.context() as dying:
            dying.setattr(outbox_module, "_record", die)
            with pytest.raises(SystemExit):
                run_delivery(each_outbox, peer.destination())
        assert states(each_outbox) == [DeliveryState.PENDING] * 4
        with each_outbox.database.transaction() as session:
            sent = [row.sent_at is not None for row in session.query(Delivery).order_by(Delivery.id)]
            expire_lease(session.query(WorkItem).filter_by(kind=WorkKind.DELIVER).one())
        assert sent == [True, False, False, False]
        run_delivery(each_outbox, peer.destination())
    assert states(each_outbox) == [DeliveryState.CONFIRMED] * 4


def test_a_duplicate_confirms_what_was_sent_and_not_answered(each_outbox: Context) -> None:
    with scripted_peer([ABORT, 0x0111, 0x0000]) as peer:
        run_delivery(each_outbox, peer.destination())
        run_delivery(each_outbox, peer.destination())
    assert states(each_outbox) == [DeliveryState.CONFIRMED] * 4
