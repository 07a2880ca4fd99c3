"""scripts/install-peers.sh where it must not install: it says what is missing and does no harm."""

from __future__ import annotations

import json
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
    (call,) = [call for call in calls.read_text().splitlines() if call.startswith("pack")]
    assert re.search(r"@ohif/app@\d+\.\d+\.\d+$", call)


def test_packages_are_installed_once_without_their_scripts(bare_machine: Path) -> None:
    _link(bare_machine, "mkdir", "mktemp", "rm", "mv", "cp")
    calls = bare_machine / "calls"
    _program(bare_machine / "npm", f'echo "$*" >>"{calls}"; [[ $1 == ci ]] && mkdir node_modules')
    for _ in range(2):
        assert _run(bare_machine).returncode == 0
    (call,) = [call for call in calls.read_text().splitlines() if call.startswith("ci")]
    assert "--ignore-scripts" in call
    installed = bare_machine / "cache" / "uair-peers" / "node"
    assert (installed / "node_modules").is_dir()
    wanted = _SCRIPT.parent / "peers" / "package-lock.json"
    assert (installed / wanted.name).read_text() == wanted.read_text()


def test_packages_that_cannot_be_installed_leave_nothing_behind(bare_machine: Path) -> None:
    _link(bare_machine, "mkdir", "mktemp", "rm", "mv", "cp")
    _program(bare_machine / "npm", "echo 'no network'; exit 1")
    _program(bare_machine / "python3", "echo 'no venv'; exit 1")
    done = _run(bare_machine)
    assert done.returncode == 0
    assert "no venv" in done.stdout
    for kind in ("package-lock.json", "requirements.txt"):
        assert f"The packages of {kind} could not be installed" in done.stdout
    assert {path.name for path in (bare_machine / "cache" / "uair-peers").iterdir()} == {"ohif"}


def test_every_package_is_pinned() -> None:
    peers = _SCRIPT.parent / "peers"
    lines = (peers / "requirements.txt").read_text().splitlines()
    assert all(re.fullmatch(r"[\w-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    packages = json.loads((peers / "package-lock.json").read_text())["packages"]
    assert all("integrity" in package for name, package in packages.items() if name)
    wanted = json.loads((peers / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
