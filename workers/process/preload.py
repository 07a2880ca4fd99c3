"""Import the modules of a queue's tasks before the worker forks, so that its child processes share memory.

A child process must not inherit Python threads or an opened GPU. So this module starts no thread and opens no
GPU.
"""

from __future__ import annotations

import os
from importlib import import_module

from highdicom import SOPClass
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from uair_node.work.topology import QueueName

_MODULES = {QueueName.GPU: "workers.compute.computer", QueueName.IO: "workers.measure.accepted"}


def preload(queue: QueueName) -> None:
    """Import the modules of a queue's tasks."""
    yield_idle_cores()
    import_module(_MODULES[queue])
    if queue == QueueName.IO:
        _load_standard()


def yield_idle_cores() -> None:
    """Let waiting OpenMP threads sleep instead of spinning. Call this function before torch is imported.

    On two cores with another busy process, a first round of 90 slices took 11 s instead of 61 s. Without the
    other process there was no difference.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _load_standard() -> None:
    """Make a highdicom object, so that highdicom loads its tables of PS3.3 (110 MB, half a second)."""
    study, series, instance = (generate_uid() for _ in range(3))
    SOPClass(study, series, 1, instance, SecondaryCaptureImageStorage, 1, "OT", manufacturer=None)
