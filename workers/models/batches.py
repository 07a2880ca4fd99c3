"""How a model works through many images or prompts: in batches, side by side on CPU cores.

torch spreads each operation over cores and waits for the slowest after every one, which small models and
busy machines do not bear (measured on two cores beside other work: ten times slower). Here each batch stays
on one core and the batches are spread instead. A batch's numbers then do not depend on how many cores there
are, either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

ResultT = TypeVar("ResultT")

GPU_FACTOR = 32
"""A GPU wants batches so much larger."""


class Batches:
    """Runs a function over batches.

    Parameters
    ----------
    device
        On a CPU as many batches run at a time as torch has threads; on a GPU one.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_cpu = device.type == "cpu"
        # The number of threads is each thread's own: the caller's stays as it is.
        self._pool = ThreadPoolExecutor(
            torch.get_num_threads() if self._on_cpu else 1,
            thread_name_prefix="batch",
            initializer=partial(torch.set_num_threads, 1) if self._on_cpu else None,
        )

    def map(self, work: Callable[[slice], ResultT], count: int, size: int) -> list[ResultT]:
        """Return the results of ``work(slice)`` for all batches of at most `size` of `count`, in order."""
        size = size if self._on_cpu else size * GPU_FACTOR

        def one(start: int) -> ResultT:
            with torch.inference_mode():
                return work(slice(start, start + size))

        return list(self._pool.map(one, range(0, count, size)))
