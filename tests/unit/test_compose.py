"""docker-compose.yml: it validates, and it runs the processes that the end-to-end test runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_config import codes
from dicom_config.model import Settings, Verb, load_settings
from tests.support.deployment import (
    CONFIG,
    ENVIRONMENT,
    GPU_COMMAND,
    IO_COMMAND,
    NODE_COMMAND,
    on_this_machine,
)
from tests.support.peers import absent, find_program

_ROOT = Path(__file__).parents[2]
_EXAMPLE = _ROOT / ".env.example"
_OURS = {"node": NODE_COMMAND, "gpu-worker": GPU_COMMAND, "io-worker": IO_COMMAND}


def _program() -> list[str]:
    """Return the words that call docker-compose, the stand-alone program or Docker's plug-in."""
    for name, *plugin in (["docker-compose"], ["docker", "compose"]):
        found = find_program(name)
        if found is not None and _run([str(found), *plugin, "version"]).returncode == 0:
            return [str(found), *plugin]
    return absent("not installed: docker-compose")


def _compose(env_file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run docker-compose with the passwords of `env_file`; reading a file needs no engine."""
    return _run([*_program(), "--env-file", str(env_file), *arguments])


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_PASSWORD")}
    return subprocess.run(
        command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The deployment as docker-compose resolves it with the example's passwords."""
    done = _compose(_EXAMPLE, "config")
    assert done.returncode == 0, done.stderr
    resolved: Mapping[str, Any] = yaml.safe_load(done.stdout)
    return resolved


@pytest.fixture
def hospital(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return load_settings(_ROOT / "dicom_config" / "hospital.yaml")


def test_has_every_part_of_the_deployment(compose: Mapping[str, Any]) -> None:
    assert set(compose["services"]) == {*_OURS, "rabbitmq", "postgres", "orthanc"}


@pytest.mark.parametrize("service", _OURS)
def test_our_services_run_the_tested_commands(compose: Mapping[str, Any], service: str) -> None:
    assert tuple(compose["services"][service]["command"]) == _OURS[service]
    assert set(compose["services"][service]["environment"]) == set(ENVIRONMENT)


@pytest.mark.parametrize("service", _OURS)
def test_our_services_share_configuration_and_data(compose: Mapping[str, Any], service: str) -> None:
    mounts = dict(_mount(entry) for entry in compose["services"][service]["volumes"])
    assert mounts[CONFIG].endswith("dicom_config/hospital.yaml")
    data_dir = compose["services"][service]["environment"]["UAIR_DATA_DIR"]
    assert mounts[data_dir] == "uair-data"


def _mount(entry: Any) -> tuple[str, str]:
    """Return target and source of a volume, in the short or the long form."""
    if isinstance(entry, str):
        source, target = entry.split(":")[:2]
        return target, source
    return entry["target"], entry["source"]


def test_environment_holds_for_the_mounted_file(
    compose: Mapping[str, Any], hospital: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URLs of the environment name the same servers as the file that they override."""
    environment = compose["services"]["node"]["environment"]
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, environment[name])
    deployed = load_settings(_ROOT / "dicom_config" / "hospital.yaml")
    assert deployed.data_dir == hospital.data_dir
    assert deployed.database.url.replace(":change-me@", "@") == hospital.database.url
    assert deployed.broker.url.replace(":change-me@", "@") == hospital.broker.url


@pytest.mark.parametrize("variable", ["POSTGRES_PASSWORD", "RABBITMQ_PASSWORD", "ORTHANC_PASSWORD"])
def test_no_password_has_a_default(tmp_path: Path, variable: str) -> None:
    lines = _EXAMPLE.read_text().splitlines()
    incomplete = tmp_path / "incomplete.env"
    incomplete.write_text("\n".join(line for line in lines if not line.startswith(variable)))
    done = _compose(incomplete, "config")
    assert done.returncode != 0
    assert variable in done.stderr


@pytest.mark.parametrize("service", ["rabbitmq", "postgres", "orthanc"])
def test_images_of_others_are_pinned(compose: Mapping[str, Any], service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+[\w.-]*", compose["services"][service]["image"])


@pytest.mark.parametrize("service", ["node", "rabbitmq", "postgres", "orthanc"])
def test_servers_have_health_checks(compose: Mapping[str, Any], service: str) -> None:
    assert compose["services"][service]["healthcheck"]["test"]


def test_broker_waits_longer_than_a_task_may_take(hospital: Settings) -> None:
    """RabbitMQ hands a task out again that is unacknowledged for `consumer_timeout`."""
    conf = (_ROOT / "deploy" / "rabbitmq.conf").read_text()
    found = re.search(r"^consumer_timeout = (\d+)$", conf, re.MULTILINE)
    assert found is not None
    assert int(found.group(1)) / 1000 > 2 * hospital.work.time_limit_s


def test_orthanc_knows_every_verb_and_is_the_destination(hospital: Settings) -> None:
    orthanc = json.loads((_ROOT / "dicom_config" / "orthanc.json").read_text())
    peers = orthanc["DicomModalities"].values()
    assert {peer["AET"] for peer in peers} == set(hospital.node.ae_titles.by_title())
    assert {(peer["Host"], peer["Port"]) for peer in peers} == {("node", hospital.node.port)}
    (destination,) = hospital.destinations
    assert (destination.ae_title, destination.port) == (orthanc["DicomAet"], orthanc["DicomPort"])
    allowed = {verb for rule in hospital.node.allow for verb in rule.verbs if "ORTHANC" in rule.calling_ae}
    assert allowed == set(Verb)


def test_orthanc_forwards_by_the_script_that_is_mounted(
    compose: Mapping[str, Any], hospital: Settings
) -> None:
    orthanc = json.loads((_ROOT / "dicom_config" / "orthanc.json").read_text())
    mounts = dict(_mount(entry) for entry in compose["services"]["orthanc"]["volumes"])
    (script,) = orthanc["LuaScripts"]
    assert mounts[script].endswith("dicom_config/orthanc.lua")
    assert mounts["/etc/orthanc/orthanc.json"].endswith("dicom_config/orthanc.json")
    text = (_ROOT / "dicom_config" / "orthanc.lua").read_text()
    (destination,) = hospital.destinations
    assert f"NODE_AET = '{destination.calling_ae}'" in text
    assert f"NODE_MANUFACTURER = '{codes.MANUFACTURER}'" in text
    for word in (hospital.node.tags.pick, hospital.node.tags.accept, hospital.node.tags.reject):
        assert f"{{'{word}', " in text
    for name, peer in orthanc["DicomModalities"].items():
        assert name == peer["AET"], "the script knows modalities by their AE titles"


def test_commands_run_here_with_another_configuration(tmp_path: Path) -> None:
    command = on_this_machine(GPU_COMMAND, tmp_path / "site.yaml")
    assert Path(command[0]).is_absolute()
    assert command[1:] == ["worker", "--queue", "gpu", "--config", str(tmp_path / "site.yaml")]
