"""Backup and restore by the commands that docs/administrators.md gives, of a case that waits."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from dicom_config.model import Settings, Verb
from tests.support.cases import publish_round, ready_case
from tests.support.peers import Postgres, need
from uair_node import reports
from uair_node.artifacts import StoredCandidate, load_candidates, save_candidates
from uair_node.cases.answer import Answer
from uair_node.cases.states import CaseState
from uair_node.cases.tables import WorkItem, WorkKind
from uair_node.context import Context, open_context
from uair_node.results.source import CANDIDATES_FILE
from uair_node.selection.service import Evidence, select_by_number

pytestmark = pytest.mark.integration

_PAGE = Path(__file__).parents[2] / "docs" / "administrators.md"


def _run_documented(what: str, database_url: str, data: Path, backup: Path) -> None:
    block = re.search(rf"^```sh {what}\n(.*?)^```", _PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    places = {"DATABASE": database_url.replace("+psycopg", ""), "DATA": str(data), "BACKUP": str(backup)}
    subprocess.run(["sh", "-euc", block[1]], check=True, env=os.environ | places)


def _waiting_case(context: Context) -> None:
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[1:3, 2:6, 2:6] = 1
    with context.database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case, ["pacs"])
        round_ = case.current_round
        assert round_ is not None
        folder = context.store.round_folder(case.id, 1, "made")
        round_.artifacts = context.store.relative(folder)
        save_candidates(folder / CANDIDATES_FILE, [StoredCandidate(k, labels, "") for k in (1, 2, 3, 4)])


def test_a_restored_case_goes_on(tmp_path: Path, postgres: Postgres) -> None:
    need("pg_dump", "pg_restore")
    backup, data = tmp_path / "backup", tmp_path / "data"
    backup.mkdir()
    with postgres.database() as url:
        context = open_context(Settings(data_dir=data, database={"url": url}), migrate=True)
        _waiting_case(context)
        with context.database.transaction() as session:
            before = reports.detail(session, reports.get_case(session, 1))
        context.database.close()
        _run_documented("backup", url, data, backup)
    shutil.rmtree(data)
    data.mkdir()
    with postgres.database() as url:
        _run_documented("restore", url, data, backup)
        context = open_context(Settings(data_dir=data, database={"url": url}))  # its schema is current
        with context.database.transaction() as session:
            case = reports.get_case(session, 1)
            assert reports.detail(session, case) == before
            folder = context.store.fetch_folder(case.rounds[0].artifacts, [CANDIDATES_FILE])
            assert load_candidates(folder / CANDIDATES_FILE)[1].labels.sum() == 32
            select_by_number(session, Evidence(Verb.PICK, "command-line"), case, Answer(2))
            assert case.state == CaseState.REFINING
            due = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one()
            assert due.round_number == 2
        context.database.close()
