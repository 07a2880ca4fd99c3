"""Two GPU workers on one machine, one for each of its cards: both take work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.deployment import GPU_COMMAND, on_this_machine
from tests.support.peers import Postgres, RabbitMQ
from tests.support.ports import wait_until
from tests.support.running_node import hospital, quick

pytestmark = pytest.mark.integration


def test_workers_on_one_machine_consume_side_by_side(
    tmp_path: Path, rabbitmq: RabbitMQ, postgres: Postgres
) -> None:
    def consumers() -> int:
        table = json.loads(rabbitmq.ctl("list_queues", "--quiet", "--formatter", "json", "name", "consumers"))
        return next((int(row["consumers"]) for row in table if row["name"] == "uair.gpu"), 0)

    with postgres.database() as url:
        made = hospital(tmp_path, quick([]), url, rabbitmq.url)
        made.add("gpu-2", on_this_machine(GPU_COMMAND, made.config))
        try:
            made.start("node", "gpu", "gpu-2")
            wait_until(lambda: consumers() == 2, f"two consumers; {made.log}")
        finally:
            made.stop()
