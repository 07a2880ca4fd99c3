"""scripts/install-peers.sh where it must not install: it says what is missing and does no harm."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).parents[2] / "scripts" / "install-peers.sh"
_PEERS = {
    "rabbitmq-server",
    "orthanc",
    "dcmtk",
    "dicom3tools",
    "default-jdk-headless",
    "docker-compose",
    "chromium",
}


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
    environment = {**os.environ, "PATH": str(programs), "XDG_CACHE_HOME": str(programs / "cache")}
    return subprocess.run(
        ["/bin/bash", str(_SCRIPT)], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_without_root_it_lists_what_is_missing_and_installs_nothing(bare_machine: Path) -> None:
    calls = bare_machine / "calls"
    _program(bare_machine / "apt-get", f'echo "$*" >>"{calls}"')
    done = _run(bare_machine)
    assert done.returncode == 0, done.stderr
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert listed >= _PEERS
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


def _link(programs: Path, *names: str) -> None:
    for name in names:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)


def test_without_npm_it_says_that_the_viewer_is_missing(bare_machine: Path) -> None:
    done = _run(bare_machine)
    assert done.returncode == 0
    assert "OHIF" in done.stdout
    assert not (bare_machine / "cache").exists()


def test_a_viewer_that_cannot_be_fetched_leaves_nothing_behind(bare_machine: Path) -> None:
    _link(bare_machine, "mkdir", "mktemp", "rm")
    _program(bare_machine / "npm", 'echo "no network"; exit 1')
    done = _run(bare_machine)
    assert done.returncode == 0
    assert "no network" in done.stdout
    assert "could not be fetched" in done.stdout
    assert not list((bare_machine / "cache" / "uair-peers" / "ohif").iterdir())


def test_the_viewer_is_fetched_once_in_its_pinned_version(bare_machine: Path) -> None:
    _link(bare_machine, "mkdir", "mktemp", "rm", "mv", "tar", "gzip", "touch")
    built = bare_machine / "built" / "package" / "dist"
    built.mkdir(parents=True)
    (built / "index.html").write_text("viewer")
    calls = bare_machine / "calls"
    _program(
        bare_machine / "npm",
        f'echo "$*" >>"{calls}"; tar -czf ohif-app.tgz -C "{bare_machine / "built"}" package',
    )
    assert _run(bare_machine).returncode == 0
    assert _run(bare_machine).returncode == 0
    dist = bare_machine / "cache" / "uair-peers" / "ohif" / "package" / "dist"
    assert (dist / "index.html").read_text() == "viewer"
    (call,) = calls.read_text().splitlines()
    assert re.search(r"@ohif/app@\d+\.\d+\.\d+$", call)
