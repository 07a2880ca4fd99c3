"""The number of tasks that a worker does at a time."""

from __future__ import annotations

import pytest

from dicom_config.model import Settings, StowDestination
from uair_node.work.topology import QueueName
from workers.process.worker import children


@pytest.mark.parametrize(("destinations", "expected"), [(0, 1), (1, 2), (3, 4), (40, 8)])
def test_hanging_destinations_leave_the_io_worker_a_process(destinations: int, expected: int) -> None:
    named = tuple(StowDestination(name=str(n), url="http://h") for n in range(destinations))
    assert children(Settings(destinations=named), QueueName.IO) == expected
    assert children(Settings(destinations=named), QueueName.GPU) == 1
