"""Files of the product are for its own user, whatever the umask of the shell that starts it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.deployment import on_this_machine
from tests.support.modes import common_umask, open_to_others
from tests.support.peers import Dcmtk
from tests.support.running_node import HOST, Deployment, quick
from tests.support.series import good_series

pytestmark = pytest.mark.integration


def _node_alone(config: Path) -> Mapping[str, Sequence[str]]:
    return {"node": on_this_machine(("uair", "node", "--config", str(config)), config)}


def test_what_a_node_and_commands_write_is_closed_to_others(tmp_path: Path, dcmtk: Dcmtk) -> None:
    node = Deployment(tmp_path, _node_alone, quick([]))
    with common_umask():
        node.start()
        try:
            sent = dcmtk.storescu(HOST, node.port, "UAIR", "ROUTER", good_series(tmp_path / "ct"))
            assert sent.returncode == 0, sent.stderr
            node.await_state("READY")
            _add_user(node)
            data = tmp_path / "data"
            names = {path.name for path in data.rglob("*")}
            assert {"spool", "uair.sqlite", "uair.sqlite-wal", "patient-key-secret"} <= names
            assert len(list(data.rglob("*.dcm"))) == 16
            assert any(path.is_file() for path in (data / "broker").rglob("*"))
            assert open_to_others(data) == []
        finally:
            node.stop()


def _add_user(node: Deployment) -> None:
    words = ("uair", "console", "user", "add", "someone", "--role", "viewer", "--password-stdin")
    command = [*on_this_machine(words, node.config), "--config", str(node.config)]
    environment = os.environ | node.environment
    subprocess.run(command, input="a long password\n", text=True, check=True, timeout=300, env=environment)
