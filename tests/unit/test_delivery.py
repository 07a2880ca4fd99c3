"""Delivery: each result reaches each destination or says why not, whatever the peer answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_config.errors import TransientError
from dicom_config.model import Destination
from tests.support.cases import publish_round, ready_case
from tests.support.intake import context_in
from tests.support.ports import free_port
from tests.support.scripted import ABORT, scripted_peer
from tests.support.selections import instance_header
from uair_node.cases.performer import perform
from uair_node.cases.tables import Delivery, DeliveryState, WorkItem, WorkKind, utc_now
from uair_node.context import Context
from uair_node.delivery.outbox import deliver
from uair_node.delivery.scu import echo
from uair_node.delivery.statuses import Verdict, judge


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0x0000, Verdict.CONFIRMED),
        (0xB000, Verdict.CONFIRMED),
        (0xB007, Verdict.CONFIRMED),
        (0x0111, Verdict.CONFIRMED),
        (0xA700, Verdict.RETRY),
        (0xA7FF, Verdict.RETRY),
        (0x0110, Verdict.RETRY),
        (0xFFFF, Verdict.RETRY),
        (0xA900, Verdict.PARK),
        (0xC000, Verdict.PARK),
        (0xC1FF, Verdict.PARK),
        (0x0122, Verdict.PARK),
        (0x0124, Verdict.PARK),
    ],
)
def test_statuses_are_judged_by_class(status: int, verdict: Verdict) -> None:
    found, reason = judge(status)
    assert found == verdict
    assert f"{status:04X}" in reason


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Context]:
    """Four results on disk that are due at the destination ``pacs``."""
    with context_in(tmp_path, f"sqlite:///{tmp_path / 'uair.sqlite'}") as context:
        with context.database.transaction() as session:
            case = ready_case(session)
            publish_round(session, case, destinations=["pacs"])
            for row in session.query(Delivery):
                path = context.store.absolute(row.result.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                seg = instance_header(sop_instance_uid=row.result.sop_instance_uid)
                seg.file_meta = FileMetaDataset()
                seg.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
                seg.save_as(path, enforce_file_format=True)
        yield context


def _deliver(context: Context, destination: Destination | None) -> None:
    destinations = (destination,) if destination else ()
    settings = context.settings.model_copy(update={"destinations": destinations})
    known = Context(settings, context.database, context.store)
    with context.database.transaction() as session:
        item = session.query(WorkItem).filter_by(kind=WorkKind.DELIVER).one()
        item.not_before = utc_now()
        item_id = item.id
    assert perform(known, item_id, lambda claim: deliver(known, claim))


def _states(context: Context) -> list[DeliveryState]:
    with context.database.transaction() as session:
        return [row.state for row in session.query(Delivery).order_by(Delivery.id)]


def _reasons(context: Context) -> str:
    with context.database.transaction() as session:
        return " | ".join(row.reason for row in session.query(Delivery).order_by(Delivery.id))


def _item(context: Context) -> WorkItem:
    with context.database.transaction() as session:
        return session.query(WorkItem).filter_by(kind=WorkKind.DELIVER).one()


def test_a_batch_takes_one_association_and_closes(outbox: Context) -> None:
    with scripted_peer([0x0000]) as peer:
        _deliver(outbox, peer.destination())
        assert peer.associations == 1
        assert len(set(peer.received)) == 4
    assert _states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert not _item(outbox).open


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
    with scripted_peer(answers) as peer:
        _deliver(outbox, peer.destination())
    assert " ".join(_states(outbox)) == expected
    item = _item(outbox)
    assert item.open == ("pending" in expected)
    if item.open:
        assert item.not_before > utc_now(), "tried again after a delay, not at once"


def test_only_what_is_missing_is_sent_again(outbox: Context) -> None:
    with scripted_peer([0x0000, ABORT, 0x0000]) as peer:
        _deliver(outbox, peer.destination())
        first = list(peer.received)
        _deliver(outbox, peer.destination())
        assert peer.received[len(first) :] == sorted(set(peer.received) - {first[0]})
    assert _states(outbox) == [DeliveryState.CONFIRMED] * 4


def test_an_absent_peer_delays_and_says_so(outbox: Context) -> None:
    nobody = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=2)
    _deliver(outbox, nobody)
    assert _states(outbox) == [DeliveryState.PENDING] * 4
    assert "does not answer" in _reasons(outbox)
    assert _item(outbox).open


def test_a_peer_without_seg_parks_with_the_reason(outbox: Context) -> None:
    with scripted_peer([0x0000], sop_classes=["1.2.840.10008.5.1.4.1.1.2"]) as peer:
        _deliver(outbox, peer.destination())
    assert _states(outbox) == [DeliveryState.PARKED] * 4
    assert "presentation context" in _reasons(outbox)


def test_results_for_a_destination_that_was_removed_are_parked(outbox: Context) -> None:
    _deliver(outbox, None)
    assert _states(outbox) == [DeliveryState.PARKED] * 4
    assert "no destination pacs" in _reasons(outbox)


def test_after_too_many_attempts_a_delivery_is_parked(outbox: Context) -> None:
    settings = outbox.settings.model_copy(
        update={"delivery": outbox.settings.delivery.model_copy(update={"max_attempts": 2})}
    )
    patient = Context(settings, outbox.database, outbox.store)
    with scripted_peer([0xA700]) as peer:
        _deliver(patient, peer.destination())
        assert _states(outbox) == [DeliveryState.PENDING] * 4
        _deliver(patient, peer.destination())
    assert _states(outbox) == [DeliveryState.PARKED] * 4
    assert "out of resources" in _reasons(outbox)


def test_echo_tells_a_rejecting_peer_from_an_absent_one() -> None:
    with scripted_peer([0x0000]) as peer:
        echo(peer.destination())
    nobody = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port(), timeout_s=2)
    with pytest.raises(TransientError) as caught:
        echo(nobody)
    assert caught.value.code == "peer-unreachable"
