"""The memory that instances may take while they are received, one budget for all associations.

An instance is in memory from its first fragment until its C-STORE is answered. It must not know what an
instance holds.
"""

from __future__ import annotations

import threading
from io import BytesIO
from typing import Any

from pynetdicom.association import Association


class ReceiveBudget:
    """Counts the bytes that associations hold.

    If an association holds all bytes in flight, then it may exceed the budget. So an instance that is larger
    than the budget arrives when no other instance is being received.

    Parameters
    ----------
    most
        Bytes of all associations together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[Association, int] = {}
        self._lock = threading.Lock()

    def take(self, association: Association, size: int) -> bool:
        """Reserve `size` bytes; False if others hold too many."""
        with self._lock:
            if not self._fits(association, size):
                # What a lost association held is no longer in use.
                self._held = {each: held for each, held in self._held.items() if each.is_alive()}
                if not self._fits(association, size):
                    return False
            self._held[association] = self._held.get(association, 0) + size
            return True

    def give_back(self, association: Association, size: int) -> None:
        """Return `size` bytes that the association took."""
        with self._lock:
            left = self._held.pop(association, 0) - size
            if left > 0:
                self._held[association] = left

    def _fits(self, association: Association, size: int) -> bool:
        held = sum(self._held.values())
        return held + size <= self._most or held == self._held.get(association, 0)


class IncomingDataSet(BytesIO):
    """The data set of a message while it comes in; beyond the budget it drops its bytes.

    Attributes
    ----------
    dropped
        Whether bytes were dropped: the data set must not be used.
    """

    def __init__(self, budget: ReceiveBudget, association: Association) -> None:
        super().__init__()
        self._budget, self._association = budget, association
        self._size = 0
        self.dropped = False

    def write(self, data: Any) -> int:
        """Keep a fragment, or drop it with all that came before."""
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
        """Reserve what the data set becomes in memory beside its own bytes; False if others hold too much."""
        if not self._budget.take(self._association, size):
            return False
        self._size += size
        return True

    def give_back(self) -> None:
        """Return what the data set took, once its message is served."""
        size, self._size = self._size, 0
        self._budget.give_back(self._association, size)
