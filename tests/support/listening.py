"""A listener in a process of its own, for measurements of its memory. It has a case that waits for a reader.

Run as ``python -m tests.support.listening FOLDER SLICE...``; it prints its port and ends with its input.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from dicom_config.model import NodeSection
from tests.support.waiting import waiting_case
from uair_node.dicom.volume import read_series
from uair_node.intake.inbox import Inbox
from uair_node.network.scp import DicomListener
from uair_node.storage.artifacts import StoredCandidate

ASSOCIATIONS = 50


def main(folder: Path, slices: list[Path]) -> None:
    """Listen until the input ends."""
    volume = read_series(slices)
    labels = np.zeros(volume.shape, np.uint8)
    labels[2:-2, 5:-5, 5:-5] = 1
    candidates = [StoredCandidate(k, labels, "") for k in (1, 2, 3, 4)]
    with waiting_case(folder, volume, candidates) as context:
        section = NodeSection(port=0, max_associations=ASSOCIATIONS, wait_s=300.0, idle_timeout_s=300.0)
        listener = DicomListener(section, Inbox(context).receive)
        listener.start()
        print(listener.port, flush=True)  # noqa: T201
        sys.stdin.read()
        listener.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
