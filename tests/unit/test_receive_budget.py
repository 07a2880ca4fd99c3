"""The memory of instances that are received: one budget for all associations, given back in every case."""

from __future__ import annotations

import threading
from typing import Any

from uair_node.network.receive_budget import IncomingDataSet, ReceiveBudget


class _Peer:
    """The budget's view of an association: whether its thread lives."""

    alive = True

    def is_alive(self) -> bool:
        return self.alive


def _incoming(budget: ReceiveBudget, peer: _Peer) -> Any:
    return IncomingDataSet(budget, peer)  # type: ignore[arg-type]


def test_beyond_the_budget_a_data_set_drops_what_it_has_and_takes_nothing_more() -> None:
    budget = ReceiveBudget(100)
    first, second = (_incoming(budget, _Peer()) for _ in range(2))
    assert (first.write(bytes(60)), second.write(bytes(40))) == (60, 40)
    assert second.write(bytes(1)) == 1
    assert (second.dropped, second.getvalue()) == (True, b"")
    second.write(bytes(10))
    assert second.getvalue() == b""
    assert first.write(bytes(1000)) == 1000  # it is alone now
    assert (first.dropped, len(first.getvalue())) == (False, 1060)


def test_what_is_given_back_can_be_taken_again() -> None:
    budget, peer, other = ReceiveBudget(100), _Peer(), _Peer()
    for _ in range(3):
        data_set, beside = _incoming(budget, peer), _incoming(budget, other)
        data_set.write(bytes(50))
        beside.write(bytes(50))
        data_set.give_back()
        data_set.give_back()
        beside.give_back()
        assert (data_set.dropped, beside.dropped) == (False, False)


def test_a_lost_association_holds_nothing() -> None:
    budget, lost, third = ReceiveBudget(100), _Peer(), _Peer()
    _incoming(budget, lost).write(bytes(100))
    refused = _incoming(budget, third)
    refused.write(bytes(1))
    assert refused.dropped
    lost.alive = False
    taken = _incoming(budget, third)
    taken.write(bytes(60))
    assert not taken.dropped


def test_threads_together_never_hold_more_than_the_budget() -> None:
    budget, held, most, lock = ReceiveBudget(50), [0], [0], threading.Lock()
    stays = _Peer()
    _incoming(budget, stays).write(bytes(10))  # so that no other is alone

    def receive() -> None:
        peer = _Peer()
        for _ in range(300):
            if budget.take(peer, 7):  # type: ignore[arg-type]
                with lock:
                    held[0] += 7
                    most[0] = max(most[0], held[0])
                with lock:
                    held[0] -= 7
                budget.give_back(peer, 7)  # type: ignore[arg-type]

    threads = [threading.Thread(target=receive) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 7 <= most[0] <= 40
    assert budget.take(_Peer(), 40)  # type: ignore[arg-type]
