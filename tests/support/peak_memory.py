"""A listener whose peak of memory is measured while many associations send to it."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from tests.support.edited import LIVER, returned
from tests.support.encoders import claiming, in_syntax, put_frames
from tests.support.raw_store import store_bytes
from tests.support.series import good_series
from tests.support.server import need

MOST_BYTES = 600 << 20
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
TAKEN, BUSY, FULL, NOT_UNDERSTOOD = 0x0000, 0x0110, 0xA700, 0xC000
"""Statuses. Busy: on SQLite one association writes at a time, and the others wait for some seconds."""


@dataclass(frozen=True)
class Listening:
    """A listener, its process, and the images of its case."""

    port: int
    process: int
    sources: list[Dataset]

    def peak_bytes(self) -> int:
        """The most resident memory since `forget`."""
        found = _PEAK.search(Path(f"/proc/{self.process}/status").read_text())
        assert found is not None
        return int(found[1]) << 10

    def forget(self) -> int:
        """Reset the peak; return the resident memory now, in bytes."""
        Path(f"/proc/{self.process}/clear_refs").write_text("5")
        return self.peak_bytes()


@contextmanager
def listening_in(folder: Path) -> Iterator[Listening]:
    """Start a listener whose case has its files in a folder, and end it with the block."""
    need("dcmconv", "dcmcjpeg", "dcmcjpls", "dcmcrle")
    paths = good_series(folder / "ct")
    command = [sys.executable, "-m", "tests.support.listening", str(folder), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Listening(port, process.pid, [pydicom.dcmread(path) for path in paths])


def label_map(listening: Listening) -> Dataset:
    """A reader's label map of the case, uncompressed."""
    first = listening.sources[0]
    pixels = np.zeros((len(listening.sources), first.Rows, first.Columns), np.uint8)
    pixels[3:9, 6:14, 6:12] = 1
    return returned(listening.sources, pixels, [LIVER], kind="LABELMAP")


def data_set(dataset: Dataset) -> bytes:
    """The encoded data set, without preamble and file meta information (PS3.10 7.1)."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    return data[144 + struct.unpack_from("<L", data, 140)[0] :]


def lying(dataset: Dataset, syntax: UID) -> Dataset:
    """The same object. Coded frames that state a size now state 12,000 x 12,000 pixels."""
    if syntax.is_encapsulated:
        frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
        put_frames(dataset, syntax, [_claiming(frame) for frame in frames])
    return dataset


def _claiming(frame: bytes) -> bytes:
    try:
        return claiming(frame, 12_000, 12_000)
    except (StopIteration, IndexError):
        return frame


def send_at_once(
    listening: Listening, dataset: Dataset, syntax: UID, data: bytes, *, called: str, associations: int
) -> set[int]:
    """Send the data set over `associations` associations at the same time; return the statuses."""

    def send(number: int) -> int:
        status, _ = store_bytes(
            listening.port,
            data,
            sop_class=dataset.SOPClassUID,
            sop_instance=dataset.SOPInstanceUID,
            syntax=syntax,
            called=called,
        )
        return status

    with ThreadPoolExecutor(associations) as pool:
        return set(pool.map(send, range(associations)))


def edits_at_once(listening: Listening, syntax: UID, folder: Path, associations: int) -> int:
    """Send an edit over several associations at the same time; return the memory in bytes that this takes."""
    dataset = lying(in_syntax(label_map(listening), syntax, folder), syntax)
    before = listening.forget()
    statuses = send_at_once(
        listening, dataset, syntax, data_set(dataset), called="UAIR_PICK", associations=associations
    )
    assert statuses <= {TAKEN, BUSY}
    assert TAKEN in statuses, "kept, and what cannot be read is told in the study"
    return listening.peak_bytes() - before
