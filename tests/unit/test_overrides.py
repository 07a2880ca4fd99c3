"""Sources of a value: variables that set keys, and variables that the file contradicts."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_config.model import load_settings
from dicom_config.overrides import find_overrides
from uair_node.console.configuration import lines
from uair_node.operations.checks import _configuration

_FILE = "data_dir: /data/uair\nnode: {port: 11112}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(_FILE, "utf-8")
    return path


def test_variables_are_compared_with_the_file(file: Path) -> None:
    environment = {
        "UAIR_DATA_DIR": "/var/lib/uair",
        "UAIR_NODE__PORT": "11112",
        "UAIR_DATABASE__PASSWORD_FILE": "/run/secrets/password",
        "UAIR_CONFIG": str(file),
        "PATH": "/usr/bin",
    }
    found = find_overrides(file, environment)
    assert [(each.variable, each.key, each.contradicts) for each in found] == [
        ("UAIR_DATA_DIR", "data_dir", True),
        ("UAIR_DATABASE__PASSWORD_FILE", "database.password_file", False),
        ("UAIR_NODE__PORT", "node.port", False),
    ]
    assert found[0].sentence == f"UAIR_DATA_DIR overrides `data_dir` of {file}."


def test_check_and_console_say_where_a_value_comes_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAIR_DATA_DIR", "/elsewhere")
    settings = load_settings(file)
    loaded, overruled = _configuration(settings)
    assert loaded.sentence == f"{file} loaded; data in /elsewhere"
    assert overruled.code == "config-overruled"
    variables = {line.key: line.variable for line in lines(settings)}
    assert (variables["data_dir"], variables["node.port"]) == ("UAIR_DATA_DIR", "")


def test_values_of_variables_are_not_shown(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UAIR_DATABASE__URL", "postgresql+psycopg://uair:SECRET@db/uair")
    shown = [finding.sentence for finding in _configuration(load_settings(file))]
    assert shown[1] == "database.url comes from the variable UAIR_DATABASE__URL"
