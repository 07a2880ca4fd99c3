"""What libraries would log of a data set stays out of the log (DESIGN invariant 7)."""

from __future__ import annotations

import subprocess
import sys

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
