"""scripts/install-peers.sh where it must not install: it says what is missing and does no harm."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts" / "install-peers.sh"


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A folder of programs with none of the peers and a user who is not root."""
    for name in ("bash", "cut", "cat"):
        found = shutil.which(name)
        assert found is not None
        (tmp_path / name).symlink_to(found)
    _program(tmp_path / "id", "echo 1000")
    return tmp_path


def _program(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/bash\n{line}\n")
    path.chmod(0o755)


def _run(programs: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(programs)}
    return subprocess.run(
        ["/bin/bash", str(_SCRIPT)], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_without_root_it_lists_what_is_missing_and_installs_nothing(bare_machine: Path) -> None:
    calls = bare_machine / "calls"
    _program(bare_machine / "apt-get", f'echo "$*" >>"{calls}"')
    done = _run(bare_machine)
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert {"rabbitmq-server", "orthanc", "dcmtk", "dicom3tools", "docker-compose"} <= listed
    assert "as root" in done.stdout
    assert not calls.exists()


def test_on_another_system_it_lists_what_is_missing(bare_machine: Path) -> None:
    done = _run(bare_machine)
    assert done.returncode == 0, done.stderr
    assert "not Debian or Ubuntu" in done.stdout
    assert "dicom3tools" in done.stdout


def test_what_is_there_is_not_listed(bare_machine: Path) -> None:
    _program(bare_machine / "dciodvfy", "exit 0")
    assert "dicom3tools" not in _run(bare_machine).stdout
