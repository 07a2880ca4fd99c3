"""Try hostile inputs in a separate process. So their memory can be measured, and a crash ends only it.

Run as ``python -m tests.fuzz.run FOLDER INPUTS SEED``. After a crash, ``current.dcm`` is the last input.
``report.json`` has the findings.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import warnings
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.fuzz.kinds import SHARES, open_kinds
from tests.fuzz.measured import Meter, resident_bytes

_SETTLED_AFTER = 200
"""Number of inputs of a kind after which the memory must not grow any more."""


def main(folder: Path, inputs: int, seed: int) -> None:
    """Try all inputs and write the report."""
    warnings.simplefilter("ignore")
    logging.disable()
    defects: dict[str, bytes] = {}
    grown: dict[str, int] = {}
    tried = 0
    with open_kinds(folder / "work") as kinds, Progress(console=Console(stderr=True)) as progress:
        for kind in kinds.values():
            for data in kind.seeds:
                if wrong := kind.attempt(data):
                    raise SystemExit(f"a valid object fails: {wrong}")
        meter = Meter()
        for name, share in SHARES.items():
            resident = 0
            for number in progress.track(range(round(inputs * share)), description=name):
                data = kinds[name].input(seed, number)
                (folder / "current.dcm").write_bytes(data)
                if wrong := meter.measure(f"{name} {number}", partial(kinds[name].attempt, data)):
                    defects.setdefault(wrong, data)
                tried += 1
                if number == _SETTLED_AFTER:
                    resident = resident_bytes()
            grown[name] = resident_bytes() - resident if resident else 0
    for data in defects.values():
        (folder / f"{hashlib.sha256(data).hexdigest()[:12]}.dcm").write_bytes(data)
    report = {"inputs": tried, "defects": sorted(defects), "grown": grown, **vars(meter.costs)}
    (folder / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
