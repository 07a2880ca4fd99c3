"""Decode the frames of a received object in a child process that has limits of memory and time.

Codecs are C libraries. The codestream decides how much memory a codec allocates, and a fault in a codec ends
its process. Because this process is a child, the listener continues. Uncompressed and deflated pixel cells
are read in the parent process. They need no codec, and no more memory than their size.

``python -m uair_node.dicom.decoding_apart HANDLE BYTES SECONDS`` runs the child.
"""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset

from dicom_config.errors import ResourceError
from uair_node.dicom.codestreams import MOST_PIXELS
from uair_node.dicom.decoding import WHOLE_CELLS_IN_FRAMES, decode_frames

_Cells = npt.NDArray[Any]

MOST_BYTES = 400 << 20
"""The most bytes of address space that decoding may add in the child. A frame of `MOST_PIXELS` needs less."""
MOST_CPU_S = 60
MOST_WALL_S = 300.0
"""The longest time for decoding one object, in seconds. The machine may be busy."""

_TAKEN_ALONG = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "PixelData",
)
_CELLS = frozenset({"|u1", "|i1", "<u2", "<i2", "<u4", "<i4"})
"""Types of decoded pixel cells, in numpy's notation."""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class DecoderEndedError(ValueError):
    """The child ended before the last frame: damaged pixels, a limit, or a fault of a codec."""


@contextmanager
def decode_apart(dataset: Dataset) -> Iterator[Iterator[_Cells]]:
    """Yield an iterator over the decoded frames, see `uair_node.dicom.decoding.decode_frames`.

    Raises
    ------
    ResourceError
        ``decoder-not-started``: the operating system cannot start a process now.
    ValueError
        A frame cannot be decoded, or its size differs from the header. Codecs may raise other exceptions.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated or syntax in WHOLE_CELLS_IN_FRAMES:
        yield decode_frames(dataset)
        return
    with _started(dataset) as child:
        assert child.stdout is not None, "its output is a pipe"
        yield _read_frames(child.stdout, dataset)


@contextmanager
def _started(dataset: Dataset) -> Iterator[subprocess.Popen[bytes]]:
    """Start the child process. End it when the block ends or when its time is over."""
    try:
        handle = os.memfd_create("object", os.MFD_CLOEXEC)
        with os.fdopen(handle, "wb") as file:
            _pixels_of(dataset).save_as(file, enforce_file_format=True)
            file.flush()
            child = subprocess.Popen(
                [sys.executable, "-m", __name__, str(handle), str(MOST_BYTES), str(MOST_CPU_S)],
                pass_fds=[handle],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **_ONE_THREAD},
            )
    except OSError as error:
        if error.errno is None:  # an error of pydicom: it cannot write the data set
            raise
        raise ResourceError(
            "decoder-not-started",
            f"No process can be started to decode the object ({os.strerror(error.errno)}).",
            "Free memory on the node's machine, then send the object again.",
        ) from error
    timer = threading.Timer(MOST_WALL_S, child.kill)
    timer.daemon = True
    timer.start()
    try:
        yield child
    finally:
        timer.cancel()
        child.kill()
        child.communicate()


def _pixels_of(dataset: Dataset) -> Dataset:
    """Return a data set with only the elements that decoding needs. It has no patient data."""
    image = Dataset()
    for keyword in _TAKEN_ALONG:
        if keyword in dataset:
            image[keyword] = dataset[keyword]
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    image["PixelData"].is_undefined_length = True
    return image


def _read_frames(pipe: IO[bytes], dataset: Dataset) -> Iterator[_Cells]:
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    for _ in range(int(dataset.get("NumberOfFrames") or 1)):
        kind, _, shape = pipe.readline(64).decode("ascii", "replace").strip().partition(" ")
        if not kind:
            raise DecoderEndedError("the decoder ended before the last frame")
        if kind not in _CELLS or shape != f"{rows} {columns}" or rows * columns > MOST_PIXELS:
            raise ValueError("a decoded frame has another size than the header says")
        cells = np.dtype(kind)
        data = pipe.read(rows * columns * cells.itemsize)
        if len(data) < rows * columns * cells.itemsize:
            raise DecoderEndedError("the decoder ended within a frame")
        yield np.frombuffer(data, cells).reshape(rows, columns)


def _limit(most_bytes: int, most_cpu_s: int) -> None:
    """Limit this process's further memory and CPU time, and disable its core file."""
    own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (own + most_bytes, own + most_bytes))
    seconds = math.ceil(time.process_time()) + most_cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(handle: int, most_bytes: int, most_cpu_s: int) -> None:
    """Decode the file that an open handle refers to, and write each frame to standard output."""
    with os.fdopen(handle, "rb") as file:
        file.seek(0)
        dataset = dcmread(file)
    _limit(most_bytes, most_cpu_s)
    for cells in decode_frames(dataset):
        # Whole cells, little-endian. The parent checks the type.
        frame = np.ascontiguousarray(cells, cells.dtype.newbyteorder("<"))
        sys.stdout.buffer.write(f"{frame.dtype.str} {' '.join(map(str, frame.shape))}\n".encode())
        sys.stdout.buffer.write(frame.data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
