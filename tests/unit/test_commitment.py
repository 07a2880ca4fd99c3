"""Storage commitment: what a peer stored counts only once it has promised to keep it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from dicom_config.errors import ConfigError
from dicom_config.model import Destination, NodeSection, load_settings
from tests.support.outbox import (
    outbox_in,
    reasons,
    run_commitment,
    run_delivery,
    states,
    with_destinations,
    work_item,
)
from tests.support.ports import wait_until
from tests.support.scripted import ScriptedPeer, scripted_peer
from uair_node.cases.tables import Delivery, DeliveryState, WorkKind, utc_now
from uair_node.context import Context
from uair_node.delivery.commitment import take_report
from uair_node.network.scp import DicomListener


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Context]:
    with outbox_in(tmp_path) as context:
        yield context


@contextmanager
def listening(context: Context, destination: Destination) -> Iterator[int]:
    known = with_destinations(context, destination)
    listener = DicomListener(NodeSection(port=0), lambda _: None, partial(take_report, known))
    listener.start()
    try:
        yield listener.port
    finally:
        listener.stop()


def committing(peer: ScriptedPeer, timeout_s: float = 60.0) -> Destination:
    return peer.destination(commitment_timeout_s=timeout_s)


def said(context: Context) -> str:
    return " ".join(states(context))


def uids(context: Context) -> list[str]:
    with context.database.transaction() as session:
        return [row.result.sop_instance_uid for row in session.query(Delivery).order_by(Delivery.id)]


def test_what_is_stored_counts_only_once_it_is_committed(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        assert states(outbox) == [DeliveryState.STORED] * 4
        assert not work_item(outbox).open
        run_commitment(outbox, destination)
        assert states(outbox) == [DeliveryState.STORED] * 4
        (request,) = peer.requests
        asked = [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
        assert asked == uids(outbox)
        with listening(outbox, destination) as port:
            assert peer.report(request, {}, port) == 0x0000
        assert states(outbox) == [DeliveryState.CONFIRMED] * 4
        run_commitment(outbox, destination)
        assert len(peer.requests) == 1
    assert not work_item(outbox, WorkKind.COMMIT).open


def test_a_report_may_come_over_the_association_of_the_request(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        peer.report_at_once = {}
        destination = committing(peer)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        wait_until(lambda: peer.report_statuses == [0x0000], "our answer to the report")
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert not work_item(outbox, WorkKind.COMMIT).open


def test_what_failed_is_sent_again_or_parked(outbox: Context) -> None:
    lost, refused = uids(outbox)[1:3]
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        with listening(outbox, destination) as port:
            peer.report(peer.requests[0], {lost: 0x0112, refused: 0x0122}, port)
            assert said(outbox) == "confirmed pending parked confirmed"
            assert "does not commit to this SOP class" in reasons(outbox)
            run_delivery(outbox, destination)
            assert peer.received[4:] == [lost]
            run_commitment(outbox, destination)
            assert peer.requests[1].TransactionUID != peer.requests[0].TransactionUID
            peer.report(peer.requests[1], {}, port)
    assert said(outbox) == "confirmed confirmed parked confirmed"


def test_without_a_report_in_time_everything_is_sent_again(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer, timeout_s=0.05)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        run_commitment(outbox, destination)
        assert states(outbox) == [DeliveryState.PENDING] * 4
        assert "not committed within" in reasons(outbox)
        run_delivery(outbox, destination)
        assert len(peer.received) == 8
        assert states(outbox) == [DeliveryState.STORED] * 4


def test_a_late_report_still_counts(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer, timeout_s=0.05)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        run_commitment(outbox, destination)
        with listening(outbox, destination) as port:
            peer.report(peer.requests[0], {}, port)
        assert states(outbox) == [DeliveryState.CONFIRMED] * 4
        run_delivery(outbox, destination)
        assert len(peer.received) == 4, "nothing is sent again"


def test_a_refused_request_is_made_again_later(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0110, 0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        assert "refuses our request" in reasons(outbox)
        item = work_item(outbox, WorkKind.COMMIT)
        assert item.open
        assert item.not_before > utc_now()
        run_commitment(outbox, destination)
        assert len(peer.requests) == 2
        assert states(outbox) == [DeliveryState.STORED] * 4


def test_a_peer_without_storage_commitment_is_taken_at_its_word(outbox: Context) -> None:
    with scripted_peer([0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
    assert states(outbox) == [DeliveryState.CONFIRMED] * 4
    assert "offers no storage commitment" in reasons(outbox)


def test_later_results_need_not_wait_for_earlier_commitments(outbox: Context) -> None:
    with scripted_peer([0x0000, 0xA700, 0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        assert said(outbox) == "stored pending stored stored"
        run_commitment(outbox, destination)
        assert work_item(outbox, WorkKind.COMMIT).not_before > utc_now()
        run_delivery(outbox, destination)
        assert work_item(outbox, WorkKind.COMMIT).not_before <= utc_now()
        run_commitment(outbox, destination)
        assert [len(request.ReferencedSOPSequence) for request in peer.requests] == [3, 1]


def test_only_the_destination_itself_can_report(outbox: Context) -> None:
    with scripted_peer([0x0000], commitments=[0x0000]) as peer:
        destination = committing(peer)
        run_delivery(outbox, destination)
        run_commitment(outbox, destination)
        other = destination.model_copy(update={"ae_title": "OTHER"})
        with listening(outbox, other) as port:
            peer.report(peer.requests[0], {}, port)
        assert states(outbox) == [DeliveryState.STORED] * 4


def test_reports_must_be_able_to_come_back(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    written = "{name: pacs, ae_title: PACS, host: h, port: 104, calling_ae: SENDER, commitment_timeout_s: 60}"
    site.write_text(f"destinations:\n  - {written}\n", "utf-8")
    with pytest.raises(ConfigError, match="must be one of"):
        load_settings(site)
