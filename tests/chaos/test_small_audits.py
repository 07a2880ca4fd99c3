"""The chaos suite's audit on a small scale: what `scripts/variants.py` breaks, it finds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from dicom_config.errors import InputError
from dicom_config.model import Verb
from tests.chaos.answer_audit import found_answers
from tests.chaos.auditor import found_deliveries
from tests.chaos.findings import Audit
from tests.chaos.ledger import Ledger
from tests.support.cases import publish_round, ready_case
from tests.support.outbox import outbox_in, run_delivery
from tests.support.peers import Postgres
from tests.support.scripted import scripted_peer
from uair_node.cases import lifecycle
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.tables import Case, utc_now
from uair_node.operations import reports
from uair_node.operations.case_list import find_cases
from uair_node.selection.service import Evidence, select_by_number

pytestmark = pytest.mark.chaos

_TRIALS = 20


def _answer(database: Database, verb: Verb, k: int, case_id: int, uid: str) -> None:
    with database.transaction() as session:
        evidence = Evidence(verb, "seg", "VIEWER", uid)
        select_by_number(session, evidence, session.get_one(Case, case_id), ReaderChoice(k))


def _audit(database: Database, ledger: Ledger) -> Audit:
    found = Audit()
    with database.transaction() as session:
        found_answers(session, ledger, found)
    return found


@pytest.mark.integration
def test_answers_at_the_same_moment_leave_a_clean_ledger(postgres: Postgres) -> None:
    with postgres.database() as url:
        database = Database(url)
        database.migrate()
        failed: list[str] = []
        for trial in range(_TRIALS):
            with database.transaction() as session:
                case = ready_case(session, f"1.2.{trial + 1}")
                publish_round(session, case)
                case_id = case.id
            pick = partial(_answer, database, Verb.PICK, 2, case_id, f"2.25.{trial}.2")
            accept = partial(_answer, database, Verb.ACCEPT, 1, case_id, f"2.25.{trial}.1")
            failed += _at_once([pick, accept if trial % 2 else partial(_expire, database, case_id)])
        found = _audit(database, Ledger())
        database.close()
    found.lost += [f"an answer ended in {error}" for error in failed]
    assert found.clean, found.findings()


def _expire(database: Database, case_id: int) -> None:
    with database.transaction() as session:
        lifecycle.expire_unanswered(session, case_id, before=utc_now() + timedelta(days=1))


def _at_once(acts: list[Callable[[], None]]) -> list[str]:
    """Do acts at the same moment; return the errors that are no refusals."""
    gate = threading.Barrier(len(acts))
    failed: list[str] = []

    def run(act: Callable[[], None]) -> None:
        gate.wait()
        try:
            act()
        except InputError:
            pass  # told to who answered
        except Exception as error:
            failed.append(type(error).__name__)

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def test_every_answer_has_a_row(database: Database) -> None:
    with database.transaction() as session:
        case = ready_case(session)
        publish_round(session, case)
        case_id = case.id
    for verb in (Verb.PICK, Verb.ACCEPT, Verb.ACCEPT):
        _answer(database, verb, 1, case_id, "2.25.1")
    answered = [("2.25.1", "pick"), ("2.25.1", "accept"), ("2.25.1", "accept")]
    found = _audit(database, Ledger(answers=answered))
    assert found.answers.lost == 0, found.findings()
    assert found.clean, found.findings()


def test_what_is_published_reaches_the_pacs(tmp_path: Path, database_url: str) -> None:
    with outbox_in(tmp_path, database_url=database_url) as context, scripted_peer([0x0000]) as peer:
        run_delivery(context, peer.destination())
        found = Audit()
        with context.database.transaction() as session:
            for case in find_cases(session):
                found_deliveries(reports.detail(session, case), found)
    assert found.clean, found.findings()
    assert len(set(peer.received)) == 4
