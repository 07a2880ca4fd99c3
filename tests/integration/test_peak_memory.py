"""What fifty associations at a time can make the listener take, for each transfer syntax."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from tests.support.edited import LIVER, returned
from tests.support.encoders import LOSSLESS, LOSSY, claiming, in_syntax, put_frames
from tests.support.listening import ASSOCIATIONS
from tests.support.raw_store import store_bytes
from tests.support.series import good_series
from tests.support.server import need

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::UserWarning")]

MOST_BYTES = 600 << 20
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
_TAKEN, _BUSY, _FULL, _NOT_UNDERSTOOD = 0x0000, 0x0110, 0xA700, 0xC000
"""Busy: on SQLite one association writes at a time, and each waits some seconds for the others."""


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
        """Begin to look for a new peak; return what is resident now."""
        Path(f"/proc/{self.process}/clear_refs").write_text("5")
        return self.peak_bytes()


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    need("dcmconv", "dcmcjpeg", "dcmcjpls", "dcmcrle")
    folder = tmp_path_factory.mktemp("listening")
    paths = good_series(folder / "ct")
    command = [sys.executable, "-m", "tests.support.listening", str(folder), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield Listening(port, process.pid, [pydicom.dcmread(path) for path in paths])


def _label_map(listening: Listening) -> Dataset:
    first = listening.sources[0]
    pixels = np.zeros((len(listening.sources), first.Rows, first.Columns), np.uint8)
    pixels[3:9, 6:14, 6:12] = 1
    return returned(listening.sources, pixels, [LIVER], kind="LABELMAP")


def _data_set(dataset: Dataset) -> bytes:
    """The encoded data set, without preamble and file meta information (PS3.10 7.1)."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    data = buffer.getvalue()
    return data[144 + struct.unpack_from("<L", data, 140)[0] :]


def _lying(dataset: Dataset, syntax: UID) -> Dataset:
    """The same object whose coded frames state 12,000 x 12,000 pixels, where they state a size."""
    if syntax.is_encapsulated:
        frames = generate_frames(dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames))
        put_frames(dataset, syntax, [_claiming(frame) for frame in frames])
    return dataset


def _claiming(frame: bytes) -> bytes:
    try:
        return claiming(frame, 12_000, 12_000)
    except (StopIteration, IndexError):
        return frame


def _send_at_once(listening: Listening, dataset: Dataset, syntax: UID, data: bytes, called: str) -> set[int]:
    """Send the data set over fifty associations at the same time; return the statuses."""

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

    with ThreadPoolExecutor(ASSOCIATIONS) as pool:
        return set(pool.map(send, range(ASSOCIATIONS)))


@pytest.mark.parametrize("syntax", {**LOSSLESS, **LOSSY}, ids=lambda uid: uid.keyword or uid)
def test_fifty_edits_at_a_time_take_bounded_memory(listening: Listening, tmp_path: Path, syntax: UID) -> None:
    dataset = _lying(in_syntax(_label_map(listening), syntax, tmp_path), syntax)
    before = listening.forget()
    statuses = _send_at_once(listening, dataset, syntax, _data_set(dataset), "UAIR_PICK")
    assert statuses <= {_TAKEN, _BUSY}
    assert _TAKEN in statuses, "kept, and what cannot be read is told in the study"
    assert listening.peak_bytes() - before < MOST_BYTES


def test_fifty_deflated_objects_at_a_time_take_bounded_memory(listening: Listening) -> None:
    """Each is 0.1 MB and inflates to 120 MiB of zeros: together ten times what is allowed."""
    dataset = _label_map(listening)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    parts = [packer.compress(_data_set(dataset)[: -len(dataset.PixelData) - 12])]
    size = 120 << 20
    parts.append(packer.compress(b"\xe0\x7f\x10\x00OB\x00\x00" + struct.pack("<L", size)))
    parts += [packer.compress(bytes(1 << 20)) for _ in range(size >> 20)]
    data = b"".join([*parts, packer.flush()])
    before = listening.forget()
    statuses = _send_at_once(listening, dataset, DeflatedExplicitVRLittleEndian, data, "UAIR")
    assert statuses <= {_TAKEN, _BUSY, _FULL}
    assert _TAKEN in statuses, "the memory of one object is there"
    assert listening.peak_bytes() - before < MOST_BYTES


def test_fifty_damaged_objects_at_a_time_are_refused(listening: Listening) -> None:
    dataset = _label_map(listening)
    data = _data_set(dataset)[:300]
    before = listening.forget()
    assert _send_at_once(listening, dataset, ExplicitVRLittleEndian, data, "UAIR") == {_NOT_UNDERSTOOD}
    assert listening.peak_bytes() - before < MOST_BYTES
