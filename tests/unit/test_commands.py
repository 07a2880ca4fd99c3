"""The table of commands: complete, loaded only when called."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from uair_node.cli import app

_HEAVY = ("torch", "sqlalchemy", "pydicom", "pynetdicom", "celery", "numpy", "matplotlib")


def _listed() -> list[str]:
    group = CliRunner().invoke(app, ["--help"])
    assert group.exit_code == 0, group.output
    return re.findall(r"^│ ([a-z]+) ", group.output, re.MULTILINE)


COMMANDS = _listed()


def test_help_lists_the_commands_of_node_and_workers() -> None:
    assert {"up", "node", "cases", "case", "check", "worker", "train", "demo"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_of_the_table_exists(name: str) -> None:
    ended = CliRunner().invoke(app, [name, "--help"])
    assert ended.exit_code == 0, ended.output
    assert re.search(rf"Usage: \w+ {name} ", ended.output)


def test_an_unknown_command_is_refused_with_its_name() -> None:
    ended = CliRunner().invoke(app, ["csaes"])
    assert ended.exit_code == 2
    assert "csaes" in ended.output


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]])
def test_help_and_version_load_no_heavy_library(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom uair_node.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        f"sys.exit(','.join(name for name in {_HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_completion_names_commands_without_loading_them() -> None:
    environment = {"_UAIR_COMPLETE": "complete_bash", "COMP_WORDS": "uair ca", "COMP_CWORD": "1"}
    script = (
        "import sys\nfrom uair_node.cli import app\nsys.argv = ['uair']\n"
        "try:\n    app(prog_name='uair')\nexcept SystemExit:\n    pass\n"
        f"sys.exit(','.join(name for name in {_HEAVY!r} if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["cases", "case"]), done.stderr
