"""Every object that is written states the zone of its dates and times (0008,0201)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

import pytest
from pydicom import Dataset

from uair_node.results.zone import in_zone, utc_offset


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in another zone than UTC."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def _header(**values: str) -> Dataset:
    header = Dataset()
    for keyword, value in values.items():
        setattr(header, keyword, value)
    return header


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("values", "offset"),
    [
        ({"TimezoneOffsetFromUTC": "-0330", "StudyDate": "20260712"}, "-0330"),
        ({"TimezoneOffsetFromUTC": "+0000"}, "+0000"),
        ({"TimezoneOffsetFromUTC": "-0000"}, "+0000"),
        ({"StudyDate": "20260112", "StudyTime": "101500"}, "+0100"),
        ({"StudyDate": "20260712", "StudyTime": "101500.25"}, "+0200"),
        ({"StudyDate": "20260712", "StudyTime": "late"}, "+0200"),
        ({"TimezoneOffsetFromUTC": "CET", "StudyDate": "20260712"}, "+0200"),
        ({"TimezoneOffsetFromUTC": "+2300", "StudyDate": "20260112"}, "+0100"),
        ({"StudyDate": "00010101"}, "+0100"),
        ({}, "+0100"),
    ],
)
def test_the_series_states_the_zone_else_this_machine(values: dict[str, str], offset: str) -> None:
    assert utc_offset(_header(**values)) == offset


@pytest.mark.parametrize(
    ("offset", "shown"),
    [
        ("+0100", datetime(2026, 1, 6, 0, 30)),
        ("-0330", datetime(2026, 1, 5, 20, 0)),
        ("", datetime(2026, 1, 5, 23, 30)),
    ],
)
def test_moments_are_told_in_that_zone(offset: str, shown: datetime) -> None:
    assert in_zone(datetime(2026, 1, 5, 23, 30, 0, 250), _header(TimezoneOffsetFromUTC=offset)) == shown
