"""What libraries would log of a data set stays out of the log (DESIGN invariant 7)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from uair_node.cases.database import Database

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


def test_a_failed_statement_never_quotes_its_parameters(database_url: str) -> None:
    database = Database(database_url)
    database.migrate()
    statement = text("INSERT INTO cases (series_instance_uid) VALUES (:who)")
    with pytest.raises(IntegrityError) as caught, database.transaction() as session:
        session.execute(statement, {"who": "SECRET^NAME"})
    database.close()
    assert "SECRET" not in str(caught.value).split("DETAIL")[0]


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
