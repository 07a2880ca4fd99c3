"""PixelMed's DicomSRValidator, which compares structured reports and Key Objects with IODs and templates."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.server import absent, need

_JARS = [Path("/usr/share/java") / f"{name}.jar" for name in ("pixelmed", "slf4j-api", "slf4j-nop")]
_PROGRAM = Path(__file__).with_name("ValidateReports.java")
# The templates' stylesheet exceeds Java's default limits.
_LIMITS = [f"-Djdk.xml.xpath{name}=0" for name in ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")]
_QUICK = ["-XX:+UseSerialGC"]


def validate_reports(paths: Sequence[Path]) -> dict[Path, list[str]]:
    """Return the validator's lines about each file. Java starts once for all files."""
    java, _ = need("java", "javac")
    if not all(jar.exists() for jar in _JARS):
        absent("not installed: libpixelmed-java")
    classes = ":".join(str(jar) for jar in _JARS)
    command = [java, *_QUICK, *_LIMITS, "-cp", classes, _PROGRAM, *paths]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    said: dict[Path, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("File: "):
            lines = said.setdefault(Path(line.removeprefix("File: ")), [])
        elif line:
            lines.append(line)
    assert list(said) == list(paths), done.stderr
    return said
