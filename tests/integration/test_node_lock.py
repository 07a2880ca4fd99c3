"""A second node on a data folder ends at once, before it touches a file of the first."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dicom_config.errors import ConfigError
from tests.support.deployment import on_this_machine
from tests.support.running_node import embedded, quick
from uair_node.storage.node_lock import LOCK_FILE, only_node

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("command", ["up", "node", "recover --yes"])
def test_a_second_node_leaves_the_files_of_the_first_alone(tmp_path: Path, command: str) -> None:
    deployment = embedded(tmp_path, quick([]))
    being_written = tmp_path / "data" / "spool" / "series" / "instance.part"
    with only_node(tmp_path / "data"):
        being_written.parent.mkdir(parents=True)
        being_written.write_bytes(b"half")
        second = subprocess.run(
            [*on_this_machine(("uair", *command.split()), deployment.config), "--config", deployment.config],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=os.environ | deployment.environment,
        )
    assert second.returncode != 0
    assert "node-running" in second.stdout + second.stderr
    assert being_written.read_bytes() == b"half"
    assert not (tmp_path / "data" / "uair.sqlite").exists()


def test_a_lock_ends_with_its_holder_and_keeps_its_file_private(tmp_path: Path) -> None:
    with only_node(tmp_path), pytest.raises(ConfigError) as refused, only_node(tmp_path):
        pass
    assert refused.value.code == "node-running"
    with only_node(tmp_path):
        assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600
