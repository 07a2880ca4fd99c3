"""Outages: each is logged once when it begins and once when it is over; pauses grow."""

from __future__ import annotations

import pytest

from dicom_config.errors import TransientError
from uair_node.work.outages import FIRST_PAUSE_S, LONGEST_PAUSE_S, Outages

_DATABASE = TransientError("database-unavailable", "It does not answer.", "Start it.")
_STORE = TransientError("store-unavailable", "It does not answer.", "Start it.")


def test_each_outage_is_logged_when_it_begins_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    outages = Outages(lambda: now[0])
    outages.succeeded()
    outages.failed([_STORE])
    now[0] = 105.0
    outages.failed([_STORE, _DATABASE])
    outages.failed([_DATABASE])
    now[0] = 112.0
    outages.succeeded()
    outages.succeeded()
    assert [record.getMessage() for record in caplog.records] == [
        "store-unavailable: It does not answer. Start it.",
        "database-unavailable: It does not answer. Start it.",
        "store-unavailable is over after 5 s",
        "database-unavailable is over after 7 s",
    ]


def test_pauses_double_up_to_the_longest_and_begin_anew() -> None:
    outages = Outages()
    assert outages.pause_s == 0.0
    for attempt in range(40):
        outages.failed([_DATABASE])
        longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**attempt)
        assert 0.75 * longest <= outages.pause_s <= longest
    outages.succeeded()
    assert outages.pause_s == 0.0
