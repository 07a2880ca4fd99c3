"""Hostile input: each is taken or refused with one of our errors; none crashes, hangs, leaks or escapes.

Inputs are mutations of valid objects (`mutate`), from a seed. The short form runs with ``make test``,
``make fuzz`` gives it 100,000. An input that found a defect is kept in ``corpus`` and tried first.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from rich.progress import Progress

from dicom_config.errors import UairError
from dicom_config.model import Verb
from tests.fuzz.mutate import mutated
from tests.support.edited import AFFINE, LABELS, SHAPE, TRACKING, returned, segment_numbers
from tests.support.enhanced import write_enhanced_ct
from tests.support.intake import context_in
from tests.support.selections import instance_header, key_object, measurement_report
from uair_node.intake.headers import read_slices
from uair_node.intake.inbox import Inbox
from uair_node.scp import ReceivedInstance
from uair_node.selection.edited import read_edited
from uair_node.selection.readers import read_selection
from uair_node.selection.segment_targets import KnownTargets
from uair_node.volume import read_series
from workers.training.ct_series import write_ct_series

pytestmark = [pytest.mark.fuzz, pytest.mark.filterwarnings("ignore::UserWarning")]

HANG_S = 1.0
LEAK_BYTES = 64 << 20
_CORPUS = Path(__file__).with_name("corpus")
_SHARES = {"header": 0.30, "selection": 0.35, "edited": 0.12, "pixels": 0.08, "frames": 0.05, "inbox": 0.10}

Target = Callable[[bytes], object]


@dataclass(frozen=True)
class Kind:
    """One way in: what is mutated, and what reads it."""

    name: str
    seeds: tuple[bytes, ...]
    target: Target


def file_of(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture
def kinds(tmp_path: Path) -> Iterator[dict[str, Kind]]:
    hu = np.random.default_rng(0).integers(-200, 300, SHAPE).astype(np.int16)
    paths = write_ct_series(tmp_path / "ct", hu, AFFINE)
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
    (enhanced,) = (path.read_bytes() for path in write_enhanced_ct(tmp_path / "enhanced", paths))
    broken = tmp_path / "broken.dcm"

    def selection(data: bytes) -> None:
        if (dataset := _parsed(data)) is not None:
            read_selection(dataset)

    def edited(data: bytes) -> None:
        if (dataset := _parsed(data)) is not None:
            read_edited(dataset, volume, KnownTargets(TRACKING, [LABELS]))

    def pixels(data: bytes) -> None:
        broken.write_bytes(data)
        read_series([broken, *paths[1:]])

    def frames(data: bytes) -> None:
        broken.write_bytes(data)
        read_series([broken])

    with context_in(tmp_path / "data", "sqlite://") as context:
        inbox = Inbox(context)
        made = (
            Kind("header", (*slices, enhanced, *documents), lambda data: read_slices(BytesIO(data))),
            Kind("selection", tuple(documents), selection),
            Kind("edited", tuple(map(file_of, (seg, label_map, fractional))), edited),
            Kind("pixels", tuple(slices), pixels),
            Kind("frames", (enhanced,), frames),
            Kind("inbox", (*slices, *documents), lambda data: inbox.receive(_sent(data))),
        )
        yield {kind.name: kind for kind in made}


def _parsed(data: bytes) -> Dataset | None:
    """The data set of an input; None where it is so broken that the inbox turns it away."""
    try:
        return pydicom.dcmread(BytesIO(data))
    except Exception:
        return None


def _sent(data: bytes) -> ReceivedInstance:
    """An instance whose C-STORE request repeats what its data set says, as a hostile sender's would."""
    try:
        header = pydicom.dcmread(BytesIO(data), stop_before_pixels=True, force=True)
        uids = [str(header.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID")]
        syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
    except Exception:
        uids, syntax = ["", ""], ""
    verb = (Verb.STORE, Verb.PICK, Verb.ACCEPT)[hashlib.sha256(data).digest()[0] % 3]
    return ReceivedInstance(verb, "ROUTER", "127.0.0.1", uids[0], uids[1], syntax, data)


def attempt(kind: Kind, data: bytes) -> str:
    """Try one input; return what is wrong with how it was dealt with, or an empty string."""
    started = time.process_time()
    try:
        kind.target(data)
    except UairError:
        pass
    except Exception as error:
        return f"{kind.name}: {type(error).__name__}: {error}"
    seconds = time.process_time() - started
    return f"{kind.name}: {seconds:.1f} s" if seconds > HANG_S else ""


def test_hostile_objects_are_taken_or_refused(
    kinds: dict[str, Kind], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    count = request.config.getoption("--inputs", 1500)
    seed = request.config.getoption("--fuzz-seed", 1)
    before = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
    defects: dict[str, bytes] = {}
    resident = 0
    with Progress() as progress:
        for name, share in _SHARES.items():
            kind, chooser = kinds[name], random.Random(f"{seed}/{name}")
            for number in progress.track(range(int(count * share)), description=name):
                data = mutated(chooser.choice(kind.seeds), chooser)
                if wrong := attempt(kind, data):
                    defects.setdefault(wrong, data)
                if number == 200:
                    resident = resident_bytes()
            grown = resident_bytes() - resident if resident else 0
            assert grown < LEAK_BYTES, f"{name}: memory grew by {grown >> 20} MiB"
            resident = 0
    for data in defects.values():
        (tmp_path / f"{hashlib.sha256(data).hexdigest()[:12]}.dcm").write_bytes(data)
    assert not defects, "\n".join(sorted(defects)[:30])
    after = {path for path in tmp_path.rglob("*") if "data" not in path.parts}
    assert {path.name for path in after - before} <= {"broken.dcm"}, "a file outside the spool"


@pytest.mark.parametrize("path", sorted(_CORPUS.glob("*.dcm")), ids=lambda path: path.stem)
def test_inputs_that_found_defects(kinds: dict[str, Kind], path: Path) -> None:
    data = path.read_bytes()
    assert [wrong for kind in kinds.values() if (wrong := attempt(kind, data))] == []


def resident_bytes() -> int:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096
