"""Patient keys: they need the secret, which is made once, kept closed, and never replaced in silence."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from dicom_config.errors import ConfigError
from dicom_config.model import Settings
from tests.support.intake import context_in, received
from tests.support.peers import Postgres
from tests.support.ports import wait_until
from tests.support.series import edit, good_series
from uair_node.cases.database import Database
from uair_node.cases.installation_tables import PatientSecret
from uair_node.cases.states import CaseState
from uair_node.cases.tables import Case
from uair_node.cli import app
from uair_node.context import Context, open_context
from uair_node.dicom.readers import hash_patient_id
from uair_node.intake.assembly import assemble
from uair_node.intake.inbox import Inbox
from uair_node.operations.checks.servers import check_database
from uair_node.patient_keys import SECRET_FILE, PatientKeys, find_patient_keys, open_patient_keys

_ID = "12345678"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _add_cases(database: Database, keys: Sequence[str]) -> None:
    with database.transaction() as session:
        for number, key in enumerate(keys):
            uids = {"series_instance_uid": f"2.25.1{number}", "study_instance_uid": f"2.25.2{number}"}
            session.add(Case(**uids, patient_key=key, state=CaseState.ACCEPTED))


def _stored(database: Database) -> list[str]:
    with database.transaction() as session:
        return [case.patient_key for case in session.query(Case).order_by(Case.id)]


def test_a_stored_key_cannot_be_computed_from_the_patient_id_alone(
    database_url: str, data: Path, tmp_path: Path
) -> None:
    with context_in(data, database_url) as context:
        _send_series(context, tmp_path)
        (stored,) = _stored(context.database)
    secret = (data / SECRET_FILE).read_bytes().strip()
    assert stored == PatientKeys(secret).key(hash_patient_id(_ID))
    assert stored not in (hash_patient_id(_ID), PatientKeys(bytes(64)).key(hash_patient_id(_ID)))


def _send_series(context: Context, tmp_path: Path) -> None:
    inbox = Inbox(context)
    for path in good_series(tmp_path / "ct"):
        edit(path, PatientID=_ID)
        inbox.receive(received(path))
    wait_until(lambda: assemble(context) == 1, "a case")


def test_the_secret_is_made_once_and_for_its_user_alone(database: Database, data: Path) -> None:
    before = os.umask(0o022)
    try:
        made = open_patient_keys(database, data, None)
    finally:
        os.umask(before)
    file = data / SECRET_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = file.read_bytes()
    assert len(content.strip()) == 64
    assert open_patient_keys(database, data, None).fingerprint == made.fingerprint
    assert file.read_bytes() == content


_OPEN = """
import sys
from pathlib import Path
from uair_node.cases.database import Database
from uair_node.patient_keys import open_patient_keys
sys.stdin.readline()
print(open_patient_keys(Database(sys.argv[1]), Path(sys.argv[2]), None).fingerprint)
"""


def test_processes_that_start_at_once_share_one_secret(database_url: str, data: Path) -> None:
    command = [sys.executable, "-c", _OPEN, database_url, str(data)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    starting = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in starting:
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate(timeout=300)[0].strip() for process in starting}
    assert len(found) == 1
    assert found != {""}


def test_digests_of_an_earlier_version_are_keyed_at_the_start(database: Database, data: Path) -> None:
    digest = hash_patient_id(_ID)
    _add_cases(database, [digest, "", hash_patient_id("other"), digest])
    keys = open_patient_keys(database, data, None)
    expected = [keys.key(digest), "", keys.key(hash_patient_id("other")), keys.key(digest)]
    assert _stored(database) == expected
    open_patient_keys(database, data, None)
    assert _stored(database) == expected, "what is keyed is not keyed again"


_KILLED = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from uair_node.cases.database import Database
from uair_node.patient_keys import open_patient_keys

def end(_connection, _cursor, statement, *_rest):
    if statement.startswith("UPDATE cases"):
        os.kill(os.getpid(), signal.SIGKILL)

database = Database(sys.argv[1])
event.listen(database.engine, "after_cursor_execute", end)
open_patient_keys(database, Path(sys.argv[2]), None)
"""


def test_a_renewal_that_is_killed_changes_nothing_and_is_done_by_the_next_start(
    database: Database, data: Path
) -> None:
    digests = [hash_patient_id(f"patient {number}") for number in range(20)]
    _add_cases(database, digests)
    command = [sys.executable, "-c", _KILLED, database.url, str(data)]
    killed = subprocess.run(command, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    assert _stored(database) == digests
    keys = open_patient_keys(database, data, None)
    assert _stored(database) == [keys.key(digest) for digest in digests]


def _lose(file: Path) -> None:
    file.unlink()


def _exchange(file: Path) -> None:
    file.write_text("0" * 64)


def _empty(file: Path) -> None:
    file.write_bytes(b"\n")


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("patient-secret-missing", _lose),
        ("patient-secret-other", _exchange),
        ("patient-secret-unusable", _empty),
    ],
)
def test_a_secret_that_is_not_the_one_stops_the_node_and_its_remedies_work(
    database_url: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, damage: object
) -> None:
    with context_in(data, database_url) as context:
        kept, gone = _two_cases(context, tmp_path)
    file = data / SECRET_FILE
    content = file.read_bytes()
    settings = Settings(data_dir=data, database={"url": database_url})
    damage(file)
    damaged = file.read_bytes() if file.exists() else None
    with pytest.raises(ConfigError) as raised:
        open_context(settings, migrate=True)
    assert raised.value.code == code
    assert (file.read_bytes() if file.exists() else None) == damaged, "no new secret in silence"
    assert code in {finding.code for finding in check_database(settings)}

    file.write_bytes(content)
    restored = open_context(settings, migrate=True)
    assert _stored(restored.database) == [kept, gone]
    assert {finding.code for finding in check_database(settings)} == {""}

    damage(file)
    monkeypatch.setenv("UAIR_DATA_DIR", str(data))
    monkeypatch.setenv("UAIR_DATABASE__URL", database_url)
    done = CliRunner().invoke(app, ["renew-patient-keys", "--yes"])
    assert "1 cases have a new patient key. 1 cases lost their patient key" in done.output
    renewed = open_context(settings, migrate=True)
    assert _stored(renewed.database) == [renewed.patient_keys.key(hash_patient_id(_ID)), ""]
    assert renewed.patient_keys.key(hash_patient_id(_ID)) != kept
    restored.database.close()
    renewed.database.close()


def test_a_start_that_fails_leaves_no_connection(postgres: Postgres, data: Path) -> None:
    with postgres.database() as url:
        settings = Settings(data_dir=data, database={"url": url})
        open_context(settings, migrate=True).database.close()
        _lose(data / SECRET_FILE)
        with pytest.raises(ConfigError) as raised:  # it keeps the frames, and so their objects, alive
            open_context(settings, migrate=True)
        assert raised.value.code == "patient-secret-missing"
        watching = Database(url)
        with watching.connected() as connection:
            count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            assert connection.execute(text(count)).scalar() == 1
        watching.close()


def _two_cases(context: Context, tmp_path: Path) -> list[str]:
    """One case whose images are kept, one whose images retention has deleted; return their keys."""
    _send_series(context, tmp_path)
    _add_cases(context.database, [context.patient_keys.key(hash_patient_id("gone"))])
    return _stored(context.database)


def test_machines_share_a_configured_secret_which_is_never_made(database: Database, tmp_path: Path) -> None:
    shared = tmp_path / "secrets" / "patients"
    with pytest.raises(ConfigError) as raised:
        open_patient_keys(database, tmp_path / "one", shared)
    assert raised.value.code == "patient-secret-missing"
    assert not shared.exists()
    with database.transaction() as session:
        assert session.query(PatientSecret).count() == 0
    shared.parent.mkdir()
    shared.write_text("ab" * 32)
    found = {open_patient_keys(database, tmp_path / name, shared).fingerprint for name in ("one", "two")}
    assert found == {PatientKeys(b"ab" * 32).fingerprint}
    assert not list(tmp_path.glob("*/" + SECRET_FILE))
    with pytest.raises(ConfigError) as raised:  # a machine that was forgotten makes no secret of its own
        open_patient_keys(database, tmp_path / "three", None)
    assert raised.value.code == "patient-secret-missing"


def test_a_database_from_before_takes_the_secret_that_is_there(database: Database, data: Path) -> None:
    data.mkdir()
    (data / SECRET_FILE).write_text("cd" * 32)
    _add_cases(database, [hash_patient_id(_ID)])
    find_patient_keys(database, data, None)
    assert _stored(database) == [hash_patient_id(_ID)], "a check changes nothing"
    keys = open_patient_keys(database, data, None)
    assert keys.fingerprint == PatientKeys(b"cd" * 32).fingerprint
    assert _stored(database) == [keys.key(hash_patient_id(_ID))]
