"""Warnings that a peer can cause at will: the first at once, the others as a number."""

from __future__ import annotations

import logging

import pytest

from uair_node.network.repeated_warnings import RepeatedWarnings


def test_a_sentence_is_logged_at_once_and_its_repetitions_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    warnings = RepeatedWarnings(logging.getLogger("peers"), lambda: now[0])

    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    for _ in range(5):
        warnings.tell("connection from 192.0.2.1 closed")
    warnings.tell("connection from 192.0.2.2 closed")
    assert lines() == ["connection from 192.0.2.1 closed", "connection from 192.0.2.2 closed"]
    now[0] = 59.9
    warnings.tell_repetitions()
    assert lines() == []
    now[0] = 60.0
    warnings.tell_repetitions()
    assert lines() == ["connection from 192.0.2.1 closed (repeated 4 times since the last such line)"]
    warnings.tell("connection from 192.0.2.1 closed")
    warnings.tell("connection from 192.0.2.2 closed")
    assert lines() == ["connection from 192.0.2.2 closed"]
    now[0] = 120.0
    warnings.tell_repetitions()
    assert lines() == ["connection from 192.0.2.1 closed (repeated 1 times since the last such line)"]
    now[0] = 200.0
    warnings.tell_repetitions()
    warnings.tell("connection from 192.0.2.1 closed")
    assert lines() == ["connection from 192.0.2.1 closed"]
