"""Read memory and load of the graphics cards with NVML.

NVML needs no CUDA context, so a worker's parent process may call it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pynvml
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

NAMES = ("uair_gpu_memory_bytes", "uair_gpu_busy_ratio")


class GraphicsCollector(Collector):
    """A collector that reads all graphics cards of this machine. Without a driver, it yields no values."""

    def describe(self) -> Iterable[Metric]:
        """Return no metrics, so that the registration of the collector does not call NVML."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield metrics with the memory and load of each card."""
        memory = GaugeMetricFamily(NAMES[0], "Memory of a card.", labels=["gpu", "kind"])
        load = GaugeMetricFamily(NAMES[1], "Part of the time in which the card is busy.", labels=["gpu"])
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:
            return
        try:
            for index in range(pynvml.nvmlDeviceGetCount()):
                card = pynvml.nvmlDeviceGetHandleByIndex(index)
                held = pynvml.nvmlDeviceGetMemoryInfo(card)
                memory.add_metric([str(index), "used"], held.used)
                memory.add_metric([str(index), "total"], held.total)
                load.add_metric([str(index)], pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100)
        except pynvml.NVMLError:
            return
        finally:
            pynvml.nvmlShutdown()
        yield memory
        yield load
