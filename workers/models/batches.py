"""How a model works through many images or prompts: in batches, side by side on CPU cores.

torch spreads each operation over cores, and waits for the slowest core after every operation. This is too
slow for small models and busy machines: ten times slower on two cores beside other work. Here each batch
stays on one core and the batches are spread instead. A batch's numbers then do not depend on how many cores
there are, either.
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
    """Runs a function over batches, smaller ones where memory runs short.

    Parameters
    ----------
    device
        On a CPU as many batches run at a time as torch has threads; on a GPU one.
    gpu_factor
        How much larger batches are on a GPU.
    """

    def __init__(self, device: torch.device, gpu_factor: int = 32) -> None:
        self._on_cpu = device.type == "cpu"
        self._factor = 1 if self._on_cpu else gpu_factor
        # The number of threads is each thread's own: the caller's stays as it is.
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
            Most items of a batch. Where a batch does not fit into memory, it and those after it are halved.

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
                log.warning("out of memory; going on with batches of %d", size)
                torch.cuda.empty_cache()
        return done


def _out_of_memory() -> ResourceError:
    return ResourceError(
        "out-of-memory",
        "The model does not fit into the device's memory even with a single slice or prompt at a time.",
        "Let no other process use the device, choose a smaller `engine.model`, or set `engine.device: cpu`.",
    )
