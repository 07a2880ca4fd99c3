"""The database of a department after three years: 100,000 cases. SQL statements write the rows in bulk.

It lacks the data that retention has deleted by then: rows of old rejections, and slices and files of all but
the newest cases. A few accepted cases are due for retention.
"""

from __future__ import annotations

import sqlite3
from datetime import timedelta

from sqlalchemy import text

from uair_node.cases.database import Database
from uair_node.cases.tables import utc_now

DAYS = 1095
SLICES = 60
DUE_FOR_RETENTION = 10
_LIVING = 235
_TABLES = (
    "instances", "cases", "rounds", "results", "selections", "deliveries", "transitions", "work_items",
    "access_records",
)  # fmt: skip


def fill(database: Database, count: int) -> None:
    """Write `count` cases into a migrated, empty database."""
    if database.engine.dialect.name == "sqlite":
        database.close()  # an open connection would lock the file
        _fill_sqlite(str(database.engine.url.database), count)
    else:
        _fill_postgresql(database, count)


def _fill_sqlite(file: str, count: int) -> None:
    connection = sqlite3.connect(file)
    for pragma in ("synchronous = OFF", "journal_mode = OFF", "cache_size = -500000", "foreign_keys = OFF"):
        connection.execute(f"PRAGMA {pragma}")
    for statement in _statements("sqlite", count):
        connection.execute(statement)
    connection.commit()
    connection.close()


def _fill_postgresql(database: Database, count: int) -> None:
    with database.engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))  # no foreign key checks
        for statement in _statements("postgresql", count):
            connection.execute(text(statement))
        for table in _TABLES:
            sequence = f"pg_get_serial_sequence('{table}', 'id')"
            connection.execute(text(f"SELECT setval({sequence}, (SELECT max(id) FROM {table}))"))
    # PostgreSQL's autovacuum does this after a while.
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _statements(dialect: str, count: int) -> list[str]:
    def at(seconds_ago: str) -> str:
        """Return the SQL of a moment."""
        now = utc_now() - timedelta(minutes=5)
        if dialect == "sqlite":
            return f"strftime('%Y-%m-%d %H:%M:%f000', '{now}', '-' || ({seconds_ago}) || ' seconds')"
        return f"(timestamp '{now}' - ({seconds_ago}) * interval '1 second')"

    apart = DAYS * 86400 // count
    kept = count - count * 90 // DAYS - DUE_FOR_RETENTION
    kept_briefly = count - count * 14 // DAYS + 1
    newest_year = count - count * 364 // DAYS
    opened = f"({count} - i) * {apart}"
    living = count - _LIVING
    yes, no = ("1", "0") if dialect == "sqlite" else ("true", "false")
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    state = (
        f"CASE WHEN i > {count - 5} THEN 'RECEIVING' WHEN i > {count - 25} THEN 'READY' "
        f"WHEN i > {count - 30} THEN 'SEGMENTING' WHEN i > {count - 35} THEN 'REFINING' "
        f"WHEN i > {living} THEN 'AWAITING_SELECTION' "
        f"WHEN i % 100 < 4 AND i > {newest_year} THEN 'REJECTED' WHEN i % 100 IN (4, 5) THEN 'EXPIRED' "
        f"WHEN i % 100 IN (6, 7) THEN 'SUPERSEDED' WHEN i % 100 = 8 AND i > {kept_briefly} THEN 'FAILED' "
        "ELSE 'ACCEPTED' END"
    )
    has_files = (
        f"((c.state = 'ACCEPTED' AND c.id > {kept}) OR (c.state <> 'ACCEPTED' AND c.id > {kept_briefly}))"
    )
    computed = "c.state NOT IN ('RECEIVING', 'READY', 'SEGMENTING', 'REJECTED')"
    since = f"({count} - c.id) * {apart}"
    code = "CASE WHEN i % 7 = 0 THEN 'missing-slice' WHEN i % 7 = 1 THEN 'not-ct' ELSE 'too-few-slices' END"
    uid = "'1.2.826.0.1.3680043.8.498.30741982736450192837.'"
    ours = "'2.25.1234567890123456789012345'"
    two, three = _rows(2), _rows(3)
    return [
        f"""INSERT INTO cases (id, series_instance_uid, study_instance_uid, uid_scheme, accession_number,
            digest, patient_key, state, instance_count, calling_ae, code, sentence, remedy, assumed, warnings,
            created_at, last_instance_at, updated_at)
        {numbers} SELECT i, {uid} || i, {uid} || (i / 2) || '.1', 2, 'ACC' || i, 'digest-' || i,
            'patient-' || (i / 3), {state}, {SLICES}, 'ROUTER' || (i % 4),
            CASE WHEN {state} = 'REJECTED' THEN {code} WHEN {state} = 'FAILED' THEN 'work-failed' ELSE '' END,
            CASE WHEN {state} IN ('REJECTED', 'FAILED') THEN 'It lacks something.' ELSE '' END,
            CASE WHEN {state} IN ('REJECTED', 'FAILED') THEN 'Send it again.' ELSE '' END, '', '',
            {at(opened)}, {at(opened)}, {at(opened)} FROM n""",
        f"""INSERT INTO instances (id, sop_instance_uid, series_instance_uid, study_instance_uid,
            sop_class_uid, sha256, path, size, status, calling_ae, received_at)
        SELECT c.id * {SLICES} + s.k, c.series_instance_uid || '.' || s.k, c.series_instance_uid,
            c.study_instance_uid, '1.2.840.10008.5.1.4.1.1.2', 'sha-' || c.id || '-' || s.k,
            'spool/' || c.id || '/' || s.k || '.dcm', 526000, 'stored', 'ROUTER', c.created_at
        FROM cases c CROSS JOIN ({_rows(SLICES)}) s WHERE {has_files}""",
        """INSERT INTO case_instances (case_id, instance_id)
        SELECT c.id, x.id FROM cases c JOIN instances x ON x.series_instance_uid = c.series_instance_uid
        WHERE c.state NOT IN ('RECEIVING', 'REJECTED')""",
        f"""INSERT INTO rounds (id, case_id, number, model_name, model_digest, artifacts, content_digest,
            created_at, computed_at, published_at, compute_seconds, prior, base_mm)
        SELECT c.id * 3 + r.k - 3, c.id, r.k, 'uair', 'digest',
            CASE WHEN {has_files} AND {computed} THEN 'artifacts/' || c.id || '/' || r.k ELSE '' END,
            'content', {at(since)}, CASE WHEN {computed} THEN {at(f"{since} - 30")} END,
            CASE WHEN {computed} THEN {at(f"{since} - 40")} END, CASE WHEN {computed} THEN 25.0 END,
            '{{}}', '{{}}'
        FROM cases c CROSS JOIN ({three}) r WHERE c.state NOT IN ('RECEIVING', 'REJECTED')
            AND (r.k = 1 OR ({computed} AND ((r.k = 2 AND c.id % 3 = 0) OR (r.k = 3 AND c.id % 15 = 0))))""",
        f"""INSERT INTO results (id, round_id, kind, k, sop_instance_uid, series_instance_uid, sop_class_uid,
            path, character, volumes_ml, targets)
        SELECT r.id * 16 + s.k, r.id, CASE WHEN s.k < 5 THEN 'candidate' ELSE 'page' END,
            CASE WHEN s.k < 5 THEN s.k ELSE s.k - 5 END, {ours} || (r.id * 16 + s.k),
            {ours} || (r.id * 16 + s.k) || '.1', '1.2.840.10008.5.1.4.1.1.66.4',
            CASE WHEN r.artifacts <> '' THEN r.artifacts || '/' || s.k || '.dcm' ELSE '' END,
            'larger lesions', '{{"liver": 1510.5, "lesions": [12.5, 1.25]}}', '[1, 2, 3]'
        FROM rounds r CROSS JOIN ({_rows(9)}) s WHERE r.published_at IS NOT NULL""",
        f"""INSERT INTO results (id, round_id, kind, k, sop_instance_uid, series_instance_uid, sop_class_uid,
            path, character, volumes_ml, targets)
        SELECT r.id * 16 + 9 + s.k, r.id, CASE s.k WHEN 1 THEN 'final' WHEN 2 THEN 'report'
            WHEN 3 THEN 'final-page' ELSE 'withdrawal' END, 0, {ours} || (r.id * 16 + 9 + s.k),
            {ours} || (r.id * 16 + 9 + s.k) || '.1', '1.2.840.10008.5.1.4.1.1.66.4',
            CASE WHEN r.artifacts <> '' THEN r.artifacts || '/' || s.k || 'f.dcm' ELSE '' END,
            '', '{{}}', '[]'
        FROM rounds r JOIN cases c ON c.id = r.case_id CROSS JOIN ({_rows(4)}) s
        WHERE c.state = 'ACCEPTED'
            AND r.number = (SELECT max(x.number) FROM rounds x WHERE x.case_id = c.id)""",
        f"""INSERT INTO deliveries (id, result_id, destination, state, attempts, reason, created_at, sent_at,
            confirmed_at, transaction_uid)
        SELECT s.id, s.id, 'pacs', CASE WHEN r.case_id > {living} AND s.id % 2 = 0 THEN 'pending'
            WHEN c.state = 'EXPIRED' AND r.case_id % 1000 = 4 THEN 'parked' ELSE 'confirmed' END, 1,
            CASE WHEN c.state = 'EXPIRED' AND r.case_id % 1000 = 4 THEN 'refused-a900: refused.' ELSE '' END,
            r.published_at, r.published_at,
            CASE WHEN r.case_id > {living} AND s.id % 2 = 0 THEN NULL ELSE r.published_at END, ''
        FROM results s JOIN rounds r ON r.id = s.round_id JOIN cases c ON c.id = r.case_id""",
        f"""INSERT INTO selections (id, case_id, round_number, candidates_round, verb, picked, per_target,
            mechanism, evidence_uid, evidence_sha256, artifact, calling_ae, outcome, code, sentence, remedy,
            received_at)
        SELECT r.id * 2 + a.k, r.case_id, r.number, r.number,
            CASE WHEN c.state = 'ACCEPTED' AND r.number = (SELECT max(x.number) FROM rounds x
                WHERE x.case_id = c.id) THEN 'accept' ELSE 'pick' END, 1 + r.id % 4, '{{}}', 'seg',
            {ours} || (r.id * 16 + 1 + r.id % 4), 'sha', '', 'VIEWER',
            CASE WHEN a.k = 1 THEN 'effective' WHEN r.id % 2 = 0 THEN 'repeated' ELSE 'refused' END,
            CASE WHEN a.k = 2 AND r.id % 2 = 1 THEN 'case-closed' ELSE '' END, '', '', {at(f"{since} - 600")}
        FROM rounds r JOIN cases c ON c.id = r.case_id CROSS JOIN ({two}) a
        WHERE c.state = 'ACCEPTED' AND (a.k = 1 OR r.id % 17 < 2)""",
        f"""INSERT INTO transitions (id, case_id, origin, state, actor, reason, at)
        SELECT c.id * 6 + s.k, c.id, CASE s.k WHEN 2 THEN 'RECEIVING' WHEN 3 THEN 'READY'
            WHEN 4 THEN 'SEGMENTING' WHEN 5 THEN 'AWAITING_SELECTION' END,
            CASE s.k WHEN 1 THEN 'RECEIVING' WHEN 2 THEN 'READY' WHEN 3 THEN 'SEGMENTING'
                WHEN 4 THEN 'AWAITING_SELECTION' ELSE c.state END, 'node', '', c.created_at
        FROM cases c CROSS JOIN ({_rows(5)}) s WHERE c.state <> 'REJECTED' OR s.k = 1""",
        f"""INSERT INTO work_items (id, kind, subject, case_id, round_number, open, attempts, not_before,
            lease_owner, cause)
        SELECT r.id * 4 + s.k, CASE s.k WHEN 1 THEN 'compute' WHEN 2 THEN 'publish' WHEN 3 THEN 'pages'
            ELSE 'notices' END, r.case_id || '/' || r.number, r.case_id, r.number,
            CASE WHEN r.published_at IS NULL AND s.k = 1 THEN {yes} ELSE {no} END, 1, r.created_at, '', ''
        FROM rounds r CROSS JOIN ({_rows(4)}) s WHERE r.published_at IS NOT NULL OR s.k = 1""",
        f"""INSERT INTO access_records (id, at, actor, address, action, subject, outcome)
        SELECT c.id * 2 + s.k, c.created_at, 'olga', '10.0.0.1', 'view case', 'case ' || c.id, 'done'
        FROM cases c CROSS JOIN ({two}) s""",
    ]  # fmt: skip


def _rows(count: int) -> str:
    """Return the SQL of a table with a column ``k``, 1 to `count`."""
    return " UNION ALL ".join(f"SELECT {k} AS k" for k in range(1, count + 1))
