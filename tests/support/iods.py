"""dciodvfy, which holds any object against the standard's information object definitions."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.server import need


def iod_errors(path: Path, iod: str) -> list[str]:
    """Return the lines in which dciodvfy calls `path` wrong; it must take it for an `iod`."""
    (program,) = need("dciodvfy")
    done = subprocess.run([str(program), str(path)], capture_output=True, text=True, timeout=120)
    output = (done.stdout + done.stderr).splitlines()
    assert iod in output, f"dciodvfy did not recognize the object: {output[:5]}"
    return [line for line in output if line.startswith(("Error", "Abort"))]
