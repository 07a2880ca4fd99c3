"""The line that tells where a job's time went."""

import time

from uair_node.stopwatch import Stopwatch


def test_laps_are_named_and_add_up():
    watch = Stopwatch()
    time.sleep(0.02)
    watch.lap("decode")
    watch.lap("keep")
    first, second = str(watch).split(", ")
    assert first.startswith("decode 0.0")
    assert float(first.split()[1]) >= 0.02
    assert second == "keep 0.00 s"
    assert 0.02 <= watch.seconds < 1.0
