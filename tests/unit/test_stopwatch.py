"""The line that tells where a job's time went."""

import time

from uair_node.work.stopwatch import Stopwatch


def test_laps_are_named_and_add_up() -> None:
    watch, busy = Stopwatch(), time.process_time()
    time.sleep(0.02)
    watch.lap("decode")
    while time.process_time() - busy < 0.03:
        pass
    watch.lap("keep")
    first, second = str(watch).split(", ")
    name, passed, _, spent, _, _ = first.split()
    assert name == "decode"
    assert float(passed) >= 0.02 > float(spent.strip("("))
    assert float(second.split()[3].strip("(")) >= 0.02
    assert watch.seconds >= 0.04
