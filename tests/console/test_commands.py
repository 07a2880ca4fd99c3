"""`uair console`: users, and the server itself over HTTPS."""

from __future__ import annotations

import os
import signal
import ssl
import tomllib
import urllib.request
from pathlib import Path
from urllib.error import URLError

import pytest
import yaml
from typer.testing import CliRunner

from dicom_config.model import load_settings
from tests.support.certificates import Authority
from tests.support.console import PASSWORD
from tests.support.ports import answers, free_port, wait_until
from tests.support.server import guarded
from uair_node.cli import app
from uair_node.console.users import Role, users_file
from uair_node.context import open_context
from uair_node.supervisor import uair_command

_ROOT = Path(__file__).parents[2]


def _run(config: Path, *arguments: str, typed: str = "") -> tuple[int, str, str]:
    ended = CliRunner().invoke(app, [*arguments, "--config", str(config)], input=typed)
    return ended.exit_code, ended.output, getattr(ended.exception, "code", "")


def test_users_are_added_changed_listed_and_removed(tmp_path: Path) -> None:
    config = tmp_path / "site.yaml"
    config.write_text("data_dir: data\n")
    users = users_file(load_settings(config))
    add = ("console", "user", "add", "olga", "--role", "operator")
    assert _run(config, *add, typed=f"{PASSWORD}\n{PASSWORD}\n")[0] == 0
    assert _run(config, *add, typed=f"{PASSWORD}\n{PASSWORD}\n")[2] == "user-exists"
    script = ("console", "user", "add", "viktor", "--role", "viewer", "--password-stdin")
    assert _run(config, *script, typed="too short\n")[2] == "password-length"
    assert _run(config, *script, typed=f"{PASSWORD}\n")[0] == 0
    assert [(user.name, user.role) for user in users.all()] == [
        ("olga", Role.OPERATOR),
        ("viktor", Role.VIEWER),
    ]
    assert "viktor" in _run(config, "console", "user", "list")[1]
    other = PASSWORD[::-1]
    assert _run(config, "console", "user", "password", "olga", "--password-stdin", typed=f"{other}\n")[0] == 0
    assert users.verify("olga", other)
    assert _run(config, "console", "user", "remove", "viktor")[0] == 0
    assert _run(config, "console", "user", "remove", "viktor")[2] == "no-such-user"
    assert PASSWORD not in users.path.read_text()


def test_its_files_are_installed_with_it() -> None:
    setup = tomllib.loads((_ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folder = _ROOT / "uair_node" / "console"
    files = [
        path for kind in ("static", "templates") for path in (folder / kind).rglob("*") if path.is_file()
    ]
    assert len(files) > 20
    for file in files:
        assert any(file.match(pattern) for pattern in setup["package-data"]["*"]), file.name


def test_the_deployments_console_is_configured_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    service = yaml.safe_load((_ROOT / "docker-compose.yml").read_text())["services"]["console"]
    for name, value in service["environment"].items():
        if name.startswith("UAIR_CONSOLE"):
            monkeypatch.setenv(name, str(value))
    settings = load_settings(_ROOT / "dicom_config" / "hospital.yaml")
    assert settings.console.host == "0.0.0.0"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_it_serves_https_and_says_nothing_of_itself(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    ours = authority.issue("console", host="127.0.0.1")
    port = free_port()
    config = tmp_path / "site.yaml"
    tls = {"certificate": str(ours.certificate), "key": str(ours.key)}
    config.write_text(yaml.safe_dump({"data_dir": "data", "console": {"port": port, "tls": tls}}))
    settings = load_settings(config)
    open_context(settings, migrate=True).database.close()
    users_file(settings).add("olga", Role.OPERATOR, PASSWORD)
    log = tmp_path / "console.log"
    server = guarded(uair_command("console", "--config", str(config)), log, signal.SIGTERM, os.environ)
    try:
        wait_until(lambda: answers(port), f"the console; see {log}", 60.0)
        context = ssl.create_default_context(cafile=str(authority.ca))
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/cases?search=A1", context=context) as answer:
            assert answer.status == 200
            assert answer.url.endswith("/login?next=/cases%3Fsearch%3DA1")
            assert "Server" not in answer.headers
            assert answer.headers["Strict-Transport-Security"]
            assert "__Host-uair-console-login=" in answer.headers["Set-Cookie"]
        with pytest.raises((URLError, ConnectionError)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=5.0)
    finally:
        server.terminate()
        status = server.wait(30.0)
        assert server.stdin
        server.stdin.close()
    assert status in (0, 128 + signal.SIGTERM)
    assert "A1" not in log.read_text(), "no addresses in the log"
