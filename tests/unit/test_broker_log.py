"""A worker whose broker is away says so with a code and a remedy."""

from __future__ import annotations

import logging

import pytest
from celery.worker.consumer.consumer import CONNECTION_ERROR, error

from workers.process.broker_log import name_outages


def test_an_outage_of_the_broker_has_a_code_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    name_outages()
    address, refused = "amqp://uair:**@127.0.0.1:5672//", ConnectionRefusedError(111, "Connection refused")
    with caplog.at_level(logging.ERROR):
        error(CONNECTION_ERROR, address, refused, "Trying again in 2.00 seconds... (1/100)")
    (line,) = caplog.messages
    assert line.startswith(f"broker-unreachable: no connection to RabbitMQ at {address} ([Errno 111]")
    assert line.endswith("then the work continues by itself. Trying again in 2.00 seconds... (1/100)")
    assert "\n" not in line
