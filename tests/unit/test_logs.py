"""Values of a data set that libraries would log stay out of the log (DESIGN invariant 7)."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from uair_node.cases.database import Database
from uair_node.logs import _Text

_READS_A_WRONG_NAME = """
from io import BytesIO
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from uair_node.logs import set_up_logging

set_up_logging(verbose=True)
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
dataset = Dataset()
dataset.file_meta = FileMetaDataset()
dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
dataset.PatientName = "SECRET^" + "X" * 200
dataset.StudyInstanceUID = "SECRET.1"
buffer = BytesIO()
dataset.save_as(buffer, enforce_file_format=False, implicit_vr=False, little_endian=True)
read = pydicom.dcmread(BytesIO(bytes(128) + b"DICM" + buffer.getvalue()), force=True)
str(read.PatientName), read.StudyInstanceUID
{complain}
"""


def _standard_error(complain: str) -> str:
    program = _READS_A_WRONG_NAME.replace("{complain}", complain)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stderr


def test_values_that_break_the_rules_are_not_quoted() -> None:
    assert "SECRET" not in _standard_error("")
    # The same program does show them where the library may speak.
    speak = "import logging; logging.getLogger('pydicom').setLevel(0); dataset['StudyInstanceUID']; "
    speak += "pydicom.valuerep.validate_value('UI', 'SECRET.2', pydicom.config.WARN)"
    assert "SECRET" in _standard_error(speak)


_FAILS = """
import logging, sys, threading
from uair_node.logs import set_up_logging

set_up_logging()
log = logging.getLogger("uair_node.x")

def fail():
    raise ValueError("SECRET^NAME")

{body}
"""
_WAYS_OUT = {
    "thread": "thread = threading.Thread(target=fail); thread.start(); thread.join()",
    "main": "fail()",
    "finalizer": "type('Closing', (), {'__del__': lambda self: fail()})()",
    "argument": "try: fail()\nexcept ValueError as error: log.error('lost: %s', error)",
    "message": "try: fail()\nexcept ValueError as error: log.exception(error)",
    "nested": "try:\n    try: fail()\n    except ValueError as error: raise KeyError('SECRET') from error\n"
    "except KeyError: log.exception('lost')",
}


@pytest.mark.parametrize("way", _WAYS_OUT)
def test_an_exception_shows_its_type_and_never_its_text(way: str) -> None:
    program = _FAILS.format(body=_WAYS_OUT[way])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ("KeyError" if way == "nested" else "ValueError") in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


def test_celery_logs_the_type_of_a_failed_task_and_never_its_text() -> None:
    program = """
from celery import Celery
from uair_node.logs import set_up_logging
set_up_logging()
app = Celery("test", set_as_current=False)

@app.task(name="fails")
def fails():
    raise ValueError("SECRET^NAME")

from celery.app.trace import build_tracer
build_tracer("fails", fails, app=app)("id-1", (), {}, {"hostname": "here", "is_eager": False})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "raised unexpected: ValueError" in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


_A_STATEMENT_FAILS = """
import logging, sys, threading
from celery import Celery
from celery.app.trace import build_tracer
from sqlalchemy import text
from uair_node.cases.database import Database
from uair_node.work.performer import describe_error
from uair_node.logs import set_up_logging

set_up_logging(verbose=True, form=sys.argv[2])
log = logging.getLogger("uair_node.x")
database = Database(sys.argv[1])
app = Celery("test", set_as_current=False)

@app.task(name="fails")
def fail():
    with database.transaction() as session:
        statement = text("INSERT INTO cases (series_instance_uid) VALUES (:who)")
        session.execute(statement, {"who": "SECRET^NAME"})

def caught():
    try:
        fail()
    except Exception as error:
        return error

assert "SECRET^NAME" in str(caught().params), "the exception holds it"
log.error("as an argument: %s", caught())
log.error(caught())
log.error("described: %s", describe_error(caught()))
try:
    raise RuntimeError("SECRET") from caught()
except RuntimeError:
    log.exception("as a cause")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
type("Closing", (), {"__del__": lambda self: fail()})()
build_tracer("fails", fail, app=app)("id-1", (), {}, {"hostname": "here", "is_eager": False})
fail()
"""
_WAYS_OF_A_STATEMENT = (
    "as an argument: IntegrityError",
    "described: IntegrityError",
    "as a cause",
    "uncaught exception in a thread",
    "exception in a finalizer",
    "raised unexpected: IntegrityError",
    "uncaught exception",
)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_parameters_of_a_statement_that_fails_stay_out_of_the_log(database_url: str, form: str) -> None:
    """PostgreSQL quotes the row in its own text, SQLAlchemy the parameters: no way out shows either."""
    command = [sys.executable, "-c", _A_STATEMENT_FAILS, database_url, form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert [way for way in _WAYS_OF_A_STATEMENT if way not in done.stderr] == [], done.stderr
    assert "SECRET" not in done.stdout + done.stderr


def test_the_text_of_a_statement_that_fails_has_no_parameters_where_the_server_quotes_none(
    database: Database,
) -> None:
    statement = text("SELECT no_such_column FROM cases WHERE series_instance_uid = :who")
    with database.engine.connect() as connection, pytest.raises(DBAPIError) as caught:
        connection.execute(statement, {"who": "SECRET^NAME"})
    assert "no_such_column" in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_handler_that_fails_in_pynetdicom_shows_no_text() -> None:
    program = """
from pynetdicom import AE, evt
from uair_node.logs import set_up_logging
set_up_logging(verbose=True)

def fail(event):
    raise ValueError("SECRET^NAME")

ae = AE()
ae.add_supported_context("1.2.840.10008.1.1")
ae.add_requested_context("1.2.840.10008.1.1")
handlers = [(evt.EVT_C_ECHO, fail), (evt.EVT_ACCEPTED, fail)]
server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
association = ae.associate("127.0.0.1", server.server_address[1])
print(association.send_c_echo().Status)
association.release()
server.shutdown()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "SECRET" not in done.stdout + done.stderr


def test_a_line_of_text_carries_its_time_zone() -> None:
    record = logging.LogRecord("uair_node", logging.INFO, "", 0, "said", (), None)
    record.created = datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC).timestamp()
    line = _Text("%(asctime)s %(message)s").format(record)
    moment, _, said = line.rpartition(" ")
    assert datetime.fromisoformat(moment) == datetime(2026, 1, 31, 12, 0, 0, 250_000, UTC)
    assert (len(moment), said) == (len("2026-01-31 12:00:00.250+00:00"), "said")
