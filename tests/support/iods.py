"""dciodvfy holds an object against the standard, dcentvfy holds objects against each other."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.server import need


def iod_errors(path: Path, iod: str) -> list[str]:
    """Return the lines in which dciodvfy calls `path` wrong; it must take it for an `iod`."""
    (program,) = need("dciodvfy")
    done = subprocess.run([str(program), str(path)], capture_output=True, text=True, timeout=120)
    output = (done.stdout + done.stderr).splitlines()
    assert iod in output, f"dciodvfy did not recognize the object: {output[:5]}"
    return [line for line in output if line.startswith(("Error", "Abort"))]


ACCESSION_NUMBER_ELSEWHERE = "Different information entities for attribute - Element=<AccessionNumber>"
"""Message of dcentvfy for every image beside every report that have an Accession Number, by any program.

Its tables file that of an image under the series, since Request Attributes have one, and that of a report
under the study.
"""


def study_disagreements(paths: Iterable[Path]) -> list[str]:
    """Return what dcentvfy says of objects that share patient, study or series, without the files' names."""
    (program,) = need("dcentvfy")
    command = [str(program), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    lines = (done.stdout + done.stderr).splitlines()
    return sorted({re.sub(r"( IE <| for file <).*", "", line).split(" - ", 1)[1] for line in lines})
