"""Queries that a department of 100,000 cases repeats use an index; pages wait for no writer."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from dicom_config.errors import TransientError
from uair_node.cases.database import Database

_QUERIES = {
    "results of a round": "SELECT * FROM results WHERE round_id = 1",
    "cases of an instance": "SELECT * FROM case_instances WHERE instance_id = 1",
    "selections by evidence": "SELECT * FROM selections WHERE evidence_uid = '1.2'",
    "refused answers": "SELECT * FROM selections WHERE outcome = 'refused'",
    "pending of a destination": "SELECT * FROM deliveries WHERE destination = 'a' AND state = 'pending'",
    "confirmed lately": "SELECT * FROM deliveries WHERE confirmed_at > '2026-01-01'",
    "published lately": "SELECT * FROM rounds WHERE published_at > '2026-01-01'",
    "newest computed": "SELECT * FROM rounds WHERE computed_at IS NOT NULL ORDER BY computed_at DESC LIMIT 1",
    "round of a selection": "SELECT * FROM rounds WHERE selection_id = 1",
    "work of a case": "SELECT * FROM work_items WHERE case_id = 1",
    "cases of a state": "SELECT * FROM cases WHERE state = 'RECEIVING' AND updated_at < '2026-01-01'",
    "loose instances": "SELECT * FROM instances WHERE status <> 'stored' AND received_at < '2026-01-01'",
    "deeds on a case": "SELECT * FROM access_records WHERE subject = 'case 1'",
    "waiting deliveries": "SELECT state, destination, count(*) FROM deliveries "
    "WHERE state IN ('pending', 'stored', 'parked') GROUP BY state, destination",
    "answers by outcome": "SELECT outcome, verb, code, count(*) FROM selections GROUP BY outcome, verb, code",
    "cases by code": "SELECT state, code, count(*) FROM cases GROUP BY state, code",
    "newest of a sender": "SELECT calling_ae, max(last_instance_at) FROM cases GROUP BY calling_ae",
}


@pytest.mark.parametrize("query", _QUERIES)
def test_a_frequent_query_reads_an_index(query: str, database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    with database.reading() as session:
        if session.get_bind().dialect.name == "sqlite":
            rows = session.execute(text(f"EXPLAIN QUERY PLAN {_QUERIES[query]}"))
            plan = " ".join(row[3] for row in rows)
        else:
            # The planner scans small tables unless it is told not to.
            session.execute(text("SET LOCAL enable_seqscan = off"))
            plan = " ".join(row[0] for row in session.execute(text(f"EXPLAIN {_QUERIES[query]}")))
            assert "Seq Scan" not in plan
    database.close()
    assert "INDEX" in plan.upper(), plan
    assert "TEMP B-TREE" not in plan.upper(), plan


def test_a_reading_transaction_cannot_write(database: Database) -> None:
    with pytest.raises((DBAPIError, TransientError)), database.reading() as session:
        session.execute(text("DELETE FROM cases"))
    with database.transaction() as session:  # on the same connection of the pool
        session.execute(text("DELETE FROM cases"))


def test_sqlite_looks_for_stored_instances_by_their_series(tmp_path: Path) -> None:
    """Without statistics SQLite takes the index with more columns, of however many rows."""
    database = Database(f"sqlite:///{tmp_path / 'uair.sqlite'}")
    database.migrate()
    query = (
        "SELECT * FROM instances WHERE series_instance_uid = '1' AND status = 'stored' AND received_at < '2'"
    )
    with database.reading() as session:
        plan = " ".join(row[3] for row in session.execute(text(f"EXPLAIN QUERY PLAN {query}")))
    database.close()
    assert "ix_instances_series_instance_uid" in plan


def test_a_reading_transaction_waits_for_no_writer(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'uair.sqlite'}")
    database.migrate()
    with database.transaction() as writer:
        writer.execute(text("DELETE FROM cases"))
        with database.reading() as reader:
            assert reader.execute(text("SELECT count(*) FROM cases")).scalar() == 0
    database.close()
