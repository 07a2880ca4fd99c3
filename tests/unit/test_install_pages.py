"""docs/install.md and docs/upgrading.md: what can be tried of their commands without a machine of their own.

`python -m scripts.try_install` runs them on a clean Debian.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from dicom_config.model import Settings, load_settings
from scripts import try_install
from tests.support.peers import need

_ROOT = Path(__file__).parents[2]
_BLOCKS = try_install.all_blocks()
_DOCKER = {"images", "load-images", "compose-upgrade", "compose-rollback", "profile-change"}


@pytest.mark.parametrize("name", _BLOCKS)
def test_blocks_are_shell(name: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", _BLOCKS[name]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_trial_runs_each_block_that_needs_no_docker() -> None:
    tried = {step[1:] for step in try_install.STEPS if step.startswith("@")}
    assert tried | _DOCKER == set(_BLOCKS)
    assert all(block in try_install.trial() for name, block in _BLOCKS.items() if name in tried)


@pytest.mark.parametrize("name", sorted(_DOCKER))
def test_docker_blocks_name_services_and_profiles_that_exist(name: str) -> None:
    composed = yaml.safe_load((_ROOT / "docker-compose.yml").read_text("utf-8"))
    profiles = {
        profile for service in composed["services"].values() for profile in service.get("profiles", ())
    }
    assert set(re.findall(r"--profile (\S+)", _BLOCKS[name])) <= profiles
    addressed = re.findall(
        r"\b(?:exec(?: -T)?|run --rm|stop) ([a-z -]+?)(?: uair | pg| createdb| dropdb| rabbit|\n|$)",
        _BLOCKS[name],
    )
    assert {service for words in addressed for service in words.split()} <= set(composed["services"])


def test_every_image_is_carried_to_a_machine_without_internet(tmp_path: Path) -> None:
    """The documented command, with a stand-in for `docker` that notes its arguments."""
    need("docker-compose")
    saved = tmp_path / "saved"
    (tmp_path / "docker").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{saved}\n')
    (tmp_path / "docker").chmod(0o755)
    (command,) = [line for line in _BLOCKS["images"].splitlines() if line.startswith("docker save")]
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(
        ["sh", "-ec", command.partition(">")[0]], cwd=_ROOT, env=environment, check=True, capture_output=True
    )
    composed = yaml.safe_load((_ROOT / "docker-compose.yml").read_text("utf-8"))
    wanted = {service["image"] for service in composed["services"].values()}
    _, *names = saved.read_text().split()
    assert set(names) == wanted


def test_the_example_of_a_site_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("UAIR_")]:
        monkeypatch.delenv(name)
    page = (_ROOT / "docs" / "install.md").read_text("utf-8")
    (tmp_path / "site.yaml").write_text(try_install.site_configuration(page), "utf-8")
    settings: Settings = load_settings(tmp_path / "site.yaml")
    assert [destination.name for destination in settings.destinations] == ["pacs"]
    assert settings.database.password_file == Path("/etc/uair/postgres_password")
