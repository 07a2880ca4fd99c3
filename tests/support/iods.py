"""Checks by dciodvfy, which compares an object with the standard, and dcentvfy, which compares objects."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.server import need


def iod_errors(path: Path, iod: str) -> list[str]:
    """Return dciodvfy's error lines about `path`. dciodvfy must recognise the object as an `iod`."""
    (program,) = need("dciodvfy")
    done = subprocess.run([str(program), str(path)], capture_output=True, text=True, timeout=120)
    output = (done.stdout + done.stderr).splitlines()
    assert iod in output, f"dciodvfy did not recognize the object: {output[:5]}"
    return [line for line in output if line.startswith(("Error", "Abort"))]


ACCESSION_NUMBER_ELSEWHERE = "Different information entities for attribute - Element=<AccessionNumber>"
"""Message of dcentvfy for each image with each report if both have an Accession Number, from any program.

In its tables, the number of an image belongs to the series, since Request Attributes have one. The number of
a report belongs to the study.
"""


def study_disagreements(paths: Iterable[Path]) -> list[str]:
    """Return dcentvfy's messages about objects of one patient, study or series, without the files' names."""
    (program,) = need("dcentvfy")
    command = [str(program), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    lines = (done.stdout + done.stderr).splitlines()
    return sorted({re.sub(r"( IE <| for file <).*", "", line).split(" - ", 1)[1] for line in lines})
