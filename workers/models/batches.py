"""Run a model on many images or prompts: in batches, in parallel on CPU cores.

torch divides each operation among cores, and waits for the slowest core after every operation. For small
models on busy machines, this is up to ten times slower. Here each batch runs on one core, and the batches are
divided among cores. So a batch's numbers do not depend on the number of cores.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from dicom_config.errors import ResourceError

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class Batches:
    """Runs a function on batches. If memory is short, then batches become smaller.

    Parameters
    ----------
    device
        On a CPU, as many batches run at a time as torch has threads. On a GPU, one batch runs at a time.
    gpu_factor
        The factor by which batches are larger on a GPU.
    """

    def __init__(self, device: torch.device, gpu_factor: int = 32) -> None:
        self._on_cpu = device.type == "cpu"
        self._factor = 1 if self._on_cpu else gpu_factor
        # torch keeps this number for each thread separately, so the caller's number does not change.
        self._pool = ThreadPoolExecutor(
            torch.get_num_threads() if self._on_cpu else 1,
            thread_name_prefix="batch",
            initializer=partial(torch.set_num_threads, 1) if self._on_cpu else None,
        )

    def map(self, work: Callable[[slice], ResultT], count: int, size: int) -> list[ResultT]:
        """Return the results of ``work(slice)`` for consecutive batches of `count` items, in order.

        Parameters
        ----------
        size
            The most items of a batch. If a batch does not fit into memory, then it and all later batches are
            halved.

        Raises
        ------
        ResourceError
            ``out-of-memory``: not even a single item fits.
        """

        def work_on(part: slice) -> ResultT:
            with torch.inference_mode():
                return work(part)

        size *= self._factor
        done: list[ResultT] = []
        start = 0
        while start < count:
            parts = [slice(at, min(at + size, count)) for at in range(start, count, size)]
            try:
                for part, result in zip(parts, self._pool.map(work_on, parts), strict=True):
                    done.append(result)
                    start = part.stop
            except torch.OutOfMemoryError:
                if size == 1:
                    raise _out_of_memory() from None
                size = (size + 1) // 2
                log.warning("out of memory; continuing with batches of %d", size)
                torch.cuda.empty_cache()
        return done


def _out_of_memory() -> ResourceError:
    return ResourceError(
        "out-of-memory",
        "The model does not fit into the device's memory even with a single slice or prompt at a time.",
        "Let no other process use the device, choose a smaller `engine.model`, or set `engine.device: cpu`.",
    )
