"""docker-compose.yml: it validates, and it runs the processes that the end-to-end test runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_config import codes
from dicom_config.model import Settings, Verb, load_settings
from dicom_config.node import AllowRule, NodeSection
from tests.support.deployment import (
    CONFIG,
    ENVIRONMENT,
    GPU_COMMAND,
    IO_COMMAND,
    NODE_COMMAND,
    on_this_machine,
)
from tests.support.peers import absent, find_program
from tests.support.ports import wait_until
from uair_node.operations.checks.connections import check_admitted
from uair_node.operations.checks.finding import Level

_ROOT = Path(__file__).parents[2]
_WORKERS = ("gpu-worker", "cpu-worker")
_OURS = {"node": NODE_COMMAND, **dict.fromkeys(_WORKERS, GPU_COMMAND), "io-worker": IO_COMMAND}
_PROFILES = ("demo", "hospital")


def _program() -> list[str]:
    """Return the words that call docker-compose, the stand-alone program or Docker's plug-in."""
    for name, *plugin in (["docker-compose"], ["docker", "compose"]):
        found = find_program(name)
        if found is not None and _run([str(found), *plugin, "version"]).returncode == 0:
            return [str(found), *plugin]
    return absent("not installed: docker-compose")


def _compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run docker-compose; reading a file needs no engine."""
    return _run([*_program(), *arguments])


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def compose() -> Mapping[str, Any]:
    """The deployment as docker-compose resolves it, with the services of all profiles."""
    done = _compose(*(word for name in _PROFILES for word in ("--profile", name)), "config")
    assert done.returncode == 0, done.stderr
    resolved: Mapping[str, Any] = yaml.safe_load(done.stdout)
    return resolved


@pytest.fixture
def hospital(monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    return load_settings(_ROOT / "dicom_config" / "hospital.yaml")


_ALWAYS = {"node", "io-worker", "console", "tidy", "rabbitmq", "postgres"}
_WATCHING = {"flower", "prometheus", "grafana"}
_OTHERS = ["rabbitmq", "postgres", "orthanc", "ohif", "alertmanager", *sorted(_WATCHING)]


@pytest.mark.parametrize(
    ("profile", "more"),
    [("demo", {"cpu-worker", "orthanc", "ohif"}), ("hospital", {"gpu-worker", "alertmanager"})],
)
def test_each_profile_has_its_parts(compose: Mapping[str, Any], profile: str, more: set[str]) -> None:
    services = compose["services"].items()
    started = {name for name, service in services if profile in service.get("profiles", [profile])}
    assert started == _ALWAYS | _WATCHING | more


@pytest.mark.parametrize("profile", _PROFILES)
def test_each_profile_validates_alone(profile: str) -> None:
    done = _compose("--profile", profile, "config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("service", [*_OURS, "console", "tidy"])
def test_what_uses_the_database_starts_after_its_migration(compose: Mapping[str, Any], service: str) -> None:
    needed = {name for name, how in compose["services"][service]["depends_on"].items() if _healthy(how)}
    assert needed == {"postgres", "rabbitmq", "node"} - {service}


def _healthy(dependency: Mapping[str, str]) -> bool:
    return dependency["condition"] == "service_healthy"


@pytest.mark.parametrize("moment", ["sleep", "uair"])
def test_the_tidy_container_heeds_sigterm(compose: Mapping[str, Any], tmp_path: Path, moment: str) -> None:
    """The first process of a container gets no signal that it does not handle."""
    command = compose["services"]["tidy"]["command"]
    *shell, script = (word.replace("$$", "$") for word in command)
    reached, through = tmp_path / "reached", tmp_path / "through"
    for program in ("sleep", "uair"):
        noted = f"touch {reached}; sleep 1; touch {through}" if program == moment else ""
        (tmp_path / program).write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{noted}\n")
        (tmp_path / program).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen([*shell, script], env=environment) as process:
        wait_until(reached.exists, moment)
        process.terminate()
        assert process.wait(60) == 0
    assert through.exists() == (moment == "uair"), "a `uair tidy` that runs is not cut off"


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


def test_passwords_come_by_file_and_reach_the_servers(
    compose: Mapping[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The passwords of `make-secrets.sh` are those in our processes' URLs and those of the servers."""
    copy = tmp_path / "deploy" / "make-secrets.sh"
    copy.parent.mkdir()
    copy.write_text((_ROOT / "deploy" / "make-secrets.sh").read_text("utf-8"))
    for _ in range(2):  # a second call keeps what the first made
        made = subprocess.run(["sh", str(copy)], capture_output=True, text=True, check=True)
        secrets = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert not any(secrets["postgres_password"] in text for text in (made.stdout, made.stderr))
    assert len({secrets[f"{name}_password"] for name in ("postgres", "rabbitmq", "grafana", "orthanc")}) == 4
    assert f"default_pass = {secrets['rabbitmq_password']}\n" in secrets["rabbitmq.conf"]
    assert json.loads(secrets["orthanc-users.json"]) == {
        "RegisteredUsers": {"uair": secrets["orthanc_password"]}
    }
    for name, value in compose["services"]["node"]["environment"].items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(tmp_path / "secrets")))
    deployed = load_settings(_ROOT / "dicom_config" / "hospital.yaml")
    assert deployed.database_url == f"postgresql+psycopg://uair:{secrets['postgres_password']}@postgres/uair"
    assert deployed.broker_url == f"amqp://uair:{secrets['rabbitmq_password']}@rabbitmq:5672//"
    for name, secret in compose["secrets"].items():
        assert Path(secret["file"]).name == name
        assert name in secrets
    assert "secrets/" in (_ROOT / ".gitignore").read_text().split()


@pytest.mark.parametrize("service", [*_OURS, "console", "tidy"])
def test_our_containers_may_write_only_their_data(compose: Mapping[str, Any], service: str) -> None:
    found = compose["services"][service]
    assert found["read_only"]
    assert found["cap_drop"] == ["ALL"]
    assert found["mem_limit"]
    writable = {_mount(volume)[0] for volume in found["volumes"] if not _read_only(volume)}
    assert writable <= {"/var/lib/uair", "/var/cache/uair"}


def _read_only(entry: Any) -> bool:
    return entry.endswith(":ro") if isinstance(entry, str) else bool(entry.get("read_only"))


def test_only_dicom_is_published_beyond_this_host(compose: Mapping[str, Any]) -> None:
    """All else is plain HTTP or a management page."""
    open_ports = set()
    for service in compose["services"].values():
        for entry in service.get("ports", ()):
            host = entry.get("host_ip", "") if isinstance(entry, dict) else str(entry)
            if not host.startswith("127.0.0.1"):
                open_ports.add(int(entry["target"] if isinstance(entry, dict) else str(entry).split(":")[-1]))
    assert open_ports == {11112, 4242}


def test_embeddings_stay_on_the_workers_own_disk(compose: Mapping[str, Any], hospital: Settings) -> None:
    folder = str(hospital.engine.embeddings_dir)
    assert hospital.engine.embeddings_bytes
    mounted = {
        name
        for name, service in compose["services"].items()
        if folder in dict(map(_mount, service.get("volumes", ())))
    }
    assert mounted == set(_WORKERS)


def test_prometheus_asks_the_ports_that_are_open(compose: Mapping[str, Any], hospital: Settings) -> None:
    config = yaml.safe_load((_ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"]: job for job in config["scrape_configs"]}
    port = hospital.monitoring.port
    assert jobs["uair-node"]["static_configs"] == [{"targets": [f"node:{port}"]}]
    for name, offset in (("gpu", 1), ("io", 2)):
        (found,) = jobs[f"uair-{name}-worker"]["dns_sd_configs"]
        assert found["port"] == port + offset
        assert set(found["names"]) <= set(compose["services"])
    for service, number in (("node", port), ("gpu-worker", port + 1), ("io-worker", port + 2)):
        assert f":{number}/live" in str(compose["services"][service]["healthcheck"]["test"])


def test_dockerfile_follows_the_rules_of_hadolint() -> None:
    program = Path(sys.executable).with_name("hadolint")
    if not program.is_file():
        absent("not installed: hadolint")
    done = _run([str(program), "Dockerfile"])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "service", ["rabbitmq", "postgres", "orthanc", "ohif", "alertmanager", *sorted(_WATCHING)]
)
def test_images_of_others_are_pinned(compose: Mapping[str, Any], service: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", compose["services"][service]["image"])


@pytest.mark.parametrize("service", [*_OURS, "console", *_OTHERS])
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


def test_the_example_admits_two_addresses_and_no_network(hospital: Settings) -> None:
    composed = yaml.safe_load((_ROOT / "docker-compose.yml").read_text("utf-8"))
    archive = composed["services"]["orthanc"]["networks"]["default"]["ipv4_address"]
    networks = [ip_network(network) for rule in hospital.node.allow for network in rule.networks]
    assert [network.num_addresses for network in networks] == [1, 1]
    assert ip_network(archive) in networks
    assert [finding.level for finding in check_admitted(hospital)] == [Level.OK]


@pytest.mark.parametrize(
    ("networks", "certificates", "level"),
    [
        (["172.16.0.0/12"], [], Level.WARNING),
        (["10.20.1.0/24", "127.0.0.0/8", "::1/128"], [], Level.OK),
        (["10.20.0.0/23"], [], Level.WARNING),
        (["0.0.0.0/0"], [], Level.WARNING),
        (["::/0"], [], Level.WARNING),
        (["fd00:1:2:3::/64"], [], Level.OK),
        (["0.0.0.0/0"], ["router.example"], Level.OK),
    ],
)
def test_check_warns_of_a_wide_admitted_network(
    networks: list[str], certificates: list[str], level: Level
) -> None:
    rule = AllowRule.model_validate({"networks": networks, "certificates": certificates})
    node = NodeSection.model_construct(allow=(rule,))
    assert [finding.level for finding in check_admitted(Settings.model_construct(node=node))] == [level]
