"""The listener's refusals are counted for the console, and no count is lost while the database is away."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import DBAPIError

from dicom_config.errors import TransientError
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import ListenerRefusal, RefusedPeer
from uair_node.cases.tables import utc_now
from uair_node.network.listener_metrics import ListenerMetrics, Refusal, RefusalReason
from uair_node.network.scp import Rejection
from uair_node.operations.checks.refused import check_refused_peers
from uair_node.operations.monitoring.refusals import keep_refusals
from uair_node.operations.refused_peers import EXPLANATIONS, newest_refused

TLS = Refusal.of(RefusalReason.TLS_FAILED, "127.0.0.3", why="a plain sender")


def _refusal(calling_ae: str, address: str = "127.0.0.1") -> Refusal:
    return Refusal.of(RefusalReason.CALLED_AE_NOT_RECOGNISED, address, calling_ae, "UAIRR")


def _counts(database: Database) -> dict[str, int]:
    with database.transaction() as session:
        return {row.outcome: row.count for row in session.query(ListenerRefusal)}


def test_refusals_add_up_over_starts(database: Database) -> None:
    router, scanner = _refusal("ROUTER"), _refusal("CT1", "127.0.0.2")
    for refusals in ([router, scanner, TLS, router], [router], []):
        metrics = ListenerMetrics()  # of one start
        metrics.accepted()
        for refusal in refusals:
            metrics.refused(refusal)
        keep_refusals(database, metrics)
        keep_refusals(database, metrics)
    assert _counts(database) == {"called_ae_not_recognised": 4, "tls_failed": 1}
    with database.reading() as session:
        peers = {(row.calling_ae, row.count) for row in newest_refused(session, limit=9)}
    assert peers == {("ROUTER", 3), ("CT1", 1), ("", 1)}


def test_the_check_names_who_was_refused_and_why(database: Database) -> None:
    assert [finding.level for finding in check_refused_peers(database)] == ["ok"]
    metrics = ListenerMetrics()
    metrics.refused(_refusal("ROUTER"))
    keep_refusals(database, metrics)
    metrics.refused(TLS)
    keep_refusals(database, metrics)
    assert [(finding.code, finding.sentence) for finding in check_refused_peers(database)] == [
        (
            "peer-refused",
            "a sender at 127.0.0.3 was refused once, just now. TLS fails: a plain sender",
        ),
        (
            "peer-refused",
            "ROUTER at 127.0.0.1, which calls UAIRR, was refused once, just now. "
            "The peer calls an AE title that is not ours",
        ),
    ]
    with database.transaction() as session:
        session.query(RefusedPeer).update({"last_at": utc_now() - timedelta(hours=25)})
    assert [finding.level for finding in check_refused_peers(database)] == ["ok"]


def test_a_scanner_fills_neither_memory_nor_table(database: Database) -> None:
    for turn in range(4):
        metrics = ListenerMetrics()
        for n in range(150):
            metrics.refused(_refusal(f"S{turn}-{n}"))
        assert len(metrics.take_refusals()) == 101
        for n in range(150):
            metrics.refused(_refusal(f"S{turn}-{n}"))
        keep_refusals(database, metrics)
    assert _counts(database) == {"called_ae_not_recognised": 600}
    with database.reading() as session:
        assert session.query(RefusedPeer).count() == 200


def test_a_hostile_title_is_printable(database: Database) -> None:
    metrics = ListenerMetrics()
    metrics.refused(_refusal("A\0B\n" + "C" * 40))
    keep_refusals(database, metrics)
    with database.reading() as session:
        assert session.query(RefusedPeer).one().calling_ae == "A?B?CCCCCCCCCCCC"


def test_counts_wait_for_a_database_that_is_away(empty_database_url: str) -> None:
    database, metrics = Database(empty_database_url), ListenerMetrics()
    metrics.refused(TLS)
    with pytest.raises((TransientError, DBAPIError)):  # no tables yet
        keep_refusals(database, metrics)
    database.migrate()
    metrics.refused(TLS)
    keep_refusals(database, metrics)
    assert _counts(database) == {"tls_failed": 2}
    database.close()


def test_the_console_explains_every_reason() -> None:
    assert set(EXPLANATIONS) == set(RefusalReason)
    assert {rejection.name.lower() for rejection in Rejection} < set(RefusalReason)
