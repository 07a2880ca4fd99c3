"""The kinds of input: valid objects to break, and the function that reads each of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from dicom_config.errors import UairError
from dicom_config.model import Verb
from tests.fuzz.coded import mutated_pixels
from tests.fuzz.mutate import mutated
from tests.support.edited import AFFINE, LABELS, SHAPE, TRACKING, returned, segment_numbers
from tests.support.encoders import LOSSLESS, LOSSY, in_syntax, put_frames, smooth_series
from tests.support.enhanced import write_enhanced_ct
from tests.support.intake import context_in
from tests.support.selections import instance_header, key_object, measurement_report
from uair_node.dicom.decoding import decode_frames
from uair_node.dicom.headers import read_slices
from uair_node.dicom.readers import read_selection
from uair_node.dicom.seg_reader import read_edited
from uair_node.dicom.segment_targets import KnownTargets
from uair_node.dicom.volume import read_series
from uair_node.intake.inbox import Inbox
from uair_node.network.scp import ReceivedInstance
from workers.phantoms.ct_series import write_ct_series

SHARES = {
    "header": 0.20,
    "selection": 0.20,
    "edited": 0.10,
    "pixels": 0.05,
    "frames": 0.05,
    "inbox": 0.08,
    "coded": 0.14,
    "coded-frames": 0.08,
    "coded-edits": 0.08,
    "deflated": 0.02,
}
"""Shares of the inputs, by kind. The kinds with ``coded`` reach the decoder of each transfer syntax."""
_ENCODERS = {**LOSSLESS, **LOSSY}


@dataclass(frozen=True)
class Kind:
    """One kind of input: valid objects, the function that breaks them, and the function that reads them."""

    name: str
    seeds: tuple[bytes, ...]
    target: Callable[[bytes], object]
    spoil: Callable[[bytes, random.Random], bytes] = mutated

    def input(self, seed: int, number: int) -> bytes:
        """Return one hostile input. It depends on seed and number only."""
        chooser = random.Random(f"{seed}/{self.name}/{number}")
        return self.spoil(chooser.choice(self.seeds), chooser)

    def attempt(self, data: bytes) -> str:
        """Try one input; return the fault in the treatment of the input, or an empty string."""
        try:
            self.target(data)
        except UairError:
            pass
        except Exception as error:
            return f"{self.name}: {type(error).__name__}: {error}"
        return ""


@contextmanager
def open_kinds(folder: Path) -> Iterator[dict[str, Kind]]:
    """Yield the kinds by name. They write below `folder`."""
    hu = np.random.default_rng(0).integers(-200, 300, SHAPE).astype(np.int16)
    paths = write_ct_series(folder / "ct", hu, AFFINE)
    sources = [pydicom.dcmread(path) for path in paths]
    volume = read_series(paths)
    seg = returned(sources, segment_numbers(), kind="BINARY")
    header = instance_header()
    documents = [
        file_of(key_object([header])),
        file_of(measurement_report(header, instance_header("1.2.840.10008.5.1.4.1.1.2"))),
        file_of(seg),
    ]
    label_map = returned(sources, segment_numbers(), kind="LABELMAP")
    fractional = returned(sources, (segment_numbers() > 0).astype(np.float32), kind="FRACTIONAL")
    slices = [path.read_bytes() for path in paths[:2]]
    (enhanced,) = (path.read_bytes() for path in write_enhanced_ct(folder / "enhanced", paths))
    coded = {syntax: _coded_slices(syntax, folder / "coded") for syntax in _ENCODERS}
    broken = folder / "broken.dcm"

    def selection(data: bytes) -> None:
        if (dataset := _parsed(data)) is not None:
            read_selection(dataset)

    def edited(data: bytes) -> None:
        if (dataset := _parsed(data)) is not None:
            read_edited(dataset, volume, KnownTargets(TRACKING, [LABELS]))

    def edited_here(data: bytes) -> None:
        """Decode in this process, so that the test sees a codec's fault and measures its memory."""
        with patch("uair_node.dicom.seg_reader.decode_apart", _decode_here):
            edited(data)

    def read(others: Sequence[Path]) -> Callable[[bytes], None]:
        def target(data: bytes) -> None:
            broken.write_bytes(data)
            read_series([broken, *others])

        return target

    label_maps = [file_of(in_syntax(deepcopy(label_map), syntax, folder)) for syntax in _ENCODERS]
    multi_frame = [_multi_frame(syntax, folder, files) for syntax, files in coded.items()]
    with context_in(folder / "data", f"sqlite:///{folder / 'fuzz.sqlite'}") as context:
        inbox = Inbox(context)

        def receive(data: bytes) -> None:
            inbox.receive(_sent(data))

        made = (
            Kind("header", (*slices, enhanced, *documents), lambda data: read_slices(BytesIO(data))),
            Kind("selection", tuple(documents), selection),
            Kind("edited", tuple(map(file_of, (seg, label_map, fractional))), edited_here),
            Kind("pixels", tuple(slices), read(paths[1:])),
            Kind("frames", (enhanced,), read([])),
            Kind("inbox", (*slices, *documents), receive),
            Kind("coded", tuple(files[0] for files in coded.values()), read([]), mutated_pixels),
            Kind("coded-frames", tuple(multi_frame), read([]), mutated_pixels),
            Kind("coded-edits", tuple(label_maps), edited_here, mutated_pixels),
            Kind("deflated", tuple(coded[DeflatedExplicitVRLittleEndian]), receive, mutated_pixels),
        )
        yield {kind.name: kind for kind in made}


def file_of(dataset: Dataset) -> bytes:
    """Return a data set as a file."""
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@contextmanager
def _decode_here(dataset: Dataset) -> Iterator[Iterator[np.ndarray]]:
    yield decode_frames(dataset)


def _coded_slices(syntax: UID, folder: Path) -> list[bytes]:
    paths, _ = smooth_series(folder)
    for path in paths:
        _ENCODERS[syntax](path)
    return [path.read_bytes() for path in paths]


def _multi_frame(syntax: UID, folder: Path, files: Sequence[bytes]) -> bytes:
    """Return an Enhanced CT of coded slices."""
    paths, _ = smooth_series(folder / "frames")
    (whole,) = write_enhanced_ct(folder / "multi", paths)
    image, first = pydicom.dcmread(whole), pydicom.dcmread(BytesIO(files[0]))
    if syntax.is_encapsulated:
        for keyword in ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
            setattr(image, keyword, getattr(first, keyword))
        frames = [
            next(generate_frames(pydicom.dcmread(BytesIO(data)).PixelData, number_of_frames=1))
            for data in files
        ]
        put_frames(image, syntax, frames)
        return file_of(image)
    image.save_as(whole, enforce_file_format=True)
    LOSSLESS[syntax](whole)
    return whole.read_bytes()


def _parsed(data: bytes) -> Dataset | None:
    """The data set of an input; None if the inbox refuses it as broken."""
    try:
        return pydicom.dcmread(BytesIO(data))
    except Exception:
        return None


def _sent(data: bytes) -> ReceivedInstance:
    """An instance whose C-STORE request has the values of its data set, as from a hostile sender."""
    try:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)
        uids = [str(header.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID")]
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    except Exception:
        uids, syntax = ["", ""], ""
    verb = (Verb.STORE, Verb.PICK, Verb.ACCEPT)[hashlib.sha256(data).digest()[0] % 3]
    return ReceivedInstance(verb, "ROUTER", "127.0.0.1", uids[0], uids[1], syntax, data)
