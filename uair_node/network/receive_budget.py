"""Limit the memory for instances during their receipt, by a common budget for all associations.

An instance is in memory from its first fragment until its C-STORE is answered. This module does not read
instances.
"""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

from pynetdicom.association import Association


class ReceiveBudget:
    """The budget, with the number of bytes that each association holds.

    If no other association holds bytes, then an association may exceed the budget. So an instance that is
    larger than the budget can arrive if no other association holds bytes at that time.

    Parameters
    ----------
    most
        The budget: the most bytes of all associations together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Association, int] = {}
        self._lock = threading.Lock()

    def take(self, association: Association, size: int) -> bool:
        """Reserve `size` bytes for an association. Return False if other associations hold too many bytes."""
        with self._lock:
            if not self._fits(association, size):
                # The bytes of associations whose thread has ended are free.
                self._held = {each: held for each, held in self._held.items() if each.is_alive()}
                if not self._fits(association, size):
                    return False
            self._held[association] = self._held.get(association, 0) + size
            return True

    def give_back(self, association: Association, size: int) -> None:
        """Release `size` bytes of an association."""
        with self._lock:
            left = self._held.pop(association, 0) - size
            if left > 0:
                self._held[association] = left

    def _fits(self, association: Association, size: int) -> bool:
        held = sum(self._held.values())
        return held + size <= self._most or held == self._held.get(association, 0)


class IncomingDataSet(BytesIO):
    """The data set of a message during its receipt. If the budget is exceeded, then all bytes are dropped.

    Attributes
    ----------
    dropped
        Whether bytes were dropped. If so, then the data set must not be used.
    """

    def __init__(self, budget: ReceiveBudget, association: Association) -> None:
        super().__init__()
        self._budget, self._association = budget, association
        self._size = 0
        self.dropped = False

    def write(self, data: Any) -> int:
        """Keep a fragment. If the budget is exceeded, then drop this fragment and all earlier fragments."""
        size = len(data)
        if not self.dropped and self._budget.take(self._association, size):
            self._size += size
            return super().write(data)
        if not self.dropped:
            self.dropped = True
            self.seek(0)
            self.truncate()
            self.give_back()
        return size

    def take_more(self, size: int) -> bool:
        """Reserve `size` more bytes for reading the data set.

        Return False if other associations hold too many bytes.
        """
        if not self._budget.take(self._association, size):
            return False
        self._size += size
        return True

    def give_back(self) -> None:
        """Release the bytes of the data set. The caller calls this after its response to the message."""
        size, self._size = self._size, 0
        self._budget.give_back(self._association, size)
