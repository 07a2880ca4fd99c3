"""Log lines of a worker that cannot reach its broker: code, remedy and Celery's own words in one line."""

from __future__ import annotations

import logging

from celery.worker.consumer.consumer import CONNECTION_ERROR

_SENTENCE = (
    "broker-unreachable: no connection to RabbitMQ at %s (%s). Start it, or correct broker.url; "
    "then the work continues by itself. %s"
)
"""The three values of Celery's sentence: the address without its password, the error, the next attempt."""


def name_outages() -> None:
    """Add code and remedy to the log lines of Celery's consumer about a broker that it cannot reach."""
    logging.getLogger("celery.worker.consumer.consumer").addFilter(_name_outage)


def _name_outage(record: logging.LogRecord) -> bool:
    if record.msg == CONNECTION_ERROR:
        record.msg = _SENTENCE
    return True
