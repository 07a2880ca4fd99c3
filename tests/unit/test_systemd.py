"""The systemd units: systemd reads them without a complaint, and they start the tested commands."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.deployment import CONFIG, GPU_COMMAND, IO_COMMAND, NODE_COMMAND
from tests.support.peers import need

_UNITS = Path(__file__).parents[2] / "deploy" / "systemd"


def test_systemd_reads_every_unit(tmp_path: Path) -> None:
    (program,) = need("systemd-analyze")
    for unit in _UNITS.iterdir():
        # The program is looked for, so one that is here stands in for ours.
        text = unit.read_text("utf-8").replace("/opt/uair/bin/uair", shutil.which("true") or "")
        (tmp_path / unit.name).write_text(text.replace("User=uair\nGroup=uair", "DynamicUser=yes"))
    units = [str(tmp_path / unit.name) for unit in _UNITS.iterdir()]
    done = subprocess.run(
        [program, "verify", "--man=no", *units], capture_output=True, text=True, timeout=120, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "uair-" in line]
    assert ours == []


@pytest.mark.parametrize(
    ("unit", "command"), [("node", NODE_COMMAND), ("gpu-worker", GPU_COMMAND), ("io-worker", IO_COMMAND)]
)
def test_units_start_the_tested_commands(unit: str, command: tuple[str, ...]) -> None:
    parser = ConfigParser(strict=False, interpolation=None)
    parser.read(_UNITS / f"uair-{unit}.service")
    words = shlex.split(parser["Service"]["ExecStart"])
    assert words[0] == "/opt/uair/bin/uair"
    assert [CONFIG if word == "/etc/uair/site.yaml" else word for word in words[1:]] == list(command[1:])
