"""Backup, restore and upgrade by the commands that docs/administrators.md gives, on both databases.

What came after the backup is there, too: files that the restored database does not know, and messages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from alembic import command
from kombu import Connection, Queue
from sqlalchemy import create_engine, inspect

from dicom_config.model import Settings, Verb
from scripts.try_install import named_blocks
from tests.support.cases import candidate_uid, publish_round, ready_case
from tests.support.intake import received
from tests.support.peers import Postgres, RabbitMQ, need
from tests.support.ports import wait_until
from tests.support.selections import instance_header, key_object
from tests.support.series import edit_all, good_series
from uair_node.cases import work_items
from uair_node.cases.database import Database
from uair_node.cases.reader_choice import ReaderChoice
from uair_node.cases.schema import alembic_config
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case, Instance, InstanceStatus, WorkItem, WorkKind
from uair_node.context import Context, open_context
from uair_node.dicom.readers import hash_patient_id
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.operations import reports
from uair_node.patient_keys import SECRET_FILE
from uair_node.results.round_inputs import CANDIDATES_FILE
from uair_node.selection.service import Evidence, select_by_number
from uair_node.storage.artifacts import StoredCandidate, load_candidates, save_candidates
from uair_node.work.dispatch import Dispatcher
from uair_node.work.performer import Claim, Commit, perform
from uair_node.work.topology import QueueName

pytestmark = pytest.mark.integration

_PAGE = Path(__file__).parents[2] / "docs" / "administrators.md"


def documented(what: str, *, sqlite: bool = False) -> str:
    """Return a block of commands of the page, the variant for this database if there is one."""
    blocks = named_blocks(_PAGE.read_text("utf-8"))
    return blocks.get(f"{what}-sqlite", blocks[what]) if sqlite else blocks[what]


@dataclass
class Site:
    """An installation and the folder of its backup."""

    settings: Settings
    backup: Path
    rabbitmq: RabbitMQ | None = None
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.settings.data_dir

    def open(self, *, migrate: bool = False) -> Context:
        return open_context(self.settings, migrate=migrate)

    def run(self, what: str) -> str:
        """Run a documented block of commands, the variant for this database; return what it printed."""
        block = documented(what, sqlite=self.rabbitmq is None)
        places = {"DATABASE": self.settings.database_url.replace("+psycopg", "")}
        places |= {"DATA": str(self.data), "BACKUP": str(self.backup)}
        done = subprocess.run(
            ["sh", "-euc", block],
            env=os.environ | self.environment | places,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def drop_messages(self) -> None:
        if self.rabbitmq is None:
            shutil.rmtree(self.data / "broker")
            return
        self.run("purge")
        with Connection(self.rabbitmq.url) as connection:
            for name in QueueName:
                queue = Queue(name.value, channel=connection.channel())
                assert queue.queue_declare(passive=True).message_count == 0


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    backup, data = tmp_path / "backup", tmp_path / "data"
    backup.mkdir()
    values = {"data_dir": data, "intake": {"quiet_s": 0.01, "min_free_bytes": 0}}
    programs = str(Path(sys.executable).parent)
    environment = {"UAIR_DATA_DIR": str(data), "PATH": f"{programs}:{os.environ['PATH']}"}
    if request.param == "sqlite":
        need("sqlite3")
        yield Site(Settings(**values), backup, environment=environment)
        return
    need("pg_dump", "pg_restore", "psql")
    server: Postgres = request.getfixturevalue("postgres")
    broker: RabbitMQ = request.getfixturevalue("rabbitmq")
    environment |= broker.environment()
    environment["PATH"] = f"{broker.scripts}:{programs}:{os.environ['PATH']}"
    with server.database() as url:
        values |= {"database": {"url": url}, "broker": {"url": broker.url}}
        environment |= {"UAIR_DATABASE__URL": url, "UAIR_BROKER__URL": broker.url}
        yield Site(Settings(**values), backup, broker, environment)
    with Connection(broker.url) as connection:
        for name in QueueName:
            for queue in (name.value, name.dead_letters):
                connection.channel().queue_delete(queue)


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


def _told(context: Context) -> dict[str, object]:
    """All that is known of case 1."""
    with context.database.transaction() as session:
        return reports.detail(session, reports.get_case(session, 1))


def test_a_restored_case_goes_on(site: Site) -> None:
    context = site.open(migrate=True)
    _waiting_case(context)
    before = _told(context)
    context.database.close()
    site.run("backup")
    shutil.rmtree(site.data)
    site.data.mkdir()
    site.run("restore-database")
    site.run("restore-files")
    assert "0 images were registered again" in site.run("recover")
    context = site.open()  # its schema is current
    assert _told(context) == before
    with context.database.transaction() as session:
        case = reports.get_case(session, 1)
        folder = context.store.fetch_folder(case.rounds[0].artifacts, [CANDIDATES_FILE])
        assert load_candidates(folder / CANDIDATES_FILE)[1].labels.sum() == 32
        select_by_number(session, Evidence(Verb.PICK, "command-line"), case, ReaderChoice(2))
        assert case.state == CaseState.REFINING
        due = session.query(WorkItem).filter_by(kind=WorkKind.COMPUTE, open=True).one()
        assert due.round_number == 2
    context.database.close()


def _answer(folder: Path, context: Context) -> Path:
    """A reader's Key Object Selection of candidate 2 of case 1."""
    with context.database.transaction() as session:
        uid = candidate_uid(session.get_one(Case, 1), 1, 2)
    header = instance_header(sop_instance_uid=uid, study_instance_uid="1.2", patient_id="")
    path = folder / "answer.dcm"
    key_object([header]).save_as(path, enforce_file_format=True)
    return path


def _states(context: Context) -> list[CaseState]:
    with context.database.transaction() as session:
        return [case.state for case in session.query(Case).order_by(Case.id)]


def _receive(context: Context, paths: list[Path], verb: Verb = Verb.STORE) -> None:
    inbox = Inbox(context)
    for path in paths:
        inbox.receive(received(path, verb))


def _tables(url: str) -> set[str]:
    engine = create_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names


def test_a_restore_that_skips_the_deletion_changes_nothing(postgres: Postgres, tmp_path: Path) -> None:
    """The newer version renamed a table: a restore that went on would make the old one beside it."""
    need("pg_dump", "pg_restore", "psql")
    with postgres.database() as url:
        site = Site(Settings(data_dir=tmp_path / "data", database={"url": url}), tmp_path, rabbitmq=None)
        site.open(migrate=True).database.close()
        before = _tables(url)
        dump = tmp_path / "uair.dump"
        plain = url.replace("+psycopg", "")
        subprocess.run(["pg_dump", "--format=custom", f"--file={dump}", plain], check=True)
        rename = [
            "psql",
            "--quiet",
            f"--dbname={plain}",
            "--command=ALTER TABLE alembic_version RENAME TO newer",
        ]
        subprocess.run(rename, check=True)
        (restore,) = [line for line in documented("restore-database").splitlines() if "pg_restore" in line]
        done = subprocess.run(
            ["sh", "-euc", restore],
            env=os.environ | {"DATABASE": plain, "BACKUP": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "already exists" in done.stderr
        assert _tables(url) == before - {"alembic_version"} | {"newer"}


def test_an_older_database_beside_newer_files_and_messages_loses_nothing(site: Site, tmp_path: Path) -> None:
    context = site.open(migrate=True)
    _waiting_case(context)
    before = _told(context)
    site.run("backup")

    # What comes after the backup: a series, an answer, artifacts, messages.
    series = edit_all(good_series(tmp_path / "newer"), PatientID="P-2")
    answer = _answer(tmp_path, context)
    _receive(context, series)
    wait_until(lambda: assemble(context) == 1, "a case of the series")
    _receive(context, [answer], Verb.PICK)
    assert _states(context) == [CaseState.REFINING, CaseState.READY]
    assert Dispatcher(context.settings, context.database).enqueue_due() >= 3
    (context.store.round_folder(2, 1, "lost") / "candidates.npz").write_bytes(b"of a round that is lost")
    (site.data / "spool" / "half").mkdir()
    (site.data / "spool" / "half" / "0.dcm").write_bytes(b"no instance")
    with context.database.transaction() as session:
        digest = session.get_one(Case, 2).digest
        (kept,) = session.query(Instance.path).filter_by(status=InstanceStatus.SELECTION).one()
        stale = [(WorkKind(item.kind), item.id) for item in session.query(WorkItem).filter_by(open=True)]
    context.database.close()

    site.run("restore-database")
    site.drop_messages()
    told = site.run("recover")
    assert "16 images were registered again." in told
    assert re.search(rf"{kept}: an answer or note for .* must send this object again", told)
    assert "spool/half/0.dcm: no DICOM instance." in told
    assert "Case 1: 2 images are gone. Send the series of the case again." in told, (
        "this test's case has no files"
    )

    context = site.open()
    assert _told(context) == before
    wait_until(lambda: assemble(context) == 1, "a case of the series that was registered again")
    with context.database.transaction() as session:
        again = session.get_one(Case, 2)
        assert (again.digest, again.state, again.instance_count) == (digest, CaseState.READY, 16)
    _receive(context, series)
    assert _states(context) == [CaseState.AWAITING_SELECTION, CaseState.READY], "sent again: a repetition"
    _receive(context, [answer], Verb.PICK)
    assert _states(context) == [CaseState.REFINING, CaseState.READY], "the named remedy works"
    _take_stale_messages(context, stale)

    assert site.run("recover").startswith("0 images"), "what is taken in is known then"
    assert _states(context) == [CaseState.REFINING, CaseState.READY]
    context.database.close()


def _take_stale_messages(context: Context, stale: list[tuple[WorkKind, int]]) -> None:
    """Let workers take messages from before the restore, each twice: what is due is done once."""
    with context.database.transaction() as session:
        due = {(item.kind, item.subject) for item in session.query(WorkItem).filter_by(open=True)}
    done: list[tuple[WorkKind, str]] = []

    def job(claim: Claim) -> Commit:
        done.append((claim.kind, claim.subject))
        return lambda _session, item: work_items.close(item)

    wrong = [(kind, number + 100) for kind, number in stale]
    wrong += [(WorkKind.WITHDRAW, number) for _, number in stale]
    for kind, number in [*wrong, *stale, *stale]:
        perform(context, number, job, kind=kind)
    assert len(set(done)) == len(done)
    assert set(done) <= due


def test_a_backup_of_an_earlier_version_is_upgraded(site: Site) -> None:
    digest = hash_patient_id("12345678")
    context = site.open(migrate=True)
    _waiting_case(context)
    (site.data / SECRET_FILE).unlink()  # an earlier version had none
    _downgrade(context.database, digest)
    site.run("backup")
    site.run("restore-database")
    site.run("recover")
    context = site.open()
    key = context.patient_keys.key(digest)
    with context.database.transaction() as session:
        assert session.get_one(Case, 1).patient_key == key
    context.database.close()


def _downgrade(database: Database, digest: str) -> None:
    """Make the tables those of the version before patient keys had a secret."""
    with database.transaction() as session:
        session.get_one(Case, 1).patient_key = digest
    config = alembic_config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0012")
    database.close()
