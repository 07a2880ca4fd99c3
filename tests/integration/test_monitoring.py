"""The view of monitoring: metrics of a node with real peers, readiness, alert rules, the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from dicom_config.model import Settings
from tests.support.cases import open_item, publish_round, ready_case
from tests.support.certificates import Authority
from tests.support.peers import Dcmtk, Postgres, RabbitMQ, need
from tests.support.ports import free_port, wait_until
from tests.support.series import good_series
from uair_node import __version__
from uair_node.cases import lifecycle, work_items
from uair_node.cases.tables import Delivery, DeliveryState, WorkKind
from uair_node.context import Context, open_context
from uair_node.node import Node
from uair_node.operations.monitoring.graphics import NAMES

pytestmark = pytest.mark.integration

_DEPLOY = Path(__file__).parents[2] / "deploy"
_RULES = _DEPLOY / "prometheus" / "alerts.yml"
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def _get(port: int, path: str) -> tuple[int, str]:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as refused:
        return refused.code, refused.read().decode()


def _samples(port: int) -> Samples:
    _, text = _get(port, "/metrics")
    families = text_string_to_metric_families(text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for f in families
        for sample in f.samples
    }


def _settings(folder: Path, database_url: str, broker_url: str, **sections: object) -> Settings:
    authority = Authority(folder / "tls", "ca")
    node = authority.issue("node", days=20)
    tls = {"certificate": node.certificate, "key": node.key, "ca": authority.ca}
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "tls": tls}
    values = {
        "data_dir": folder / "data",
        "node": {"port": free_port(), "allow": [{"calling_ae": ["ROUTER", "SCANNER"]}]},
        "database": {"url": database_url},
        "broker": {"url": broker_url},
        "destinations": [peer],
        "monitoring": {"port": free_port()},
        "work": {"sweep_s": 0.2},
        "intake": {"min_free_bytes": 1 << 20, "quiet_s": 60},
    }
    return Settings(**(values | sections))


@pytest.fixture(scope="module")
def department(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, rabbitmq: RabbitMQ, dcmtk: Dcmtk
) -> Iterator[tuple[Context, Samples]]:
    """A node that received, refused and published; and what it then shows."""
    folder = tmp_path_factory.mktemp("monitoring")
    with postgres.database() as url:
        settings = _settings(folder, url, rabbitmq.virtual_host("monitoring"))
        context = open_context(settings, migrate=True)
        node = Node(context)
        node.start()
        try:
            series = good_series(folder / "series")
            assert dcmtk.storescu("127.0.0.1", node.port, "UAIR", "ROUTER", series).returncode == 0
            assert dcmtk.echoscu("127.0.0.1", node.port, "UAIR", "STRANGER").returncode != 0
            _two_rounds_and_a_failure(context)
            sent = ("uair_queue_messages", (("queue", "uair.gpu"),))
            wait_until(
                lambda: _samples(settings.monitoring.port).get(sent) == 1, "the message of the round due"
            )
            yield context, _samples(settings.monitoring.port)
        finally:
            node.stop()
            context.database.close()


def _two_rounds_and_a_failure(context: Context) -> None:
    with context.database.transaction() as session:
        case = ready_case(session, "1.2.3")
        publish_round(session, case, ["pacs"])
        round_ = case.current_round
        assert round_ is not None
        round_.model_name, round_.model_digest, round_.compute_seconds = "embedded", "ab" * 32, 12.5
        first, *_ = session.query(Delivery)
        first.state, first.reason = DeliveryState.PARKED, "A900"
        failed = ready_case(session, "1.2.4")
        lifecycle.start_computing(session, failed, actor="worker")
        work_items.close(open_item(session, failed, WorkKind.COMPUTE))
        lifecycle.fail(session, failed, code="work-failed", cause="No.", remedy="Correct it.")
        ready_case(session, "1.2.5")


@pytest.mark.parametrize(
    ("name", "labels", "least", "most"),
    [
        ("uair_build_info", {"version": __version__}, 1, 1),
        ("uair_database_up", {}, 1, 1),
        ("uair_broker_up", {}, 1, 1),
        ("uair_cases", {"state": "RECEIVING", "code": ""}, 1, 1),
        ("uair_cases", {"state": "FAILED", "code": "work-failed"}, 1, 1),
        ("uair_cases", {"state": "AWAITING_SELECTION", "code": ""}, 1, 1),
        ("uair_oldest_case_seconds", {"state": "READY"}, 0, 60),
        ("uair_work_due", {"kind": "compute"}, 1, 1),
        ("uair_work_oldest_seconds", {"kind": "deliver"}, 0, 60),
        ("uair_stage_seconds", {"stage": "compute", "quantile": "0.5"}, 12.5, 12.5),
        ("uair_stage_seconds", {"stage": "series-to-candidates", "quantile": "1"}, 0, 60),
        ("uair_deliveries", {"destination": "pacs", "state": "parked"}, 1, 1),
        ("uair_deliveries", {"destination": "pacs", "state": "pending"}, 3, 3),
        ("uair_oldest_delivery_seconds", {"destination": "pacs"}, 0, 60),
        ("uair_model_info", {"model": "embedded", "digest": "ab" * 8}, 1, 1),
        ("uair_queue_messages", {"queue": "uair.gpu"}, 1, 1),
        ("uair_queue_consumers", {"queue": "uair.gpu"}, 0, 0),
        ("uair_queue_messages", {"queue": "uair.io.XQ"}, 0, 0),
        ("uair_associations_total", {"outcome": "accepted"}, 1, 1),
        ("uair_associations_total", {"outcome": "calling_ae_not_recognised"}, 1, 1),
        ("uair_instances_total", {"verb": "store", "status": "0000"}, 16, 16),
        ("uair_sender_last_instance_timestamp_seconds", {"calling_ae": "SCANNER"}, 0, 0),
        ("uair_sender_last_instance_timestamp_seconds", {"calling_ae": "ROUTER"}, 1.7e9, 1e12),
        ("uair_disk_free_bytes", {}, 1, 1e18),
        ("uair_disk_least_free_bytes", {}, 1 << 20, 1 << 20),
        ("uair_certificate_end_timestamp_seconds", {"of": "pacs"}, 1.7e9, 1e12),
    ],
)
def test_metrics_tell_what_happened(
    department: tuple[Context, Samples], name: str, labels: dict[str, str], least: float, most: float
) -> None:
    _, samples = department
    assert least <= samples[name, tuple(sorted(labels.items()))] <= most


def test_ready_while_database_and_disk_are(tmp_path: Path, postgres: Postgres) -> None:
    with postgres.database() as url:
        context = open_context(_settings(tmp_path, url, ""), migrate=True)
        node, port = Node(context), context.settings.monitoring.port
        node.start()
        try:
            assert _get(port, "/live") == (200, '{"sweeper": true}\n')
            assert _get(port, "/ready") == (200, '{"database": true, "disk": true}\n')
            with postgres.stopped():
                assert _get(port, "/ready") == (503, '{"database": false, "disk": true}\n')
                assert _get(port, "/live")[0] == 200, "a restart of the node would help nothing"
                assert "uair_database_up 0.0" in _get(port, "/metrics")[1]
            wait_until(lambda: _get(port, "/ready")[0] == 200, "readiness to come back")
            assert _get(port, "/cases")[0] == 404
        finally:
            node.stop()
            context.database.close()


def test_not_ready_when_the_disk_is_full(tmp_path: Path) -> None:
    full = {"min_free_bytes": 1 << 60}
    context = open_context(_settings(tmp_path, "", "", intake=full), migrate=True)
    node = Node(context)
    node.start()
    try:
        assert _get(context.settings.monitoring.port, "/ready") == (
            503,
            '{"database": true, "disk": false}\n',
        )
    finally:
        node.stop()
        context.database.close()


def test_a_port_that_is_taken_stops_no_cases(tmp_path: Path) -> None:
    port = free_port()
    nodes = []
    for name in ("first", "second"):
        settings = _settings(tmp_path / name, "", "", monitoring={"port": port})
        nodes.append(Node(open_context(settings, migrate=True)))
        nodes[-1].start()
    assert _get(port, "/live")[0] == 200
    for node in nodes:
        node.stop()


def test_alert_rules_fire_on_what_they_are_for(tmp_path: Path) -> None:
    (promtool,) = need("promtool")
    shutil.copy(_RULES, tmp_path)
    tests = shutil.copy(Path(__file__).parents[1] / "support" / "alerts.test.yml", tmp_path)
    done = subprocess.run([promtool, "test", "rules", tests], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    config = (_DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8")
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus/", f"{tmp_path}/"))
    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [("severity=critical", "on-call"), ("severity=warning", "administrator")],
)
def test_alertmanager_tells_the_right_people(labels: str, receiver: str) -> None:
    (amtool,) = need("amtool")
    config = str(_DEPLOY / "prometheus" / "alertmanager.yml")
    checked = subprocess.run([amtool, "check-config", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    route = [amtool, "config", "routes", "test", f"--config.file={config}", labels]
    assert subprocess.run(route, capture_output=True, text=True, check=True).stdout.strip() == receiver


def test_alertmanager_names_alerts_that_exist() -> None:
    text = (_DEPLOY / "prometheus" / "alertmanager.yml").read_text("utf-8")
    assert set(re.findall(r"Uair\w+", text)) <= set(re.findall(r"alert: (\w+)", _RULES.read_text("utf-8")))


def test_every_alert_is_tested_and_explained() -> None:
    (group,) = yaml.safe_load(_RULES.read_text("utf-8"))["groups"]
    alerts = {rule["alert"] for rule in group["rules"]}
    tests = (Path(__file__).parents[1] / "support" / "alerts.test.yml").read_text("utf-8")
    assert {alert for alert in alerts if f"alertname: {alert}," in tests} == alerts
    page = (_DEPLOY.parent / "docs" / "administrators.md").read_text("utf-8")
    assert {alert for alert in alerts if f"| `{alert}` |" in page} == alerts


def test_rules_and_dashboard_use_metrics_that_exist(department: tuple[Context, Samples]) -> None:
    _, samples = department
    there = {name for name, _ in samples} | set(NAMES)
    dashboard = json.loads((_DEPLOY / "grafana" / "dashboards" / "uair.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    used = {
        name for text in (_RULES.read_text("utf-8"), *queries) for name in re.findall(r"\buair_\w+", text)
    }
    assert used - there == {"uair_selections"}, "no reader has said anything here"
    assert len(used) > 15
